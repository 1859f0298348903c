//! Downloads a file from a URL.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use reqwest::header::{AUTHORIZATION, ETAG, HeaderMap, HeaderValue, IF_RANGE, LAST_MODIFIED, LOCATION, RANGE};
use reqwest::{Method, Response, StatusCode, Url};

use crate::diag::Hint;
use crate::diag::progress::Progress;
use crate::diag::redact::{self, Secret};
use crate::diag::with_causes;
use crate::fs::{self, failed_to, gated};
use crate::http::{
    self, Flow, HttpClients, HttpError, Interrupted, Pace, RetryPolicy, Transient, host_of, retry_after,
};
use crate::image::Digest;
use crate::location::HttpLocation;

/// The time limit for the start of a response.
const RESPONSE_LIMIT: Duration = Duration::from_secs(120);
/// The time limit for silence within a response.
const BODY_LIMIT: Duration = Duration::from_secs(60);
const MAX_REDIRECTS: usize = 10;
/// The most bytes of a file: more than any layer that a registry accepts.
const MAX_SIZE: u64 = 64 << 30;
/// The mode of downloaded files, as in BuildKit: only root can read them.
const MODE: u32 = 0o600;

/// A downloaded file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    /// The path of the file, which has mode 0600 and the time `last_modified`.
    pub path: PathBuf,
    /// The file's name in the URL: one path component.
    pub file_name: String,
    /// The time of the last change according to the server, otherwise 1970, as in BuildKit.
    pub last_modified: SystemTime,
    /// The version according to the server.
    pub validator: Validator,
    /// The SHA-256 digest of the content, or the digest of the requested algorithm.
    pub digest: Digest,
    /// The size in bytes.
    pub size: u64,
}

/// Why a file could not be downloaded.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The HTTP client could not be set up.
    #[error("failed to set up the HTTP client")]
    Setup(#[source] http::SetupError),
    /// The connection failed or broke.
    #[error("failed to fetch {url}: {} {host}", if source.is_connect() { "cannot connect to" } else { "lost the connection to" })]
    Transport {
        /// The URL, without credentials.
        url: String,
        /// `host[:port]`.
        host: String,
        /// The cause.
        #[source]
        source: HttpError,
    },
    /// The response is incomplete.
    #[error("failed to fetch {url}: lost the connection to {host} within the response")]
    Truncated {
        /// The URL, without credentials.
        url: String,
        /// `host[:port]`.
        host: String,
        /// The cause.
        #[source]
        source: HttpError,
    },
    /// The server was silent for too long.
    #[error("failed to fetch {url}: {host} sent nothing for {} seconds", idle.as_secs())]
    Stalled {
        /// The URL, without credentials.
        url: String,
        /// `host[:port]`.
        host: String,
        /// The time limit.
        idle: Duration,
    },
    /// The transfer is slower than the minimum speed.
    #[error("failed to fetch {url}: {host} sends too slowly")]
    Slow {
        /// The URL, without credentials.
        url: String,
        /// `host[:port]`.
        host: String,
    },
    /// The server refused the request.
    #[error("failed to fetch {url}: invalid response status {status} from {host}")]
    Status {
        /// The URL, without credentials.
        url: String,
        /// `host[:port]`.
        host: String,
        /// The HTTP status.
        status: StatusCode,
        /// True if credentials were sent.
        authorized: bool,
        /// The wait that `Retry-After` requests.
        retry_after: Option<Duration>,
    },
    /// A redirect has no valid target, or there are too many.
    #[error("failed to fetch {url}: {host} {problem}")]
    Redirect {
        /// The URL, without credentials.
        url: String,
        /// `host[:port]`.
        host: String,
        /// What is wrong with the redirect.
        problem: String,
    },
    /// The file is too large.
    #[error("failed to fetch {url}: more than {limit} bytes")]
    TooLarge {
        /// The URL, without credentials.
        url: String,
        /// The limit.
        limit: u64,
    },
    /// The content has a different digest. The message is BuildKit's.
    #[error("failed to fetch {url}: digest mismatch {found}: {expected}")]
    Digest {
        /// The URL, without credentials.
        url: String,
        /// The requested digest.
        expected: Digest,
        /// The content's digest.
        found: Digest,
    },
    /// The file changed between two requests.
    #[error("failed to fetch {url}: the file changed during the download")]
    Changed {
        /// The URL, without credentials.
        url: String,
    },
    /// A secret cannot be sent as a header.
    #[error("failed to fetch {url}: the secret with the credentials is not a single line of text")]
    Authorization {
        /// The URL, without credentials.
        url: String,
    },
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] fs::Error),
    /// An error that must not be retried, even if its kind could be.
    #[error(transparent)]
    Final(Box<Self>),
    /// The build was asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl Transient for DownloadError {
    fn transient(&self) -> Option<Option<Duration>> {
        match self {
            Self::Transport { source, .. } => source.is_transient().then_some(None),
            Self::Truncated { .. } | Self::Slow { .. } => Some(None),
            Self::Status { status, retry_after, .. } => {
                matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504).then_some(*retry_after)
            }
            _ => None,
        }
    }
}

impl Hint for DownloadError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Final(error) => error.hint(),
            Self::Status { status, host, authorized: false, .. } if matches!(status.as_u16(), 401 | 403 | 404) => {
                Some(format!(
                    "if {host} requires credentials, pass them as --secret id=HTTP_AUTH_TOKEN_{host} (or HTTP_AUTH_HEADER_{host})"
                ))
            }
            Self::File(error) => error.hint(),
            Self::Setup(_)
            | Self::Transport { .. }
            | Self::Truncated { .. }
            | Self::Stalled { .. }
            | Self::Slow { .. }
            | Self::Status { .. }
            | Self::Redirect { .. }
            | Self::TooLarge { .. }
            | Self::Digest { .. }
            | Self::Changed { .. }
            | Self::Authorization { .. }
            | Self::Interrupted(_) => None,
        }
    }
}

/// Downloads files. Cheap to clone; several tasks can use it.
#[derive(Debug, Clone)]
pub struct Downloader {
    pub(super) clients: HttpClients,
    pub(super) policy: RetryPolicy,
    pub(super) pace: Pace,
    pub(super) progress: Progress,
}

impl Downloader {
    /// Returns a downloader with the machine's certificate authorities and proxies.
    ///
    /// # Errors
    /// The HTTP library cannot start.
    pub fn new(policy: RetryPolicy, progress: Progress) -> Result<Self, DownloadError> {
        let clients = HttpClients::new(http::USER_AGENT).map_err(DownloadError::Setup)?;
        Ok(Self { clients, policy, pace: Pace::default(), progress })
    }

    /// Returns the same downloader with a different minimum speed.
    #[must_use]
    pub fn with_pace(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// Returns the HTTP clients.
    pub fn clients(&self) -> &HttpClients {
        &self.clients
    }

    /// Downloads a file into `directory`, under its own name. `authorization` is sent to the URL's scheme, host and
    /// port, and never to a redirect's target.
    ///
    /// # Errors
    /// The file cannot be downloaded or written, or does not match `checksum`.
    pub async fn fetch(
        &self,
        location: &HttpLocation,
        checksum: Option<&Digest>,
        authorization: Option<&Secret<String>>,
        directory: &Path,
    ) -> Result<Downloaded, DownloadError> {
        let shown = location.to_string();
        let authorization = authorization.map(|secret| header(secret, &shown)).transpose()?;
        let path = directory.join(location.file_name());
        let exchange = Exchange { clients: &self.clients, location, authorization, shown: &shown };
        let transfer = Transfer { exchange, pace: self.pace, progress: &self.progress, checksum, path: &path };
        http::run(&self.policy, &format!("fetch {shown}"), || transfer.attempt()).await
    }

    /// Returns the version of the file that the server would send now. The file itself is requested only if a HEAD
    /// request is refused, as for signed URLs, or has no version.
    ///
    /// # Errors
    /// The file cannot be requested.
    pub async fn validator(
        &self,
        location: &HttpLocation,
        authorization: Option<&Secret<String>>,
    ) -> Result<Validator, DownloadError> {
        let shown = location.to_string();
        let authorization = authorization.map(|secret| header(secret, &shown)).transpose()?;
        let exchange = Exchange { clients: &self.clients, location, authorization, shown: &shown };
        let operation = format!("get the version of {shown}");
        let once = RetryPolicy { attempts: 1, ..self.policy };
        match http::run(&once, &operation, || exchange.follow(&Method::HEAD, None)).await {
            Ok(response) => match Validator::of(response.headers()) {
                Validator::None => {}
                validator => return Ok(validator),
            },
            Err(error @ DownloadError::Interrupted(_)) => return Err(error),
            Err(error) => tracing::debug!("{}", with_causes(&error)),
        }
        let response = http::run(&self.policy, &operation, || exchange.follow(&Method::GET, None)).await?;
        Ok(Validator::of(response.headers()))
    }
}

/// The version of a file according to its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Validator {
    /// A strong `ETag`.
    Tag(String),
    /// `Last-Modified`.
    Modified(String),
    /// Unknown.
    None,
}

impl Validator {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        // A weak tag means that versions are equivalent, not that they are identical.
        let tag = text(ETAG).filter(|tag| !tag.starts_with("W/"));
        match (tag, text(LAST_MODIFIED)) {
            (Some(tag), _) => Self::Tag(tag),
            (None, Some(time)) => Self::Modified(time),
            (None, None) => Self::None,
        }
    }
}

/// Returns the value of `Authorization`, marked so that no log shows it.
pub(super) fn header(secret: &Secret<String>, shown: &str) -> Result<HeaderValue, DownloadError> {
    let mut value = HeaderValue::from_str(secret.reveal().trim())
        .map_err(|_invalid| DownloadError::Authorization { url: shown.to_owned() })?;
    value.set_sensitive(true);
    Ok(value)
}

/// One download.
struct Transfer<'a> {
    exchange: Exchange<'a>,
    pace: Pace,
    progress: &'a Progress,
    checksum: Option<&'a Digest>,
    path: &'a Path,
}

impl Transfer<'_> {
    async fn attempt(&self) -> Result<Downloaded, DownloadError> {
        let exchange = &self.exchange;
        let mut response = exchange.follow(&Method::GET, None).await?;
        let last_modified = last_modified(response.headers());
        let validator = Validator::of(response.headers());
        let mut spool = Spool::create(self.path)?;
        let progress =
            self.progress.transfer(format!("fetch {}", exchange.location.file_name()), response.content_length());
        let (mut hasher, mut flow, host) = (self.hasher(), Flow::new(self.pace), host_of(response.url()));
        while let Some(piece) = exchange.next_piece(&mut response, &host, &mut flow).await? {
            hasher.update(&piece);
            if hasher.bytes() > MAX_SIZE {
                return Err(DownloadError::TooLarge { url: exchange.shown.to_owned(), limit: MAX_SIZE });
            }
            spool.write(&piece)?;
            progress.add(piece.len() as u64);
        }
        let size = hasher.bytes();
        let digest = hasher.finish();
        if let Some(expected) = self.checksum
            && *expected != digest
        {
            let (expected, found) = (expected.clone(), digest);
            return Err(DownloadError::Digest { url: exchange.shown.to_owned(), expected, found });
        }
        spool.finish(last_modified)?;
        progress.done();
        let (path, file_name) = (self.path.to_owned(), exchange.location.file_name());
        Ok(Downloaded { path, file_name, last_modified, validator, digest, size })
    }

    fn hasher(&self) -> crate::image::Hasher {
        self.checksum.map_or_else(crate::image::Hasher::new, Digest::hasher)
    }
}

/// The requests for one file.
pub(super) struct Exchange<'a> {
    pub(super) clients: &'a HttpClients,
    pub(super) location: &'a HttpLocation,
    pub(super) authorization: Option<HeaderValue>,
    /// The URL without credentials.
    pub(super) shown: &'a str,
}

impl Exchange<'_> {
    /// Returns the response with the file (GET) or its headers (HEAD), after all redirects. With `rest`, the response
    /// may contain only that part (206).
    pub(super) async fn follow(&self, method: &Method, rest: Option<&Rest>) -> Result<Response, DownloadError> {
        let mut url = self.location.url().clone();
        let origin = url.origin();
        for _ in 0..=MAX_REDIRECTS {
            let ours = url.origin() == origin;
            let response = self.ask(method, &url, ours, rest).await?;
            let status = response.status();
            match status.as_u16() {
                200 => return Ok(response),
                206 if rest.is_some() => return Ok(response),
                301..=303 | 307 | 308 => url = self.redirect(&response)?,
                _ => {
                    return Err(DownloadError::Status {
                        url: self.shown.to_owned(),
                        host: host_of(&url),
                        status,
                        authorized: ours && self.authorization.is_some(),
                        retry_after: retry_after(response.headers()),
                    });
                }
            }
        }
        let problem = format!("redirects more than {MAX_REDIRECTS} times");
        Err(DownloadError::Redirect { url: self.shown.to_owned(), host: host_of(&url), problem })
    }

    async fn ask(
        &self,
        method: &Method,
        url: &Url,
        ours: bool,
        rest: Option<&Rest>,
    ) -> Result<Response, DownloadError> {
        let host = host_of(url);
        let client = self.clients.for_lead(self.location.url(), url).map_err(|astray| DownloadError::Redirect {
            url: self.shown.to_owned(),
            host: host_of(self.location.url()),
            problem: format!("redirects to {}: refused, {astray}", redact::url(url.as_str())),
        })?;
        let mut request = client.request(method.clone(), url.clone());
        if let Some(Rest { from, validator }) = rest {
            request = request.header(RANGE, format!("bytes={from}-")).header(IF_RANGE, validator);
        }
        if ours && let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        tracing::debug!(url = %redact::url(url.as_str()), authorized = ours && self.authorization.is_some(), "{method}");
        match tokio::time::timeout(RESPONSE_LIMIT, request.send()).await {
            Ok(answer) => {
                let answer = answer.map_err(|error| self.transport(error, &host))?;
                self.clients.settle(self.location.url(), &answer);
                Ok(answer)
            }
            Err(_elapsed) => Err(self.stalled(&host, RESPONSE_LIMIT)),
        }
    }

    fn redirect(&self, response: &Response) -> Result<Url, DownloadError> {
        let problem = |problem: String| DownloadError::Redirect {
            url: self.shown.to_owned(),
            host: host_of(response.url()),
            problem,
        };
        let text = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let text = text.ok_or_else(|| problem("redirects without a Location header".to_owned()))?;
        let shown = || redact::url(text);
        let url = response
            .url()
            .join(text)
            .map_err(|_invalid| problem(format!("redirects to {}, which is not a URL", shown())))?;
        match (response.url().scheme(), url.scheme()) {
            ("https", "http") => {
                tracing::warn!("{} redirects from https to plain http: {}", self.shown, shown());
            }
            (_, "http" | "https") => tracing::debug!(to = %shown(), "redirected"),
            _ => return Err(problem(format!("redirects to {}: refused", shown()))),
        }
        Ok(url)
    }

    pub(super) async fn next_piece(
        &self,
        response: &mut Response,
        host: &str,
        flow: &mut Flow,
    ) -> Result<Option<bytes::Bytes>, DownloadError> {
        let asked = Instant::now();
        let piece = match tokio::time::timeout(BODY_LIMIT, response.chunk()).await {
            Ok(piece) => piece.map_err(|error| DownloadError::Truncated {
                url: self.shown.to_owned(),
                host: host.to_owned(),
                source: HttpError::new(error),
            })?,
            Err(_elapsed) => return Err(self.stalled(host, BODY_LIMIT)),
        };
        let Some(piece) = piece else { return Ok(None) };
        if !flow.keeps_pace(asked, piece.len()) {
            return Err(DownloadError::Slow { url: self.shown.to_owned(), host: host.to_owned() });
        }
        Ok(Some(piece))
    }

    fn transport(&self, error: reqwest::Error, host: &str) -> DownloadError {
        let source = HttpError::new(error);
        DownloadError::Transport { url: self.shown.to_owned(), host: host.to_owned(), source }
    }

    fn stalled(&self, host: &str, idle: Duration) -> DownloadError {
        DownloadError::Stalled { url: self.shown.to_owned(), host: host.to_owned(), idle }
    }
}

/// The part of a file that is still missing, and its version.
pub(super) struct Rest {
    pub(super) from: u64,
    /// The strong ETag of the first part.
    pub(super) validator: HeaderValue,
}

/// Returns `Last-Modified`, or the beginning of 1970 if it is missing or malformed.
fn last_modified(headers: &HeaderMap) -> SystemTime {
    let text = headers.get(LAST_MODIFIED).and_then(|value| value.to_str().ok());
    text.and_then(|text| httpdate::parse_http_date(text).ok()).unwrap_or(UNIX_EPOCH)
}

/// The file while it is written. It is removed unless it is completed.
struct Spool<'a> {
    file: std::fs::File,
    path: &'a Path,
    finished: bool,
}

impl<'a> Spool<'a> {
    fn create(path: &'a Path) -> Result<Self, DownloadError> {
        let mut options = std::fs::OpenOptions::new();
        match gated::open_with(path, options.write(true).create(true).truncate(true).mode(MODE)) {
            Ok(file) => Ok(Self { file, path, finished: false }),
            Err(error) => Err(failed_to("create", path)(error).into()),
        }
    }

    // Written by the task itself: pieces go to the page cache, as those of a registry's blobs do.
    fn write(&mut self, piece: &[u8]) -> Result<(), DownloadError> {
        Ok(self.file.write_all(piece).map_err(|error| fs::Error::new("write", self.path, error))?)
    }

    fn finish(mut self, modified: SystemTime) -> Result<(), DownloadError> {
        self.file.set_modified(modified).map_err(failed_to("set the time of", self.path))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Spool<'_> {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = gated::remove_file(self.path)
        {
            tracing::debug!("{}: failed to remove the incomplete file: {error}", self.path.display());
        }
    }
}
