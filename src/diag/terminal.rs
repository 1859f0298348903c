//! Shows progress on a terminal: bars for the current work below the lines, drawn only when the last line is complete.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The interval at which bars are redrawn.
const TICK: Duration = Duration::from_millis(200);

/// The bars of the current work.
#[derive(Debug, Clone)]
pub(super) struct Bars(MultiProgress);

impl Bars {
    pub(super) fn stderr() -> Self {
        Self(MultiProgress::with_draw_target(ProgressDrawTarget::stderr()))
    }

    /// Returns the destination of lines.
    pub(super) fn writer(&self) -> impl Write + Send + 'static {
        WholeLines { bars: self.0.clone(), waiting: Vec::new() }
    }

    /// Shows a step until the bar is cleared.
    pub(super) fn step(&self, text: impl Into<Cow<'static, str>>) -> ProgressBar {
        let bar = self.0.add(ProgressBar::new_spinner());
        bar.set_style(style("{spinner} {wide_msg} {elapsed}"));
        bar.set_message(text);
        bar.enable_steady_tick(TICK);
        bar
    }

    /// Shows a transfer until the bar is cleared.
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

/// Falls back to the library's own style if it cannot parse one; a test ensures that it can parse all.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// Writes complete lines above the bars. An unfinished line waits for its end, because bars would be drawn over it.
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
