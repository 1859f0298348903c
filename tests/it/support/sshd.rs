//! A real ssh server for git: OpenSSH's, started anew for every connection, with keys and settings of its own.

use std::fs::Permissions;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use super::git::Repository;
use super::program::run;

/// Makes a pair of keys without a passphrase; gives the private one, the other is beside it with `.pub`.
#[track_caller]
pub(crate) fn key(directory: &Path, name: &str) -> PathBuf {
    let path = directory.join(name);
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&path)).success();
    path
}

/// Lets whoever has the key `user` in as root, to repositories below its directory; gone when dropped.
pub(crate) struct Sshd {
    directory: tempfile::TempDir,
    port: u16,
    sessions: Arc<Mutex<Vec<Child>>>,
}

impl Sshd {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let host = key(directory.path(), "host");
        let user = key(directory.path(), "user");
        std::fs::copy(user.with_extension("pub"), at("authorized_keys")).unwrap();
        // StrictModes would look at every directory above; sshd itself at the mode of its key.
        let settings = format!(
            "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nPidFile none\nLogLevel VERBOSE\n",
            host.display(),
            at("authorized_keys").display()
        );
        std::fs::write(at("settings"), settings).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let sessions = Arc::<Mutex<Vec<Child>>>::default();
        let (settings, log, kept) = (at("settings"), at("log"), Arc::clone(&sessions));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                kept.lock().unwrap().push(session(&settings, &log, stream.unwrap()));
            }
        });
        Self { directory, port, sessions }
    }

    /// The key that is let in.
    pub(crate) fn user_key(&self) -> PathBuf {
        self.directory.path().join("user")
    }

    /// A repository.
    pub(crate) fn repository(&self, name: &str) -> Repository {
        Repository::new(self.directory.path(), name)
    }

    /// The URL of `rest` behind the directory of repositories.
    pub(crate) fn url(&self, rest: &str) -> String {
        format!("ssh://root@127.0.0.1:{}{}/{rest}", self.port, self.directory.path().display())
    }

    /// A home directory whose `known_hosts` has this server with the public key of `key`.
    pub(crate) fn home(&self, key: &Path) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        let ssh = home.path().join(".ssh");
        std::fs::create_dir(&ssh).unwrap();
        std::fs::set_permissions(&ssh, Permissions::from_mode(0o700)).unwrap();
        let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
        std::fs::write(ssh.join("known_hosts"), format!("[127.0.0.1]:{} {public}", self.port)).unwrap();
        home
    }

    /// The same with the server's own key.
    pub(crate) fn home_that_knows(&self) -> tempfile::TempDir {
        self.home(&self.directory.path().join("host"))
    }

    /// What the server says of those that came.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        for session in self.sessions.lock().unwrap().iter_mut() {
            let ended = session.kill().and_then(|()| session.wait());
            if let Err(error) = ended {
                eprintln!("cannot end sshd: {error}");
            }
        }
    }
}

/// Debian's sshd wants an empty directory in /run, which its service makes: here in a mount namespace of its own.
fn session(settings: &Path, log: &Path, stream: TcpStream) -> Child {
    let input = OwnedFd::from(stream);
    let output = input.try_clone().unwrap();
    let script = "mount -t tmpfs sshd /run && mkdir -m 0755 /run/sshd && exec /usr/sbin/sshd -i -f \"$0\" -E \"$1\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).args([settings, log]);
    command.stdin(Stdio::from(input)).stdout(Stdio::from(output)).stderr(Stdio::null());
    command.spawn().unwrap()
}
