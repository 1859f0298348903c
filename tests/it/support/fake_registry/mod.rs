//! A registry inside the test process that misbehaves on demand.
//!
//! It keeps what is pushed to it, checks what a real registry checks (digests of uploads, that a manifest's blobs are there,
//! the scopes of tokens), and remembers every request it saw. Faults are scripted: which requests, after how many, how often.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use crabwright::image::{Digest, Manifest, media_type};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

mod authentication;
mod faults;
mod habits;
mod stages;
mod uploads;

pub(crate) use authentication::Authentication;
pub(crate) use faults::Fault;
use faults::damage;
pub(crate) use habits::{HABITS, Habits};
pub(crate) use stages::{Stage, each_fault, side_by_side};

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A request as the registry saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) version: Version,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) authorization: Option<String>,
    pub(crate) range: Option<String>,
    pub(crate) content_range: Option<String>,
    /// Bytes that the request announced.
    pub(crate) length: u64,
}

#[derive(Debug)]
struct Script {
    method: &'static str,
    path: String,
    skip: u32,
    times: u32,
    fault: Fault,
}

#[derive(Debug, Default)]
struct State {
    habits: Habits,
    blobs: BTreeMap<(String, String), Bytes>,
    manifests: BTreeMap<(String, String), (String, Bytes)>,
    uploads: BTreeMap<String, Vec<u8>>,
    tokens: BTreeMap<String, (BTreeSet<String>, u32)>,
    scripts: Vec<Script>,
    seen: Vec<Seen>,
    counter: u32,
    /// Manifests that came before their blobs.
    premature: Vec<String>,
}

/// The registry; it ends with the test's runtime.
#[derive(Debug, Clone)]
pub(crate) struct FakeRegistry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl FakeRegistry {
    pub(crate) async fn start(habits: Habits) -> Self {
        Self::listen(habits, None).await
    }

    /// Over TLS, with the version of HTTP that the handshake ends with.
    pub(crate) async fn start_tls(habits: Habits, tls: TlsAcceptor) -> Self {
        Self::listen(habits, Some(tls)).await
    }

    async fn listen(habits: Habits, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind a port of the loopback interface");
        let address = listener.local_addr().expect("the port that was bound");
        let registry = Self { address, state: Arc::new(Mutex::new(State { habits, ..State::default() })) };
        let serving = registry.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serving.clone().converse(connection, tls.clone()));
            }
        });
        registry
    }

    /// Answers what comes over one connection. Broken connections are what this registry is for.
    async fn converse(self, connection: TcpStream, tls: Option<TlsAcceptor>) {
        let service = service_fn(move |request| {
            let registry = self.clone();
            async move { registry.serve(request).await }
        });
        let Some(tls) = tls else {
            drop(http1::Builder::new().serve_connection(TokioIo::new(connection), service).await);
            return;
        };
        let Ok(connection) = tls.accept(connection).await else { return };
        if connection.get_ref().1.alpn_protocol() == Some(b"h2") {
            let http = http2::Builder::new(TokioExecutor::new());
            drop(http.serve_connection(TokioIo::new(connection), service).await);
        } else {
            drop(http1::Builder::new().serve_connection(TokioIo::new(connection), service).await);
        }
    }

    /// One of [`HABITS`].
    pub(crate) async fn start_with(habit: fn(&Self, &mut Habits)) -> Self {
        let registry = Self::start(Habits::default()).await;
        registry.change_habits(|habits| habit(&registry, habits));
        registry
    }

    /// Behaves in another way from now on.
    pub(crate) fn change_habits(&self, change: impl FnOnce(&mut Habits)) {
        change(&mut self.state().habits);
    }

    /// The same by another name, which is another host to whoever asks.
    pub(crate) fn other_host(&self) -> String {
        format!("localhost:{}", self.address.port())
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

    /// Nothing goes wrong any more.
    pub(crate) fn forget_faults(&self) {
        self.state().scripts.clear();
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

    /// No tag was ever written before its blobs were there, and all of them are there now.
    #[track_caller]
    pub(crate) fn assert_whole(&self, name: &str) {
        let state = self.state();
        assert!(state.premature.is_empty(), "{name}: {:?} came before their blobs", state.premature);
        for ((repository, reference), (_, content)) in &state.manifests {
            let Ok(manifest) = serde_json::from_slice::<Manifest>(content) else { continue };
            for descriptor in manifest.layers.iter().chain([&manifest.config]) {
                let key = (repository.clone(), descriptor.digest.to_string());
                let is_there = descriptor.is_foreign() || state.blobs.contains_key(&key);
                assert!(is_there, "{name}: {repository}:{reference} names {}, which is missing", descriptor.digest);
            }
        }
    }

    /// The tags of a repository, in order.
    pub(crate) fn tags(&self, repository: &str) -> Vec<String> {
        let state = self.state();
        let tags = state.manifests.keys().filter(|(own, reference)| own == repository && !reference.contains(':'));
        tags.map(|(_, tag)| tag.clone()).collect()
    }

    /// Takes a blob away, or puts other bytes in its place.
    pub(crate) fn damage_blob(&self, repository: &str, digest: &Digest, content: Option<Vec<u8>>) {
        let key = (repository.to_owned(), digest.to_string());
        let mut state = self.state();
        match content {
            Some(content) => drop(state.blobs.insert(key, content.into())),
            None => drop(state.blobs.remove(&key)),
        }
    }

    /// Every blob and manifest, with a name for messages.
    pub(crate) fn contents(&self) -> Vec<(String, Bytes)> {
        let state = self.state();
        let blobs =
            state.blobs.iter().map(|((repository, digest), content)| (format!("{repository}@{digest}"), content));
        let manifests = state.manifests.iter();
        let manifests = manifests.map(|((repository, name), (_, content))| (format!("{repository}:{name}"), content));
        blobs.chain(manifests).map(|(name, content)| (name, content.clone())).collect()
    }

    /// The bytes of a blob that is there.
    pub(crate) fn blob_content(&self, repository: &str, digest: &Digest) -> Vec<u8> {
        self.state().blobs[&(repository.to_owned(), digest.to_string())].to_vec()
    }

    /// Forgets what it has seen.
    pub(crate) fn forget_requests(&self) {
        self.state().seen.clear();
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
            version: parts.version,
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            authorization: header("authorization"),
            range: header("range"),
            content_range: header("content-range"),
            length: header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0),
        };
        self.note(&seen);
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
        if self.state().habits.request_limit.is_some_and(|limit| seen.length > limit) {
            return Ok(respond(413, &[], "<html>413 Request Entity Too Large</html>").map(full));
        }
        if let Some(Fault::BreakUpload(bytes)) = fault {
            let content = first_bytes(body, bytes).await;
            self.keep_part(&seen, &content);
            return Err(io::Error::other("scripted"));
        }
        // What broke off has not arrived, and is not answered by anybody.
        let content = body.collect().await.map_err(io::Error::other)?.to_bytes();
        if self.state().habits.request_limit.is_some_and(|limit| content.len() as u64 > limit) {
            return Ok(respond(413, &[], "<html>413 Request Entity Too Large</html>").map(full));
        }
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

    fn note(&self, seen: &Seen) {
        let mut state = self.state();
        state.seen.push(seen.clone());
        if state.habits.tokens_end_at == Some(state.seen.len()) {
            state.tokens.clear();
        }
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
            return self.token(seen, content);
        }
        if let Some(repository) = seen.path.strip_prefix("/elsewhere/") {
            // The storage behind a registry: knows no credentials.
            let (repository, digest) = repository.rsplit_once('/').unwrap_or_default();
            return self.blob(repository, digest, seen, true);
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
            return self.blob(repository, digest, seen, *method == Method::GET);
        }
        if let Some((repository, reference)) = path.split_once("/manifests/") {
            if *method == Method::PUT {
                return self.take_manifest(repository, reference, content_type, content);
            }
            if *method == Method::DELETE {
                return self.delete_manifest(repository, reference);
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
        if let Some(repository) = path.strip_suffix("/tags/list") {
            return self.list_tags(repository, seen);
        }
        error(404, "UNSUPPORTED", "no such path")
    }

    /// Tags in pages of two, whatever is asked for.
    fn list_tags(&self, repository: &str, seen: &Seen) -> Response<Bytes> {
        let last = parameters(&seen.query).get("last").cloned().unwrap_or_default();
        let mut rest = self.tags(repository);
        rest.retain(|tag| *tag > last);
        let page: Vec<String> = rest.iter().take(2).cloned().collect();
        let body = serde_json::json!({ "name": repository, "tags": page }).to_string();
        match page.last().filter(|_| rest.len() > page.len()) {
            Some(last) => {
                let link = format!("</v2/{repository}/tags/list?last={last}&n=2>; rel=\"next\"");
                respond(200, &[("link", &link)], &body)
            }
            None => respond(200, &[], &body),
        }
    }

    fn delete_manifest(&self, repository: &str, reference: &str) -> Response<Bytes> {
        let mut state = self.state();
        if state.habits.no_delete {
            return error(405, "UNSUPPORTED", "the operation is unsupported");
        }
        let found = state.manifests.get(&(repository.to_owned(), reference.to_owned())).cloned();
        let Some(found) = found else { return error(404, "MANIFEST_UNKNOWN", "manifest unknown") };
        state.manifests.retain(|(own, _), content| own != repository || *content != found);
        respond(202, &[], "")
    }

    fn blob(&self, repository: &str, digest: &str, seen: &Seen, with_content: bool) -> Response<Bytes> {
        let state = self.state();
        let Some(content) = state.blobs.get(&(repository.to_owned(), digest.to_owned())) else {
            return error(404, "BLOB_UNKNOWN", "blob unknown to registry");
        };
        if !with_content {
            return respond(200, &[], "");
        }
        let start = seen.range.as_ref();
        let start = start.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix("-")?.parse::<usize>().ok());
        match start {
            Some(start) if !state.habits.no_range && start < content.len() => {
                let range = format!("bytes {start}-{}/{}", content.len() - 1, content.len());
                let mut response = respond(206, &[("content-range", &range)], "");
                *response.body_mut() = content.slice(start..);
                response
            }
            Some(start) if !state.habits.no_range && start >= content.len() => error(416, "RANGE_INVALID", "too far"),
            _ => Response::new(content.clone()),
        }
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
                self.state().premature.push(format!("{repository}:{reference}"));
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
}

fn pairs(query: &str) -> Vec<(String, String)> {
    let url = reqwest::Url::parse(&format!("http://h/?{query}")).expect("a query that came in a URL");
    url.query_pairs().into_owned().collect()
}

fn parameters(query: &str) -> BTreeMap<String, String> {
    pairs(query).into_iter().collect()
}

/// The first bytes of a body, or all where it is shorter.
async fn first_bytes(mut body: Incoming, bytes: usize) -> Vec<u8> {
    let mut content = Vec::new();
    while content.len() < bytes
        && let Some(Ok(frame)) = body.frame().await
    {
        content.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
    }
    content.truncate(bytes);
    content
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
