//! Gets tokens of Google's Container Registry and Artifact Registry: an access token of Application Default Credentials
//! (Google Cloud: "How Application Default Credentials works"), from the file first, then from the metadata server,
//! which also serves GKE's workload identity.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Url;
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::exchange::ask;
use super::google_error::GoogleError;
use super::google_sources::{TokenSource, VARIABLE, token_sources};
use super::login::{Credential, Fresh, Login};
use super::program::{self, ProgramError};
use super::variables::Variables;
use crate::fs::{failed_to, gate, gated};
use crate::http::HttpClients;

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
/// The metadata server's address; resolving its name would take a resolver that knows it.
const METADATA: &str = "169.254.169.254";
/// The user that goes with an access token.
const USER: &str = "oauth2accesstoken";
/// The lifetime of an assertion: Google's upper limit.
const ASSERTION_LIFETIME: Duration = Duration::from_secs(3600);

/// The types of credential files.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum File {
    ServiceAccount {
        client_email: String,
        private_key: String,
        #[serde(default)]
        private_key_id: String,
        #[serde(default = "token_url")]
        token_uri: String,
    },
    AuthorizedUser {
        client_id: String,
        client_secret: String,
        refresh_token: String,
        #[serde(default = "token_url")]
        token_uri: String,
    },
    ExternalAccount {
        audience: String,
        subject_token_type: String,
        token_url: String,
        credential_source: SubjectSource,
        #[serde(default)]
        service_account_impersonation_url: Option<String>,
    },
    #[serde(other)]
    Other,
}

/// The source of the other identity provider's token for workload identity federation.
#[derive(Deserialize)]
struct SubjectSource {
    #[serde(default)]
    file: Option<PathBuf>,
    #[serde(default)]
    format: Option<SubjectFormat>,
}

#[derive(Deserialize)]
struct SubjectFormat {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    subject_token_field_name: String,
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ImpersonatedToken {
    access_token: String,
}

fn token_url() -> String {
    TOKEN_URL.to_owned()
}

/// Reports whether the registry is Google's.
pub(super) fn owns(registry: &str) -> bool {
    registry == "gcr.io" || [".gcr.io", ".pkg.dev"].iter().any(|domain| registry.ends_with(domain))
}

/// Returns an access token, if this machine has credentials for Google.
pub(super) async fn login(http: &HttpClients, variables: &Variables) -> Result<Option<Fresh>, GoogleError> {
    for source in token_sources(variables).await? {
        let found = match source {
            TokenSource::Default => of_application(http, variables).await?,
            TokenSource::Gcloud => of_gcloud().await?,
            TokenSource::Store => {
                tracing::warn!(
                    "only docker-credential-gcr itself can use its store: name env in the file of {VARIABLE}"
                );
                None
            }
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Returns the token of `gcloud`'s user, if it is installed.
async fn of_gcloud() -> Result<Option<Fresh>, GoogleError> {
    let token = match program::output("gcloud", &["auth", "print-access-token"]).await {
        Ok(output) => String::from_utf8(output).map_err(|_secret| GoogleError::Program(ProgramError::Protocol))?,
        Err(ProgramError::Run(error)) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(GoogleError::Program(error)),
    };
    let token = Token { access_token: token.trim().to_owned(), expires_in: None };
    Ok(Some(fresh(token, "the program gcloud".to_owned())))
}

/// Returns a token of Application Default Credentials.
async fn of_application(http: &HttpClients, variables: &Variables) -> Result<Option<Fresh>, GoogleError> {
    if let Some(path) = file(variables).await {
        let token = from_file(http, &path).await?;
        return Ok(Some(fresh(token, format!("the Google credentials in {}", path.display()))));
    }
    let host = variables.get("GCE_METADATA_HOST");
    let place = host.unwrap_or(METADATA);
    let address = format!("http://{place}/computeMetadata/v1/instance/service-accounts/default/token");
    let Ok(url) = Url::parse(&address) else {
        let problem = "GCE_METADATA_HOST is not a host".to_owned();
        return Err(GoogleError::File { path: PathBuf::from(place), problem });
    };
    let token: Result<Token, _> =
        ask(http, &url, |client| client.get(url.clone()).header("Metadata-Flavor", "Google")).await;
    match token {
        Ok(token) => Ok(Some(fresh(token, "Google's metadata server".to_owned()))),
        // A machine outside of Google has no such server.
        Err(error) if host.is_none() && error.is_absence() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn fresh(token: Token, origin: String) -> Fresh {
    let credential = Credential::password(USER.to_owned(), token.access_token);
    // Tokens of impersonation are valid for an hour.
    let lifetime = Duration::from_secs(token.expires_in.unwrap_or(3600));
    Fresh { login: Login { credential, origin }, lifetime }
}

/// Returns the file of Application Default Credentials, if it exists.
async fn file(variables: &Variables) -> Option<PathBuf> {
    if let Some(path) = variables.get("GOOGLE_APPLICATION_CREDENTIALS") {
        return Some(PathBuf::from(path));
    }
    let settings = match variables.get("CLOUDSDK_CONFIG") {
        Some(directory) => PathBuf::from(directory),
        None => Path::new(variables.get("HOME")?).join(".config/gcloud"),
    };
    let path = settings.join("application_default_credentials.json");
    // An error of the gate is reported when the file is read.
    let exists = gate::passed().await.map_or(true, |_pass| gated::is_file(&path));
    exists.then_some(path)
}

async fn from_file(http: &HttpClients, path: &Path) -> Result<Token, GoogleError> {
    let unusable = |problem: &str| GoogleError::File { path: path.to_owned(), problem: problem.to_owned() };
    // The JSON library's message may quote the key.
    let file: File = serde_json::from_slice(&read(path).await?)
        .map_err(|_secret| unusable("it is not JSON with the fields of its type"))?;
    let url = |text: &str| Url::parse(text).map_err(|_invalid| unusable("an address in it is not a URL"));
    match file {
        File::ServiceAccount { client_email, private_key, private_key_id, token_uri } => {
            let token_uri = url(&token_uri)?;
            let assertion = assertion(&client_email, &private_key, &private_key_id, &token_uri)
                .ok_or_else(|| unusable("its private_key is not an RSA key in PEM form"))?;
            let form = [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", &assertion)];
            Ok(ask(http, &token_uri, |client| client.post(token_uri.clone()).form(&form)).await?)
        }
        File::AuthorizedUser { client_id, client_secret, refresh_token, token_uri } => {
            let token_uri = url(&token_uri)?;
            let form = [
                ("grant_type", "refresh_token"),
                ("client_id", client_id.as_str()),
                ("client_secret", client_secret.as_str()),
                ("refresh_token", refresh_token.as_str()),
            ];
            Ok(ask(http, &token_uri, |client| client.post(token_uri.clone()).form(&form)).await?)
        }
        File::ExternalAccount {
            audience,
            subject_token_type,
            token_url,
            credential_source,
            service_account_impersonation_url,
        } => {
            let token_url = url(&token_url)?;
            let subject = subject_token(path, &credential_source).await?;
            let form = [
                ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
                ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
                ("audience", audience.as_str()),
                ("scope", SCOPE),
                ("subject_token_type", subject_token_type.as_str()),
                ("subject_token", subject.as_str()),
            ];
            let federated: Token = ask(http, &token_url, |client| client.post(token_url.clone()).form(&form)).await?;
            let Some(address) = service_account_impersonation_url else { return Ok(federated) };
            let url = url(&address)?;
            let wanted = json!({"scope": [SCOPE]});
            let prepare =
                |client: &reqwest::Client| client.post(url.clone()).bearer_auth(&federated.access_token).json(&wanted);
            let token: ImpersonatedToken = ask(http, &url, prepare).await?;
            Ok(Token { access_token: token.access_token, expires_in: None })
        }
        File::Other => Err(unusable("its type is none of service_account, authorized_user, external_account")),
    }
}

async fn subject_token(path: &Path, source: &SubjectSource) -> Result<String, GoogleError> {
    let unusable = |problem: &str| GoogleError::File { path: path.to_owned(), problem: problem.to_owned() };
    let file = source.file.as_deref().ok_or_else(|| unusable("its credential_source is not a file"))?;
    let text = String::from_utf8(read(file).await?).map_err(|_secret| unusable("its credential_source is not text"))?;
    match &source.format {
        Some(format) if format.kind == "json" => {
            let field = |json: Value| json.get(&format.subject_token_field_name)?.as_str().map(str::to_owned);
            let json = serde_json::from_str(&text).ok().and_then(field);
            json.ok_or_else(|| unusable("its credential_source has no such field"))
        }
        _ => Ok(text.trim().to_owned()),
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, GoogleError> {
    Ok(gated::read_for_task(path).await.map_err(failed_to("read", path))?)
}

/// Returns a service account's assertion (RFC 7523), signed with its key; `None` if the key is invalid.
fn assertion(email: &str, key: &str, key_id: &str, audience: &Url) -> Option<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let header = json!({"alg": "RS256", "typ": "JWT", "kid": key_id});
    let claims = json!({
        "iss": email, "scope": SCOPE, "aud": audience.as_str(),
        "iat": now.as_secs(), "exp": (now + ASSERTION_LIFETIME).as_secs(),
    });
    let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let text = format!("{}.{}", part(header), part(claims));
    let key = any_supported_type(&PrivateKeyDer::from_pem_slice(key.as_bytes()).ok()?).ok()?;
    let signature = key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256])?.sign(text.as_bytes()).ok()?;
    Some(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

#[cfg(test)]
mod tests {
    use super::super::fake_service::FakeService;
    use super::*;
    use crate::http::USER_AGENT;

    #[test]
    fn registries_are_known_by_their_domains() {
        for registry in ["gcr.io", "eu.gcr.io", "europe-west1-docker.pkg.dev"] {
            assert!(owns(registry), "{registry}");
        }
        for registry in ["gcr.io.example", "mygcr.io", "pkg.dev.example", "docker.io"] {
            assert!(!owns(registry), "{registry}");
        }
    }

    async fn password(variables: &Variables) -> Result<(String, String), GoogleError> {
        let http = HttpClients::new(USER_AGENT).unwrap();
        let fresh = login(&http, variables).await?.unwrap();
        match fresh.login.credential {
            Credential::Password { username, password } => Ok((username, password.reveal().clone())),
            other => panic!("{other:?}"),
        }
    }

    fn credentials(json: &Value) -> (tempfile::TempDir, Variables) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("credentials.json");
        std::fs::write(&path, json.to_string()).unwrap();
        let variables = Variables::from([("GOOGLE_APPLICATION_CREDENTIALS", path.to_str().unwrap())]);
        (directory, variables)
    }

    #[tokio::test]
    async fn the_metadata_server_is_asked() {
        let server = FakeService::start(&[(200, r#"{"access_token":"sesame","expires_in":600}"#)]);
        let variables = Variables::from([("GCE_METADATA_HOST", server.host().as_str())]);
        assert_eq!(password(&variables).await.unwrap(), (USER.to_owned(), "sesame".to_owned()));
        let seen = server.requests();
        assert!(seen[0].starts_with("GET /computeMetadata/v1/instance/service-accounts/default/token "), "{seen:?}");
        assert!(seen[0].to_lowercase().contains("metadata-flavor: google"), "{seen:?}");
    }

    #[tokio::test]
    async fn the_helpers_settings_may_exclude_it() {
        let settings = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(settings.path(), r#"{"TokenSources":["store"]}"#).unwrap();
        let server = FakeService::start(&[]);
        let variables = Variables::from([
            ("GCE_METADATA_HOST", server.host().as_str()),
            (VARIABLE, settings.path().to_str().unwrap()),
        ]);
        let http = HttpClients::new(USER_AGENT).unwrap();
        assert!(login(&http, &variables).await.unwrap().is_none());
        assert!(server.requests().is_empty());
    }

    #[tokio::test]
    async fn a_users_refresh_token_is_exchanged() {
        let server = FakeService::start(&[(503, ""), (200, r#"{"access_token":"sesame"}"#)]);
        let (_directory, variables) = credentials(&json!({
            "type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r",
            "token_uri": server.url("/token"),
        }));
        assert_eq!(password(&variables).await.unwrap().1, "sesame");
        let form = "grant_type=refresh_token&client_id=c&client_secret=s&refresh_token=r";
        assert!(server.requests()[1].ends_with(form), "{:?}", server.requests());
    }

    #[tokio::test]
    async fn a_service_account_signs_for_itself() {
        let key = std::process::Command::new("openssl").args(["genrsa", "2048"]).output().unwrap().stdout;
        let server = FakeService::start(&[(200, r#"{"access_token":"sesame"}"#)]);
        let (_directory, variables) = credentials(&json!({
            "type": "service_account", "client_email": "me@example", "private_key": String::from_utf8(key).unwrap(),
            "private_key_id": "k", "token_uri": server.url("/token"),
        }));
        assert_eq!(password(&variables).await.unwrap().1, "sesame");
        let seen = server.requests().remove(0);
        let jwt: Vec<&str> = seen.rsplit("assertion=").next().unwrap().split('.').collect();
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(jwt[1]).unwrap()).unwrap();
        assert_eq!((&claims["iss"], &claims["aud"]), (&"me@example".into(), &server.url("/token").into()));
        assert_eq!(URL_SAFE_NO_PAD.decode(jwt[2]).unwrap().len(), 256, "a signature of 2048 bits");
    }

    #[tokio::test]
    async fn another_providers_token_is_exchanged_and_a_service_account_impersonated() {
        let server = FakeService::start(&[
            (200, r#"{"access_token":"federated","expires_in":60}"#),
            (200, r#"{"accessToken":"sesame","expireTime":"2030-01-01T00:00:00Z"}"#),
        ]);
        let subject = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(subject.path(), r#"{"jwt":"subject-token"}"#).unwrap();
        let (_directory, variables) = credentials(&json!({
            "type": "external_account", "audience": "//iam", "token_url": server.url("/sts"),
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "service_account_impersonation_url": server.url("/impersonate"),
            "credential_source": {"file": subject.path(), "format": {"type": "json", "subject_token_field_name": "jwt"}},
        }));
        assert_eq!(password(&variables).await.unwrap().1, "sesame");
        let seen = server.requests();
        assert!(seen[0].contains("subject_token=subject-token"), "{seen:?}");
        assert!(seen[1].to_lowercase().contains("authorization: bearer federated"), "{seen:?}");
    }

    #[tokio::test]
    async fn errors_name_the_file_or_the_service_and_show_no_secret() {
        let (_directory, variables) = credentials(&json!({"type": "service_account", "private_key": "sesame"}));
        let error = password(&variables).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("sesame") && error.to_string().contains("credentials.json"));
        let server = FakeService::start(&[(400, r#"{"error":"invalid_grant","error_description":"Bad Request"}"#)]);
        let (_directory, variables) = credentials(&json!({
            "type": "authorized_user", "client_id": "c", "client_secret": "sesame", "refresh_token": "sesame",
            "token_uri": server.url("/token"),
        }));
        let error = password(&variables).await.unwrap_err();
        assert!(error.to_string().contains("400 Bad Request"), "{error}");
        assert!(!format!("{error} {error:?}").contains("sesame"), "{error:?}");
    }
}
