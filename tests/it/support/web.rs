//! A web server inside the test process: fixed answers, answers that go wrong, and git repositories.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crabwright::diag::redact::Secret;
use crabwright::remote::Lookup;

/// A request as the server saw it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    /// By name in small letters.
    pub(crate) headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// What the server says.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Sends only so many bytes of the body it announces.
    cut_at: Option<usize>,
    /// Sends a byte of the body at a time, with so long between them.
    pause: Option<Duration>,
}

impl Answer {
    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.into(), cut_at: None, pause: None }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::ok("no") }
    }

    /// The rest of a body (206); `Content-Range` is for who asks.
    pub(crate) fn partial(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 206, ..Self::ok(body) }
    }

    /// An error with a body that says why.
    pub(crate) fn status_with(status: u16, body: &str) -> Self {
        Self { status, ..Self::ok(body) }
    }

    pub(crate) fn redirect(to: &str) -> Self {
        Self::status(302).header("Location", to)
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn cut_at(mut self, bytes: usize) -> Self {
        self.cut_at = Some(bytes);
        self
    }

    pub(crate) fn dripping(mut self, pause: Duration) -> Self {
        self.pause = Some(pause);
        self
    }
}

type Answers = dyn Fn(&Asked, usize) -> Answer + Send + Sync;

/// A server; it answers for the rest of the process.
pub(crate) struct Web {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Web {
    /// Answers with what `answers` makes of a request and of how many requests for the same path came before.
    pub(crate) fn serve(answers: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::serve_at("127.0.0.1:0", answers)
    }

    /// The same at an address and port of this machine.
    pub(crate) fn serve_at(address: &str, answers: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("cannot listen at {address}: {error}"));
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (seen, answers): (_, Arc<Answers>) = (Arc::clone(&asked), Arc::new(answers));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answers) = (Arc::clone(&seen), Arc::clone(&answers));
                std::thread::spawn(move || answer(stream, &seen, answers.as_ref()));
            }
        });
        Self { address, asked }
    }

    /// Serves the bare repositories in a directory over git's smart protocol. `allow` decides about each request first: its
    /// answer goes out in place of the right one.
    pub(crate) fn serve_git(
        directory: PathBuf,
        allow: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        Self::serve_git_at("127.0.0.1:0", directory, allow)
    }

    /// The same at an address and port of this machine.
    pub(crate) fn serve_git_at(
        address: &str,
        directory: PathBuf,
        allow: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        Self::serve_at(address, move |asked, _before| allow(asked).unwrap_or_else(|| git_backend(&directory, asked)))
    }

    /// Serves the bare repositories in a directory, but the connection breaks in the middle of the first pack.
    pub(crate) fn serve_git_breaking_once(directory: PathBuf) -> Self {
        Self::serve(move |asked, before| {
            let answer = git_backend(&directory, asked);
            // The first request for this path asks for the references.
            let breaks = asked.method == "POST" && before == 1;
            let half = answer.body.len() / 2;
            if breaks { answer.cut_at(half) } else { answer }
        })
    }

    /// `http://host:port` and a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// `host:port`.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// Every request so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The `Authorization` headers of all requests so far.
    pub(crate) fn authorizations(&self) -> Vec<Option<String>> {
        self.asked().into_iter().map(|asked| asked.headers.get("authorization").cloned()).collect()
    }
}

/// Answers one request and closes the connection.
fn answer(mut stream: TcpStream, seen: &Mutex<Vec<Asked>>, answers: &Answers) {
    let Some(asked) = read(&stream) else { return };
    let before = {
        let mut seen = seen.lock().unwrap();
        let before = seen.iter().filter(|earlier| earlier.path == asked.path).count();
        seen.push(asked.clone());
        before
    };
    let answer = answers(&asked, before);
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", answer.body.len()));
    let body = &answer.body[..answer.cut_at.unwrap_or(answer.body.len())];
    // The client may have gone: that is its right.
    drop(match answer.pause {
        None => stream.write_all(&[head.as_bytes(), body].concat()),
        Some(pause) => stream.write_all(head.as_bytes()).and_then(|()| {
            body.iter().try_for_each(|byte| {
                std::thread::sleep(pause);
                stream.write_all(&[*byte])
            })
        }),
    });
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut asked = Asked { method, path: path.to_owned(), query: query.to_owned(), ..Asked::default() };
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        asked.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = asked.headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    if asked.headers.get("transfer-encoding").is_some_and(|encoding| encoding == "chunked") {
        asked.body = read_chunks(&mut reader)?;
    } else {
        asked.body = vec![0; length];
        reader.read_exact(&mut asked.body).ok()?;
    }
    Some(asked)
}

fn read_chunks(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let size = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut piece = vec![0; size + 2];
        reader.read_exact(&mut piece).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(&piece[..size]);
    }
}

/// What git's own CGI program answers. A proxy is asked with the whole URL.
pub(crate) fn git_backend(directory: &Path, asked: &Asked) -> Answer {
    let path = match asked.path.strip_prefix("http://") {
        Some(rest) => &rest[rest.find('/').unwrap_or(rest.len())..],
        None => &asked.path,
    };
    let mut command = Command::new("git");
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", directory)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", path)
        .env("QUERY_STRING", &asked.query)
        .env("REQUEST_METHOD", &asked.method)
        .env("REMOTE_ADDR", "127.0.0.1")
        .env("CONTENT_LENGTH", asked.body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    if let Some(kind) = asked.headers.get("content-type") {
        command.env("CONTENT_TYPE", kind);
    }
    if let Some(encoding) = asked.headers.get("content-encoding") {
        command.env("HTTP_CONTENT_ENCODING", encoding);
    }
    let mut backend = command.spawn().unwrap_or_else(|error| panic!("cannot run git http-backend: {error}"));
    let mut input = backend.stdin.take().unwrap();
    let body = asked.body.clone();
    let writer = std::thread::spawn(move || drop(input.write_all(&body)));
    let output = backend.wait_with_output().unwrap().stdout;
    writer.join().unwrap();
    let end = output.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(output.len());
    let mut answer = Answer::ok(output.get(end + 4..).unwrap_or_default());
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        match line.split_once(": ") {
            Some(("Status", status)) => answer.status = status.split(' ').next().unwrap().parse().unwrap(),
            Some((name, value)) => answer = answer.header(name, value),
            None => {}
        }
    }
    answer
}

/// Secrets for servers, as a build has them by their ids.
pub(crate) fn lookup(secrets: &[(&str, &str)]) -> Lookup {
    let secrets: BTreeMap<String, String> =
        secrets.iter().map(|(id, value)| ((*id).to_owned(), (*value).to_owned())).collect();
    Arc::new(move |id| secrets.get(id).cloned().map(Secret::new))
}
