//! Git repositories made for a test, with the real git.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::program::stdout;

/// When everything is committed, in seconds since 1970.
pub(crate) const COMMIT_TIME: i64 = 1_600_000_000;

/// A bare repository `NAME.git` in a directory, with a working copy to fill it from.
pub(crate) struct Repository {
    pub(crate) bare: PathBuf,
    work: PathBuf,
}

impl Repository {
    /// An empty one.
    pub(crate) fn new(directory: &Path, name: &str) -> Self {
        let bare = directory.join(format!("{name}.git"));
        let work = directory.join(format!("{name}-work"));
        let repository = Self { bare, work };
        for (path, bare) in [(&repository.bare, true), (&repository.work, false)] {
            std::fs::create_dir_all(path).unwrap();
            let kind = if bare { "--bare" } else { "--quiet" };
            repository.git_in(path, &["init", "--quiet", "--initial-branch=main", kind]);
        }
        repository
    }

    /// Runs git in the working copy.
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        self.git_in(&self.work, arguments)
    }

    fn git_in(&self, directory: &Path, arguments: &[&str]) -> String {
        stdout(self.command(directory).args(arguments))
    }

    fn command(&self, directory: &Path) -> Command {
        let mut command = Command::new("git");
        command.current_dir(directory).env("HOME", directory).env("GIT_CONFIG_NOSYSTEM", "1").args([
            "-c",
            "user.name=Test",
            "-c",
            "user.email=test@example.com",
            "-c",
            "protocol.file.allow=always",
        ]);
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_DATE"), format!("@{COMMIT_TIME} +0000"));
        }
        command
    }

    /// Writes a file of the working copy.
    pub(crate) fn file(&self, path: &str, content: &str) -> &Self {
        let path = self.work.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    /// Where the working copy is.
    pub(crate) fn work(&self) -> &Path {
        &self.work
    }

    /// Commits everything and publishes it as a branch; gives the commit's hash.
    pub(crate) fn commit(&self, branch: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", branch]);
        let commit = self.git(&["rev-parse", "HEAD"]);
        self.publish(&format!("HEAD:refs/heads/{branch}"));
        commit
    }

    /// Pushes a refspec to the bare repository.
    pub(crate) fn publish(&self, refspec: &str) {
        let bare = self.bare.to_str().unwrap();
        self.git(&["push", "--quiet", bare, refspec]);
    }

    /// Makes `branch` a commit of a tree that git itself would not make: entries as mode, name and hash.
    pub(crate) fn commit_tree(&self, branch: &str, entries: &[(&str, &str, &str)]) -> String {
        let mut tree = Vec::new();
        for (mode, name, hash) in entries {
            tree.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            for pair in hash.as_bytes().chunks(2) {
                tree.push(u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
            }
        }
        let tree = self.object("tree", &tree);
        let commit = self.git_in(&self.bare, &["commit-tree", "-m", "hostile", &tree]);
        self.git_in(&self.bare, &["update-ref", &format!("refs/heads/{branch}"), &commit]);
        commit
    }

    /// Writes an object into the bare repository, whatever it is; gives its hash.
    pub(crate) fn object(&self, kind: &str, content: &[u8]) -> String {
        let mut command = self.command(&self.bare);
        command.args(["hash-object", "-w", "-t", kind, "--literally", "--stdin"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(content).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}
