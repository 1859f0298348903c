//! Sends the requests of a fetch, with credentials, and follows redirects.
//!
//! A redirect is followed for the first request only, as git does by default: the server that answers it gets the other
//! requests. Addresses that a server leads to are judged as everywhere else. Credentials are only sent to the scheme,
//! host and port that they are for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, USER_AGENT, WWW_AUTHENTICATE,
};
use reqwest::{Client, Method, Response, StatusCode, Url};

use super::super::request::GitRequest;
use super::super::watch::Watch;
use super::error::TransportError;
use crate::diag::redact::{self, Secret};
use crate::http::{Flow, HttpClients, HttpError, Lead, Pace, SetupError, TlsSettings, host_of, retry_after};
use crate::remote::credentials::GitAuthorization;

/// The time limit for the start of a response.
const RESPONSE_LIMIT: Duration = Duration::from_secs(120);
/// The time limit for silence within a response.
const BODY_LIMIT: Duration = Duration::from_secs(60);
const MAX_REDIRECTS: usize = 10;
/// The most bytes of a list of references, which the library keeps in memory: a few million references.
const MAX_REFERENCES: usize = 256 << 20;
/// The most bytes of a response with a pack. The pack itself has a smaller limit; this one includes what surrounds it.
const MAX_ANSWER: usize = 32 << 30;
/// Hosts of repositories recognize git clients by the start of the name, and refuse browsers (GitHub, Bitbucket).
const AGENT: &str = concat!("git/2.0 (crabwright/", env!("CARGO_PKG_VERSION"), ")");
/// Media types that servers of files and web sites send.
const KINDS: &[&str] = &["text/plain", "text/html", "application/json", "application/octet-stream"];
/// The end of the first request's URL, which a redirect must keep.
const REFERENCES: &str = "/info/refs";
const SERVICE: &str = "service=git-upload-pack";

/// The HTTP clients of one checkout.
#[derive(Debug)]
pub(in super::super) struct Servers {
    clients: HttpClients,
    /// Clients that accept any certificate, and the `host:port` that they are for.
    unverified: Option<(HttpClients, String)>,
    pace: Pace,
}

impl Servers {
    /// Returns the clients for a request.
    ///
    /// # Errors
    /// The HTTP library cannot start.
    pub(in super::super) fn of(request: &GitRequest) -> Result<Self, SetupError> {
        let location = &request.location;
        let unverified = match Url::parse(&location.remote) {
            Ok(url) if location.skip_tls_verify && url.scheme() == "https" => {
                let mut tls = TlsSettings::default();
                tls.skip_verification();
                Some((request.clients.with_tls(tls)?, host_of(&url)))
            }
            _ => None,
        };
        Ok(Self { clients: request.clients.clone(), unverified, pace: request.pace })
    }

    pub(in super::super) fn clients(&self) -> &HttpClients {
        &self.clients
    }

    fn clients_for(&self, url: &Url) -> &HttpClients {
        match &self.unverified {
            Some((clients, host)) if url.scheme() == "https" && host_of(url) == *host => clients,
            _ => &self.clients,
        }
    }
}

/// The credentials for the server of a repository.
#[derive(Debug, Default)]
pub(in super::super) struct Logins {
    /// The value of the header that is sent with every request.
    header: Option<HeaderValue>,
    /// Values that are tried in order if the server asks for credentials.
    asked: std::vec::IntoIter<HeaderValue>,
}

impl Logins {
    /// Returns the login of the URL, and that of the build's secrets for its server.
    ///
    /// # Errors
    /// A secret cannot be sent as a header.
    pub(in super::super) fn new(
        url: Option<(String, Secret<String>)>,
        secret: Option<GitAuthorization>,
    ) -> Result<Self, TransportError> {
        let (mut header, mut asked) = (None, Vec::new());
        if let Some((user, password)) = url {
            asked.push(basic(&user, &password)?);
        }
        match secret {
            Some(GitAuthorization::Basic { user, password }) => asked.push(basic(&user, &password)?),
            Some(GitAuthorization::Header(value)) => header = Some(sensitive(value.reveal())?),
            None => {}
        }
        Ok(Self { header, asked: asked.into_iter() })
    }
}

fn basic(user: &str, password: &Secret<String>) -> Result<HeaderValue, TransportError> {
    sensitive(&format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.reveal()))))
}

/// Returns a header value that no log shows.
fn sensitive(value: &str) -> Result<HeaderValue, TransportError> {
    let mut value = HeaderValue::from_str(value).map_err(|_invalid| TransportError::Authorization)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The requests to the server of one repository.
pub(in super::super) struct Exchange {
    servers: Arc<Servers>,
    watch: Watch,
    /// The repository as it was named: the credentials are for its server.
    home: Url,
    logins: Logins,
    /// The current URL, after redirects.
    base: Url,
    /// Who led to the current URL.
    lead: Lead,
}

/// One request.
struct Question {
    method: Method,
    /// The part after the repository's URL.
    path: &'static str,
    query: Option<&'static str>,
    body: Option<Bytes>,
    /// The media type of the response.
    wanted: &'static str,
}

/// A response while it is read.
pub(super) struct Answer {
    response: Response,
    host: String,
    flow: Flow,
    left: usize,
    limit: usize,
}

impl Exchange {
    /// Starts with the server of the repository at `base`, which `lead` led to.
    pub(in super::super) fn new(servers: &Arc<Servers>, watch: &Watch, base: Url, lead: Lead, logins: Logins) -> Self {
        let (servers, watch) = (Arc::clone(servers), watch.clone());
        Self { servers, watch, home: base.clone(), logins, base, lead }
    }

    /// Returns the hosts that the current server may lead to.
    pub(super) fn onward(&self) -> Lead {
        self.lead.onward(self.base.host_str().unwrap_or_default())
    }

    /// Requests the server's references.
    pub(super) fn references(&mut self) -> Result<Answer, TransportError> {
        let question = Question {
            method: Method::GET,
            path: REFERENCES,
            query: Some(SERVICE),
            body: None,
            wanted: "application/x-git-upload-pack-advertisement",
        };
        self.answer(&question, MAX_REFERENCES)
    }

    /// Requests objects; `body` is written by the library.
    pub(super) fn pack(&mut self, body: Bytes) -> Result<Answer, TransportError> {
        let question = Question {
            method: Method::POST,
            path: "/git-upload-pack",
            query: None,
            body: Some(body),
            wanted: "application/x-git-upload-pack-result",
        };
        self.answer(&question, MAX_ANSWER)
    }

    fn answer(&mut self, question: &Question, limit: usize) -> Result<Answer, TransportError> {
        let watch = self.watch.clone();
        let response = watch.wait(self.ask(question)).unwrap_or(Err(TransportError::GivenUp))?;
        let host = host_of(response.url());
        Ok(Answer { response, host, flow: Flow::new(self.servers.pace), left: limit, limit })
    }

    /// Returns the next piece of a response; an empty one is the end.
    pub(super) fn piece(&self, answer: &mut Answer) -> Result<Bytes, TransportError> {
        let piece = self.watch.wait(next_piece(answer)).unwrap_or(Err(TransportError::GivenUp))?;
        self.watch.touch();
        Ok(piece)
    }

    /// Sends a request, and follows redirects.
    async fn ask(&mut self, question: &Question) -> Result<Response, TransportError> {
        let (mut url, mut lead) = (self.base.clone(), self.lead.clone());
        url.set_path(&format!("{}{}", self.base.path(), question.path));
        url.set_query(question.query);
        for _ in 0..=MAX_REDIRECTS {
            let response = self.log_in(question, &url, &lead).await?;
            let status = response.status();
            match status.as_u16() {
                200 => {
                    check_content(&response, question.wanted)?;
                    if question.method == Method::GET {
                        self.base = base_of(&url)?;
                        self.lead = lead;
                    }
                    return Ok(response);
                }
                301..=303 | 307 | 308 if question.method == Method::GET => {
                    let to = target(&response)?;
                    lead = lead.onward(url.host_str().unwrap_or_default());
                    url = to;
                }
                301..=303 | 307 | 308 => {
                    let to = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
                    let problem =
                        format!("redirects a later request to {}: refused", redact::url(to.unwrap_or_default()));
                    return Err(TransportError::Redirect { host: host_of(&url), problem });
                }
                _ => {
                    let retry_after = retry_after(response.headers());
                    return Err(TransportError::Status { host: host_of(&url), status, retry_after });
                }
            }
        }
        let problem = format!("redirects more than {MAX_REDIRECTS} times");
        Err(TransportError::Redirect { host: host_of(&url), problem })
    }

    /// Sends a request to one URL, with as many of the credentials as the server asks for.
    async fn log_in(&mut self, question: &Question, url: &Url, lead: &Lead) -> Result<Response, TransportError> {
        let ours = url.origin() == self.home.origin();
        loop {
            let header = self.logins.header.as_ref().filter(|_| ours);
            let authorized = header.is_some();
            let response = self.send(question, url, lead, header).await?;
            if response.status() != StatusCode::UNAUTHORIZED {
                return Ok(response);
            }
            let next = if ours && wants_login(response.headers()) { self.logins.asked.next() } else { None };
            match next {
                Some(login) => self.logins.header = Some(login),
                None => return Err(TransportError::Login { host: host_of(url), authorized }),
            }
        }
    }

    async fn send(
        &self,
        question: &Question,
        url: &Url,
        lead: &Lead,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, TransportError> {
        let clients = self.servers.clients_for(url);
        let client: &Client =
            clients.for_step(lead, url).map_err(|source| TransportError::Astray { host: host_of(url), source })?;
        let mut request = client.request(question.method.clone(), url.clone()).header(USER_AGENT, AGENT);
        if let Some(body) = &question.body {
            request = request.header(CONTENT_TYPE, "application/x-git-upload-pack-request");
            request = request.header(ACCEPT, question.wanted).body(body.clone());
        }
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        tracing::debug!(url = %redact::url(url.as_str()), authorized = authorization.is_some(), "{}", question.method);
        let host = || host_of(url);
        match tokio::time::timeout(RESPONSE_LIMIT, request.send()).await {
            Ok(Ok(response)) => {
                clients.settle_step(lead, &response);
                self.watch.touch();
                Ok(response)
            }
            Ok(Err(error)) => Err(TransportError::Connection { host: host(), source: HttpError::new(error) }),
            Err(_elapsed) => Err(TransportError::Stalled { host: host(), idle: RESPONSE_LIMIT }),
        }
    }
}

async fn next_piece(answer: &mut Answer) -> Result<Bytes, TransportError> {
    let host = || answer.host.clone();
    loop {
        let asked = Instant::now();
        let piece = match tokio::time::timeout(BODY_LIMIT, answer.response.chunk()).await {
            Ok(Ok(piece)) => piece,
            Ok(Err(error)) => {
                return Err(TransportError::Truncated { host: host(), source: HttpError::new(error) });
            }
            Err(_elapsed) => return Err(TransportError::Stalled { host: host(), idle: BODY_LIMIT }),
        };
        let Some(piece) = piece else { return Ok(Bytes::new()) };
        if !answer.flow.keeps_pace(asked, piece.len()) {
            return Err(TransportError::Slow { host: host() });
        }
        let left = answer.left.checked_sub(piece.len());
        answer.left = left.ok_or(TransportError::TooLarge { limit: answer.limit })?;
        if !piece.is_empty() {
            return Ok(piece);
        }
    }
}

/// Returns the target of a redirect.
fn target(response: &Response) -> Result<Url, TransportError> {
    let problem = |problem: String| TransportError::Redirect { host: host_of(response.url()), problem };
    let text = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let text = text.ok_or_else(|| problem("redirects without a Location header".to_owned()))?;
    let shown = || redact::url(text);
    let mut url =
        response.url().join(text).map_err(|_| problem(format!("redirects to {}, which is not a URL", shown())))?;
    match (response.url().scheme(), url.scheme()) {
        ("https", "http") => {
            tracing::warn!("{} redirects from https to plain http: {}", host_of(response.url()), shown());
        }
        (_, "http" | "https") => tracing::debug!(to = %shown(), "redirected"),
        _ => return Err(problem(format!("redirects to {}: refused", shown()))),
    }
    // A login that a server put into its URL is not ours.
    let cleared = url.set_username("").and_then(|()| url.set_password(None));
    cleared.map_err(|()| problem(format!("redirects to {}, which is not a URL", shown())))?;
    url.set_fragment(None);
    Ok(url)
}

/// Returns the repository whose references a URL is for.
fn base_of(url: &Url) -> Result<Url, TransportError> {
    let path = url.path().strip_suffix(REFERENCES).filter(|_| url.query() == Some(SERVICE));
    let Some(path) = path else {
        let problem =
            format!("redirects to {}, which is not the list of references of a repository", redact::url(url.as_str()));
        return Err(TransportError::Redirect { host: host_of(url), problem });
    };
    let mut base = url.clone();
    base.set_path(path);
    base.set_query(None);
    Ok(base)
}

fn check_content(response: &Response, wanted: &str) -> Result<(), TransportError> {
    let found = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = found.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    let found = KINDS.iter().find(|known| kind.eq_ignore_ascii_case(known)).copied().unwrap_or("something else");
    Err(TransportError::NotSmart { host: host_of(response.url()), found })
}

/// Reports whether a server asks for user and password.
fn wants_login(headers: &HeaderMap) -> bool {
    headers.get_all(WWW_AUTHENTICATE).iter().any(|challenge| {
        let schemes = challenge.to_str().unwrap_or_default().split(',');
        schemes
            .map(str::trim_start)
            .any(|scheme| scheme.get(..5).is_some_and(|name| name.eq_ignore_ascii_case("basic")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_has_to_lead_to_references() {
        let base = |text: &str| base_of(&Url::parse(text).unwrap()).map(String::from).ok();
        assert_eq!(base("https://h/a.git/info/refs?service=git-upload-pack").as_deref(), Some("https://h/a.git"));
        for other in ["https://h/login", "https://h/a.git/info/refs", "https://h/info/refs/x?service=git-upload-pack"] {
            assert_eq!(base(other), None, "{other}");
        }
    }

    #[test]
    fn passwords_are_for_servers_that_ask_for_them() {
        let asks = |challenge: &'static str| {
            wants_login(&HeaderMap::from_iter([(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))]))
        };
        assert!(asks("Basic realm=\"x\"") && asks("basic") && asks("Negotiate, Basic realm=\"x\""));
        assert!(!asks("Bearer realm=\"x\"") && !asks("Digest realm=\"Basic\"") && !asks(""));
        assert!(!wants_login(&HeaderMap::new()));
    }
}
