//! Formats progress like BuildKit's `--progress=rawjson`: one JSON object per line, with `vertexes`, `statuses` and
//! `logs`. A step is a vertex. Transfers are statuses and messages are logs of two separate vertices.

use std::fmt::Write as _;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// The vertex of messages that belong to no step.
pub(super) const MESSAGES: &str = "[internal] messages";
/// The vertex of transfers from and to registries.
pub(super) const TRANSFERS: &str = "[internal] transfers";

/// The result of a vertex.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End<'a> {
    /// It was executed.
    Done,
    /// Its result was in the cache.
    Cached,
    /// It failed.
    Failed(&'a str),
    /// It was stopped because a different step failed.
    Canceled,
}

/// Returns the digest that identifies a vertex: that of its name, so that it is the same in every build.
pub(super) fn digest(name: &str) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(name.as_bytes()) {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").ok();
    }
    text
}

/// Returns the line of a vertex that begins, or has ended.
pub(super) fn vertex(name: &str, started: Option<SystemTime>, end: Option<(End<'_>, SystemTime)>) -> String {
    let mut vertex = Map::new();
    vertex.insert("digest".to_owned(), digest(name).into());
    vertex.insert("name".to_owned(), name.into());
    if let Some(started) = started {
        vertex.insert("started".to_owned(), time(started));
    }
    if let Some((end, completed)) = end {
        vertex.insert("completed".to_owned(), time(completed));
        match end {
            End::Done => {}
            End::Cached => drop(vertex.insert("cached".to_owned(), true.into())),
            End::Failed(error) => drop(vertex.insert("error".to_owned(), error.into())),
            End::Canceled => drop(vertex.insert("error".to_owned(), "canceled".into())),
        }
    }
    json!({ "vertexes": [vertex] }).to_string()
}

/// Returns the line of a vertex's output. Stream 1 is standard output, 2 standard error.
pub(super) fn log(name: &str, stream: u8, data: &[u8], now: SystemTime) -> String {
    let log = json!({
        "vertex": digest(name),
        "stream": stream,
        "data": STANDARD.encode(data),
        "timestamp": time(now),
    });
    json!({ "logs": [log] }).to_string()
}

/// The progress of a transfer.
#[derive(Debug, Clone)]
pub(super) struct Status<'a> {
    pub(super) id: &'a str,
    pub(super) current: u64,
    pub(super) total: Option<u64>,
    pub(super) started: SystemTime,
    pub(super) completed: bool,
}

/// Returns the line of a transfer.
pub(super) fn status(status: &Status<'_>, now: SystemTime) -> String {
    let mut object = Map::new();
    object.insert("id".to_owned(), status.id.into());
    object.insert("vertex".to_owned(), digest(TRANSFERS).into());
    object.insert("current".to_owned(), status.current.into());
    if let Some(total) = status.total {
        object.insert("total".to_owned(), total.into());
    }
    object.insert("timestamp".to_owned(), time(now));
    object.insert("started".to_owned(), time(status.started));
    if status.completed {
        object.insert("completed".to_owned(), time(now));
    }
    json!({ "statuses": [object] }).to_string()
}

fn time(time: SystemTime) -> Value {
    humantime::format_rfc3339_nanos(time).to_string().into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn lines_have_the_keys_of_buildkit() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_700_000_000_000_000_005);
        let stamp = "2023-11-14T22:13:20.000000005Z";
        let name = "[build 1/2] RUN make";
        let digest = digest(name);
        assert!(digest.starts_with("sha256:") && digest.len() == 71);
        let read = |line: String| serde_json::from_str::<Value>(&line).unwrap();
        assert_eq!(
            read(vertex(name, Some(now), None)),
            json!({"vertexes": [{"digest": digest, "name": name, "started": stamp}]})
        );
        let failed = read(vertex(name, Some(now), Some((End::Failed("no"), now))));
        assert_eq!(
            (&failed["vertexes"][0]["error"], &failed["vertexes"][0]["completed"]),
            (&json!("no"), &json!(stamp))
        );
        assert_eq!(read(vertex(name, None, Some((End::Cached, now))))["vertexes"][0]["cached"], true);
        assert_eq!(
            read(log(name, 1, b"a\n\xff", now)),
            json!({"logs": [{"vertex": digest, "stream": 1, "data": "YQr/", "timestamp": stamp}]})
        );
        let moved = Status { id: "pull", current: 5, total: Some(7), started: now, completed: true };
        assert_eq!(read(status(&moved, now))["statuses"][0]["completed"], stamp);
    }
}
