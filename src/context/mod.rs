//! The source of a build's files, and which of them the build sees.
//!
//! [`Context::open`] finds the directory of the build context; [`Context::load_ignore`] reads the `.dockerignore` that
//! belongs to the Dockerfile. Remote contexts are fetched by the driver, and are then directories too. A context is
//! never trusted: nothing in it makes this code read a file outside of its directory.

mod directory;
mod error;
mod file;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod ignore;
mod location;
pub mod pattern;
mod prefilter;
mod rule;

pub use directory::Context;
pub use error::{ContextError, IgnoreError};
pub use file::InputFile;
pub use ignore::{IgnoreMatcher, Verdict};
pub use pattern::BadPattern;
