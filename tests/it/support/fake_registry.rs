//! A registry inside the test process that misbehaves on demand.
//!
//! It keeps what is pushed to it, checks what a real registry checks (digests of uploads, that a manifest's blobs are there,
//! the scopes of tokens), and remembers every request it saw. Faults are scripted: which requests, after how many, how often.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use crabwright::image::{Digest, Manifest, media_type};
use futures_util::{StreamExt, stream};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A request as the registry saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) authorization: Option<String>,
}

/// How a request goes wrong.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// This answer instead of the right one.
    Status(u16, Vec<(&'static str, String)>, String),
    /// The right headers, the first half of the body, then the connection breaks.
    ResetMidBody,
    /// The first half of the body, as if that were all, with its length.
    ShortBody,
    /// The first half of the body, as if that were all, without a length.
    ShortChunkedBody,
    /// The right length, another content.
    CorruptBody,
    /// No answer at all, the connection closes.
    Close,
    /// This status before the request's body has been read.
    Early(u16),
    /// No answer, and the connection stays.
    Hang,
}

#[derive(Debug)]
struct Script {
    method: &'static str,
    path: String,
    skip: u32,
    times: u32,
    fault: Fault,
}

/// Who may do what.
#[derive(Debug, Clone, Default)]
pub(crate) enum Authentication {
    #[default]
    None,
    Basic {
        user: &'static str,
        password: &'static str,
    },
    /// Tokens from `/token`. Without credentials it gives tokens only for `public` repositories.
    Token {
        user: &'static str,
        password: &'static str,
        /// How many requests a token is good for.
        requests: u32,
    },
}

/// How this registry differs from an ideal one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Habits {
    pub(crate) authentication: Authentication,
    /// A mount opens an upload instead.
    pub(crate) no_mount: bool,
    pub(crate) no_head: bool,
    pub(crate) relative_location: bool,
    /// Blobs are served by this host.
    pub(crate) blobs_elsewhere: Option<String>,
    /// Uploads continue on this host.
    pub(crate) uploads_elsewhere: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    habits: Habits,
    blobs: BTreeMap<(String, String), Bytes>,
    manifests: BTreeMap<(String, String), (String, Bytes)>,
    uploads: BTreeSet<String>,
    tokens: BTreeMap<String, (BTreeSet<String>, u32)>,
    scripts: Vec<Script>,
    seen: Vec<Seen>,
    counter: u32,
}

/// The registry; it ends with the test's runtime.
#[derive(Debug, Clone)]
pub(crate) struct FakeRegistry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl FakeRegistry {
    pub(crate) async fn start(habits: Habits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind a port of the loopback interface");
        let address = listener.local_addr().expect("the port that was bound");
        let registry = Self { address, state: Arc::new(Mutex::new(State { habits, ..State::default() })) };
        let serving = registry.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let registry = serving.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let registry = registry.clone();
                        async move { registry.serve(request).await }
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    // Broken connections are what this registry is for.
                    drop(http.serve_connection(TokioIo::new(connection), service).await);
                });
            }
        });
        registry
    }

    /// `127.0.0.1:port`
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the state was locked")
    }

    /// The next `times` requests of `method` whose path contains `path` go wrong, after the first `skip` of them.
    pub(crate) fn fail(&self, method: &'static str, path: impl Into<String>, skip: u32, times: u32, fault: Fault) {
        self.state().scripts.push(Script { method, path: path.into(), skip, times, fault });
    }

    pub(crate) fn put_blob(&self, repository: &str, content: impl Into<Bytes>) -> Digest {
        let content = content.into();
        let digest = Digest::sha256_of(&content);
        self.state().blobs.insert((repository.to_owned(), digest.to_string()), content);
        digest
    }

    pub(crate) fn put_manifest(&self, repository: &str, tag: &str, kind: &str, content: impl Into<Bytes>) -> Digest {
        let content = content.into();
        let digest = Digest::sha256_of(&content);
        let mut state = self.state();
        for reference in [tag.to_owned(), digest.to_string()] {
            state.manifests.insert((repository.to_owned(), reference), (kind.to_owned(), content.clone()));
        }
        digest
    }

    pub(crate) fn manifest(&self, repository: &str, reference: &str) -> Option<Bytes> {
        let key = (repository.to_owned(), reference.to_owned());
        self.state().manifests.get(&key).map(|(_, content)| content.clone())
    }

    pub(crate) fn has_blob(&self, repository: &str, digest: &Digest) -> bool {
        self.state().blobs.contains_key(&(repository.to_owned(), digest.to_string()))
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    /// How many requests of `method` had `path` in their path.
    pub(crate) fn count(&self, method: &str, path: &str) -> usize {
        self.state().seen.iter().filter(|seen| seen.method == method && seen.path.contains(path)).count()
    }

    async fn serve(&self, request: Request<Incoming>) -> Result<Response<Body>, io::Error> {
        let (parts, body) = request.into_parts();
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let seen = Seen {
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            authorization: header("authorization"),
        };
        self.state().seen.push(seen.clone());
        let fault = self.next_fault(&seen);
        if let Some(Fault::Close) = fault {
            return Err(io::Error::other("scripted"));
        }
        if let Some(Fault::Early(status)) = fault {
            return Ok(respond(status, &[], "").map(full));
        }
        if let Some(Fault::Hang) = fault {
            std::future::pending::<()>().await;
        }
        let content = body.collect().await.map(|all| all.to_bytes()).unwrap_or_default();
        if let Some(Fault::Status(status, headers, text)) = &fault {
            let mut response = Response::builder().status(*status);
            for (name, value) in headers {
                response = response.header(*name, value);
            }
            return Ok(response.body(full(text.clone().into_bytes())).expect("a well-formed response"));
        }
        let answer = self.answer(&parts.method, &seen, header("content-type"), &content);
        Ok(match fault {
            Some(fault) => damage(answer, &fault),
            None => answer.map(full),
        })
    }

    fn next_fault(&self, seen: &Seen) -> Option<Fault> {
        let mut state = self.state();
        let script = state
            .scripts
            .iter_mut()
            .find(|script| script.method == seen.method && seen.path.contains(&script.path) && script.times > 0)?;
        if script.skip > 0 {
            script.skip -= 1;
            return None;
        }
        script.times -= 1;
        Some(script.fault.clone())
    }

    fn answer(&self, method: &Method, seen: &Seen, content_type: Option<String>, content: &Bytes) -> Response<Bytes> {
        if seen.path == "/token" {
            return self.token(seen);
        }
        if let Some(repository) = seen.path.strip_prefix("/elsewhere/") {
            // The storage behind a registry: knows no credentials.
            let (repository, digest) = repository.rsplit_once('/').unwrap_or_default();
            return self.blob(repository, digest, true);
        }
        if let Some(refused) = self.unauthorized(method, seen) {
            return refused;
        }
        if seen.path == "/v2/" {
            return respond(200, &[], "{}");
        }
        let path = seen.path.trim_start_matches("/v2/");
        if let Some((repository, _)) = path.split_once("/blobs/uploads/") {
            return self.upload(method, repository, seen, content);
        }
        if let Some((repository, digest)) = path.split_once("/blobs/") {
            if *method == Method::HEAD && self.state().habits.no_head {
                return respond(405, &[], "");
            }
            if let Some(elsewhere) = self.state().habits.blobs_elsewhere.clone() {
                let location = format!("http://{elsewhere}/elsewhere/{repository}/{digest}?signature=sesame");
                return respond(307, &[("location", &location)], "");
            }
            return self.blob(repository, digest, *method == Method::GET);
        }
        if let Some((repository, reference)) = path.split_once("/manifests/") {
            if *method == Method::PUT {
                return self.take_manifest(repository, reference, content_type, content);
            }
            let found = self.state().manifests.get(&(repository.to_owned(), reference.to_owned())).cloned();
            return match found {
                Some((kind, content)) => {
                    let mut response = respond(200, &[("content-type", &kind)], "");
                    *response.body_mut() = content;
                    response
                }
                None => error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
            };
        }
        error(404, "UNSUPPORTED", "no such path")
    }

    fn blob(&self, repository: &str, digest: &str, with_content: bool) -> Response<Bytes> {
        match self.state().blobs.get(&(repository.to_owned(), digest.to_owned())) {
            Some(content) if with_content => Response::new(content.clone()),
            Some(_) => respond(200, &[], ""),
            None => error(404, "BLOB_UNKNOWN", "blob unknown to registry"),
        }
    }

    fn upload(&self, method: &Method, repository: &str, seen: &Seen, content: &Bytes) -> Response<Bytes> {
        let mut state = self.state();
        let query = parameters(&seen.query);
        if *method == Method::POST {
            if let (Some(digest), Some(from)) = (query.get("mount"), query.get("from"))
                && !state.habits.no_mount
                && let Some(content) = state.blobs.get(&(from.clone(), digest.clone())).cloned()
            {
                state.blobs.insert((repository.to_owned(), digest.clone()), content);
                return respond(201, &[], "");
            }
            state.counter += 1;
            let path = format!("/v2/{repository}/blobs/uploads/{}?state=a%2Bb", state.counter);
            let session = state.counter.to_string();
            state.uploads.insert(session);
            let location = match (&state.habits.uploads_elsewhere, state.habits.relative_location) {
                (Some(elsewhere), _) => format!("http://{elsewhere}{path}"),
                (None, true) => path,
                (None, false) => format!("http://{}{path}", self.address),
            };
            return respond(202, &[("location", &location)], "");
        }
        let session = seen.path.rsplit('/').next().unwrap_or_default();
        if *method == Method::DELETE {
            state.uploads.remove(session);
            return respond(204, &[], "");
        }
        // A host that only continues uploads has not opened them.
        let known = state.uploads.remove(session) || matches!(state.habits.authentication, Authentication::None);
        if !known || query.get("state").map(String::as_str) != Some("a+b") {
            return error(404, "BLOB_UPLOAD_UNKNOWN", "no such upload");
        }
        let found = Digest::sha256_of(content).to_string();
        if query.get("digest") != Some(&found) {
            return error(400, "DIGEST_INVALID", "the content has another digest");
        }
        state.blobs.insert((repository.to_owned(), found), content.clone());
        respond(201, &[], "")
    }

    fn take_manifest(
        &self,
        repository: &str,
        reference: &str,
        content_type: Option<String>,
        content: &Bytes,
    ) -> Response<Bytes> {
        let digest = Digest::sha256_of(content);
        let Ok(manifest) = serde_json::from_slice::<Manifest>(content) else {
            return error(400, "MANIFEST_INVALID", "not a manifest");
        };
        for descriptor in manifest.layers.iter().chain([&manifest.config]) {
            if !descriptor.is_foreign() && !self.has_blob(repository, &descriptor.digest) {
                return error(400, "MANIFEST_BLOB_UNKNOWN", "a blob of the manifest is missing");
            }
        }
        let kind = content_type.unwrap_or_else(|| media_type::OCI_MANIFEST.to_owned());
        let mut state = self.state();
        for reference in [reference.to_owned(), digest.to_string()] {
            state.manifests.insert((repository.to_owned(), reference), (kind.clone(), content.clone()));
        }
        respond(201, &[("docker-content-digest", &digest.to_string())], "")
    }

    fn token(&self, seen: &Seen) -> Response<Bytes> {
        let mut state = self.state();
        let Authentication::Token { user, password, requests } = state.habits.authentication.clone() else {
            return error(404, "UNSUPPORTED", "no tokens here");
        };
        let known = match &seen.authorization {
            Some(header) if *header == basic(user, password) => true,
            Some(_) => return respond(401, &[], r#"{"details":"incorrect username or password"}"#),
            None => false,
        };
        let mut scopes = BTreeSet::new();
        for (name, scope) in pairs(&seen.query) {
            let mut parts = scope.splitn(3, ':').skip(1);
            let (repository, actions) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            if name != "scope" || !(known || repository.starts_with("public")) {
                continue;
            }
            let allowed = actions.split(',').filter(|action| known || *action == "pull");
            scopes.extend(allowed.map(|action| format!("{repository}:{action}")));
        }
        state.counter += 1;
        let token = format!("token-{}", state.counter);
        state.tokens.insert(token.clone(), (scopes, requests));
        respond(200, &[], &format!(r#"{{"token":"{token}","expires_in":300}}"#))
    }

    fn unauthorized(&self, method: &Method, seen: &Seen) -> Option<Response<Bytes>> {
        let mut state = self.state();
        let repository = seen.path.trim_start_matches("/v2/");
        let repository = ["/blobs/", "/manifests/"]
            .iter()
            .find_map(|part| repository.split_once(part))
            .map_or("", |(repository, _)| repository);
        let reads = matches!(*method, Method::GET | Method::HEAD);
        match state.habits.authentication.clone() {
            Authentication::None => None,
            Authentication::Basic { user, password } => {
                let allowed = seen.authorization == Some(basic(user, password));
                let challenge = [("www-authenticate", r#"Basic realm="fake""#)];
                let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
                (!allowed).then(|| respond(401, &challenge, body))
            }
            Authentication::Token { .. } => {
                let token = seen.authorization.as_ref().and_then(|header| header.strip_prefix("Bearer "));
                let action = if reads { "pull" } else { "push" };
                let mut needed = Vec::new();
                if !repository.is_empty() {
                    needed.push(format!("{repository}:{action}"));
                }
                if let Some(from) = parameters(&seen.query).get("from") {
                    needed.push(format!("{from}:pull"));
                }
                if let Some((scopes, left)) = token.and_then(|token| state.tokens.get_mut(token))
                    && *left > 0
                    && needed.iter().all(|scope| scopes.contains(scope))
                {
                    *left -= 1;
                    return None;
                }
                let scope = if repository.is_empty() {
                    String::new()
                } else {
                    let actions = if reads { "pull" } else { "pull,push" };
                    format!(",scope=\"repository:{repository}:{actions}\"")
                };
                let challenge = format!("Bearer realm=\"http://{}/token\",service=\"fake\"{scope}", self.address);
                let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
                Some(respond(401, &[("www-authenticate", &challenge)], body))
            }
        }
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

fn pairs(query: &str) -> Vec<(String, String)> {
    let url = reqwest::Url::parse(&format!("http://h/?{query}")).expect("a query that came in a URL");
    url.query_pairs().into_owned().collect()
}

fn parameters(query: &str) -> BTreeMap<String, String> {
    pairs(query).into_iter().collect()
}

fn respond(status: u16, headers: &[(&str, &str)], body: &str) -> Response<Bytes> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Bytes::from(body.to_owned())).expect("a well-formed response")
}

fn error(status: u16, code: &str, message: &str) -> Response<Bytes> {
    respond(status, &[], &format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#))
}

fn full(content: impl Into<Bytes>) -> Body {
    Full::new(content.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// A body without a length that ends, well or badly, after `content`.
fn cut(content: Bytes, end: Option<io::Error>) -> Body {
    let first = stream::once(async { Ok(Frame::data(content)) });
    let last = stream::once(async {
        // What was sent so far has to leave the server's buffers before the connection breaks.
        tokio::time::sleep(Duration::from_millis(20)).await;
        end
    });
    let last = last.filter_map(|end| async { end.map(Err) });
    StreamBody::new(first.chain(last)).boxed_unsync()
}

fn damage(answer: Response<Bytes>, fault: &Fault) -> Response<Body> {
    let (mut parts, content) = answer.into_parts();
    let half = content.slice(..content.len() / 2);
    let body = match fault {
        Fault::ResetMidBody => {
            parts.headers.insert("content-length", content.len().into());
            cut(half, Some(io::Error::other("scripted")))
        }
        Fault::ShortBody => full(half),
        Fault::ShortChunkedBody => cut(half, None),
        Fault::CorruptBody => full(content.iter().map(|byte| byte ^ 1).collect::<Vec<u8>>()),
        Fault::Status(..) | Fault::Close | Fault::Early(_) | Fault::Hang => full(content),
    };
    if parts.status == StatusCode::NOT_FOUND {
        // A damaged 404 would hide a mistake of the test itself.
        panic!("the damaged answer is for something that is not there");
    }
    Response::from_parts(parts, body)
}
