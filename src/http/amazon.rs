//! The AWS SDK's chain of credentials, over our HTTP clients: one set-up of TLS and proxies for everything.

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

/// How long a service of credentials may take to answer, where the SDK says nothing.
const LIMIT: Duration = Duration::from_secs(60);

/// The chain. It reads files of the user, starts the programs that they name and asks servers, all of that whenever it is asked
/// itself and in an order of its own: so it is asked with a pass, and a command that wants the root directory waits.
#[derive(Debug)]
pub struct AmazonChain(SharedCredentialsProvider);

/// What variables and files say of Amazon.
#[derive(Debug)]
pub struct AmazonSettings {
    /// Where credentials come from, if anything may have some.
    pub chain: Option<AmazonChain>,
    /// The region.
    pub region: Option<String>,
}

impl AmazonSettings {
    /// Reads them; `region` instead of the one they name.
    ///
    /// # Errors
    /// The container's files could not be given back after a command.
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
    /// The credentials as they are now; the chain renews what expires.
    ///
    /// # Errors
    /// There are none ([`CredentialsError::CredentialsNotLoaded`]), or something that should have some fails.
    #[expect(clippy::disallowed_methods, reason = "with a pass")]
    pub async fn credentials(&self) -> Result<Credentials, CredentialsError> {
        let _pass = gate::passed().await.map_err(CredentialsError::provider_error)?;
        self.0.provide_credentials().await
    }
}

/// The clients, as the AWS SDK takes them.
#[derive(Debug, Clone)]
struct AmazonClients {
    clients: HttpClients,
    limit: Option<Duration>,
}

impl AmazonClients {
    /// Answers are held in memory: they are for credentials, not for objects.
    fn new(clients: HttpClients) -> Self {
        Self { clients, limit: None }
    }
}

impl HttpClient for AmazonClients {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        // Where there is no metadata service, nobody answers: the chain says how long that is waited for.
        let limit = match (settings.connect_timeout(), settings.read_timeout()) {
            (Some(connect), Some(read)) => Some(connect + read),
            _ => None,
        };
        SharedHttpConnector::new(Self { clients: self.clients.clone(), limit })
    }
}

impl HttpConnector for AmazonClients {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (clients, limit) = (self.clients.clone(), self.limit.unwrap_or(LIMIT));
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
    let status = status.try_into().map_err(|_invalid| ConnectorError::user("a status that is none".into()))?;
    Ok(HttpResponse::new(status, SdkBody::from(body)))
}
