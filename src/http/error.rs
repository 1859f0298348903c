//! Makes errors of the HTTP library readable.

use std::fmt;
use std::io;

use super::names::ForbiddenReference;

/// An error of the HTTP library, shown as its innermost cause: the outer errors only repeat that a request failed. It
/// never shows the URL, which may be signed.
#[derive(Debug)]
pub struct HttpError(reqwest::Error);

impl HttpError {
    /// Wraps an error without its URL.
    pub fn new(error: reqwest::Error) -> Self {
        Self(error.without_url())
    }

    /// Reports whether the connection could not be established, as opposed to broke.
    pub fn is_connect(&self) -> bool {
        self.0.is_connect()
    }

    /// Reports whether the same request may succeed soon: the connection broke, or was reset while it was established.
    pub fn is_transient(&self) -> bool {
        if self.0.is_connect() {
            return matches!(self.io_kind(), Some(io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted));
        }
        !self.0.is_builder() && !self.0.is_decode() && !self.is_tls_alert()
    }

    /// Reports whether the server ended the TLS session with an alert.
    pub fn is_tls_alert(&self) -> bool {
        self.causes().contains("received fatal alert")
    }

    /// Reports whether a time limit was exceeded.
    pub fn is_timeout(&self) -> bool {
        self.0.is_timeout()
    }

    /// Returns the forbidden reference, if the host is one that a server must not refer to, or has moved to such a
    /// scope.
    pub fn forbidden_reference(&self) -> Option<&ForbiddenReference> {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&self.0);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref() {
                return Some(error);
            }
            cause = error.source();
        }
        None
    }

    /// Returns the kind of the first I/O error among the causes.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&self.0);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                // A TLS error is wrapped in an I/O error of kind InvalidData or Other.
                return Some(error.kind());
            }
            cause = error.source();
        }
        None
    }

    /// Returns the messages of all causes, one per line: the error types of the TLS and DNS libraries are not
    /// accessible here, only their texts.
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
        // The DNS library shows its query as a Rust value; the message before it already has the name.
        formatter.write_str(text.split(" for Query {").next().unwrap_or(&text))
    }
}

impl std::error::Error for HttpError {}
