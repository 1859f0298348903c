//! The flags that say how the program speaks: kaniko's, and BuildKit's `--progress`.

use clap::{ArgAction, ValueEnum};

/// How much is logged, and in what shape.
#[derive(Debug, Clone, clap::Args)]
pub struct LogFlags {
    /// trace, debug, info, warn, error, fatal or panic.
    ///
    /// Above info the progress lines are left out too; what RUN prints is always passed through.
    #[arg(
        short,
        long,
        value_name = "LEVEL",
        value_enum,
        default_value = "info",
        ignore_case = true,
        hide_possible_values = true,
        help_heading = "Messages"
    )]
    pub verbosity: Verbosity,

    /// text, color or json. Colours are for terminals only.
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        default_value = "color",
        hide_possible_values = true,
        help_heading = "Messages"
    )]
    pub log_format: LogFormat,

    /// How progress is shown: auto, plain, tty, rawjson or quiet.
    ///
    /// plain has a line for what begins and what ends; tty also shows what is under way, which auto does on a terminal; rawjson
    /// has one JSON object a line, as docker buildx build has them; quiet leaves only errors, not even what RUN prints.
    #[arg(
        long,
        value_name = "KIND",
        value_enum,
        default_value = "auto",
        hide_possible_values = true,
        help_heading = "Messages"
    )]
    pub progress: ProgressKind,

    /// Put the time before each line of the log.
    #[arg(long, action = ArgAction::Set, default_value_t = false, help_heading = "Messages")]
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
