//! Gets tokens of Azure's Container Registry: a token of Microsoft Entra ID, exchanged for the registry's own refresh
//! token (Azure: "Azure Container Registry, authentication with AAD OAuth").

use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;

use super::azure_cloud::{Cloud, cloud};
use super::azure_error::AzureError;
use super::azure_identity::{Identity, Proof};
use super::exchange::ask;
use super::login::{Credential, Fresh, Login};
use crate::diag::redact::Secret;
use crate::http::HttpClients;

/// The service that gives an instance its identity.
const METADATA: &str = "http://169.254.169.254/metadata/identity/oauth2/token";
/// The lifetime of the registry's refresh tokens.
const LIFETIME: Duration = Duration::from_secs(3 * 3600);
/// `client_assertion_type` (RFC 7523).
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

#[derive(Deserialize)]
struct AccessToken {
    access_token: String,
}

#[derive(Deserialize)]
struct RefreshToken {
    refresh_token: String,
}

/// Reports whether the registry is Azure's.
pub(super) fn owns(registry: &str) -> bool {
    cloud(registry).is_some()
}

/// Returns the registry's refresh token, if this machine or the configuration has an identity in Azure.
pub(super) async fn login(
    http: &HttpClients,
    identity: &Identity,
    registry: &str,
) -> Result<Option<Fresh>, AzureError> {
    let Some(of_registry) = cloud(registry) else { return Ok(None) };
    let exchange = url(&format!("https://{registry}/oauth2/exchange"))?;
    let cloud = identity.cloud.unwrap_or(of_registry);
    exchange_identity(http, identity, cloud, registry, &exchange, METADATA).await
}

async fn exchange_identity(
    http: &HttpClients,
    identity: &Identity,
    cloud: &Cloud,
    registry: &str,
    exchange: &Url,
    metadata: &str,
) -> Result<Option<Fresh>, AzureError> {
    let (access, origin) = match named_identity(http, identity, cloud).await? {
        Some(found) => found,
        None => match managed_identity(http, identity, cloud, metadata).await {
            Ok(token) => (token, "the managed identity of this machine".to_owned()),
            // A machine outside of Azure has no identity.
            Err(AzureError::Exchange(error)) if error.is_absence() => return Ok(None),
            Err(error) => return Err(error),
        },
    };
    let mut form = vec![("grant_type", "access_token"), ("service", registry), ("access_token", access.reveal())];
    form.extend(identity.tenant.as_deref().map(|tenant| ("tenant", tenant)));
    let token: RefreshToken = ask(http, exchange, |client| client.post(exchange.clone()).form(&form)).await?;
    let credential = Credential::IdentityToken(Secret::new(token.refresh_token));
    Ok(Some(Fresh { login: Login { credential, origin }, lifetime: LIFETIME }))
}

/// Returns an access token of the configured identity, which proves itself with a secret or another provider's token.
async fn named_identity(
    http: &HttpClients,
    identity: &Identity,
    cloud: &Cloud,
) -> Result<Option<(Secret<String>, String)>, AzureError> {
    let (Some(client), Some(tenant), Some(proof)) = (&identity.client, &identity.tenant, &identity.proof) else {
        return Ok(None);
    };
    let scope = format!("{}.default", cloud.resource);
    let mut form =
        vec![("grant_type", "client_credentials"), ("client_id", client.as_str()), ("scope", scope.as_str())];
    let assertion;
    match proof {
        Proof::Secret(secret) => form.push(("client_secret", secret.reveal())),
        Proof::Token(token) => {
            assertion = token.read().await?;
            form.extend([("client_assertion_type", ASSERTION), ("client_assertion", assertion.reveal())]);
        }
    }
    let authority = identity.authority.as_deref().unwrap_or(cloud.authority).trim_end_matches('/');
    let url = url(&format!("{authority}/{tenant}/oauth2/v2.0/token"))?;
    let token: AccessToken = ask(http, &url, |http| http.post(url.clone()).form(&form)).await?;
    Ok(Some((Secret::new(token.access_token), identity.origin.clone())))
}

async fn managed_identity(
    http: &HttpClients,
    identity: &Identity,
    cloud: &Cloud,
    metadata: &str,
) -> Result<Secret<String>, AzureError> {
    let mut url = url(metadata)?;
    url.query_pairs_mut().append_pair("api-version", "2018-02-01").append_pair("resource", cloud.resource);
    if let Some(client) = &identity.client {
        url.query_pairs_mut().append_pair("client_id", client);
    }
    let token: AccessToken = ask(http, &url, |client| client.get(url.clone()).header("Metadata", "true")).await?;
    Ok(Secret::new(token.access_token))
}

fn url(text: &str) -> Result<Url, AzureError> {
    Url::parse(text).map_err(|_invalid| AzureError::Url { text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::super::Variables;
    use super::super::azure_cloud::CLOUDS;
    use super::super::fake_service::FakeService;
    use super::*;
    use crate::http::USER_AGENT;

    /// Returns the identity token for `r.azurecr.io`; the fake service is both registry and metadata server.
    async fn token(variables: &Variables, server: &FakeService) -> Result<Option<String>, AzureError> {
        let http = HttpClients::new(USER_AGENT).unwrap();
        let exchange = url(&server.url("/oauth2/exchange")).unwrap();
        let identity = Identity::of_environment(variables)?;
        let cloud = identity.cloud.unwrap_or(&CLOUDS[0]);
        let found =
            exchange_identity(&http, &identity, cloud, "r.azurecr.io", &exchange, &server.url("/metadata")).await?;
        Ok(found.map(|fresh| match fresh.login.credential {
            Credential::IdentityToken(token) => token.reveal().clone(),
            other => panic!("{other:?}"),
        }))
    }

    const ACCESS: (u16, &str) = (200, r#"{"access_token":"access","expires_in":3599}"#);
    const REFRESH: (u16, &str) = (200, r#"{"refresh_token":"sesame"}"#);

    #[tokio::test]
    async fn a_client_secret_and_a_federated_token_are_exchanged() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "federated\n").unwrap();
        let file = file.path().to_str().unwrap();
        for ((name, value), sent) in [
            (("AZURE_CLIENT_SECRET", "secret"), "client_secret=secret"),
            (("AZURE_FEDERATED_TOKEN", "federated"), "client_assertion=federated"),
            (("AZURE_FEDERATED_TOKEN_FILE", file), "client_assertion=federated"),
        ] {
            let server = FakeService::start(&[ACCESS, REFRESH]);
            let variables = Variables::from([
                ("AZURE_CLIENT_ID", "c"),
                ("AZURE_TENANT_ID", "t"),
                ("AZURE_AUTHORITY_HOST", &server.url("/")),
                (name, value),
            ]);
            assert_eq!(token(&variables, &server).await.unwrap().as_deref(), Some("sesame"));
            let seen = server.requests();
            assert!(seen[0].starts_with("POST /t/oauth2/v2.0/token ") && seen[0].ends_with(sent), "{seen:?}");
            let exchange = "grant_type=access_token&service=r.azurecr.io&access_token=access&tenant=t";
            assert!(seen[1].starts_with("POST /oauth2/exchange ") && seen[1].ends_with(exchange), "{seen:?}");
        }
    }

    /// A registry with its own domain in a different cloud, or a cloud that the pod's environment names.
    #[tokio::test]
    async fn the_named_cloud_is_asked() {
        let server = FakeService::start(&[ACCESS, REFRESH]);
        let variables = Variables::from([
            ("AZURE_CLIENT_ID", "c"),
            ("AZURE_TENANT_ID", "t"),
            ("AZURE_CLIENT_SECRET", "s"),
            ("AZURE_ENVIRONMENT", "azurechinacloud"),
            ("AZURE_AUTHORITY_HOST", &server.url("/")),
        ]);
        assert_eq!(token(&variables, &server).await.unwrap().as_deref(), Some("sesame"));
        let scope = "scope=https%3A%2F%2Fmanagement.chinacloudapi.cn%2F.default";
        assert!(server.requests()[0].contains(scope), "{:?}", server.requests());
    }

    #[tokio::test]
    async fn a_managed_identity_needs_no_variables() {
        let server = FakeService::start(&[ACCESS, REFRESH]);
        assert_eq!(token(&Variables::default(), &server).await.unwrap().as_deref(), Some("sesame"));
        assert!(server.requests()[0].to_lowercase().contains("metadata: true"), "{:?}", server.requests());
        let elsewhere = FakeService::start(&[(404, "")]);
        assert_eq!(token(&Variables::default(), &elsewhere).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_refusal_is_reported_in_azures_words() {
        let server =
            FakeService::start(&[(401, r#"{"error":"invalid_client","error_description":"AADSTS7000215: no"}"#)]);
        let variables = Variables::from([
            ("AZURE_CLIENT_ID", "c"),
            ("AZURE_TENANT_ID", "t"),
            ("AZURE_CLIENT_SECRET", "sesame"),
            ("AZURE_AUTHORITY_HOST", &server.url("")),
        ]);
        let error = token(&variables, &server).await.unwrap_err();
        assert!(error.to_string().contains("AADSTS7000215"), "{error}");
        assert!(!format!("{error:?}").contains("sesame"));
    }

    #[test]
    fn registries_are_known_by_their_domains() {
        assert!(owns("r.azurecr.io") && owns("r.azurecr.cn") && owns("r.azurecr.us"));
        assert!(!owns("azurecr.io.example") && !owns("docker.io") && !owns("razurecr.io"));
    }
}
