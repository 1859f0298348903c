//! Sets up the log from `--verbosity`, `--log-format` and `--log-timestamp`. The environment has no influence.

use std::fmt;
use std::io::IsTerminal as _;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use super::env::Env;
use super::flags::log::{LogFlags, LogFormat, ProgressKind, Verbosity};
use crate::diag::Hint;
use crate::diag::line::{LineFormat, Style};
use crate::diag::progress::Progress;

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// It was set up before.
    #[error("failed to set up the log")]
    Twice(#[from] TryInitError),
    /// `--progress=tty` without a terminal.
    #[error("--progress=tty needs a terminal on standard error: use --progress=plain, or auto")]
    NoTerminal,
}

impl Hint for LoggingError {
    fn hint(&self) -> Option<String> {
        None
    }
}

/// Sets up the log, and returns the progress that prints to the same standard error.
///
/// # Errors
/// The log was set up before, or `--progress=tty` has no terminal.
pub fn start_logging(flags: &LogFlags, env: Env<'_>) -> Result<Progress, LoggingError> {
    let format = LineFormat { style: style(flags.log_format, env), timestamp: flags.log_timestamp };
    let is_terminal = std::io::stderr().is_terminal();
    let can_draw = is_terminal && env.raw("TERM").is_none_or(|terminal| terminal != "dumb");
    let progress = match flags.progress {
        ProgressKind::Tty if !is_terminal => return Err(LoggingError::NoTerminal),
        ProgressKind::Tty => Progress::terminal(),
        ProgressKind::Auto if can_draw && flags.log_format == LogFormat::Color => Progress::terminal(),
        ProgressKind::Auto | ProgressKind::Plain => Progress::stderr(),
        ProgressKind::RawJson => Progress::raw_json(std::io::stderr()),
        ProgressKind::Quiet => Progress::stderr().silent(),
    };
    // BuildKit's objects contain messages as text for people.
    let format = match (flags.progress, format.style) {
        (ProgressKind::RawJson, Style::Json) => LineFormat { style: Style::Plain, ..format },
        _ => format,
    };
    let is_quiet = flags.verbosity > Verbosity::Info || flags.progress == ProgressKind::Quiet;
    let verbosity = if flags.progress == ProgressKind::Quiet { Verbosity::Error } else { flags.verbosity };
    let progress = progress.with_format(format).quiet(is_quiet);
    tracing_subscriber::registry()
        .with(Lines { progress: progress.clone() }.with_filter(filter(verbosity)))
        .try_init()?;
    Ok(progress)
}

fn style(format: LogFormat, env: Env<'_>) -> Style {
    match format {
        LogFormat::Json => Style::Json,
        LogFormat::Color if std::io::stderr().is_terminal() && env.raw("NO_COLOR").is_none() => Style::Colour,
        LogFormat::Color | LogFormat::Text => Style::Plain,
    }
}

/// Returns the filter: our own events at the requested level, those of libraries at `info` at most, because HTTP
/// libraries log headers, including credentials, at finer levels.
fn filter(verbosity: Verbosity) -> Targets {
    let level = match verbosity {
        Verbosity::Trace => LevelFilter::TRACE,
        Verbosity::Debug => LevelFilter::DEBUG,
        Verbosity::Info => LevelFilter::INFO,
        Verbosity::Warn => LevelFilter::WARN,
        Verbosity::Error => LevelFilter::ERROR,
        // The error that ends the build is always printed.
        Verbosity::Fatal | Verbosity::Panic => LevelFilter::OFF,
    };
    let libraries = if level == LevelFilter::INFO { LevelFilter::WARN } else { level.min(LevelFilter::INFO) };
    Targets::new().with_default(libraries).with_target(env!("CARGO_CRATE_NAME"), level)
}

/// Prints events as lines.
struct Lines {
    progress: Progress,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut parts = Parts::default();
        event.record(&mut parts);
        self.progress.log(*event.metadata().level(), &parts.message, &parts.fields);
    }
}

/// The message of an event and its other fields.
#[derive(Default)]
struct Parts {
    message: String,
    fields: Vec<(String, String)>,
}

impl Parts {
    fn add(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            // Fields that the bridge of the `log` crate adds to every event.
            name if name.starts_with("log.") => {}
            name => self.fields.push((name.to_owned(), value)),
        }
    }
}

impl Visit for Parts {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;
    use crate::diag::progress::Recorded;

    fn logged(verbosity: Verbosity, action: impl FnOnce()) -> String {
        let recorded = Recorded::default();
        let lines = Lines { progress: Progress::to(recorded.clone()) }.with_filter(filter(verbosity));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), action);
        recorded.text()
    }

    #[test]
    fn events_are_plain_lines_with_their_fields() {
        let text = logged(Verbosity::Debug, || {
            tracing::info!("resolved {}", "base:1");
            tracing::debug!(attempt = 2, host = "h:1", "asking again");
        });
        assert_eq!(text, "resolved base:1\ndebug: asking again attempt=2 host=h:1\n");
    }

    #[test]
    fn details_of_libraries_are_not_logged() {
        let text = logged(Verbosity::Trace, || {
            tracing::debug!(target: "hyper::proto", "authorization: secret");
            tracing::info!(target: "hyper::proto", "connected");
        });
        assert_eq!(text, "connected\n");
    }

    #[test]
    fn verbosity_is_a_threshold() {
        for (verbosity, shown) in [
            (Verbosity::Trace, Some(Level::TRACE)),
            (Verbosity::Debug, Some(Level::DEBUG)),
            (Verbosity::Info, Some(Level::INFO)),
            (Verbosity::Warn, Some(Level::WARN)),
            (Verbosity::Error, Some(Level::ERROR)),
            (Verbosity::Fatal, None),
            (Verbosity::Panic, None),
        ] {
            let filter = filter(verbosity);
            for level in [Level::TRACE, Level::DEBUG, Level::INFO, Level::WARN, Level::ERROR] {
                let wanted = shown.is_some_and(|shown| level <= shown);
                assert_eq!(filter.would_enable("crabwright::push", &level), wanted, "{verbosity:?} {level}");
            }
        }
    }
}
