//! Whole sessions at the command line, as a user reads them: what is typed, both streams, the exit code. They are
//! snapshots in `tests/it/snapshots/`; `INSTA_UPDATE=always cargo test --test it sessions` writes them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::support::program::crabwright;

const DOCKERFILE: &str = "\
ARG NAME=world
FROM scratch AS greeting
ARG NAME
# The text of the greeting.
COPY hello.txt /hello.txt
MAINTAINER me
FROM greeting
LABEL greeting=$NAME
CMD [\"/hello\"]
";

/// Runs each line in a directory with a small context, and returns everything that a terminal would show.
fn session(lines: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("Dockerfile"), DOCKERFILE).unwrap();
    fs::write(directory.path().join("hello.txt"), "hello\n").unwrap();
    lines.iter().map(|line| typed(line, directory.path())).collect::<Vec<_>>().join("\n")
}

fn typed(line: &str, directory: &Path) -> String {
    let mut command = crabwright();
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("HOME", "/nonexistent").env("KANIKO_DIR", directory.join("work"));
    command.current_dir(directory).args(line.split_whitespace());
    let output = command.output().unwrap();
    let mut shown = format!("$ crabwright {line}\n");
    for stream in [&output.stdout, &output.stderr] {
        shown.push_str(&String::from_utf8_lossy(stream));
    }
    writeln!(shown, "[exit code {}]", output.status.code().unwrap_or(-1)).unwrap();
    shown
}

#[test]
fn sessions_that_ask_for_help() {
    for (name, line) in [
        ("help", "--help"),
        ("help_lint", "lint --help"),
        ("help_push", "push --help"),
        ("help_warmer", "warmer --help"),
        ("help_cache", "cache --help"),
        ("help_cache_prune", "cache prune --help"),
        ("help_login", "login --help"),
        ("help_completion", "completion --help"),
        ("help_version", "version --help"),
        ("help_help", "help --help"),
    ] {
        insta::assert_snapshot!(name, session(&[line]));
    }
    let without_line = |text: &str| text.split_once('\n').unwrap().1.to_owned();
    for (word, flag) in [("help", "--help"), ("help lint", "lint --help"), ("help cache prune", "cache prune --help")] {
        assert_eq!(without_line(&session(&[word])), without_line(&session(&[flag])), "{word}");
    }
}

#[test]
fn sessions_with_mistakes() {
    insta::assert_snapshot!(
        "mistakes",
        session(&[
            "",
            "--destinaton r.example/app:1",
            "bild",
            "-d r.example/app:1 .",
            "--no-push false",
            "--no-push lint",
            "lint --no-push",
            "lint --offlin",
            "push image.tar",
            "push --destination r.example/app:1",
            "cache",
            "cache purge",
            "cache prune",
            "completion tcsh",
            "warmer",
            "help lnit",
            "--snapshot-mode ful --no-push",
        ])
    );
}

#[test]
fn sessions_that_ask_about_a_dockerfile() {
    let context = "--context . --dockerfile Dockerfile";
    insta::assert_snapshot!("lint", session(&[&format!("lint --offline {context}")]));
    insta::assert_snapshot!("outline", session(&[&format!("--call outline {context}")]));
    insta::assert_snapshot!("targets", session(&[&format!("--call targets {context}")]));
    insta::assert_snapshot!("dryrun", session(&[&format!("--dryrun --no-push --platform linux/amd64 {context}")]));
}
