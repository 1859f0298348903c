//! Prints progress lines on standard error.
//!
//! A step that may take long prints a line at its start and one at its end. Transfers print their bytes at the end and
//! every few seconds meanwhile, because a pod's log cannot be redrawn. The output of RUN, the lines of the log and
//! these lines share one sink, so that none of them interrupts a line of another.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use tracing::Level;

use super::disk::DiskUse;
use super::line::LineFormat;
use super::rawjson;
use super::summary::{Clock, Phase, Summary};
use super::terminal::Bars;

pub use super::units::{Bytes, Seconds};

/// The interval at which a transfer prints its progress.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// The destination of lines; cheap to clone and shared by all threads.
#[derive(Clone)]
pub struct Progress {
    shared: Arc<Shared>,
    format: LineFormat,
    quiet: bool,
    /// True to discard the output of RUN too.
    silent: bool,
}

struct Shared {
    display: Display,
    sink: Mutex<Sink>,
    clock: Clock,
    disk: DiskUse,
    steps: AtomicU64,
}

/// The type of output.
enum Display {
    /// Lines for users or log collectors.
    Lines,
    /// Lines, and below them bars for the current work.
    Terminal(Bars),
    /// BuildKit's objects. The flags record whether the vertex of messages and that of transfers have been named.
    RawJson([AtomicBool; 2]),
}

struct Sink {
    writer: Box<dyn Write + Send>,
    /// The step whose output ended in the middle of a line.
    unfinished: Option<u64>,
    /// True after the writer failed because its reader is gone; the build continues.
    closed: bool,
}

impl Sink {
    fn write(&mut self, bytes: &[u8]) {
        if !self.closed {
            self.closed = self.writer.write_all(bytes).and_then(|()| self.writer.flush()).is_err();
        }
    }

    fn line(&mut self, line: &str) {
        let feed = if self.unfinished.take().is_some() { "\n" } else { "" };
        self.write(format!("{feed}{line}\n").as_bytes());
    }

    fn output(&mut self, step: u64, bytes: &[u8]) {
        if self.unfinished.is_some_and(|other| other != step) {
            self.write(b"\n");
        }
        self.write(bytes);
        if let Some(last) = bytes.last() {
            self.unfinished = (*last != b'\n').then_some(step);
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

impl Progress {
    /// Prints lines to standard error.
    pub fn stderr() -> Self {
        Self::to(std::io::stderr())
    }

    /// Prints lines to `sink`.
    pub fn to(sink: impl Write + Send + 'static) -> Self {
        Self::shown(sink, Display::Lines)
    }

    /// Prints BuildKit's JSON objects to `sink`, one per line.
    pub fn raw_json(sink: impl Write + Send + 'static) -> Self {
        Self::shown(sink, Display::RawJson(Default::default()))
    }

    /// Prints lines to standard error, a terminal, and shows bars for the current work below them.
    pub fn terminal() -> Self {
        let bars = Bars::stderr();
        Self::shown(bars.writer(), Display::Terminal(bars))
    }

    fn shown(sink: impl Write + Send + 'static, display: Display) -> Self {
        let sink = Sink { writer: Box::new(sink), unfinished: None, closed: false };
        let shared = Shared {
            display,
            sink: Mutex::new(sink),
            clock: Clock::start(),
            disk: DiskUse::default(),
            steps: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared), format: LineFormat::default(), quiet: false, silent: false }
    }

    /// Prints nothing.
    pub fn hidden() -> Self {
        Self::to(std::io::sink())
    }

    /// Returns the same sink with a different format of lines.
    #[must_use]
    pub fn with_format(self, format: LineFormat) -> Self {
        Self { format, ..self }
    }

    /// Returns the same sink without progress lines: the log and the output of RUN are still printed.
    #[must_use]
    pub fn quiet(self, quiet: bool) -> Self {
        Self { quiet, ..self }
    }

    /// Returns the same sink without progress lines and without the output of RUN.
    #[must_use]
    pub fn silent(self) -> Self {
        Self { quiet: true, silent: true, ..self }
    }

    /// Returns the format of lines.
    pub fn format(&self) -> LineFormat {
        self.format
    }

    /// Prints one line.
    pub fn line(&self, text: impl fmt::Display) {
        if !self.quiet {
            self.log(Level::INFO, &text.to_string(), &[]);
        }
    }

    /// Prints a line of the log; the caller has checked its level.
    pub fn log(&self, level: Level, message: &str, fields: &[(String, String)]) {
        let line = self.format.render(level, message, fields, SystemTime::now());
        self.text(&line);
    }

    /// Prints text unchanged, also several lines.
    pub fn text(&self, text: &str) {
        match &self.shared.display {
            Display::RawJson(named) => {
                self.name_once(&named[0], rawjson::MESSAGES);
                self.raw(&rawjson::log(rawjson::MESSAGES, 2, format!("{text}\n").as_bytes(), SystemTime::now()));
            }
            Display::Lines | Display::Terminal(_) => self.with_sink(|sink| sink.line(text)),
        }
    }

    /// Returns the number of the next step, by which the sink distinguishes the output of steps.
    pub(super) fn next_step(&self) -> u64 {
        self.shared.steps.fetch_add(1, Ordering::Relaxed)
    }

    /// Starts a transfer of `total` bytes, if that is known, described by `label` ("pull sha256:ab…").
    pub fn transfer(&self, label: impl Into<String>, total: Option<u64>) -> Transfer {
        let label = label.into();
        let bar = self.bars().map(|bars| bars.transfer(label.clone(), total));
        Transfer {
            progress: self.clone(),
            bar: bar.map(|bar| Arc::new(Bar(bar))),
            started_at: SystemTime::now(),
            label,
            total,
            moved: Arc::new(AtomicU64::new(0)),
            started: Instant::now(),
            last: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// Counts the time until the returned value is dropped as time of `phase`.
    pub fn phase(&self, phase: Phase) -> PhaseTimer {
        PhaseTimer { progress: self.clone(), phase, started: Instant::now() }
    }

    /// Returns the time since the first clone of this handle was created.
    pub fn elapsed(&self) -> Duration {
        self.shared.clock.elapsed()
    }

    /// Returns the time spent so far by phase, in the order of a build.
    pub fn phases(&self) -> Vec<(Phase, Duration)> {
        self.shared.clock.spent()
    }

    /// Records that the build's files at `place`, a file or a directory, have `bytes` now.
    pub fn disk_use(&self, place: &Path, bytes: u64) {
        self.shared.disk.set(place, bytes);
    }

    /// Returns the most bytes that the build's files had at once.
    pub fn disk_peak(&self) -> u64 {
        self.shared.disk.peak()
    }

    /// Prints the summary, line by line.
    pub fn summary(&self, summary: &Summary) {
        for line in summary.to_string().lines() {
            self.line(line);
        }
    }

    /// Returns the bars, if they are shown.
    pub(super) fn bars(&self) -> Option<&Bars> {
        match &self.shared.display {
            Display::Terminal(bars) if !self.quiet => Some(bars),
            _ => None,
        }
    }

    /// Reports whether BuildKit's objects are printed.
    pub(super) fn is_raw(&self) -> bool {
        matches!(self.shared.display, Display::RawJson(_))
    }

    /// Prints one of BuildKit's objects.
    pub(super) fn raw(&self, line: &str) {
        self.with_sink(|sink| sink.line(line));
    }

    /// Names a vertex that is not a step, before the first line about it.
    fn name_once(&self, named: &AtomicBool, name: &str) {
        if !named.swap(true, Ordering::Relaxed) {
            self.raw(&rawjson::vertex(name, Some(SystemTime::now()), None));
        }
    }

    pub(super) fn output(&self, step: u64, bytes: &[u8]) {
        if self.silent {
            return;
        }
        self.with_sink(|sink| sink.output(step, bytes));
    }

    fn with_sink(&self, action: impl FnOnce(&mut Sink)) {
        // A thread that panicked while printing left at most half a line.
        action(&mut self.shared.sink.lock());
    }
}

/// Counts time for [`Progress::phase`] until it is dropped.
#[derive(Debug)]
#[must_use = "the time ends when this is dropped"]
pub struct PhaseTimer {
    progress: Progress,
    phase: Phase,
    started: Instant,
}

impl Drop for PhaseTimer {
    fn drop(&mut self) {
        self.progress.shared.clock.add(self.phase, self.started.elapsed());
    }
}

/// A transfer of a blob.
#[derive(Debug, Clone)]
pub struct Transfer {
    progress: Progress,
    /// Cleared when the last clone is dropped.
    bar: Option<Arc<Bar>>,
    started_at: SystemTime,
    label: String,
    total: Option<u64>,
    moved: Arc<AtomicU64>,
    started: Instant,
    last: Arc<Mutex<Instant>>,
}

impl Transfer {
    /// Counts transferred bytes.
    pub fn add(&self, bytes: u64) {
        let moved = self.moved.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if let Some(bar) = &self.bar {
            bar.0.set_position(moved);
            return;
        }
        if let Some(mut last) = self.last.try_lock()
            && last.elapsed() >= HEARTBEAT
        {
            *last = Instant::now();
            if self.raw(moved, false) {
                return;
            }
            match self.total {
                Some(total) => self.progress.line(format_args!("{} {} / {}", self.label, Bytes(moved), Bytes(total))),
                None => self.progress.line(format_args!("{} {}", self.label, Bytes(moved))),
            }
        }
    }

    /// Sets the total of transferred bytes.
    pub fn reach(&self, bytes: u64) {
        self.add(bytes.saturating_sub(self.moved.load(Ordering::Relaxed)));
    }

    /// Prints the transfer's line: bytes and time.
    pub fn done(self) {
        let moved = self.moved.load(Ordering::Relaxed);
        if self.raw(moved, true) {
            return;
        }
        self.progress.line(format_args!("{} {} DONE {}", self.label, Bytes(moved), Seconds(self.started.elapsed())));
    }

    /// Prints that no transfer was necessary, and why.
    pub fn skipped(self, why: &str) {
        if self.raw(self.total.unwrap_or_default(), true) {
            return;
        }
        self.progress.line(format_args!("{} {why}", self.label));
    }

    /// Prints the progress as one of BuildKit's objects, if those are printed.
    fn raw(&self, current: u64, completed: bool) -> bool {
        let Display::RawJson(named) = &self.progress.shared.display else { return false };
        self.progress.name_once(&named[1], rawjson::TRANSFERS);
        let (id, total, started) = (self.label.as_str(), self.total, self.started_at);
        let status = rawjson::Status { id, current, total, started, completed };
        self.progress.raw(&rawjson::status(&status, SystemTime::now()));
        true
    }
}

/// A bar that is cleared when dropped.
#[derive(Debug)]
struct Bar(indicatif::ProgressBar);

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A sink whose content a test can read back.
#[cfg(test)]
#[derive(Clone, Default)]
pub(crate) struct Recorded(Arc<Mutex<Vec<u8>>>);

#[cfg(test)]
impl Recorded {
    /// Returns the printed text, with times (`1.2s`) replaced, because they differ.
    pub(crate) fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.0.lock()).into_owned();
        regex::Regex::new(r"\d+\.\ds").unwrap().replace_all(&text, "0.0s").into_owned()
    }
}

#[cfg(test)]
impl Write for Recorded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::Style;
    use super::*;

    #[test]
    fn transfers_show_their_bytes() {
        let recorded = Recorded::default();
        let progress = Progress::to(recorded.clone());
        let transfer = progress.transfer("pull sha256:ab", Some(2_000));
        transfer.add(1_500);
        transfer.add(500);
        transfer.done();
        progress.transfer("push sha256:cd", None).skipped("already there");
        assert_eq!(recorded.text(), "pull sha256:ab 2.0 kB DONE 0.0s\npush sha256:cd already there\n");
    }

    #[test]
    fn a_quiet_build_still_logs_and_passes_output_through() {
        let recorded = Recorded::default();
        let progress = Progress::to(recorded.clone()).quiet(true);
        progress.line("hidden");
        progress.log(Level::ERROR, "shown", &[]);
        let step = progress.step("stage-0", 1, 1, "RUN echo hello");
        step.output(b"hello\n");
        step.done();
        assert_eq!(recorded.text(), "error: shown\nhello\n");
    }

    #[test]
    fn a_silent_build_only_logs() {
        let recorded = Recorded::default();
        let progress = Progress::to(recorded.clone()).silent();
        progress.line("hidden");
        let step = progress.step("stage-0", 1, 1, "RUN echo hello");
        step.output(b"hello\n");
        step.done();
        progress.log(Level::ERROR, "shown", &[]);
        assert_eq!(recorded.text(), "error: shown\n");
    }

    #[test]
    fn raw_json_has_an_object_on_every_line() {
        let recorded = Recorded::default();
        let progress = Progress::raw_json(recorded.clone());
        progress.line("hello");
        progress.line("again");
        progress.transfer("pull a", Some(3)).done();
        let step = progress.step("build", 2, 3, "RUN make");
        step.output(b"half");
        step.done();
        progress.step("build", 3, 3, "ENV A=b").cached();
        drop(progress.step("build", 1, 3, "RUN false"));
        let text = recorded.text();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let all = |key: &str| -> Vec<serde_json::Value> {
            lines.iter().filter_map(|line| line[key].as_array()).flatten().cloned().collect()
        };
        let vertexes = all("vertexes");
        let named = |name: &str| vertexes.iter().filter(|vertex| vertex["name"] == name).collect::<Vec<_>>();
        assert_eq!(named("[internal] messages").len(), 1);
        let make = named("[build 2/3] RUN make");
        assert!(make[0]["started"].is_string() && make[0]["completed"].is_null());
        assert!(make[1]["completed"].is_string() && make[1]["error"].is_null());
        assert_eq!(named("[build 3/3] ENV A=b")[0]["cached"], true);
        assert!(named("[build 1/3] RUN false")[0]["error"].is_string());
        let logs = all("logs");
        assert_eq!(logs.len(), 3);
        assert_eq!((&logs[2]["vertex"], &logs[2]["data"]), (&make[0]["digest"], &"aGFsZg==".into()));
        assert_eq!(all("statuses")[0]["id"], "pull a");
    }

    #[test]
    fn lines_follow_the_format() {
        let recorded = Recorded::default();
        let progress = Progress::to(recorded.clone()).with_format(LineFormat { style: Style::Json, timestamp: false });
        progress.line("pulled");
        let line: serde_json::Value = serde_json::from_str(recorded.text().trim_end()).unwrap();
        assert_eq!((&line["level"], &line["msg"]), (&"info".into(), &"pulled".into()));
    }

    #[test]
    fn a_closed_output_does_not_end_the_build() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let progress = Progress::to(Gone);
        progress.line("one");
        progress.line("two");
    }

    #[test]
    fn phases_count_until_their_timer_ends() {
        let progress = Progress::hidden();
        drop(progress.phase(Phase::Pull));
        let phases = progress.phases();
        assert_eq!(phases.iter().map(|(phase, _)| *phase).collect::<Vec<_>>(), [Phase::Pull]);
    }
}
