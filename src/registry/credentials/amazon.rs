//! Gets tokens of Amazon's ECR: `GetAuthorizationToken`, signed with the credentials that the AWS SDK's chain finds.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError as ChainError;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use base64::Engine;
use regex::Regex;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use super::exchange::{ExchangeError, ask};
use super::login::{Credential, Fresh, Login};
use super::variables::Variables;
use crate::http::{AmazonSettings, HttpClients};

/// The public registry.
const PUBLIC: &str = "public.ecr.aws";
/// The lifetime of a token.
const LIFETIME: Duration = Duration::from_secs(12 * 3600);
const BODY: &[u8] = b"{}";

/// `ACCOUNT.dkr.ecr.REGION.amazonaws.com` and its variants: FIPS, dual-stack names and the other partitions.
static PRIVATE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"^[0-9]{12}\.dkr[.-]ecr(?<fips>-fips)?\.(?<region>[a-z0-9-]+)\.(?<domain>amazonaws\.com(?:\.cn)?|on\.aws|on\.amazonwebservices\.com\.cn|sc2s\.sgov\.gov|c2s\.ic\.gov)$",
    )
    .ok()
});

/// A reason why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum AmazonError {
    /// The chain failed. An empty chain is not an error.
    #[error("failed to load AWS credentials")]
    Chain(#[source] ChainError),
    /// The request cannot be signed.
    #[error("failed to sign the request for an ECR token")]
    Sign(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The address of the service is not a URL.
    #[error("{text:?} is not the address of ECR")]
    Url {
        /// The configured address.
        text: String,
    },
    /// The service issued no token.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// The token is not `base64(user:password)`.
    #[error("the token of ECR is malformed")]
    Token,
}

/// The service that issues tokens for a registry.
#[derive(Debug, PartialEq, Eq)]
struct Service {
    /// Its name in signatures.
    name: &'static str,
    region: String,
    endpoint: String,
    /// The operation, for `X-Amz-Target`.
    target: &'static str,
}

/// The public registry answers with one object, the private ones with a list of one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Authorization {
    One(Token),
    List(Vec<Token>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthorizationResponse {
    authorization_data: Authorization,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Token {
    authorization_token: String,
}

fn service(registry: &str) -> Option<Service> {
    if registry == PUBLIC {
        return Some(Service {
            name: "ecr-public",
            region: "us-east-1".to_owned(),
            endpoint: "https://api.ecr-public.us-east-1.amazonaws.com/".to_owned(),
            target: "SpencerFrontendService.GetAuthorizationToken",
        });
    }
    let found = PRIVATE.as_ref()?.captures(registry)?;
    let region = &found["region"];
    let fips = if found.name("fips").is_some() { "fips." } else { "" };
    // Dual-stack names use the same service as the others.
    let domain = match &found["domain"] {
        "on.aws" => "amazonaws.com",
        "on.amazonwebservices.com.cn" => "amazonaws.com.cn",
        domain => domain,
    };
    let prefix = if fips.is_empty() { "api.ecr" } else { "ecr-fips" };
    Some(Service {
        name: "ecr",
        region: region.to_owned(),
        endpoint: format!("https://{prefix}.{region}.{domain}/"),
        target: "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken",
    })
}

/// Reports whether the registry is Amazon's.
pub(super) fn owns(registry: &str) -> bool {
    service(registry).is_some()
}

/// Returns a user and a password for the registry, if this machine has AWS credentials.
pub(super) async fn login(
    http: &HttpClients,
    variables: &Variables,
    registry: &str,
) -> Result<Option<Fresh>, AmazonError> {
    let Some(service) = service(registry) else { return Ok(None) };
    let region = variables.get("AWS_REGION").unwrap_or(&service.region).to_owned();
    let settings = AmazonSettings::load(http.clone(), Some(region)).await;
    let settings = settings.map_err(|error| AmazonError::Chain(ChainError::provider_error(error)))?;
    let Some(chain) = settings.chain else { return Ok(None) };
    let credentials = match chain.credentials().await {
        Ok(credentials) => credentials,
        Err(ChainError::CredentialsNotLoaded(_)) => return Ok(None),
        Err(error) => return Err(AmazonError::Chain(error)),
    };
    authorize(http, variables, &service, &credentials, SystemTime::now()).await.map(Some)
}

async fn authorize(
    http: &HttpClients,
    variables: &Variables,
    service: &Service,
    credentials: &Credentials,
    now: SystemTime,
) -> Result<Fresh, AmazonError> {
    // The AWS SDK's variables for other endpoints.
    let own = if service.name == "ecr" { "AWS_ENDPOINT_URL_ECR" } else { "AWS_ENDPOINT_URL_ECR_PUBLIC" };
    let endpoint = variables.get(own).or_else(|| variables.get("AWS_ENDPOINT_URL")).unwrap_or(&service.endpoint);
    let url = Url::parse(endpoint).map_err(|_invalid| AmazonError::Url { text: endpoint.to_owned() })?;
    let headers = signed_headers(service, &url, credentials, now)?;
    let prepare = |client: &reqwest::Client| client.post(url.clone()).headers(headers.clone()).body(BODY);
    let answer: AuthorizationResponse = ask(http, &url, prepare).await?;
    let token = match answer.authorization_data {
        Authorization::One(token) => token,
        Authorization::List(tokens) => tokens.into_iter().next().ok_or(AmazonError::Token)?,
    };
    let decoded = base64::engine::general_purpose::STANDARD.decode(token.authorization_token);
    let pair = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(AmazonError::Token)?;
    let (user, password) = pair.split_once(':').ok_or(AmazonError::Token)?;
    let origin = format!("ECR, for the AWS access key {}", credentials.access_key_id());
    let credential = Credential::password(user.to_owned(), password.to_owned());
    Ok(Fresh { login: Login { credential, origin }, lifetime: LIFETIME })
}

/// Returns the headers of the request, `Authorization` included.
fn signed_headers(
    service: &Service,
    url: &Url,
    credentials: &Credentials,
    now: SystemTime,
) -> Result<HeaderMap, AmazonError> {
    let sign_error = |error: Box<dyn std::error::Error + Send + Sync>| AmazonError::Sign(error);
    let identity = credentials.clone().into();
    let parameters = SigningParams::builder()
        .identity(&identity)
        .region(&service.region)
        .name(service.name)
        .time(now)
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| sign_error(error.into()))?
        .into();
    let plain = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", service.target)];
    let request = SignableRequest::new("POST", url.as_str(), plain.into_iter(), SignableBody::Bytes(BODY))
        .map_err(|error| sign_error(error.into()))?;
    let (instructions, _signature) = sign(request, &parameters).map_err(|error| sign_error(error.into()))?.into_parts();
    let mut headers = HeaderMap::new();
    for (name, value) in plain.into_iter().chain(instructions.headers()) {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| sign_error(error.into()))?;
        let mut value = HeaderValue::from_str(value).map_err(|error| sign_error(error.into()))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::super::fake_service::FakeService;
    use super::*;
    use crate::http::USER_AGENT;

    #[test]
    fn registries_map_to_their_service() {
        for (registry, region, endpoint) in [
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "eu-west-1", "https://api.ecr.eu-west-1.amazonaws.com/"),
            (
                "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
                "us-gov-west-1",
                "https://ecr-fips.us-gov-west-1.amazonaws.com/",
            ),
            (
                "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
                "cn-north-1",
                "https://api.ecr.cn-north-1.amazonaws.com.cn/",
            ),
            ("123456789012.dkr-ecr.eu-west-1.on.aws", "eu-west-1", "https://api.ecr.eu-west-1.amazonaws.com/"),
            ("public.ecr.aws", "us-east-1", "https://api.ecr-public.us-east-1.amazonaws.com/"),
        ] {
            let found = service(registry).unwrap();
            assert_eq!((found.region.as_str(), found.endpoint.as_str()), (region, endpoint), "{registry}");
        }
        for registry in ["dkr.ecr.eu-west-1.amazonaws.com", "123456789012.dkr.ecr.x.amazonaws.com.example", "docker.io"]
        {
            assert_eq!(service(registry), None, "{registry}");
        }
    }

    #[tokio::test]
    async fn the_token_request_is_signed() {
        // QVdTOnNlc2FtZQ== is AWS:sesame
        for (registry, answer) in [
            (
                "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
                r#"{"authorizationData":[{"authorizationToken":"QVdTOnNlc2FtZQ=="}]}"#,
            ),
            ("public.ecr.aws", r#"{"authorizationData":{"authorizationToken":"QVdTOnNlc2FtZQ=="}}"#),
        ] {
            let server = FakeService::start(&[(200, answer)]);
            let http = HttpClients::new(USER_AGENT).unwrap();
            let variables = Variables::from([("AWS_ENDPOINT_URL", server.url("/").as_str())]);
            let credentials = Credentials::new("AKID", "secret-key", Some("session".to_owned()), None, "test");
            let service = service(registry).unwrap();
            let fresh = authorize(&http, &variables, &service, &credentials, SystemTime::now()).await.unwrap();
            assert_eq!(fresh.login.credential, Credential::password("AWS".to_owned(), "sesame".to_owned()));
            assert!(fresh.login.describe().contains("AKID"));
            let seen = server.requests().remove(0);
            let scope = format!("/{}/{}/aws4_request", service.region, service.name);
            assert!(seen.contains("AWS4-HMAC-SHA256 Credential=AKID/") && seen.contains(&scope), "{seen}");
            assert!(seen.contains("x-amz-security-token: session") && seen.contains(service.target), "{seen}");
            assert!(!seen.contains("secret-key"), "{seen}");
        }
    }

    #[test]
    fn signatures_are_those_of_amazons_example() {
        let credentials = Credentials::new("AKID", "secret", None, None, "test");
        let service = service("123456789012.dkr.ecr.eu-west-1.amazonaws.com").unwrap();
        let url = Url::parse(&service.endpoint).unwrap();
        let headers = |seconds| {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            signed_headers(&service, &url, &credentials, time).unwrap()["authorization"].to_str().unwrap().to_owned()
        };
        assert_eq!(headers(1_700_000_000), headers(1_700_000_000));
        assert_ne!(headers(1_700_000_000), headers(1_700_000_001));
        assert!(headers(1_700_000_000).contains("SignedHeaders=content-type;host;x-amz-date;x-amz-target"));
    }
}
