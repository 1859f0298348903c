//! What the program advises does not depend on the way that an error takes through it.

use crate::support::program::{Ended, Workspace, crabwright, run};

const HINT: &str = "hint: is the registry running at 127.0.0.1:1? if it uses plain http, allow that with \
                    --insecure-registry=127.0.0.1:1 (or --insecure, --insecure-pull)";

fn build(dockerfile: &str, arguments: &[&str]) -> Ended {
    let workspace = Workspace::new(dockerfile);
    workspace.file("file", "content");
    run(workspace.build().args(arguments))
}

#[test]
fn every_command_gives_the_same_hint_for_a_registry_that_does_not_run() {
    let directory = tempfile::tempdir().unwrap();
    let cache_dir = format!("--cache-dir={}", directory.path().display());
    let scratch = "FROM scratch\nCOPY file /\n";
    for (what, ended) in [
        ("cache prune", run(crabwright().args(["cache", "prune", "--cache-repo=127.0.0.1:1/cache"]))),
        ("warmer", run(crabwright().args(["warmer", "--image=127.0.0.1:1/base", &cache_dir]))),
        ("FROM", build("FROM 127.0.0.1:1/base\n", &["--no-push"])),
        ("COPY --from", build("FROM scratch\nCOPY --from=127.0.0.1:1/base / /\n", &["--no-push"])),
        ("the check of --destination", build(scratch, &["--destination=127.0.0.1:1/app:1"])),
        ("the push", build(scratch, &["--destination=127.0.0.1:1/app:1", "--skip-push-permission-check"])),
    ] {
        let said = ended.refused(1, &["cannot connect to 127.0.0.1:1", "Connection refused"]).said;
        assert_eq!(said.matches(HINT).count(), 1, "{what}: {said}");
    }
    let said = build(scratch, &["--no-push", "--cache", "--cache-repo=127.0.0.1:1/cache"]).success().said;
    assert!(said.contains(HINT), "a cache that is not there fails no build: {said}");
}

/// A heading and its cause were once the same sentence.
#[test]
fn the_check_of_a_destination_is_named_once() {
    let ended = build("FROM scratch\nCOPY file /\n", &["--destination=127.0.0.1:1/app:1"]);
    let said = ended.refused(1, &["error: failed to check the push permission for 127.0.0.1:1/app"]).said;
    assert_eq!(said.matches("permission").count(), 1, "{said}");
}
