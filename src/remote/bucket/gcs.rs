//! Google Cloud Storage: credentials of a service account's key, of the user, or of the machine's account.

use object_store::gcp::GoogleCloudStorageBuilder;

use super::clients::StoreClients;
use super::error::BucketError;
use super::error::Said;
use super::opened::{Opened, retries};
use super::variables::{Variables, given};
use crate::location::BucketLocation;

pub(super) fn open(
    location: &BucketLocation,
    variables: &Variables,
    clients: StoreClients,
) -> Result<Opened, BucketError> {
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(&location.bucket)
        .with_retry(retries())
        .with_http_connector(clients);
    if let Some(file) = given(variables, &["GOOGLE_APPLICATION_CREDENTIALS"]) {
        builder = builder.with_application_credentials(file);
    }
    // The variable of Google's own libraries. Emulators have no accounts.
    let emulator = given(variables, &["STORAGE_EMULATOR_HOST"]);
    if let Some(host) = &emulator {
        let url = if host.contains("://") { host.clone() } else { format!("http://{host}") };
        builder = builder.with_base_url(url.trim_end_matches('/')).with_bearer_token("").with_skip_signature(true);
    }
    let store = builder
        .build()
        .map_err(|error| BucketError::Credentials { location: location.to_string(), source: Said::of(&error) })?;
    Ok(Opened { store: Box::new(store), anonymous: emulator.is_some() })
}
