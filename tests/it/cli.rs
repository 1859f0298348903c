//! The program's command line, as a shell and a pipeline see it: text, streams and exit codes.

use std::process::{Command, Output};

/// Runs the program with the words of `line` and nothing of this process's environment.
fn crabwright(line: &str) -> Output {
    crabwright_in(line, &[])
}

fn crabwright_in(line: &str, environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_crabwright"))
        .args(line.split_whitespace())
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .expect("the program starts")
}

/// The program ended with exit code 1, said this on standard error, and nothing on standard output.
fn refused(output: &Output, expected: &str) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(message, expected);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(output.stdout.is_empty());
}

#[test]
fn an_unknown_flag_gets_a_suggestion() {
    refused(
        &crabwright("--destinaton r/app:1"),
        "error: unknown flag: --destinaton (did you mean --destination?)\n  hint: crabwright --help lists the flags\n",
    );
}

#[test]
fn a_build_needs_a_destination() {
    refused(&crabwright(""), "error: you must provide --destination, or use --no-push\n");
    refused(&crabwright("--no-push=false"), "error: you must provide --destination, or use --no-push\n");
}

#[test]
fn a_bad_destination_is_explained() {
    let output = crabwright("--destination Reg/App:1");
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(
        message.starts_with("error: --destination \"Reg/App:1\" cannot be used\n  caused by: invalid image reference"),
        "{message}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_environment_is_checked_too() {
    refused(
        &crabwright_in("--destination r/app:1", &[("KANIKO_NO_PUSH", "perhaps")]),
        "error: environment variable KANIKO_NO_PUSH cannot be \"perhaps\"\n  caused by: expected true or false\n",
    );
    refused(
        &crabwright_in("--no-push", &[("SOURCE_DATE_EPOCH", "today")]),
        "error: SOURCE_DATE_EPOCH cannot be \"today\": expected the seconds since 1970-01-01T00:00:00Z as a whole \
         number\n",
    );
}

#[test]
fn errors_follow_the_log_format() {
    let output = crabwright("--log-format=json");
    let line: serde_json::Value = serde_json::from_slice(&output.stderr).expect("one JSON object");
    assert_eq!(line["level"], "error");
    assert_eq!(line["msg"], "you must provide --destination, or use --no-push");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn version_and_help_go_to_standard_output() {
    for line in ["version", "--version", "-V"] {
        let output = crabwright(line);
        assert_eq!(String::from_utf8_lossy(&output.stdout), concat!("crabwright ", env!("CARGO_PKG_VERSION"), "\n"));
        assert!(output.status.success() && output.stderr.is_empty(), "{line}");
    }
    for line in ["help", "--help", "-h"] {
        let output = crabwright(line);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("Usage: crabwright --destination <IMAGE>"), "{line}: {text}");
        assert!(!text.contains('\u{1b}'), "{line}: colours in a pipe");
        assert!(output.status.success() && output.stderr.is_empty(), "{line}");
    }
}
