//! Errors of a plan: their messages, locations and number.

use super::*;
use crate::diag::Hint;

#[test]
fn wrong_references_between_stages_are_errors() {
    for (text, message) in [
        ("FROM base AS a\nCOPY --from=b /x /x\nFROM base AS b\n", None),
        ("FROM base AS a\nCOPY --from=a /x /x\n", Some("circular dependency detected on stage: a")),
        ("FROM base\nCOPY --from=3 /x /x\n", Some("invalid stage index 3")),
        ("FROM $NONE\n", Some("base name ($NONE) should not be blank")),
        ("FROM --platform=a/b/c/d base\n", Some("failed to parse platform")),
        ("FROM missing\n", Some("failed to resolve the image")),
    ] {
        match message {
            Some(message) => assert!(refused(text).contains(message), "{text}: {}", refused(text)),
            None => assert_eq!(planned(text).stages.len(), 1, "an unreachable stage is not looked at"),
        }
    }
    let text = "FROM base AS a\nCOPY --from=b /x /x\nFROM a AS b\nFROM a\n";
    assert!(refused(text).contains("circular dependency detected on stage: b"));
    let text = "FROM base AS a\nCOPY --from=b /x /x\nFROM base AS b\nFROM a\n";
    assert!(refused(text).contains("cannot copy from stage \"b\""));
}

#[test]
fn an_error_in_a_here_document_points_at_its_line() {
    let text = "FROM base\nCOPY <<-EOF /f\n\tgood\n\t\tbad ${X:?no}\n\tEOF\n";
    let error = plan_with(text, &options()).expect_err("X is not set");
    assert_eq!(error.message, "failed to process the here-document EOF: X: no");
    let (source, span) = error.place.expect("a place");
    assert_eq!(&source.text[span], "bad ${X:?no}");
}

#[test]
fn invalid_remote_sources_are_refused() {
    for (line, message) in [
        ("COPY http://h/a /", "source can't be a URL for COPY"),
        ("ADD --keep-git-dir http://h/a /", "--keep-git-dir requires a git source"),
        ("ADD --keep-git-dir a /", "--keep-git-dir requires a git source"),
        ("ADD --keep-git-dir=false https://h/x.git?keep-git-dir=1 /", "--keep-git-dir contradicts"),
        ("ADD --checksum=abcd http://h/a /", "invalid checksum"),
        ("ADD --checksum=sha256:00 https://h/x.git /", "is not the start of a commit's hash"),
        ("ADD --checksum=abcd http://h/a http://h/b /", "checksum can't be specified for multiple"),
        ("ADD https://h/x.git?nonsense=1 /", "unexpected query"),
        ("ADD http:// /", "is not a URL"),
    ] {
        assert!(refused(&format!("FROM base\n{line}\n")).contains(message), "{line}");
    }
    // For COPY it is a file with an odd name.
    planned("FROM base\nCOPY git@h:x.git /\n");
}

#[test]
fn features_that_need_privileges_are_refused_with_their_location() {
    for text in ["RUN --security=insecure true", "RUN --network=host true", "RUN --device=x true"] {
        let error = plan_with(&format!("FROM base\n{text}\n"), &options()).expect_err(text);
        assert!(error.message.contains("not allowed") || error.message.contains("not possible"), "{text}: {error}");
        let (_, span) = error.place.expect("a place");
        assert!(span.start >= "FROM base\n".len(), "{text}");
    }
    let plan = planned("FROM base\nRUN --network=default --security=sandbox true\nRUN --network=none true\n");
    let offline = |step: &Step| matches!(&step.action, Action::Run(run) if run.offline);
    assert_eq!(target(&plan).steps.iter().map(offline).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn every_independent_error_is_reported() {
    let text = "FROM gone AS one\nENV A=${A:?none}\nSTOPSIGNAL SIGNOPE\nCOPY --from=two /a /a\n\
                FROM base AS two\nENV B=${B\nENV C=${B:?}\nRUN --security=insecure x\nEXPOSE 99999\n\
                FROM also-gone\nCOPY --from=one / /one\nCOPY --from=two / /two\nCOPY --from=gone / /gone\n";
    assert_eq!(
        all_refused(text),
        [
            "1: failed to resolve the image docker.io/library/gone",
            "3: invalid signal: SIGNOPE",
            "4: cannot copy from stage \"two\", it needs to be defined before current stage \"one\"",
            "6: failed to process \"${B\": syntax error: missing '}'",
            "8: entitlement security.insecure is not allowed",
            "9: invalid containerPort: 99999",
            "10: failed to resolve the image docker.io/library/also-gone",
        ]
    );
}

#[test]
fn consequences_of_an_invalid_instruction_are_not_reported() {
    let text = "ARG BASE=${\nFROM $BASE AS one\nENV X=${\nWORKDIR ${X:?}\nFROM one\nWORKDIR ${X:?}\nLABEL $X=1\n";
    assert_eq!(
        all_refused(text),
        [
            "1: failed to process \"${\": syntax error: missing '}'",
            "3: failed to process \"${\": syntax error: missing '}'",
        ]
    );
}

#[test]
fn the_rest_of_a_file_with_errors_is_checked() {
    let text = "FROM base AS one\nRUNN x\nENV A=1\nUSER ${A:?}\nUSER ${\nFROM gone\nCOPY --from=one / /\n\
                COPY --from=three / /\nFROM base AS three\nCOPY --from=1 / /\nSTOPSIGNAL SIGNOPE\n";
    assert_eq!(
        all_refused(text),
        [
            "5: failed to process \"${\": syntax error: missing '}'",
            "8: circular dependency detected on stage: three",
            "11: invalid signal: SIGNOPE",
        ]
    );
}

#[test]
fn an_error_has_its_own_hint_or_that_of_its_cause() {
    let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
    let error = PlanError { cause: Some(full().into()), ..PlanError::new("no image") };
    assert_eq!(Hint::hint(&error), Hint::hint(&full()));
    assert_eq!(Hint::hint(&error.with_hint("another")).as_deref(), Some("another"));
}
