//! Credentials from programs: `docker-credential-NAME get`, which reads a server's name and writes a user and a secret (the protocol
//! of docker-credential-helpers). They have our environment, which is where many are configured (`docker-credential-gcr` by
//! `DOCKER_CREDENTIAL_GCR_CONFIG`). So a program that is found by `PATH` has to be the container's: it is looked for and run with a
//! pass, which no command of own-root has exchanged the container's files for.

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

/// How long a program may take: some ask the cloud.
const TIME_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
/// Bytes of an answer that are read.
const MAX_ANSWER: u64 = 1 << 20;
/// The user name that stands for an identity token.
const TOKEN_USER: &str = "<token>";
/// What a program says when it knows no credentials; part of the protocol.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// Why a credential helper gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The name would lead to another program than a helper.
    #[error("{0:?} is not the name of a program")]
    Name(String),
    /// It cannot be started, or not be spoken to.
    #[error("failed to run the program")]
    Run(#[source] io::Error),
    /// It takes too long.
    #[error("it gave no answer within {} seconds", .0.as_secs())]
    TimeLimit(Duration),
    /// It failed. Its words are shown: the protocol has it write errors where secrets never are.
    #[error("it failed ({status}): {said}")]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// What it said about it.
        said: String,
    },
    /// It wrote something else than the protocol asks for, which may be a secret.
    #[error("its answer is not what the protocol of credential helpers asks for")]
    Answer,
    /// The thread that spoke to it ended.
    #[error("the conversation with it was given up")]
    GivenUp,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
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

/// What a program writes to standard output that is told nothing but its arguments.
pub(super) async fn output(program: &'static str, arguments: &'static [&'static str]) -> Result<Vec<u8>, ProgramError> {
    let pass = gate::passed().await.map_err(ProgramError::Run)?;
    let conversation = tokio::task::spawn_blocking(move || match speak(&pass, program, arguments, "", TIME_LIMIT)? {
        Ended { status, output, .. } if status.success() => Ok(output),
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
            ProgramError::Failed { said, .. } if said.contains(NOT_FOUND) => Ok(None),
            failure => Err(failure),
        };
    }
    let answer: Answer = serde_json::from_slice(&ended.output).map_err(|_secret| ProgramError::Answer)?;
    Ok(match (answer.username.as_str(), answer.secret.is_empty()) {
        (_, true) => None,
        (TOKEN_USER, false) => Some(Credential::IdentityToken(Secret::new(answer.secret))),
        (_, false) => Some(Credential::password(answer.username, answer.secret)),
    })
}

/// How a program ended, and what it wrote.
struct Ended {
    status: ExitStatus,
    output: Vec<u8>,
    errors: Vec<u8>,
}

impl Ended {
    fn failure(&self) -> ProgramError {
        let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).split_whitespace().collect::<Vec<_>>().join(" ");
        let said = format!("{} {}", words(&self.output), words(&self.errors));
        ProgramError::Failed { status: self.status, said: said.trim().chars().take(300).collect() }
    }
}

/// Runs a program to its end. The pass keeps what it is and reads the container's.
fn speak(
    pass: &Pass,
    program: &str,
    arguments: &[&str],
    words: &str,
    time_limit: Duration,
) -> Result<Ended, ProgramError> {
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
    Ok(Ended { status, output: text(output), errors: text(errors) })
}

/// Reads in the background, so that neither side waits for the other.
fn collect(mut from: impl io::Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Err(error) = (&mut from).take(MAX_ANSWER).read_to_end(&mut bytes) {
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
        // Another test's fork may hold the script open for writing for a moment.
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
    fn the_protocol_is_spoken() {
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
    fn failures_are_told_apart_and_answers_never_shown() {
        let failed = answer("echo no such session >&2; exit 3").unwrap_err();
        assert!(matches!(&failed, ProgramError::Failed { said, .. } if said == "no such session"), "{failed:?}");
        let garbled = answer("echo sesame").unwrap_err();
        assert!(matches!(garbled, ProgramError::Answer) && !format!("{garbled:?} {garbled}").contains("sesame"));
        let slow = answer_of("exec sleep 60", Duration::from_millis(200)).unwrap_err();
        assert!(matches!(slow, ProgramError::TimeLimit(_)));
        let absent = converse(&gate::pass().unwrap(), "/nonexistent/docker-credential-x", "r", TIME_LIMIT).unwrap_err();
        assert!(matches!(absent, ProgramError::Run(_)));
    }

    #[tokio::test]
    async fn a_name_leads_to_no_other_program() {
        assert!(matches!(get("../../bin/sh", "r").await, Err(ProgramError::Name(_))));
    }
}
