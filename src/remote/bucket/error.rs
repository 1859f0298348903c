//! Errors of buckets, with hints.

#![expect(missing_docs, reason = "`#[error]` says it")]

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::diag::Hint;
use crate::diag::redact;
use crate::http::SetupError;
use crate::location::{BucketLocation, BucketService};

/// Why an object could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    #[error("failed to set up the HTTP client for buckets")]
    Setup(#[source] SetupError),
    #[error("failed to load the credentials for {location}")]
    Credentials {
        location: String,
        #[source]
        source: Said,
    },
    #[error("failed to fetch {location}: there is no such object")]
    Missing {
        location: String,
        #[source]
        source: Said,
    },
    #[error("failed to fetch {location}: access is denied")]
    Denied {
        location: String,
        hint: String,
        #[source]
        source: Said,
    },
    #[error("failed to fetch {location}: the bucket is in a different region")]
    Region {
        location: String,
        #[source]
        source: Said,
    },
    #[error("failed to fetch {location}: the service sends too slowly")]
    Slow { location: String },
    #[error("failed to fetch {location}: the service sent nothing for {} seconds", idle.as_secs())]
    Stalled { location: String, idle: Duration },
    #[error("failed to fetch {location}")]
    Fetch {
        location: String,
        #[source]
        source: Said,
    },
}

/// A message of a service or library, with everything removed that may be a credential.
#[derive(Debug)]
pub struct Said(String);

impl Said {
    /// Returns the error and its causes in one line, without repetitions.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let more = error.to_string();
            if !text.contains(&more) {
                text.push_str(": ");
                text.push_str(&more);
            }
            cause = error.source();
        }
        Self(without_credentials(&text))
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Said {}

/// Removes user and query from every URL, and parts of requests that servers repeat in errors about signatures.
fn without_credentials(text: &str) -> String {
    const REPEATED: [&str; 6] = [
        "StringToSign",
        "SignatureProvided",
        "StringToSignBytes",
        "CanonicalRequest",
        "CanonicalRequestBytes",
        "AuthenticationErrorDetail",
    ];
    let mut text = text.to_owned();
    for element in REPEATED {
        let (open, close) = (format!("<{element}>"), format!("</{element}>"));
        while let Some(start) = text.find(&open) {
            let end = text[start..].find(&close).map_or(text.len(), |end| start + end + close.len());
            text.replace_range(start..end, "");
        }
    }
    let words: Vec<String> = text
        .split_whitespace()
        .map(|word| if word.contains("://") || word.contains('?') { redact::url(word) } else { word.to_owned() })
        .collect();
    words.join(" ")
}

impl BucketError {
    /// Converts an error of the library.
    pub(super) fn new(location: &BucketLocation, anonymous: bool, error: &object_store::Error) -> Self {
        let (shown, source) = (location.to_string(), Said::of(error));
        let elsewhere = ["AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraint"];
        if elsewhere.iter().any(|code| source.0.contains(code)) {
            return Self::Region { location: shown, source };
        }
        match error {
            object_store::Error::NotFound { .. } => Self::Missing { location: shown, source },
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                Self::Denied { location: shown, hint: access_hint(&location.service, anonymous), source }
            }
            _ => Self::Fetch { location: shown, source },
        }
    }
}

impl Hint for BucketError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Denied { hint, .. } => Some(hint.clone()),
            Self::Missing { .. } => Some(
                "check the names of the bucket and the object; some services also report this if reading is not permitted"
                    .to_owned(),
            ),
            Self::Region { .. } => Some("set AWS_REGION to the bucket's region".to_owned()),
            Self::Credentials { location, .. } => {
                let service = BucketLocation::parse(location).ok().flatten().map(|location| location.service);
                service.map(|service| access_hint(&service, true))
            }
            Self::Setup(_) | Self::Slow { .. } | Self::Stalled { .. } | Self::Fetch { .. } => None,
        }
    }
}

fn access_hint(service: &BucketService, anonymous: bool) -> String {
    let found = if anonymous { "no credentials were found: " } else { "" };
    let where_from = match service {
        BucketService::S3 => {
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use a profile or a role with s3:GetObject for the object"
        }
        BucketService::Google => {
            "set GOOGLE_APPLICATION_CREDENTIALS to a service account's key, or let the pod's account read the bucket"
        }
        BucketService::Azure { .. } => {
            "set AZURE_STORAGE_ACCESS_KEY, or use a URL with a shared access signature or an identity that may read blobs"
        }
    };
    format!("{found}{where_from}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_signed_is_shown() {
        for text in [
            "Error performing GET https://a.example/b?sv=1&sig=hunter2 in 3ms - refused",
            "<Error><StringToSign>GET hunter2 x</StringToSign></Error>",
            "https://u:hunter2@host/x <SignatureProvided>hunter2",
            "GET /b?sig=hunter2",
        ] {
            let shown = without_credentials(text);
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        assert_eq!(without_credentials("<Code>NoSuchKey</Code>\n why"), "<Code>NoSuchKey</Code> why");
    }
}
