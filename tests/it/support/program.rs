//! Running programs and reading what they said.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// How a program ended and what it said, standard output and error together.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit code; 128 and the number for a signal.
    pub(crate) code: i32,
    /// Standard output, then standard error.
    pub(crate) said: String,
}

impl Ended {
    fn new(output: &Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0));
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        Self { code, said }
    }

    /// Panics with everything that was said unless the program succeeded.
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        assert!(self.code == 0, "exit code {}:\n{}", self.code, self.said);
        self
    }

    /// Panics unless these words are in what was said.
    #[track_caller]
    pub(crate) fn says(&self, words: &str) -> &Self {
        assert!(self.said.contains(words), "{words:?} is not in\n{}", self.said);
        self
    }

    /// Panics unless the program failed with this code and said all of these words (compared without case).
    #[track_caller]
    pub(crate) fn refused(self, code: i32, words: &[&str]) -> Self {
        // For reading the messages as a user would: cargo test -- --show-output
        println!("{}", self.said);
        assert!(self.code == code, "exit code {} instead of {code}:\n{}", self.code, self.said);
        let said = self.said.to_lowercase();
        let missing: Vec<_> = words.iter().filter(|word| !said.contains(&word.to_lowercase())).collect();
        assert!(missing.is_empty(), "{missing:?} not in the message:\n{}", self.said);
        assert!(!self.said.contains("panicked at"), "a panic is no error message:\n{}", self.said);
        self
    }
}

/// Runs a command to its end.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Ended {
    match command.output() {
        Ok(output) => Ended::new(&output),
        Err(error) => panic!("cannot run {command:?}: {error}"),
    }
}

/// Standard output alone of a command that must succeed, without the line end.
#[track_caller]
pub(crate) fn stdout(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let mut text = String::new();
    write!(text, "{}", String::from_utf8_lossy(&output.stderr)).unwrap_or_default();
    assert!(output.status.success(), "{command:?} failed: {text}");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// The program under test, as cargo built it for this test run, to be run on this machine itself. `CRABWRIGHT_TEST_PROGRAM` names
/// another one, such as that of an earlier commit, to see whether a test finds what was wrong with it.
pub(crate) fn crabwright() -> Command {
    let program = std::env::var_os("CRABWRIGHT_TEST_PROGRAM");
    let mut command = Command::new(program.unwrap_or_else(|| env!("CARGO_BIN_EXE_crabwright").into()));
    // Whatever the machine is logged in to is none of the tests' business.
    command.env_remove("DOCKER_CONFIG").env("HOME", "/nonexistent");
    command
}

/// The checkout.
pub(crate) fn source_directory() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A build context with a Dockerfile, and a place for the build's files beside it.
pub(crate) struct Workspace {
    directory: TempDir,
}

impl Workspace {
    /// A context holding only this Dockerfile.
    pub(crate) fn new(dockerfile: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::Builder::new().prefix("crabwright-test-").tempdir().unwrap();
        let workspace = Self { directory };
        // Pods of another user read the context, and write to the other directory.
        std::fs::set_permissions(workspace.directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir(workspace.context()).unwrap();
        std::fs::create_dir(workspace.out()).unwrap();
        std::fs::set_permissions(workspace.out(), std::fs::Permissions::from_mode(0o777)).unwrap();
        workspace.file("Dockerfile", dockerfile);
        workspace
    }

    /// The context's directory.
    pub(crate) fn context(&self) -> PathBuf {
        self.directory.path().join("context")
    }

    /// A directory for the build's work and results, writable for everyone.
    pub(crate) fn out(&self) -> PathBuf {
        self.directory.path().join("out")
    }

    /// Adds a file to the context.
    pub(crate) fn file(&self, path: &str, content: &str) -> &Self {
        let path = self.context().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    /// The command line of a build of this context on this machine, without destination.
    pub(crate) fn build(&self) -> Command {
        let mut command = crabwright();
        command
            .arg(format!("--context=dir://{}", self.context().display()))
            .arg(format!("--dockerfile={}", self.context().join("Dockerfile").display()))
            .arg(format!("--work-dir={}", self.out().join("work").display()))
            .args(["--insecure", "--insecure-pull"]);
        command
    }
}
