//! Parses the location of an object in a bucket: `s3://`, `gs://`, and the `https://` URLs of Azure's blobs.

use std::fmt;

use reqwest::Url;

use super::LocationError;
use crate::diag::redact::{self, Secret};

/// The object that kaniko reads if none is named.
const DEFAULT_KEY: &str = "context.tar.gz";

/// Azure's clouds: the domain after the account's name, and the authority that issues tokens.
const AZURE_CLOUDS: [(&str, &str); 4] = [
    (".blob.core.windows.net", "https://login.microsoftonline.com"),
    (".blob.core.chinacloudapi.cn", "https://login.chinacloudapi.cn"),
    (".blob.core.cloudapi.de", "https://login.microsoftonline.de"),
    (".blob.core.usgovcloudapi.net", "https://login.microsoftonline.us"),
];

/// The service of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketService {
    /// Amazon S3, or a service with its protocol.
    S3,
    /// Google Cloud Storage.
    Google,
    /// Azure Blob Storage.
    Azure {
        /// The storage account.
        account: String,
        /// The account's URL, without a path.
        endpoint: String,
        /// The authority that issues tokens in this cloud.
        authority: &'static str,
        /// The query of the URL, if it is a shared access signature.
        signature: Option<Secret<String>>,
    },
}

/// The location of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketLocation {
    /// The service.
    pub service: BucketService,
    /// The bucket; in Azure the container.
    pub bucket: String,
    /// The object's name: not empty, without a leading slash.
    pub key: String,
}

impl BucketLocation {
    /// Parses a location; `None` for text that names no bucket.
    ///
    /// # Errors
    /// The bucket has no name, or the blob no container.
    pub fn parse(text: &str) -> Result<Option<Self>, LocationError> {
        let lower = text.to_ascii_lowercase();
        for (scheme, service) in [("s3://", BucketService::S3), ("gs://", BucketService::Google)] {
            if lower.starts_with(scheme) {
                return Self::object(&text[scheme.len()..], service, text).map(Some);
            }
        }
        if !lower.starts_with("https://") {
            return Ok(None);
        }
        // Invalid URLs are reported by the parser of file URLs.
        let Ok(url) = Url::parse(text) else { return Ok(None) };
        Self::blob(&url)
    }

    fn object(rest: &str, service: BucketService, text: &str) -> Result<Self, LocationError> {
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() || bucket.contains(['@', '?', '#']) {
            let shown = redact::url(text);
            return Err(LocationError::new(format!("{shown} names no bucket: expected SCHEME://BUCKET/OBJECT")));
        }
        let key = key.trim_start_matches('/');
        let key = if key.is_empty() { DEFAULT_KEY } else { key };
        Ok(Self { service, bucket: bucket.to_owned(), key: key.to_owned() })
    }

    fn blob(url: &Url) -> Result<Option<Self>, LocationError> {
        let host = url.host_str().unwrap_or_default();
        let found = AZURE_CLOUDS.iter().find_map(|(suffix, authority)| {
            let account = host.strip_suffix(suffix)?;
            (!account.is_empty() && !account.contains('.')).then_some((account, *authority))
        });
        let Some((account, authority)) = found else { return Ok(None) };
        let path = super::http::decoded(url.path());
        let names = path.trim_start_matches('/').split_once('/');
        let Some((bucket, key)) = names.filter(|(bucket, key)| !bucket.is_empty() && !key.is_empty()) else {
            return Err(LocationError::new(format!(
                "{} names no blob: expected https://ACCOUNT.blob.core…/CONTAINER/BLOB",
                redact::url(url.as_str())
            )));
        };
        let service = BucketService::Azure {
            account: account.to_owned(),
            endpoint: format!("https://{host}"),
            authority,
            signature: url.query().filter(|query| !query.is_empty()).map(|query| Secret::new(query.to_owned())),
        };
        Ok(Some(Self { service, bucket: bucket.to_owned(), key: key.to_owned() }))
    }
}

/// Writes the location as given, without a signature.
impl fmt::Display for BucketLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, bucket, key } = self;
        match service {
            BucketService::S3 => write!(f, "s3://{bucket}/{key}"),
            BucketService::Google => write!(f, "gs://{bucket}/{key}"),
            BucketService::Azure { endpoint, .. } => write!(f, "{endpoint}/{bucket}/{key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Option<String> {
        BucketLocation::parse(text).unwrap().map(|location| format!("{location} {}", location.key))
    }

    #[test]
    fn buckets_and_objects_are_split() {
        for (text, expected) in [
            ("s3://bucket/dir/c.tgz", "s3://bucket/dir/c.tgz dir/c.tgz"),
            ("S3://bucket//c.tgz", "s3://bucket/c.tgz c.tgz"),
            ("gs://bucket", "gs://bucket/context.tar.gz context.tar.gz"),
            ("gs://bucket/", "gs://bucket/context.tar.gz context.tar.gz"),
            (
                "https://acc.blob.core.windows.net/box/a%20b.tar",
                "https://acc.blob.core.windows.net/box/a b.tar a b.tar",
            ),
        ] {
            assert_eq!(shown(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "https://host/x.tar.gz",
            "/s3/x",
            "https://blob.core.windows.net/a/b",
            "https://a.b.blob.core.windows.net/c/d",
        ] {
            assert_eq!(shown(text), None, "{text}");
        }
        for text in ["s3://", "gs:///x", "s3://user:pw@bucket/x", "https://acc.blob.core.windows.net/box"] {
            let error = BucketLocation::parse(text).expect_err(text).to_string();
            assert!(error.contains("names no b") && !error.contains("pw"), "{error}");
        }
    }

    #[test]
    fn every_cloud_of_azure_is_known_and_signatures_are_not_shown() {
        for (suffix, authority) in AZURE_CLOUDS {
            let text = format!("https://acc{suffix}/box/dir/blob?sv=1&sig=hunter2");
            let location = BucketLocation::parse(&text).unwrap().unwrap();
            assert!(!format!("{location} {location:?}").contains("hunter2"), "{location:?}");
            let BucketService::Azure { account, endpoint, authority: found, signature } = location.service else {
                panic!("{text}")
            };
            assert_eq!((account, endpoint, found), ("acc".to_owned(), format!("https://acc{suffix}"), authority));
            assert_eq!(signature.unwrap().reveal(), "sv=1&sig=hunter2");
        }
    }
}
