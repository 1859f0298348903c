//! Hints for the user, provided by the errors themselves.
//!
//! Each error type implements [`Hint`] next to its messages, and a wrapper delegates to the error that it holds, in an
//! exhaustive `match`, so that a new variant does not compile without a decision about its hint. Hints are not found by
//! walking the chain of sources: `source()` of a transparent wrapper skips the error that it holds.

use std::error::Error;
use std::fmt;
use std::io;

/// An error with a hint for the user.
pub trait Hint: Error {
    /// Returns the hint, in one line; `None` if the message is sufficient, or nothing is known to help.
    fn hint(&self) -> Option<String>;
}

impl Hint for io::Error {
    fn hint(&self) -> Option<String> {
        if self.kind() == io::ErrorKind::StorageFull {
            return Some(
                "the file system is full; --work-dir selects the directory of all files of the build".to_owned(),
            );
        }
        self.get_ref()?.downcast_ref::<Self>()?.hint()
    }
}

/// An error whose type is unknown to the module that passes it on, for traits that a higher floor implements. It
/// displays as the error in it, and keeps its causes and its hint.
///
/// It does not implement [`Hint`] itself, so that every error that does can be converted into it.
pub struct BoxedError(Box<dyn Hint + Send + Sync>);

impl BoxedError {
    /// Returns the [`Hint::hint`] of the error in it.
    pub fn hint(&self) -> Option<String> {
        self.0.hint()
    }
}

impl<E: Hint + Send + Sync + 'static> From<E> for BoxedError {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl From<String> for BoxedError {
    fn from(message: String) -> Self {
        Message(message).into()
    }
}

impl From<&str> for BoxedError {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

impl fmt::Debug for BoxedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for BoxedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Error for BoxedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// An error that consists only of a text.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Message(String);

impl Hint for Message {
    fn hint(&self) -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::with_causes;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot rest")]
    struct Restless(#[source] io::Error);

    impl Hint for Restless {
        fn hint(&self) -> Option<String> {
            self.0.hint()
        }
    }

    #[test]
    fn a_boxed_error_has_the_message_and_hint_of_its_error() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let boxed = BoxedError::from(Restless(full()));
        assert_eq!(with_causes(&boxed), with_causes(&Restless(full())));
        assert!(boxed.hint().is_some_and(|hint| hint.contains("--work-dir")), "{boxed:?}");
        assert_eq!(BoxedError::from("lost").to_string(), "lost");
        assert_eq!(BoxedError::from("lost").hint(), None);
    }

    #[test]
    fn a_full_disk_is_recognized_inside_another_error() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(io::Error::other(full).hint(), io::Error::from(io::ErrorKind::StorageFull).hint());
        assert_eq!(io::Error::other("else").hint(), None);
        assert_eq!(io::Error::from(io::ErrorKind::NotFound).hint(), None);
    }
}
