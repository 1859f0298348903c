//! The secrets of servers: ADD uses them, and they are nowhere afterwards.

use crate::support::git::Repository;
use crate::support::leaks::{check, check_directory, check_image};
use crate::support::peers::peers;
use crate::support::program::{Workspace, run};
use crate::support::web::{Answer, Asked, Web};

const SECRETS: [&str; 3] = ["hunter2-token", "hunter2-header", "hunter2-git"];

fn is_authorized(asked: &Asked, secrets: &[&str]) -> bool {
    let header = asked.headers.get("authorization").map(String::as_str).unwrap_or_default();
    // git sends the token as a password
    let is_basic = header.starts_with("Basic ");
    secrets.iter().any(|secret| header.contains(secret)) || (is_basic && secrets.contains(&SECRETS[2]))
}

#[test]
fn add_with_logins_leaves_no_trace_of_them() {
    let files = Web::serve(|asked, _| match is_authorized(asked, &SECRETS[..2]) {
        true => Answer::ok(format!("content of {}", asked.path)),
        false => Answer::status(401),
    });
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::new(directory.path(), "app");
    repository.file("main.txt", "from git");
    repository.commit("main");
    repository.publish("main");
    let git = Web::serve_git(directory.path().to_owned(), |asked| {
        let refused = Answer::status(401).header("WWW-Authenticate", "Basic realm=\"test\"");
        (!is_authorized(asked, &SECRETS[2..])).then_some(refused)
    });

    let dockerfile = format!(
        "FROM {}\nADD {} /file\nADD --keep-git-dir {} /repository/\nRUN cat /file /repository/main.txt\n",
        peers().busybox(),
        files.url("/private/file"),
        git.url("/app.git#main"),
    );
    let workspace = Workspace::new(&dockerfile);
    let destination = format!("{}:1", peers().repository("logins"));
    let ended = run(workspace
        .build()
        .env("TOKEN", SECRETS[0])
        .env("GIT", SECRETS[2])
        .arg(format!("--secret=id=HTTP_AUTH_TOKEN_{},env=TOKEN", files.host()))
        .args(["--secret=id=GIT_AUTH_TOKEN,env=GIT", "--verbosity=trace", &format!("--destination={destination}")]))
    .success();
    assert!(ended.said.contains("content of /private/file") && ended.said.contains("from git"), "{}", ended.said);
    check(&SECRETS, ended.said.as_bytes(), "what the build said");
    check_image(&SECRETS, &destination);
    check_directory(&SECRETS, &workspace.out().join("work"));
}
