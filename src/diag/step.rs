//! Prints a step of a build: its instruction when it starts working, its output, its end.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use indicatif::ProgressBar;
use parking_lot::Mutex;

use super::progress::Progress;
use super::rawjson::{self, End};
use super::units::Seconds;

/// The most bytes of an unfinished line that are kept if lines are marked; longer lines are split.
const LINE_LIMIT: usize = 16 * 1024;
/// The longest instruction shown; the Dockerfile has the full text.
const INSTRUCTION_WIDTH: usize = 120;

/// A running step.
///
/// A step that [works](Step::working) or prints has two lines, `[build 2/5] RUN make` and `[build 2/5] DONE 1.2s`; any
/// other has one when it ends, `[build 1/5] ENV A=b DONE 0.0s`. A step that is dropped without an end has failed; the
/// error gives the reason.
#[derive(Debug)]
#[must_use = "a step that is dropped without an end is shown as failed"]
pub struct Step {
    progress: Progress,
    id: u64,
    /// `[stage number/total]`.
    position: String,
    instruction: String,
    started: Instant,
    announced: AtomicBool,
    /// Shown on a terminal from the first line to the end.
    bar: OnceLock<ProgressBar>,
    ended: bool,
    /// The start of an unfinished line, if lines are printed with the step before them.
    marked: Option<Mutex<Vec<u8>>>,
}

impl Progress {
    /// Starts step `number` of `total` of a stage. `instruction` is the logical line as written.
    pub fn step(&self, stage: &str, number: usize, total: usize, instruction: &str) -> Step {
        let id = self.next_step();
        Step::new(self.clone(), id, format!("[{stage} {number}/{total}]"), instruction)
    }
}

impl Step {
    fn new(progress: Progress, id: u64, position: String, instruction: &str) -> Self {
        let instruction = shortened(instruction);
        let announced = AtomicBool::new(false);
        let (started, bar) = (Instant::now(), OnceLock::new());
        Self { progress, id, position, instruction, started, announced, bar, ended: false, marked: None }
    }

    /// Prints the step before each line of its output, for builds in which several steps print at once.
    pub fn with_marked_output(mut self) -> Self {
        self.marked = Some(Mutex::default());
        self
    }

    /// Prints that the step is working, before it takes long.
    pub fn working(&self) {
        if self.announced.swap(true, Ordering::Relaxed) {
            return;
        }
        if self.progress.is_raw() {
            return self.progress.raw(&rawjson::vertex(&self.name(), Some(self.started_at()), None));
        }
        self.progress.line(format_args!("{} {}", self.position, self.instruction));
        if let Some(bars) = self.progress.bars() {
            self.bar.get_or_init(|| bars.step(self.name()));
        }
    }

    fn name(&self) -> String {
        format!("{} {}", self.position, self.instruction)
    }

    fn started_at(&self) -> SystemTime {
        SystemTime::now().checked_sub(self.started.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Prints the output of the step's command: unchanged, or line by line with the step before it.
    pub fn output(&self, bytes: &[u8]) {
        self.working();
        if self.progress.is_raw() {
            // The two streams of a command are not distinguished here.
            return self.progress.raw(&rawjson::log(&self.name(), 1, bytes, SystemTime::now()));
        }
        let Some(waiting) = &self.marked else { return self.progress.output(self.id, bytes) };
        let mut waiting = waiting.lock();
        waiting.extend_from_slice(bytes);
        let whole = match waiting.iter().rposition(|byte| *byte == b'\n') {
            _ if waiting.len() > LINE_LIMIT => waiting.len(),
            Some(feed) => feed + 1,
            None => return,
        };
        let lines: Vec<u8> = waiting.drain(..whole).collect();
        self.marked_lines(&lines);
    }

    fn marked_lines(&self, lines: &[u8]) {
        let mut text = Vec::with_capacity(2 * lines.len());
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            text.extend_from_slice(self.position.as_bytes());
            text.push(b' ');
            text.extend_from_slice(line);
        }
        if text.last() != Some(&b'\n') {
            text.push(b'\n');
        }
        self.progress.output(self.id, &text);
    }

    /// Ends the step as executed.
    pub fn done(mut self) {
        self.end(End::Done);
    }

    /// Ends the step as cached.
    pub fn cached(mut self) {
        self.end(End::Cached);
    }

    /// Ends the step as cancelled, because a different step failed.
    pub fn canceled(mut self) {
        self.end(End::Canceled);
    }

    /// Prints a note about the step.
    pub fn note(&self, text: &str) {
        self.working();
        self.progress.line(format_args!("{} {}", self.position, shortened(text)));
    }

    fn end(&mut self, end: End<'_>) {
        self.ended = true;
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if self.progress.is_raw() {
            let ended = Some((end, SystemTime::now()));
            return self.progress.raw(&rawjson::vertex(&self.name(), Some(self.started_at()), ended));
        }
        let (word, timed) = match end {
            End::Done => ("DONE", true),
            End::Cached => ("CACHED", false),
            End::Failed(_) => ("FAILED", true),
            End::Canceled => ("CANCELED", true),
        };
        let waiting = self.marked.take().map(Mutex::into_inner);
        if let Some(waiting) = waiting.filter(|waiting| !waiting.is_empty()) {
            self.marked_lines(&waiting);
        }
        let mut line = self.position.clone();
        if !self.announced.load(Ordering::Relaxed) {
            line = format!("{line} {}", self.instruction);
        }
        if timed {
            self.progress.line(format_args!("{line} {word} {}", Seconds(self.started.elapsed())));
        } else {
            self.progress.line(format_args!("{line} {word}"));
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.ended {
            self.end(End::Failed("the step failed"));
        }
    }
}

/// Returns the instruction on one line of bounded width, without control characters.
fn shortened(instruction: &str) -> String {
    let words = instruction.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(INSTRUCTION_WIDTH) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::super::progress::Recorded;
    use super::*;

    fn recorded(action: impl FnOnce(&Progress)) -> String {
        let recorded = Recorded::default();
        action(&Progress::to(recorded.clone()));
        recorded.text()
    }

    #[test]
    fn a_step_without_work_has_one_line() {
        let text = recorded(|progress| {
            progress.step("build", 1, 3, "ENV A=b").done();
            progress.step("build", 2, 3, "COPY . /src").cached();
        });
        assert_eq!(text, "[build 1/3] ENV A=b DONE 0.0s\n[build 2/3] COPY . /src CACHED\n");
    }

    #[test]
    fn a_step_that_prints_has_its_output_between_two_lines() {
        let text = recorded(|progress| {
            let step = progress.step("stage-0", 2, 5, "RUN make");
            step.working();
            step.output(b"cc a.c\ncc b");
            step.output(b".c");
            step.done();
        });
        assert_eq!(text, "[stage-0 2/5] RUN make\ncc a.c\ncc b.c\n[stage-0 2/5] DONE 0.0s\n");
    }

    #[test]
    fn an_unfinished_step_has_failed() {
        let text = recorded(|progress| drop(progress.step("stage-0", 1, 1, "RUN false")));
        assert_eq!(text, "[stage-0 1/1] RUN false FAILED 0.0s\n");
    }

    #[test]
    fn parallel_steps_do_not_share_a_line() {
        let text = recorded(|progress| {
            let one = progress.step("one", 1, 1, "RUN a");
            let two = progress.step("two", 1, 1, "RUN b");
            one.output(b"half");
            two.output(b"other\n");
            one.output(b"rest\n");
            one.done();
            two.done();
        });
        let lines = ["[one 1/1] RUN a", "half", "[two 1/1] RUN b", "other", "rest", "[one 1/1] DONE 0.0s"];
        assert_eq!(text, format!("{}\n[two 1/1] DONE 0.0s\n", lines.join("\n")));
    }

    #[test]
    fn marked_output_is_whole_lines_with_their_step() {
        let text = recorded(|progress| {
            let one = progress.step("one", 1, 1, "RUN a").with_marked_output();
            let two = progress.step("two", 1, 1, "RUN b").with_marked_output();
            one.output(b"half");
            two.output(b"x\ny\nz");
            one.output(b" a line\n");
            one.done();
            two.done();
        });
        let lines = [
            "[one 1/1] RUN a",
            "[two 1/1] RUN b",
            "[two 1/1] x",
            "[two 1/1] y",
            "[one 1/1] half a line",
            "[one 1/1] DONE 0.0s",
            "[two 1/1] z",
            "[two 1/1] DONE 0.0s",
        ];
        assert_eq!(text, format!("{}\n", lines.join("\n")));
    }

    #[test]
    fn an_instruction_fits_on_a_line() {
        assert_eq!(shortened("RUN a \\\n   b\u{1b}[2J"), "RUN a \\ b [2J");
        let long = shortened(&"é".repeat(400));
        assert_eq!(long.chars().count(), INSTRUCTION_WIDTH + 1);
        assert!(long.ends_with('…'));
    }
}
