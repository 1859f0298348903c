//! Amazon S3 and compatible services. The variables are kaniko's (`S3_ENDPOINT`, `S3_FORCE_PATH_STYLE`) and the AWS
//! SDK's.

use std::sync::Arc;

use aws_credential_types::provider::error::CredentialsError;
use object_store::CredentialProvider;
use object_store::aws::{AmazonS3Builder, AwsCredential};

use super::clients::StoreClients;
use super::error::BucketError;
use super::error::Said;
use super::opened::{Opened, retries};
use super::variables::{Variables, given};
use crate::http::{AmazonChain, AmazonSettings, SetupError};
use crate::location::BucketLocation;

/// The default region, as in older AWS SDKs.
const DEFAULT_REGION: &str = "us-east-1";

pub(super) async fn open(
    location: &BucketLocation,
    variables: &Variables,
    clients: StoreClients,
) -> Result<Opened, BucketError> {
    let settings = AmazonSettings::load(clients.http().clone(), None).await;
    let settings = settings.map_err(|error| BucketError::Setup(SetupError::Files(error)))?;
    let shown = location.to_string();
    let credentials = |error: &(dyn std::error::Error + 'static)| BucketError::Credentials {
        location: shown.clone(),
        source: Said::of(error),
    };
    // Tried once before the first request. Missing credentials are not an error, because buckets may be public.
    let chain = match settings.chain {
        Some(chain) => match chain.credentials().await {
            Ok(_credentials) => Some(chain),
            Err(CredentialsError::CredentialsNotLoaded(_)) => None,
            Err(error) => return Err(credentials(&error)),
        },
        None => None,
    };
    let region = settings.region.unwrap_or_else(|| DEFAULT_REGION.to_owned());
    let endpoint = given(variables, &["S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]);
    // Amazon's certificates do not cover bucket names with dots as part of a host name.
    let path_style = match given(variables, &["S3_FORCE_PATH_STYLE"]) {
        Some(value) => matches!(value.to_ascii_lowercase().as_str(), "1" | "t" | "true"),
        None => location.bucket.contains('.'),
    };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&location.bucket)
        .with_region(&region)
        .with_retry(retries())
        .with_allow_http(true)
        .with_virtual_hosted_style_request(!path_style)
        .with_http_connector(clients);
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(hosted(&endpoint, &location.bucket, path_style));
    }
    let anonymous = chain.is_none();
    builder = match chain {
        Some(chain) => builder.with_credentials(Arc::new(Chain(chain))),
        None => builder.with_skip_signature(true),
    };
    let store = builder.build().map_err(|error| BucketError::new(location, anonymous, &error))?;
    Ok(Opened { store: Box::new(store), anonymous })
}

/// Returns the endpoint as the library expects it: with the bucket in the host unless it is in the path.
fn hosted(endpoint: &str, bucket: &str, path_style: bool) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    // kaniko passes the text to an SDK that also accepts a host alone.
    let (scheme, host) = endpoint.split_once("://").unwrap_or(("https", endpoint));
    if path_style { format!("{scheme}://{host}") } else { format!("{scheme}://{bucket}.{host}") }
}

/// The credential chain of the AWS SDK, which renews expired credentials.
#[derive(Debug)]
struct Chain(AmazonChain);

#[async_trait::async_trait]
impl CredentialProvider for Chain {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let found = self.0.credentials().await;
        let found = found.map_err(|source| object_store::Error::Generic { store: "S3", source: Box::new(source) })?;
        Ok(Arc::new(AwsCredential {
            key_id: found.access_key_id().to_owned(),
            secret_key: found.secret_access_key().to_owned(),
            token: found.session_token().map(str::to_owned),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::hosted;

    #[test]
    fn the_bucket_is_in_the_host_or_the_path() {
        for (endpoint, path_style, expected) in [
            ("http://minio:9000/", true, "http://minio:9000"),
            ("https://s3.example", false, "https://b.s3.example"),
            ("minio:9000", true, "https://minio:9000"),
        ] {
            assert_eq!(hosted(endpoint, "b", path_style), expected);
        }
    }
}
