//! What can go wrong with one request, and how an answer is damaged.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::{Response, StatusCode};

use super::{Body, full};

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
    /// This many bytes of the request's body arrive (an upload keeps them), then the connection breaks.
    BreakUpload(usize),
    /// The right answer in two parts, with a pause between them.
    SlowBody,
    /// The right answer, but after its first half a byte now and then.
    Drip,
    /// The right answer without this header.
    Without(&'static str),
}

impl Fault {
    /// This status alone.
    pub(crate) fn status(status: u16) -> Self {
        Self::Status(status, Vec::new(), String::new())
    }

    /// Too many requests, and the next is welcome at once.
    pub(crate) fn too_many_requests() -> Self {
        Self::Status(429, vec![("retry-after", "0".to_owned())], String::new())
    }
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

pub(super) fn damage(answer: Response<Bytes>, fault: &Fault) -> Response<Body> {
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
        Fault::SlowBody => slow(&content),
        Fault::Drip => drip(&content),
        Fault::Without(header) => {
            parts.headers.remove(*header);
            full(content)
        }
        Fault::Status(..) | Fault::Close | Fault::Early(_) | Fault::Hang | Fault::BreakUpload(_) => full(content),
    };
    if parts.status == StatusCode::NOT_FOUND {
        // A damaged 404 would hide a mistake of the test itself.
        panic!("the damaged answer is for something that is not there");
    }
    Response::from_parts(parts, body)
}

/// The first half of the content, then the rest byte for byte with pauses.
fn drip(content: &Bytes) -> Body {
    let (first, rest) = (content.slice(..content.len() / 2), content.slice(content.len() / 2..));
    let first = stream::once(async { Ok(Frame::data(first)) });
    let rest = stream::iter(rest.to_vec()).then(|byte| async move {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok(Frame::data(Bytes::from(vec![byte])))
    });
    StreamBody::new(first.chain(rest)).boxed_unsync()
}

/// The content, the second half a while after the first.
fn slow(content: &Bytes) -> Body {
    let (first, second) = (content.slice(..content.len() / 2), content.slice(content.len() / 2..));
    let first = stream::once(async { Ok(Frame::data(first)) });
    let second = stream::once(async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        Ok(Frame::data(second))
    });
    StreamBody::new(first.chain(second)).boxed_unsync()
}
