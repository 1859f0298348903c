//! Contexts and ADD from a repository behind a real ssh server.

use std::path::Path;
use std::process::{Child, Command};

use crate::support::program::{Ended, Workspace, crabwright, run};
use crate::support::sshd::{Sshd, key};

/// A server with a repository that can be built.
fn server() -> Sshd {
    let server = Sshd::new();
    let repository = server.repository("app");
    repository.file("Dockerfile", "FROM scratch\nCOPY f /f\n").file("f", "content\n").commit("main");
    server
}

/// Builds the repository of the server.
fn build(server: &Sshd, home: &Path, prepare: impl FnOnce(&mut Command)) -> Ended {
    let out = tempfile::tempdir().unwrap();
    let mut command = crabwright();
    command.env("HOME", home).env_remove("SSH_AUTH_SOCK").arg("--no-push");
    command.arg(format!("--context={}", server.url("app.git#main")));
    command.arg(format!("--work-dir={}", out.path().join("work").display()));
    prepare(&mut command);
    run(&mut command)
}

/// ssh-agent with some keys; ends when dropped.
struct Agent {
    process: Child,
    directory: tempfile::TempDir,
}

impl Agent {
    fn with(keys: &[&Path]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("agent");
        let mut command = Command::new("ssh-agent");
        let process = command.arg("-D").arg("-a").arg(&socket).stdout(std::process::Stdio::null()).spawn().unwrap();
        let agent = Self { process, directory };
        for key in keys {
            let add = || run(Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &socket));
            let mut added = add();
            // 2: the agent is not there yet.
            while added.code == 2 {
                std::thread::yield_now();
                added = add();
            }
            added.success();
        }
        agent
    }

    fn socket(&self) -> std::path::PathBuf {
        self.directory.path().join("agent")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            eprintln!("cannot end ssh-agent: {error}");
        }
    }
}

#[test]
fn a_key_in_a_file_and_an_agent_are_let_in() {
    let server = server();
    let home = server.home_that_knows();
    let (user, other) = (server.user_key(), key(home.path(), "other"));
    let with_key = |keys: String| {
        build(&server, home.path(), |command| {
            command.arg(format!("--ssh=default={keys}"));
        })
    };
    with_key(user.display().to_string()).success();
    // The first one is not let in.
    with_key(format!("{},{}", other.display(), user.display())).success();
    let agent = Agent::with(&[&other, &user]);
    for flags in [&["--ssh=default"][..], &[]] {
        build(&server, home.path(), |command| {
            command.env("SSH_AUTH_SOCK", agent.socket()).args(flags);
        })
        .success();
    }
    build(&server, home.path(), |command| {
        command.arg(format!("--ssh=default={}", agent.socket().display()));
    })
    .success();
    assert!(server.log().contains("Accepted publickey for root"), "{}", server.log());
}

#[test]
fn who_has_no_key_that_fits_is_told_so() {
    let server = server();
    let home = server.home_that_knows();
    let other = key(home.path(), "other");
    let refused = |flags: &[String]| {
        build(&server, home.path(), |command| {
            command.args(flags);
        })
        .refused(1, &["127.0.0.1", "app.git", "the user \"root\"", "--ssh default=KEYFILE"])
    };
    refused(&[]);
    refused(&[format!("--ssh=default={}", other.display())]);
    let agent = Agent::with(&[&other]);
    build(&server, home.path(), |command| {
        command.env("SSH_AUTH_SOCK", agent.socket());
    })
    .refused(1, &["accepts none of the keys", "--ssh default"]);
    build(&server, home.path(), |command| {
        command.arg("--ssh=default=/nonexistent/key");
    })
    .refused(1, &["--ssh default", "/nonexistent/key", "No such file"]);
}

/// A server that nobody vouches for, or that shows another key than the known one, learns nothing.
#[test]
fn a_server_that_is_not_known_is_not_trusted() {
    let server = server();
    let strangers = tempfile::tempdir().unwrap();
    let impostor = key(strangers.path(), "impostor");
    let empty = tempfile::tempdir().unwrap();
    let expecting_another = server.home(&impostor);
    for home in [Path::new("/nonexistent"), empty.path(), expecting_another.path()] {
        build(&server, home, |command| {
            command.arg(format!("--ssh=default={}", server.user_key().display()));
        })
        .refused(1, &["app.git", "known_hosts", "unknown key is not trusted"]);
    }
    assert!(!server.log().contains("Accepted"), "{}", server.log());
}

#[test]
fn add_and_named_contexts_take_repositories_over_ssh() {
    let server = server();
    let home = server.home_that_knows();
    let workspace = Workspace::new(&format!(
        "FROM scratch\nADD {} /added/\nCOPY --from=named f /named\n",
        server.url("app.git#main")
    ));
    let files = workspace.out().join("files");
    let mut command = workspace.build();
    command.env("HOME", home.path()).env_remove("SSH_AUTH_SOCK");
    command.arg(format!("--ssh=default={}", server.user_key().display()));
    command.arg(format!("--build-context=named={}", server.url("app.git")));
    run(command.args(["-o", files.to_str().unwrap()])).success();
    for file in ["added/f", "named"] {
        assert_eq!(std::fs::read_to_string(files.join(file)).unwrap(), "content\n", "{file}");
    }
}
