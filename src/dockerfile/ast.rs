//! The syntax tree of a Dockerfile, with byte spans into its source, before any variable is expanded.
//!
//! Words keep their text as written: the plan decides which words are expanded with which variables, because that
//! depends on the base image's environment and on the stage's arguments.

use std::sync::Arc;

use super::mount::MountFlag;

pub use super::source::{Source, Span, Word};

/// A parsed file.
#[derive(Debug, Clone)]
pub struct Dockerfile {
    /// The text that all spans point into.
    pub source: Arc<Source>,
    /// The escape character: `\` unless the `escape` directive says `` ` ``.
    pub escape: char,
    /// The value of the `syntax` directive.
    pub syntax: Option<Word>,
    /// The value of the `check` directive.
    pub check: Option<Word>,
    /// `ARG` instructions before the first `FROM`.
    pub global_args: Vec<Instruction>,
    /// The stages in file order; never empty.
    pub stages: Vec<Stage>,
}

/// The details of an instruction that do not change its meaning, for checks of style.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceForm {
    /// The keyword, in the case it has in the file.
    pub keyword: String,
    /// The comment lines directly above, without the `#` and surrounding blanks, and without parser directives.
    pub comments: Vec<String>,
    /// The first blank line among its continuation lines.
    pub blank_line: Option<Span>,
}

/// A `FROM` and the instructions up to the next one.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The `FROM` instruction.
    pub from: From,
    /// The stage's instructions, in order.
    pub instructions: Vec<Instruction>,
}

/// `FROM [--platform=P] IMAGE [AS NAME]`.
#[derive(Debug, Clone)]
pub struct From {
    /// The complete instruction.
    pub span: Span,
    /// The text as written, continuation lines joined: what progress lines show.
    pub text: String,
    /// `--platform`, expanded with global arguments only.
    pub platform: Option<Word>,
    /// Image reference, stage name or `scratch`, expanded with global arguments only.
    pub image: Word,
    /// The stage's name in lower case.
    pub name: Option<Word>,
    /// `AS` and the name, in the case they have in the file.
    pub as_written: Option<(String, String)>,
    /// The form in which it is written.
    pub written: SourceForm,
}

/// One instruction of a stage.
#[derive(Debug, Clone)]
pub struct Instruction {
    /// The whole instruction, here-document bodies included.
    pub span: Span,
    /// The logical line as written (continuations joined, comments dropped), without here-document bodies, as progress
    /// lines and `ONBUILD` triggers show it.
    pub text: String,
    /// The source that this instruction's spans point into; for `ONBUILD` triggers not the Dockerfile's.
    pub source: Arc<Source>,
    /// The escape character in force, needed for expansion.
    pub escape: char,
    /// The form in which it is written.
    pub written: SourceForm,
    /// The parsed instruction.
    pub kind: Kind,
}

/// The instructions of a stage (Dockerfile reference), flags split off and checked.
#[derive(Debug, Clone)]
pub enum Kind {
    /// `ADD` or `COPY`.
    Copy(Copy),
    /// `ARG`, one entry per name.
    Arg(Vec<ArgDefinition>),
    /// `CMD`.
    Cmd(Command),
    /// `ENTRYPOINT`.
    Entrypoint(Command),
    /// `ENV`, in order.
    Env(Vec<KeyValue>),
    /// `EXPOSE`, words not yet split into port and protocol.
    Expose(Vec<Word>),
    /// `HEALTHCHECK`.
    Healthcheck(Healthcheck),
    /// `LABEL`, in order.
    Label(Vec<KeyValue>),
    /// `MAINTAINER`.
    Maintainer(Word),
    /// `ONBUILD`.
    Onbuild(Onbuild),
    /// `RUN`.
    Run(Run),
    /// `SHELL`.
    Shell(Vec<String>),
    /// `STOPSIGNAL`.
    StopSignal(Word),
    /// `USER`.
    User(Word),
    /// `VOLUME`.
    Volume(Vec<Word>),
    /// `WORKDIR`.
    Workdir(Word),
}

/// The two ways of writing a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Text for the shell.
    Shell(String),
    /// A JSON array: the arguments.
    Exec(Vec<String>),
}

/// `key=value` as written, or the legacy `key rest-of-line`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key, still to be expanded.
    pub key: Word,
    /// The value, still to be expanded.
    pub value: Word,
    /// True if it is written without `=`.
    pub legacy: bool,
}

/// One name of an `ARG` instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgDefinition {
    /// The name.
    pub name: Word,
    /// The default, still to be expanded.
    pub default: Option<Word>,
}

/// `RUN`.
#[derive(Debug, Clone)]
pub struct Run {
    /// The command; for here-documents the command line with its `<<NAME` words.
    pub command: Command,
    /// Bodies, in the order of the `<<NAME` words.
    pub heredocs: Vec<Heredoc>,
    /// The values of `--mount`, one for each flag.
    pub mounts: Vec<MountFlag>,
    /// `--network`.
    pub network: Option<Word>,
    /// `--security`.
    pub security: Option<Word>,
    /// The values of `--device`.
    pub devices: Vec<Word>,
}

/// A here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The name, quotes removed.
    pub name: String,
    /// The body, terminator line excluded, leading tabs removed when `<<-`.
    pub body: String,
    /// True if no part of the name is quoted: variables in the body are expanded (COPY and ADD).
    pub expand: bool,
    /// True for `<<-`.
    pub strip_tabs: bool,
    /// The `<<NAME` word.
    pub span: Span,
    /// The body's lines as written, tabs included: `source.text[body_span]` is the text to pass to a shell that reads
    /// the here-document itself.
    pub body_span: Span,
}

/// `COPY` and `ADD`.
#[derive(Debug, Clone)]
pub struct Copy {
    /// True for `ADD`.
    pub add: bool,
    /// Source words, here-document words excluded.
    pub sources: Vec<Word>,
    /// Here-document sources.
    pub heredocs: Vec<Heredoc>,
    /// Destination word.
    pub destination: Word,
    /// `--from`: never expanded.
    pub from: Option<Word>,
    /// `--chown`.
    pub chown: Option<Word>,
    /// `--chmod`.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: Option<Flag>,
    /// `--parents`.
    pub parents: Option<Flag>,
    /// `--exclude`, one for each flag.
    pub excludes: Vec<Word>,
    /// `--checksum`.
    pub checksum: Option<Word>,
    /// `--keep-git-dir`.
    pub keep_git_dir: Option<Flag>,
    /// `--unpack`.
    pub unpack: Option<Flag>,
}

/// A boolean flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// Its value.
    pub value: bool,
    /// The flag in the source.
    pub span: Span,
}

/// `HEALTHCHECK`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// `HEALTHCHECK NONE`.
    None,
    /// `HEALTHCHECK [options] CMD command`. Durations are in nanoseconds; 0 means "inherit".
    Check {
        /// The command.
        command: Command,
        /// `--interval`.
        interval: i64,
        /// `--timeout`.
        timeout: i64,
        /// `--start-period`.
        start_period: i64,
        /// `--start-interval`.
        start_interval: i64,
        /// `--retries`.
        retries: i64,
    },
}

/// `ONBUILD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Onbuild {
    /// The trigger verbatim, as the image configuration stores it, here-document bodies included.
    pub trigger: String,
}
