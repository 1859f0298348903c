//! Parses Dockerfiles to a syntax tree, and implements the pure rules of the language that the plan applies to its
//! words.
//!
//! [`parse`] reads a complete file and reports every independent error in one run, each with a byte span for a caret.
//! Nothing is expanded here: the variables of a word depend on the base image and on the stage. So the plan calls
//! [`expand`] on the words that it is about to use, [`expose`] on ports and [`signal`] on stop signals.
//!
//! The rules follow the [Dockerfile reference](https://docs.docker.com/reference/dockerfile/) and, where it says
//! nothing, BuildKit's built-in frontend. Error messages use BuildKit's words so that they can be searched for.

pub mod ast;
mod directive;
mod error;
pub mod expand;
pub mod expose;
mod flags;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod go;
mod healthcheck;
mod heredoc;
mod instruction;
mod json;
mod keyword;
mod lines;
pub mod mount;
mod parser;
mod pattern;
pub mod signal;
mod source;
mod statement;
#[cfg(test)]
mod tests;
mod words;

pub use ast::{Dockerfile, Instruction, Kind, Source, Span, Stage, Word};
pub use error::ParseError;
pub use expand::ExpandError;
pub use go::{format_go_duration, go_quote, parse_go_bool, parse_go_duration};
pub use parser::{Invalid, parse, parse_trigger};
