//! Upload sessions: opened, appended to, asked about, ended and given up.

use bytes::Bytes;
use crabwright::image::Digest;
use hyper::{Method, Response};

use super::{Authentication, FakeRegistry, Seen, error, parameters, respond};

impl FakeRegistry {
    pub(super) fn upload(&self, method: &Method, repository: &str, seen: &Seen, content: &Bytes) -> Response<Bytes> {
        if *method == Method::POST {
            return self.open_upload(repository, seen);
        }
        let session = session_of(seen);
        let mut state = self.state();
        if *method == Method::DELETE {
            state.uploads.remove(&session);
            return respond(204, &[], "");
        }
        // A host that only continues uploads has not opened them.
        if matches!(state.habits.authentication, Authentication::None) {
            state.uploads.entry(session.clone()).or_default();
        }
        if !state.uploads.contains_key(&session) || !seen.query.contains("state=a%2Bb") {
            return error(404, "BLOB_UPLOAD_UNKNOWN", "no such upload");
        }
        if *method == Method::GET {
            if state.habits.no_upload_status {
                return error(404, "BLOB_UPLOAD_UNKNOWN", "uploads are not told about");
            }
            let received = state.uploads.get(&session).map_or(0, Vec::len);
            drop(state);
            return self.standing(204, repository, &session, received);
        }
        let Some(received) = state.uploads.get_mut(&session) else {
            return error(404, "BLOB_UPLOAD_UNKNOWN", "no such upload");
        };
        if *method == Method::PATCH {
            let start = seen.content_range.as_ref().and_then(|range| range.split('-').next()?.parse::<usize>().ok());
            if start.is_some_and(|start| start != received.len()) {
                return error(416, "BLOB_UPLOAD_INVALID", "the piece does not continue what is there");
            }
            received.extend_from_slice(content);
            let received = received.len();
            if state.habits.no_pieces {
                return error(405, "UNSUPPORTED", "blobs come in one request");
            }
            drop(state);
            return self.standing(202, repository, &session, received);
        }
        received.extend_from_slice(content);
        let content = Bytes::from(state.uploads.remove(&session).unwrap_or_default());
        let found = Digest::sha256_of(&content).to_string();
        if parameters(&seen.query).get("digest") != Some(&found) {
            return error(400, "DIGEST_INVALID", "the content has another digest");
        }
        state.blobs.insert((repository.to_owned(), found), content);
        respond(201, &[], "")
    }

    /// What came before the connection broke.
    pub(super) fn keep_part(&self, seen: &Seen, part: &[u8]) {
        if let Some(received) = self.state().uploads.get_mut(&session_of(seen)) {
            received.extend_from_slice(part);
        }
    }

    /// Uploads that were neither ended nor given up.
    pub(crate) fn open_uploads(&self) -> usize {
        self.state().uploads.len()
    }

    fn open_upload(&self, repository: &str, seen: &Seen) -> Response<Bytes> {
        let mut state = self.state();
        let query = parameters(&seen.query);
        if let (Some(digest), Some(from)) = (query.get("mount"), query.get("from"))
            && !state.habits.no_mount
            && let Some(content) = state.blobs.get(&(from.clone(), digest.clone())).cloned()
        {
            state.blobs.insert((repository.to_owned(), digest.clone()), content);
            return respond(201, &[], "");
        }
        state.counter += 1;
        let session = state.counter.to_string();
        state.uploads.insert(session.clone(), Vec::new());
        drop(state);
        self.standing(202, repository, &session, 0)
    }

    /// Where an upload goes on, and how far it is.
    fn standing(&self, status: u16, repository: &str, session: &str, received: usize) -> Response<Bytes> {
        let habits = self.state().habits.clone();
        let path = format!("/v2/{repository}/blobs/uploads/{session}?state=a%2Bb");
        let location = match (&habits.uploads_elsewhere, habits.relative_location) {
            (Some(elsewhere), _) => format!("http://{elsewhere}{path}"),
            (None, true) => path,
            (None, false) => format!("http://{}{path}", self.host()),
        };
        let range = format!("0-{}", received.saturating_sub(1));
        respond(status, &[("location", &location), ("range", &range)], "")
    }
}

fn session_of(seen: &Seen) -> String {
    seen.path.rsplit('/').next().unwrap_or_default().to_owned()
}
