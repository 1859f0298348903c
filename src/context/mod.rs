//! Where a build's files come from, and which of them it may see.
//!
//! [`Context::open`] finds the directory of the build context; [`Context::load_ignore`] reads the `.dockerignore` that
//! belongs to the Dockerfile. Other places than a local directory are refused by name until they are supported.

mod error;
mod ignore;
mod location;
pub mod pattern;
mod rule;
mod screen;

pub use error::{ContextError, IgnoreError};
pub use ignore::{IgnoreMatcher, Verdict};
pub use location::{Context, load_ignore};
pub use pattern::BadPattern;
