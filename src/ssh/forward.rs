//! Forwards to an agent's socket, and lets a command use only the two requests for listing keys and signing.
//!
//! Messages are distinguished by their number and forwarded unchanged, so that keys and signatures of any type,
//! certificates and hardware keys included, arrive as the agent sent them (draft-miller-ssh-agent, section 3).

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::fs::gated;

/// The most bytes of a message, as in OpenSSH.
const MAX_MESSAGE_BYTES: u32 = 256 * 1024;
const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const SIGN_REQUEST: u8 = 13;

/// The agent to forward to. Its socket is opened before the build: it is used by commands, and while a command of
/// own-root runs, its path leads into the image.
#[derive(Debug)]
pub(super) struct Upstream {
    /// The socket's path, for messages.
    pub(super) path: PathBuf,
    /// The socket, opened as `O_PATH`.
    pub(super) socket: OwnedFd,
}

/// Forwards every connection unchanged.
pub(super) async fn forward_all(listener: UnixListener, agent: Arc<Upstream>) -> io::Result<()> {
    loop {
        let (mut client, _) = listener.accept().await?;
        let agent = Arc::clone(&agent);
        tokio::spawn(async move {
            let passed = match gated::connect(agent.socket.as_fd()).await {
                Ok(mut server) => tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop),
                Err(error) => Err(error),
            };
            report(passed, &agent);
        });
    }
}

/// Forwards requests that list keys or sign, and refuses all others.
pub(super) async fn forward_read_and_sign(listener: UnixListener, agent: Arc<Upstream>) -> io::Result<()> {
    loop {
        let (client, _) = listener.accept().await?;
        let agent = Arc::clone(&agent);
        tokio::spawn(async move { report(filter(client, &agent).await, &agent) });
    }
}

fn report(passed: io::Result<()>, agent: &Upstream) {
    if let Err(error) = passed {
        tracing::debug!("a connection to {} ended: {error}", agent.path.display());
    }
}

async fn filter(mut client: UnixStream, agent: &Upstream) -> io::Result<()> {
    let mut server = gated::connect(agent.socket.as_fd()).await?;
    while let Some(request) = read(&mut client).await? {
        let answer = match request.first() {
            Some(&(REQUEST_IDENTITIES | SIGN_REQUEST)) => {
                write(&mut server, &request).await?;
                read(&mut server).await?.ok_or(io::ErrorKind::UnexpectedEof)?
            }
            _ => vec![FAILURE],
        };
        write(&mut client, &answer).await?;
    }
    Ok(())
}

/// Reads the next message without its length; `None` if the connection ends before it.
async fn read(stream: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u32().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > MAX_MESSAGE_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of {length} bytes")));
    }
    let mut message = Vec::new();
    (&mut *stream).take(length.into()).read_to_end(&mut message).await?;
    if message.len() < usize::try_from(length).unwrap_or(usize::MAX) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(message))
}

async fn write(stream: &mut UnixStream, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await
}
