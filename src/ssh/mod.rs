//! Provides the SSH agents of steps (`--ssh`, `RUN --mount=type=ssh`): sockets that listen during the build.
//!
//! A socket leads to an agent of the container, or to one in this process that holds the keys of files. In both cases a
//! command can list keys and have data signed, and nothing else: it can neither add nor remove keys, and no key ever
//! leaves this process. Only `raw=true` forwards everything to an agent, byte by byte.

mod forward;
mod keys;
mod openssh;
mod session;
mod source;

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::OFlags;
use ssh_agent_lib::agent::listen;
use tokio::net::UnixListener;
use tokio::runtime::Handle;

use crate::diag::Hint;
use crate::diag::redact::Secret;
use crate::fs::gated;

use forward::Upstream;
use session::KeyHolder;

pub use keys::KeyError;
pub use source::{AGENT_VARIABLE, SshSource, SshSourceError, unnamed_socket};

/// The name of the sockets in their directories.
const SOCKET: &str = "agent";

/// The agents of a build.
#[derive(Debug)]
pub struct Agents {
    runtime: Handle,
    directory: PathBuf,
    agents: Vec<Agent>,
}

#[derive(Debug)]
struct Agent {
    id: String,
    origin: AgentBackend,
    /// Its socket, after the first request for it.
    socket: Mutex<Option<PathBuf>>,
}

#[derive(Debug, Clone)]
enum AgentBackend {
    Socket { agent: Arc<Upstream>, raw: bool },
    Keys(KeyHolder),
}

/// A reason why an agent is not available.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// Two agents have the same name.
    #[error("--ssh {id} is given twice")]
    Twice {
        /// The name.
        id: String,
    },
    /// A path is neither a socket nor a file.
    #[error("--ssh {id}: failed to look at {}", path.display())]
    Path {
        /// The agent's name.
        id: String,
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A socket is combined with other paths.
    #[error("--ssh {id}: {} is an agent's socket, which cannot be combined: use one socket, or key files", path.display())]
    Mixed {
        /// The agent's name.
        id: String,
        /// The socket.
        path: PathBuf,
    },
    /// Key files cannot be used with `raw`.
    #[error("--ssh {id}: raw=true is for the socket of an agent, {} is a file", path.display())]
    RawKey {
        /// The agent's name.
        id: String,
        /// The file.
        path: PathBuf,
    },
    /// A key cannot be used.
    #[error("--ssh {id}: failed to read the key {}", path.display())]
    Key {
        /// The agent's name.
        id: String,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// A key cannot be written.
    #[error("--ssh {id}: failed to write a key for git")]
    KeyText {
        /// The agent's name.
        id: String,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// The socket cannot be created.
    #[error("failed to listen at {}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Hint for SshError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Path { source, .. } | Self::Listen { source, .. } => source.hint(),
            Self::Twice { .. } | Self::Mixed { .. } | Self::RawKey { .. } | Self::Key { .. } | Self::KeyText { .. } => {
                None
            }
        }
    }
}

impl Agents {
    /// Collects the agents and reads the keys, so that errors in them are reported before the build starts. Sockets are
    /// created below `directory`, which belongs to this build.
    ///
    /// # Errors
    /// A name is used twice, or an agent or a key cannot be used.
    pub fn new(sources: &[SshSource], directory: PathBuf, runtime: Handle) -> Result<Self, SshError> {
        let mut agents: Vec<Agent> = Vec::new();
        for source in sources {
            if agents.iter().any(|agent| agent.id == source.id) {
                return Err(SshError::Twice { id: source.id.clone() });
            }
            agents.push(Agent { id: source.id.clone(), origin: origin(source)?, socket: Mutex::default() });
        }
        Ok(Self { runtime, directory, agents })
    }

    /// Reports whether there is an agent with this name.
    pub fn contains(&self, id: &str) -> bool {
        self.agents.iter().any(|agent| agent.id == id)
    }

    /// Returns the keys that an agent holds itself, in OpenSSH's format, for a client in this process.
    ///
    /// # Errors
    /// A key cannot be written.
    pub fn keys(&self, id: &str) -> Result<Vec<Secret<String>>, SshError> {
        let agent = self.agents.iter().find(|agent| agent.id == id);
        let Some(Agent { origin: AgentBackend::Keys(keys), .. }) = agent else { return Ok(Vec::new()) };
        keys.texts().map_err(|source| SshError::KeyText { id: id.to_owned(), source })
    }

    /// Returns the socket of an agent, which listens from now on; `None` if no agent has this name.
    ///
    /// # Errors
    /// The socket cannot be created.
    pub fn socket(&self, id: &str) -> Result<Option<PathBuf>, SshError> {
        let Some((number, agent)) = self.agents.iter().enumerate().find(|(_, agent)| agent.id == id) else {
            return Ok(None);
        };
        let mut socket = agent.socket.lock();
        if socket.is_none() {
            let directory = self.directory.join(format!("ssh-{number}"));
            let path = directory.join(SOCKET);
            let listener = bind(&directory).map_err(|source| SshError::Listen { path: path.clone(), source })?;
            self.serve(listener, agent.origin.clone(), &path)?;
            *socket = Some(path);
        }
        Ok(socket.clone())
    }

    fn serve(
        &self,
        listener: std::os::unix::net::UnixListener,
        origin: AgentBackend,
        path: &Path,
    ) -> Result<(), SshError> {
        let _runtime = self.runtime.enter();
        let listener = listener
            .set_nonblocking(true)
            .and_then(|()| UnixListener::from_std(listener))
            .map_err(|source| SshError::Listen { path: path.to_owned(), source })?;
        // The tasks end with the runtime, which ends with the build.
        self.runtime.spawn(async move {
            let ended = match origin {
                AgentBackend::Keys(keys) => listen(listener, keys).await.map_err(io::Error::other),
                AgentBackend::Socket { agent, raw: false } => forward::forward_read_and_sign(listener, agent).await,
                AgentBackend::Socket { agent, raw: true } => forward::forward_all(listener, agent).await,
            };
            if let Err(error) = ended {
                tracing::warn!("an SSH agent ended: {error}");
            }
        });
        Ok(())
    }
}

fn origin(source: &SshSource) -> Result<AgentBackend, SshError> {
    let SshSource { id, paths, raw } = source;
    let mut keys = Vec::new();
    for path in paths {
        let unusable = |error| SshError::Path { id: id.clone(), path: path.clone(), source: error };
        let kind = gated::metadata(path).map_err(unusable)?.file_type();
        if kind.is_socket() {
            if paths.len() > 1 {
                return Err(SshError::Mixed { id: id.clone(), path: path.clone() });
            }
            let socket = gated::open_flags(path, OFlags::PATH).map_err(unusable)?;
            return Ok(AgentBackend::Socket { agent: Arc::new(Upstream { path: path.clone(), socket }), raw: *raw });
        }
        if *raw {
            return Err(SshError::RawKey { id: id.clone(), path: path.clone() });
        }
        let key = keys::read(path).map_err(|source| SshError::Key { id: id.clone(), path: path.clone(), source })?;
        keys.push(key);
    }
    Ok(AgentBackend::Keys(KeyHolder::new(keys)))
}

/// Binds a socket in its own directory, through the directory's descriptor: the path of a socket has at most 107 bytes,
/// and work directories may be deep.
#[expect(clippy::disallowed_methods, reason = "by a descriptor")]
fn bind(directory: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    gated::create_dir_all(directory)?;
    let opened = gated::open(directory)?;
    std::os::unix::net::UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET}", opened.as_raw_fd()))
}
