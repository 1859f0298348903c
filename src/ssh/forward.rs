//! Another agent behind a socket, of which a command may use the two requests that reading and signing need.
//!
//! Messages are told apart by their number and passed on as they are, so that keys and signatures of any kind, certificates
//! and hardware keys among them, arrive as the agent sent them (draft-miller-ssh-agent, section 3).

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::fs::gated;

/// Bytes a message may have, as in OpenSSH.
const MOST: u32 = 256 * 1024;
const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const SIGN_REQUEST: u8 = 13;

/// The other agent. Its socket is opened before the build: commands are what it is asked for, and while one of own-root runs the path
/// leads into the image.
#[derive(Debug)]
pub(super) struct Upstream {
    /// For messages.
    pub(super) path: PathBuf,
    /// Opened as a path.
    pub(super) socket: OwnedFd,
}

/// Passes every connection on as it is.
pub(super) async fn everything(listener: UnixListener, agent: Arc<Upstream>) -> io::Result<()> {
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

/// Passes on what lists keys and signs, and refuses everything else.
pub(super) async fn reading_and_signing(listener: UnixListener, agent: Arc<Upstream>) -> io::Result<()> {
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

/// The next message without its length, `None` where a connection ends between two.
async fn read(stream: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u32().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > MOST {
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
