//! Azure Blob Storage: a shared key, a shared access signature, or an identity of the pod.

use object_store::azure::MicrosoftAzureBuilder;

use super::clients::StoreClients;
use super::error::BucketError;
use super::error::Said;
use super::opened::{Opened, retries};
use super::variables::{Variables, given};
use crate::diag::redact::Secret;
use crate::location::BucketLocation;

/// The endpoint of an account's blobs, and the credentials in the URL.
pub(super) struct Blobs<'a> {
    pub(super) account: &'a str,
    pub(super) endpoint: &'a str,
    pub(super) authority: &'a str,
    pub(super) signature: Option<&'a Secret<String>>,
}

pub(super) fn open(
    location: &BucketLocation,
    blobs: &Blobs<'_>,
    variables: &Variables,
    clients: StoreClients,
) -> Result<Opened, BucketError> {
    // For emulators and private endpoints.
    let endpoint = given(variables, &["AZURE_STORAGE_ENDPOINT"]);
    let authority = given(variables, &["AZURE_AUTHORITY_HOST"]);
    let mut builder = MicrosoftAzureBuilder::new()
        .with_account(blobs.account)
        .with_container_name(&location.bucket)
        .with_endpoint(endpoint.unwrap_or_else(|| blobs.endpoint.to_owned()))
        .with_authority_host(authority.unwrap_or_else(|| blobs.authority.to_owned()))
        .with_allow_http(true)
        .with_retry(retries())
        .with_http_connector(clients);
    let key = given(variables, &["AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY"]);
    let token = given(variables, &["AZURE_STORAGE_SAS_TOKEN"]);
    let signature = blobs.signature.map(|signature| signature.reveal().clone()).or(token);
    // Credentials in the URL take precedence over those in the environment, which are for all accounts.
    if let Some(signature) = signature.filter(|_| blobs.signature.is_some() || key.is_none()) {
        let query = signature.trim_start_matches('?');
        let pairs: Vec<(String, String)> = match reqwest::Url::parse(&format!("sas:?{query}")) {
            Ok(url) => url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect(),
            Err(_not_a_query) => Vec::new(),
        };
        builder = builder.with_sas_authorization(pairs).with_credential_type("sas_token");
    } else if let Some(key) = key {
        builder = builder.with_access_key(key).with_credential_type("access_key");
    } else {
        for (variable, set) in IDENTITY {
            if let Some(value) = given(variables, &[variable]) {
                builder = set(builder, value);
            }
        }
    }
    let store = builder
        .build()
        .map_err(|error| BucketError::Credentials { location: location.to_string(), source: Said::of(&error) })?;
    Ok(Opened { store: Box::new(store), anonymous: false })
}

type Set = fn(MicrosoftAzureBuilder, String) -> MicrosoftAzureBuilder;

/// The variables that Azure's libraries read for the identity of a program. Without them the machine's identity is
/// used.
const IDENTITY: [(&str, Set); 4] = [
    ("AZURE_CLIENT_ID", |builder, value| builder.with_client_id(value)),
    ("AZURE_CLIENT_SECRET", |builder, value| builder.with_client_secret(value)),
    ("AZURE_TENANT_ID", |builder, value| builder.with_tenant_id(value)),
    ("AZURE_FEDERATED_TOKEN_FILE", |builder, value| builder.with_federated_token_file(value)),
];
