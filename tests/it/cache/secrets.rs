//! Nothing that a build or any other command writes holds a credential, however much it is to tell.

use std::io::Write as _;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::support::fake_registry::Authentication;
use crate::support::git::Repository;
use crate::support::leaks::{check, check_directory};
use crate::support::program::crabwright;
use crate::support::web::{Answer, Asked, Web};

/// What is told to servers, in clear text.
const SECRETS: [&str; 6] =
    ["sesame-registry", "sesame-header", "sesame-git", "sesame-in-url", "sesame-signature", "sesame-proxy"];

/// Bearers of a secret, or whoever has one for a password.
fn is_authorized(asked: &Asked, secret: &str) -> bool {
    let header = asked.headers.get("authorization").map(String::as_str).unwrap_or_default();
    let basic = header.strip_prefix("Basic ").and_then(|pair| STANDARD.decode(pair).ok()).unwrap_or_default();
    header.contains(secret) || String::from_utf8_lossy(&basic).contains(secret)
}

fn refused() -> Answer {
    Answer::status(401).header("WWW-Authenticate", "Basic realm=\"test\"")
}

/// One command's output, and the names under which it is known in what is wrong with it.
struct Said(Vec<(String, Vec<u8>)>);

impl Said {
    /// Runs a command at its most talkative, first in the format for people and then in the other.
    fn run(&mut self, name: &str, mut prepare: impl FnMut() -> Command) {
        for format in ["text", "json"] {
            let mut command = prepare();
            command.args(["-v", "trace", "--log-format", format]);
            let output = tokio::task::block_in_place(|| command.output()).unwrap();
            let (out, err) = (output.stdout, output.stderr);
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&err));
            self.0.push((format!("{name}, {format}"), [out, err].concat()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_credential_is_in_anything_that_is_written() {
    let files = Web::serve(|asked, _| match asked.path.as_str() {
        "/header" if !is_authorized(asked, SECRETS[1]) => refused(),
        _ => Answer::ok(format!("content of {}", asked.path)).header("ETag", "\"1\""),
    });
    let logins = Web::serve(|asked, _| match is_authorized(asked, SECRETS[3]) {
        true => Answer::ok("content for a user").header("ETag", "\"1\""),
        false => refused(),
    });
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::new(directory.path(), "app");
    repository.file("main.txt", "from git");
    repository.commit("main");
    let git = Web::serve_git(directory.path().to_owned(), |asked| (!is_authorized(asked, SECRETS[2])).then(refused));

    let token = Authentication::Token { user: "robot", password: SECRETS[0], requests: u32::MAX };
    let registry = FakeRegistry::start_with(|registry, habits| {
        // The same behind another name, where URLs are signed.
        habits.blobs_elsewhere = Some(registry.other_host());
    })
    .await;
    registry.change_habits(|habits| habits.authentication = token);
    let host = registry.host();
    let workspace = Workspace::new(&format!(
        "FROM {host}/base:1\nCOPY main.txt /\nADD {} /header\nADD http://user:{}@{}/url /url\n\
         ADD {}?X-Amz-Signature={} /signed\nADD --keep-git-dir {} /git/\n",
        files.url("/header"),
        SECRETS[3],
        logins.host(),
        files.url("/signed"),
        SECRETS[4],
        git.url("/app.git#main"),
    ));
    workspace.file("main.txt", "main");
    let at = |name: &str| workspace.out().join(name).display().to_string();
    let config = workspace.out().join("docker");
    let mut said = Said(Vec::new());

    let mut login = crabwright();
    login.args(["login", &host, "--username=robot", "--password", SECRETS[0]]).env("DOCKER_CONFIG", &config);
    said.0.push(("login".to_owned(), run(&mut login).success().said.into_bytes()));
    let base = Workspace::new("FROM scratch\nCOPY Dockerfile /base\n");
    said.run("build of the base", || {
        let mut build = base.build();
        build.arg(format!("--destination={host}/base:1")).env("DOCKER_CONFIG", &config);
        build
    });
    let cache = format!("--cache-repo={host}/cache");
    for (name, content) in
        [("write to the cache", "main"), ("read from the cache", "main"), ("a file changed", "other")]
    {
        workspace.file("main.txt", content);
        said.run(name, || {
            let mut build = workspace.build();
            build.args(["--cache", &cache, &format!("--cache-dir={}", at("warm"))]);
            build.args([&format!("--destination={host}/app:1"), &format!("--tar-path={}", at("image.tar"))]);
            build.args(["--build-arg", &format!("HTTPS_PROXY=http://user:{}@127.0.0.1:1", SECRETS[5])]);
            build.args([
                &format!("--secret=id=HTTP_AUTH_TOKEN_{},env=HEADER", files.host()),
                "--secret=id=GIT_AUTH_TOKEN,env=GIT",
            ]);
            build.env("HEADER", SECRETS[1]).env("GIT", SECRETS[2]).env("DOCKER_CONFIG", &config);
            build
        });
    }
    said.run("push", || {
        let mut push = crabwright();
        push.args(["push", &at("image.tar"), "--insecure", &format!("--destination={host}/pushed:1")]);
        push.env("DOCKER_CONFIG", &config);
        push
    });
    said.run("warmer", || {
        let mut warmer = crabwright();
        warmer.args([
            "warmer",
            "--insecure",
            "--force",
            &format!("--image={host}/app:1"),
            &format!("--cache-dir={}", at("warm")),
        ]);
        warmer.env("DOCKER_CONFIG", &config);
        warmer
    });
    said.run("prune", || {
        let mut prune = crabwright();
        prune.args(["cache", "prune", "--insecure", &cache, "--keep=3"]).env("DOCKER_CONFIG", &config);
        prune
    });

    // Every form that a secret takes on the way, and the tokens that were given out.
    let mut secrets: Vec<String> = SECRETS.map(str::to_owned).into();
    let told = registry.seen().into_iter().filter_map(|seen| seen.authorization);
    let told = told.chain([&files, &logins, &git].into_iter().flat_map(Web::authorizations).flatten());
    secrets.extend(told.filter_map(|header| header.split(' ').nth(1).map(str::to_owned)));
    secrets.push("signature=sesame".to_owned());
    secrets.sort();
    secrets.dedup();
    assert!(secrets.iter().any(|secret| secret.starts_with("token-")), "tokens were handed out");
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    for (name, bytes) in &said.0 {
        let is_talkative = name.starts_with("login") || bytes.len() > 1000;
        assert!(is_talkative, "{name}: {}", String::from_utf8_lossy(bytes));
        check(&secrets, bytes, name);
    }
    std::fs::remove_dir_all(&config).unwrap();
    check_directory(&secrets, &workspace.out());
    let kept = registry.contents();
    assert!(kept.len() > 10, "the cache, its entries and three images");
    for (name, content) in kept {
        check(&secrets, &content, &name);
        check(&secrets, &unpacked(&content), &format!("{name}, unpacked"));
    }
}

/// What is compressed, or nothing.
fn unpacked(content: &[u8]) -> Vec<u8> {
    if !content.starts_with(&[0x1f, 0x8b]) {
        return Vec::new();
    }
    let mut gzip = Command::new("gzip").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = gzip.stdin.take().unwrap();
    let content = content.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&content));
    let output = gzip.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    output.stdout
}
