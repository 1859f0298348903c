//! Where a build's files come from, and which of them it may see.
//!
//! [`Context::open`] finds the directory of the build context; [`Context::load_ignore`] reads the `.dockerignore` that
//! belongs to the Dockerfile. Contexts from elsewhere are fetched by the driver, and from there on they are directories, too.
//! Wherever it comes from, a context is somebody else's: nothing is looked at outside of its directory because of what is in it.

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
