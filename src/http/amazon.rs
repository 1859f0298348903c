//! Runs the AWS SDK's credential chain over our HTTP clients, so that TLS and proxies are set up once for everything.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use reqwest::Url;

use super::HttpClients;
use crate::fs::gate;

/// The time limit for a credential service, if the SDK sets none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// The credential chain. It reads the user's files, starts the programs that they name and contacts servers, whenever
/// it is asked. So it is asked with a pass, and a command that needs the root directory waits.
#[derive(Debug)]
pub struct AmazonChain(SharedCredentialsProvider);

/// Settings for Amazon from variables and files.
#[derive(Debug)]
pub struct AmazonSettings {
    /// The credential chain, if any source is configured.
    pub chain: Option<AmazonChain>,
    /// The region, if one is configured.
    pub region: Option<String>,
}

impl AmazonSettings {
    /// Reads the settings; `region` overrides the configured one.
    ///
    /// # Errors
    /// The container's files could not be restored after a command.
    #[expect(clippy::disallowed_methods, reason = "with a pass")]
    pub async fn load(clients: HttpClients, region: Option<String>) -> std::io::Result<Self> {
        let _pass = gate::passed().await?;
        let loader = aws_config::defaults(BehaviorVersion::latest()).http_client(AmazonClients::new(clients));
        let config = match region {
            Some(region) => loader.region(Region::new(region)).load().await,
            None => loader.load().await,
        };
        Ok(Self {
            chain: config.credentials_provider().map(AmazonChain),
            region: config.region().map(ToString::to_string),
        })
    }
}

impl AmazonChain {
    /// Returns the current credentials. The chain renews expired ones.
    ///
    /// # Errors
    /// There are none ([`CredentialsError::CredentialsNotLoaded`]), or a configured source fails.
    #[expect(clippy::disallowed_methods, reason = "with a pass")]
    pub async fn credentials(&self) -> Result<Credentials, CredentialsError> {
        let _pass = gate::passed().await.map_err(CredentialsError::provider_error)?;
        self.0.provide_credentials().await
    }
}

/// An adapter of our clients to the AWS SDK's interface.
#[derive(Debug, Clone)]
struct AmazonClients {
    clients: HttpClients,
    limit: Option<Duration>,
}

impl AmazonClients {
    /// Responses are buffered in memory, because they are credentials, not objects.
    fn new(clients: HttpClients) -> Self {
        Self { clients, limit: None }
    }
}

impl HttpClient for AmazonClients {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        // Without a metadata service no response ever comes. The chain sets the limit.
        let limit = match (settings.connect_timeout(), settings.read_timeout()) {
            (Some(connect), Some(read)) => Some(connect + read),
            _ => None,
        };
        SharedHttpConnector::new(Self { clients: self.clients.clone(), limit })
    }
}

impl HttpConnector for AmazonClients {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (clients, limit) = (self.clients.clone(), self.limit.unwrap_or(DEFAULT_TIMEOUT));
        HttpConnectorFuture::new(async move {
            let user = |error: Box<dyn std::error::Error + Send + Sync>| ConnectorError::user(error);
            let url = Url::parse(request.uri()).map_err(|error| user(error.into()))?;
            let request = request.try_into_http1x().map_err(|error| user(error.into()))?;
            let (parts, body) = request.into_parts();
            let body = body.bytes().map(<[u8]>::to_vec).unwrap_or_default();
            let sorted = |error: reqwest::Error| {
                let timeout = error.is_timeout();
                let error = error.without_url().into();
                if timeout { ConnectorError::timeout(error) } else { ConnectorError::io(error) }
            };
            let request = clients.for_url(&url).request(parts.method, url.clone()).headers(parts.headers).body(body);
            let exchange = async {
                let response = request.send().await.map_err(sorted)?;
                let (status, headers) = (response.status(), response.headers().clone());
                Ok((status, headers, response.bytes().await.map_err(sorted)?.to_vec()))
            };
            let (status, headers, body) = tokio::time::timeout(limit, exchange)
                .await
                .unwrap_or_else(|elapsed| Err(ConnectorError::timeout(elapsed.into())))?;
            let mut answer = http_response(status.as_u16(), body)?;
            for (name, value) in &headers {
                if let Ok(value) = value.to_str() {
                    answer.headers_mut().append(name.as_str().to_owned(), value.to_owned());
                }
            }
            Ok(answer)
        })
    }
}

fn http_response(status: u16, body: Vec<u8>) -> Result<HttpResponse, ConnectorError> {
    let status = status.try_into().map_err(|_invalid| ConnectorError::user("an invalid status".into()))?;
    Ok(HttpResponse::new(status, SdkBody::from(body)))
}
