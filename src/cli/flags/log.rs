//! The flags of the log and of progress output: kaniko's, and BuildKit's `--progress`.

use clap::{ArgAction, ValueEnum};

/// How much is logged, and in what shape.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Messages")]
pub struct LogFlags {
    /// The log level: trace, debug, info, warn, error, fatal or panic.
    ///
    /// Above info, progress lines are left out, too; output of RUN is always shown.
    #[arg(
        short,
        long,
        value_name = "LEVEL",
        value_enum,
        default_value = "info",
        ignore_case = true,
        hide_possible_values = true
    )]
    pub verbosity: Verbosity,

    /// The log format: text, color or json. Colours are used on terminals only.
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "color", hide_possible_values = true)]
    pub log_format: LogFormat,

    /// How progress is shown: auto, plain, tty, rawjson or quiet.
    ///
    /// plain prints a line when something starts and ends. tty also shows what is running; auto means tty on a
    /// terminal. rawjson prints BuildKit's JSON objects, one per line. quiet prints only errors, and no output of RUN.
    #[arg(long, value_name = "KIND", value_enum, default_value = "auto", hide_possible_values = true)]
    pub progress: ProgressKind,

    /// Put the time before each line of the log.
    #[arg(long, action = ArgAction::Set, default_value_t = false)]
    pub log_timestamp: bool,
}

/// The levels of `--verbosity`, kaniko's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Verbosity {
    /// Everything.
    Trace,
    /// What helps to understand a build that went wrong.
    Debug,
    /// Progress.
    Info,
    /// What the user should know.
    #[value(alias = "warning")]
    Warn,
    /// Errors.
    Error,
    /// The error that ends the build.
    Fatal,
    /// The same.
    Panic,
}

/// The formats of `--log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Plain lines.
    Text,
    /// Plain lines, coloured on a terminal.
    Color,
    /// One JSON object a line.
    Json,
}

/// The kinds of `--progress`, BuildKit's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressKind {
    /// `Tty` on a terminal, else `Plain`.
    Auto,
    /// Lines.
    Plain,
    /// Lines, and what is under way.
    Tty,
    /// JSON objects.
    #[value(name = "rawjson")]
    RawJson,
    /// Errors.
    Quiet,
}
