//! Values that must not reach a log, a layer, a history entry or an error message.

use std::fmt;

/// A value whose `Debug` and `Display` show nothing of it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself, for the one place that has to send it.
    pub fn reveal(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A URL fit for a log: user information and query are blanked, because both carry credentials (signed upload locations
/// among them).
pub fn url(text: &str) -> String {
    let (rest, had_query) = match text.split_once('?') {
        Some((rest, _)) => (rest, true),
        None => (text, false),
    };
    let mut shown = match rest.split_once("://") {
        Some((scheme, after)) => {
            let (authority, path) = match after.find('/') {
                Some(slash) => after.split_at(slash),
                None => (after, ""),
            };
            match authority.rsplit_once('@') {
                Some((_, host)) => format!("{scheme}://[redacted]@{host}{path}"),
                None => rest.to_owned(),
            }
        }
        None => rest.to_owned(),
    };
    if had_query {
        shown.push_str("?[redacted]");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::{Secret, url};

    #[test]
    fn secrets_do_not_print() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "[redacted] [redacted]");
        assert_eq!(*secret.reveal(), "hunter2");
    }

    #[test]
    fn urls_lose_credentials_and_query() {
        assert_eq!(url("https://u:p@host:5000/v2/a?sig=x"), "https://[redacted]@host:5000/v2/a?[redacted]");
        assert_eq!(url("https://host/a@b"), "https://host/a@b");
        assert_eq!(url("no url"), "no url");
    }
}
