//! Where a build's files come from, and which of them it may see.
//!
//! [`Context::open`] finds the directory of the build context; [`Context::load_ignore`] reads the `.dockerignore` that
//! belongs to the Dockerfile. Contexts from elsewhere are fetched by the driver, and from there on they are directories, too:
//! [`Context::fetched`] looks at nothing outside of theirs.

mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod ignore;
mod location;
pub mod pattern;
mod rule;
mod screen;

pub use error::{ContextError, IgnoreError};
pub use ignore::{IgnoreMatcher, Verdict};
pub use location::{Context, load_ignore};
pub use pattern::BadPattern;
