//! Progress on a terminal: what is under way stands below the lines, and is drawn anew above no line that is not finished.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often what is under way is drawn, where nothing else makes it.
const TICK: Duration = Duration::from_millis(200);

/// What is under way.
#[derive(Debug, Clone)]
pub(super) struct Bars(MultiProgress);

impl Bars {
    pub(super) fn stderr() -> Self {
        Self(MultiProgress::with_draw_target(ProgressDrawTarget::stderr()))
    }

    /// Where lines go.
    pub(super) fn writer(&self) -> impl Write + Send + 'static {
        WholeLines { bars: self.0.clone(), waiting: Vec::new() }
    }

    /// A step, until the bar is cleared.
    pub(super) fn step(&self, text: impl Into<Cow<'static, str>>) -> ProgressBar {
        let bar = self.0.add(ProgressBar::new_spinner());
        bar.set_style(style("{spinner} {wide_msg} {elapsed}"));
        bar.set_message(text);
        bar.enable_steady_tick(TICK);
        bar
    }

    /// A transfer, until the bar is cleared.
    pub(super) fn transfer(&self, text: impl Into<Cow<'static, str>>, total: Option<u64>) -> ProgressBar {
        let bar = match total {
            Some(total) => self.0.add(ProgressBar::new(total)),
            None => self.0.add(ProgressBar::new_spinner()),
        };
        bar.set_style(match total {
            Some(_) => style("{bar:20} {bytes}/{total_bytes} {wide_msg}"),
            None => style("{spinner} {bytes} {wide_msg}"),
        });
        bar.set_message(text);
        bar
    }
}

/// The library's own style stands in for one that it cannot read; a test sees that none is like that.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// Writes whole lines above the bars; the rest of a line waits for its end, because bars would be drawn over it.
struct WholeLines {
    bars: MultiProgress,
    waiting: Vec<u8>,
}

impl WholeLines {
    fn print(&mut self, length: usize) -> io::Result<()> {
        let lines: Vec<u8> = self.waiting.drain(..length).collect();
        self.bars.suspend(|| {
            let mut output = io::stderr().lock();
            output.write_all(&lines)?;
            output.flush()
        })
    }
}

impl Write for WholeLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.waiting.extend_from_slice(bytes);
        if let Some(feed) = self.waiting.iter().rposition(|byte| *byte == b'\n') {
            self.print(feed + 1)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for WholeLines {
    fn drop(&mut self) {
        let length = self.waiting.len();
        if length > 0
            && let Err(error) = self.print(length)
        {
            tracing::debug!("the last line cannot be printed: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn styles_can_be_read() {
        for template in [
            "{spinner} {wide_msg} {elapsed}",
            "{bar:20} {bytes}/{total_bytes} {wide_msg}",
            "{spinner} {bytes} {wide_msg}",
        ] {
            ProgressStyle::with_template(template).unwrap();
        }
    }
}
