//! git's smart protocol over HTTP for libgit2, with this program's own HTTP clients.
//!
//! The library's own HTTP has its own rules for names, proxies, certificates, redirects and time limits: a server could
//! lead it to this machine or delay it forever. Here it only provides requests; [`exchange`] decides, as for all other
//! traffic, where they are sent and who gets credentials. Nothing is ever pushed.
//!
//! The library creates transports only by the scheme of a URL. So the conversation of a fetch is stored per thread: a
//! fetch never leaves the thread that it started on.

mod address;
mod error;
mod exchange;

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::sync::{Arc, OnceLock};

use bytes::{Buf as _, Bytes};
use git2::transport::{Service, SmartSubtransport, SmartSubtransportStream, Transport};
use parking_lot::Mutex;

pub(super) use address::{Address, Protocol};
pub use error::TransportError;
use exchange::Answer;
pub(super) use exchange::{Exchange, Logins, Servers};

use crate::http::Lead;

/// The error text for the library; the real error is stored in the conversation.
const FAILED: &str = "the transfer failed";

thread_local! {
    static CURRENT: RefCell<Option<Arc<Conversation>>> = const { RefCell::new(None) };
}

/// One fetch: the references of a repository, and the requested objects.
pub(super) struct Conversation {
    exchange: Mutex<Exchange>,
    failure: Mutex<Option<TransportError>>,
}

impl Conversation {
    pub(super) fn new(exchange: Exchange) -> Arc<Self> {
        Arc::new(Self { exchange: Mutex::new(exchange), failure: Mutex::default() })
    }

    /// Returns why the conversation ended early, if it did. The library only sees that it did.
    pub(super) fn failure(&self) -> Option<TransportError> {
        self.failure.lock().take()
    }

    /// Returns the hosts that the server, after all redirects, may lead to.
    pub(super) fn onward(&self) -> Lead {
        self.with(|exchange| exchange.onward())
    }

    fn with<T>(&self, work: impl FnOnce(&mut Exchange) -> T) -> T {
        work(&mut self.exchange.lock())
    }

    fn failed(&self, error: TransportError) {
        self.failure.lock().get_or_insert(error);
    }
}

/// Runs a fetch of the library. Over HTTP it uses the conversation.
///
/// # Errors
/// The fetch fails, or the library does not accept the transport.
pub(super) fn carry<T>(
    conversation: Option<&Arc<Conversation>>,
    fetch: impl FnOnce() -> Result<T, git2::Error>,
) -> Result<T, git2::Error> {
    register()?;
    let _outer = Outer(CURRENT.replace(conversation.cloned()));
    fetch()
}

/// The previous conversation of the thread, which is restored.
struct Outer(Option<Arc<Conversation>>);

impl Drop for Outer {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// Registers this transport instead of the library's own, once.
fn register() -> Result<(), git2::Error> {
    static REGISTERED: OnceLock<Result<(), String>> = OnceLock::new();
    let registered = REGISTERED.get_or_init(|| {
        ["http", "https"].into_iter().try_for_each(|scheme| {
            // SAFETY: the library's list of transports must not be used while it changes. It is only changed here, and
            // every fetch of the program, including those over ssh, comes through here first and waits until the change
            // is done.
            #[expect(
                unsafe_code,
                reason = "the library leaves it to its users that nothing else reads the list meanwhile"
            )]
            unsafe { git2::transport::register(scheme, factory) }.map_err(|error| error.message().to_owned())
        })
    });
    registered.clone().map_err(|message| git2::Error::from_str(&message))
}

fn factory(remote: &git2::Remote<'_>) -> Result<Transport, git2::Error> {
    let conversation = CURRENT.with_borrow(Clone::clone);
    let conversation = conversation.ok_or_else(|| git2::Error::from_str("nothing is fetched on this thread"))?;
    Transport::smart(remote, true, Smart { conversation })
}

struct Smart {
    conversation: Arc<Conversation>,
}

impl SmartSubtransport for Smart {
    fn action(&self, _url: &str, service: Service) -> Result<Box<dyn SmartSubtransportStream>, git2::Error> {
        let conversation = Arc::clone(&self.conversation);
        let answer = match service {
            Service::UploadPackLs => match conversation.with(Exchange::references) {
                Ok(answer) => Some(answer),
                Err(error) => {
                    conversation.failed(error);
                    return Err(git2::Error::new(git2::ErrorCode::GenericError, git2::ErrorClass::Net, FAILED));
                }
            },
            Service::UploadPack => None,
            Service::ReceivePackLs | Service::ReceivePack => {
                return Err(git2::Error::from_str("nothing is pushed here"));
            }
        };
        Ok(Box::new(Stream { conversation, question: Vec::new(), answer, piece: Bytes::new() }))
    }

    fn close(&self) -> Result<(), git2::Error> {
        Ok(())
    }
}

/// A request and its response: what the library writes is sent when it starts to read.
struct Stream {
    conversation: Arc<Conversation>,
    question: Vec<u8>,
    answer: Option<Answer>,
    /// Bytes that have arrived and are not read yet.
    piece: Bytes,
}

impl Stream {
    /// Returns the next piece of the response; an empty one is the end.
    fn next(&mut self) -> Result<Bytes, TransportError> {
        let (question, answer) = (std::mem::take(&mut self.question), &mut self.answer);
        self.conversation.with(|exchange| {
            let answer = match answer {
                Some(answer) => answer,
                None => answer.insert(exchange.pack(question.into())?),
            };
            exchange.piece(answer)
        })
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            self.piece = self.next().map_err(|error| {
                self.conversation.failed(error);
                io::Error::other(FAILED)
            })?;
        }
        let length = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.answer.is_some() {
            return Err(io::Error::other("the request has been sent"));
        }
        self.question.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
