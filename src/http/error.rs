//! Errors of the HTTP library, made readable.

use std::fmt;
use std::io;

use super::names::LedAstray;

/// An error of the HTTP library, told by its innermost cause: what stands above it only repeats that a request failed. It
/// never shows the URL, which may be signed.
#[derive(Debug)]
pub struct HttpError(reqwest::Error);

impl HttpError {
    /// Forgets the URL of an error.
    pub fn new(error: reqwest::Error) -> Self {
        Self(error.without_url())
    }

    /// Whether the connection did not come about, rather than broke.
    pub fn is_connect(&self) -> bool {
        self.0.is_connect()
    }

    /// Whether the same request may succeed in a moment: the connection broke, or was reset while it came about.
    pub fn is_transient(&self) -> bool {
        if self.0.is_connect() {
            return matches!(self.io_kind(), Some(io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted));
        }
        !self.0.is_builder() && !self.0.is_decode() && !self.is_tls_alert()
    }

    /// Whether the server ended the TLS session because it did not like something about it.
    pub fn is_tls_alert(&self) -> bool {
        self.causes().contains("received fatal alert")
    }

    /// Whether a time limit ended it.
    pub fn is_timeout(&self) -> bool {
        self.0.is_timeout()
    }

    /// Whether the host is one that a server must not lead to, or one that has moved to such a scope.
    pub fn led_astray(&self) -> Option<&LedAstray> {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&self.0);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref() {
                return Some(error);
            }
            cause = error.source();
        }
        None
    }

    /// The kind of the first IO error among the causes.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&self.0);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                // A TLS error travels inside an IO error of kind InvalidData or Other.
                return Some(error.kind());
            }
            cause = error.source();
        }
        None
    }

    /// The messages of all causes, a line each: the types of the TLS and DNS libraries cannot be reached from here, only
    /// their words can.
    pub fn causes(&self) -> String {
        let mut text = String::new();
        let mut cause: Option<&dyn std::error::Error> = Some(&self.0);
        while let Some(error) = cause {
            text.push_str(&error.to_string());
            text.push('\n');
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut innermost: &dyn std::error::Error = &self.0;
        while let Some(cause) = innermost.source() {
            innermost = cause;
        }
        let text = innermost.to_string();
        // The name library shows its query as a Rust value; the name itself is in the message above.
        formatter.write_str(text.split(" for Query {").next().unwrap_or(&text))
    }
}

impl std::error::Error for HttpError {}
