//! Asks credential helpers: `docker-credential-NAME get` reads a server's name and writes a user and a secret (the
//! protocol of docker-credential-helpers).
//!
//! Helpers get our environment, because many are configured there (`docker-credential-gcr` by
//! `DOCKER_CREDENTIAL_GCR_CONFIG`). A helper that is found in `PATH` must be the container's, so it is searched for and
//! run with a pass: meanwhile own-root cannot exchange the container's files for an image's.

use std::io::{self, Read as _, Write as _};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::login::Credential;
use crate::diag::interrupt;
use crate::diag::redact::Secret;
use crate::fs::gate::{self, Pass};
use crate::fs::gated;
use crate::image::reference::DOCKER_HUB;

/// The time limit for a program: some ask the cloud.
const TIME_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
/// The most bytes of output that are read.
const MAX_OUTPUT_BYTES: u64 = 1 << 20;
/// The user name that marks an identity token.
const TOKEN_USER: &str = "<token>";
/// The output of a program that has no credentials; part of the protocol.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// A reason why a credential helper returned nothing.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The name would run a program that is not a helper.
    #[error("{0:?} is not the name of a program")]
    Name(String),
    /// The program cannot be started, or its pipes fail.
    #[error("failed to run the program")]
    Run(#[source] io::Error),
    /// The time limit was exceeded.
    #[error("it did not answer within {} seconds", .0.as_secs())]
    TimeLimit(Duration),
    /// The program failed. Its error text is shown: the protocol requires it to be free of secrets.
    #[error("it failed ({status}): {details}")]
    Failed {
        /// The exit status.
        status: ExitStatus,
        /// The program's error text.
        details: String,
    },
    /// The output does not follow the protocol. It may contain a secret and is not shown.
    #[error("its answer does not follow the protocol of credential helpers")]
    Protocol,
    /// The thread that talked to it ended.
    #[error("the conversation with it was aborted")]
    GivenUp,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperOutput {
    username: String,
    secret: String,
}

/// Asks `docker-credential-{name}` for a registry's credentials.
pub(super) async fn get(name: &str, registry: &str) -> Result<Option<Credential>, ProgramError> {
    if name.contains(['/', '\0']) {
        return Err(ProgramError::Name(name.to_owned()));
    }
    let program = format!("docker-credential-{name}");
    // Docker's own key for its hub.
    let server = if registry == DOCKER_HUB { "https://index.docker.io/v1/" } else { registry }.to_owned();
    let pass = gate::passed().await.map_err(ProgramError::Run)?;
    let conversation = tokio::task::spawn_blocking(move || converse(&pass, &program, &server, TIME_LIMIT));
    conversation.await.unwrap_or(Err(ProgramError::GivenUp))
}

/// Returns the standard output of a program that gets nothing on its standard input.
pub(super) async fn output(program: &'static str, arguments: &'static [&'static str]) -> Result<Vec<u8>, ProgramError> {
    let pass = gate::passed().await.map_err(ProgramError::Run)?;
    let conversation = tokio::task::spawn_blocking(move || match speak(&pass, program, arguments, "", TIME_LIMIT)? {
        ProgramResult { status, output, .. } if status.success() => Ok(output),
        ended => Err(ended.failure()),
    });
    conversation.await.unwrap_or(Err(ProgramError::GivenUp))
}

fn converse(
    pass: &Pass,
    program: &str,
    server: &str,
    time_limit: Duration,
) -> Result<Option<Credential>, ProgramError> {
    let ended = speak(pass, program, &["get"], &format!("{server}\n"), time_limit)?;
    if !ended.status.success() {
        return match ended.failure() {
            ProgramError::Failed { details, .. } if details.contains(NOT_FOUND) => Ok(None),
            failure => Err(failure),
        };
    }
    let answer: HelperOutput = serde_json::from_slice(&ended.output).map_err(|_secret| ProgramError::Protocol)?;
    Ok(match (answer.username.as_str(), answer.secret.is_empty()) {
        (_, true) => None,
        (TOKEN_USER, false) => Some(Credential::IdentityToken(Secret::new(answer.secret))),
        (_, false) => Some(Credential::password(answer.username, answer.secret)),
    })
}

/// The exit status and output of a program.
struct ProgramResult {
    status: ExitStatus,
    output: Vec<u8>,
    errors: Vec<u8>,
}

impl ProgramResult {
    fn failure(&self) -> ProgramError {
        let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).split_whitespace().collect::<Vec<_>>().join(" ");
        let details = format!("{} {}", words(&self.output), words(&self.errors));
        ProgramError::Failed { status: self.status, details: details.trim().chars().take(300).collect() }
    }
}

/// Runs a program until it ends. The pass ensures that the program and the files it reads are the container's.
fn speak(
    pass: &Pass,
    program: &str,
    arguments: &[&str],
    words: &str,
    time_limit: Duration,
) -> Result<ProgramResult, ProgramError> {
    let mut child = gated::command(pass, program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(ProgramError::Run)?;
    if let Some(mut input) = child.stdin.take()
        && let Err(error) = input.write_all(words.as_bytes())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        end(&mut child);
        return Err(ProgramError::Run(error));
    }
    let output = child.stdout.take().map(collect);
    let errors = child.stderr.take().map(collect);
    let status = wait(&mut child, time_limit)?;
    let text = |collected: Option<std::thread::JoinHandle<Vec<u8>>>| {
        collected.and_then(|thread| thread.join().ok()).unwrap_or_default()
    };
    Ok(ProgramResult { status, output: text(output), errors: text(errors) })
}

/// Reads in the background, so that neither side blocks the other.
fn collect(mut from: impl io::Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Err(error) = (&mut from).take(MAX_OUTPUT_BYTES).read_to_end(&mut bytes) {
            tracing::debug!(%error, "a credential helper's output ended early");
        }
        bytes
    })
}

fn wait(child: &mut Child, time_limit: Duration) -> Result<ExitStatus, ProgramError> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(ProgramError::Run)? {
            return Ok(status);
        }
        if interrupt::requested().is_some() {
            end(child);
            return Err(ProgramError::GivenUp);
        }
        if started.elapsed() > time_limit {
            end(child);
            return Err(ProgramError::TimeLimit(time_limit));
        }
        std::thread::sleep(POLL);
    }
}

fn end(child: &mut Child) {
    if let Err(error) = child.kill().and_then(|()| child.wait()) {
        tracing::debug!(%error, "a credential helper does not end");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn answer_of(script: &str, time_limit: Duration) -> Result<Option<Credential>, ProgramError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("docker-credential-test");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        // Another test's fork may have the script open for writing for a moment.
        loop {
            match converse(&gate::pass().unwrap(), path.to_str().unwrap(), "r.example", time_limit) {
                Err(ProgramError::Run(error)) if error.kind() == io::ErrorKind::ExecutableFileBusy => {}
                other => return other,
            }
        }
    }

    fn answer(script: &str) -> Result<Option<Credential>, ProgramError> {
        answer_of(script, TIME_LIMIT)
    }

    #[test]
    fn the_protocol_is_followed() {
        let echo = r#"read server; test "$1" = get && printf '{"ServerURL":"%s","Username":"%s","Secret":"p"}' "$server" "$server""#;
        assert_eq!(answer(echo).unwrap(), Some(Credential::password("r.example".to_owned(), "p".to_owned())));
        let token = r#"printf '{"Username":"<token>","Secret":"t"}'"#;
        assert_eq!(answer(token).unwrap(), Some(Credential::IdentityToken(Secret::new("t".to_owned()))));
        let configured = r#"printf '{"Username":"u","Secret":"%s"}' "$PATH""#;
        let path = std::env::var("PATH").unwrap();
        assert_eq!(answer(configured).unwrap(), Some(Credential::password("u".to_owned(), path)), "our environment");
        assert_eq!(answer(r#"echo '{"Username":"","Secret":""}'"#).unwrap(), None);
        assert_eq!(answer("echo credentials not found in native keychain; exit 1").unwrap(), None);
    }

    #[test]
    fn failures_are_distinguished_and_answers_never_shown() {
        let failed = answer("echo no such session >&2; exit 3").unwrap_err();
        assert!(matches!(&failed, ProgramError::Failed { details, .. } if details == "no such session"), "{failed:?}");
        let garbled = answer("echo sesame").unwrap_err();
        assert!(matches!(garbled, ProgramError::Protocol) && !format!("{garbled:?} {garbled}").contains("sesame"));
        let slow = answer_of("exec sleep 60", Duration::from_millis(200)).unwrap_err();
        assert!(matches!(slow, ProgramError::TimeLimit(_)));
        let absent = converse(&gate::pass().unwrap(), "/nonexistent/docker-credential-x", "r", TIME_LIMIT).unwrap_err();
        assert!(matches!(absent, ProgramError::Run(_)));
    }

    #[tokio::test]
    async fn a_name_runs_no_other_program() {
        assert!(matches!(get("../../bin/sh", "r").await, Err(ProgramError::Name(_))));
    }
}
