//! Checkouts from a real git server, and from hostile repositories.

mod network;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use crabwright::diag::progress::Progress;
use crabwright::diag::{Hint as _, with_causes};
use crabwright::http::{HttpClients, Pace, RetryPolicy, USER_AGENT};
use crabwright::location::GitLocation;
use crabwright::remote::{Checkout, CheckoutLimits, GitError, GitRequest, SshAccess, checkout};
use tempfile::TempDir;

use crate::support::git::{COMMIT_TIME, Repository};
use crate::support::program::{run, stdout};
use crate::support::tls;
use crate::support::web::{Answer, Asked, Web, lookup};

/// Repositories and a server of them.
struct Server {
    directory: TempDir,
    web: Web,
}

impl Server {
    fn new() -> Self {
        Self::allowing(|_asked| None)
    }

    fn allowing(allow: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let web = Web::serve_git(directory.path().to_owned(), allow);
        Self { directory, web }
    }

    fn repository(&self, name: &str) -> Repository {
        Repository::new(self.directory.path(), name)
    }

    /// Checks out what `rest` names behind the server's address.
    fn check_out(&self, rest: &str) -> Result<Files, GitError> {
        self.check_out_with(rest, &[])
    }

    fn check_out_with(&self, rest: &str, secrets: &[(&str, &str)]) -> Result<Files, GitError> {
        self.check_out_within(rest, secrets, CheckoutLimits::DEFAULT)
    }

    fn check_out_within(
        &self,
        rest: &str,
        secrets: &[(&str, &str)],
        limits: CheckoutLimits,
    ) -> Result<Files, GitError> {
        check_out(GitLocation::parse(&self.web.url(rest)).unwrap().unwrap(), secrets, limits)
    }

    fn refused(&self, rest: &str) -> String {
        match self.check_out(rest) {
            Ok(files) => panic!("{rest} is accepted: {:?}", files.checkout),
            Err(error) => with_causes(&error),
        }
    }
}

fn check_out(location: GitLocation, secrets: &[(&str, &str)], limits: CheckoutLimits) -> Result<Files, GitError> {
    check_out_at(location, secrets, limits, Pace::default())
}

fn check_out_at(
    location: GitLocation,
    secrets: &[(&str, &str)],
    limits: CheckoutLimits,
    pace: Pace,
) -> Result<Files, GitError> {
    let directory = tempfile::tempdir().unwrap();
    let retry =
        RetryPolicy { attempts: 3, first_pause: Duration::from_millis(1), longest_pause: Duration::from_millis(4) };
    let (secrets, ssh, progress) = (lookup(secrets), SshAccess::default(), Progress::hidden());
    let clients = HttpClients::new(USER_AGENT).unwrap();
    let request = GitRequest { location, secrets, ssh, clients, pace, limits, retry, progress };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let checkout = runtime.block_on(checkout(&request, &directory.path().join("checkout")))?;
    Ok(Files { checkout, place: directory })
}

/// A checkout, there until it is dropped.
struct Files {
    checkout: Checkout,
    place: TempDir,
}

impl Files {
    fn directory(&self) -> &Path {
        &self.checkout.directory
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.directory().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.directory())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// Two branches, two tags, a pull request, and commits that only the server's whole history has.
fn history(server: &Server) -> (Repository, Vec<String>) {
    let repository = server.repository("app");
    let mut commits = Vec::new();
    for number in 0..3 {
        repository.file("version", &format!("{number}\n"));
        commits.push(repository.commit("main"));
    }
    repository.git(&["tag", "light", &commits[0]]);
    repository.git(&["tag", "--annotate", "--message", "one", "annotated", &commits[1]]);
    for tag in ["light", "annotated"] {
        repository.publish(&format!("refs/tags/{tag}"));
    }
    repository.file("version", "pull\n");
    repository.git(&["commit", "--quiet", "--all", "--message", "pull"]);
    repository.publish("HEAD:refs/pull/7/head");
    commits.push(repository.git(&["rev-parse", "HEAD"]));
    (repository, commits)
}

#[test]
fn every_way_to_name_a_commit_leads_there() {
    let server = Server::new();
    let (_repository, commits) = history(&server);
    let short = &commits[1][..8];
    for (rest, version, commit) in [
        ("/app.git".to_owned(), "2", 2),
        ("/app.git#main".to_owned(), "2", 2),
        ("/app.git#refs/heads/main".to_owned(), "2", 2),
        ("/app.git?branch=main".to_owned(), "2", 2),
        ("/app.git#light".to_owned(), "0", 0),
        ("/app.git?tag=annotated".to_owned(), "1", 1),
        ("/app.git#annotated".to_owned(), "1", 1),
        ("/app.git#refs/pull/7/head".to_owned(), "pull", 3),
        ("/app.git?ref=pull/7/head".to_owned(), "pull", 3),
        (format!("/app.git#{}", commits[2]), "2", 2),
        (format!("/app.git#{}", commits[1]), "1", 1),
        (format!("/app.git#{short}"), "1", 1),
        (format!("/app.git?branch=main&checksum={}", &commits[2][..7]), "2", 2),
        (format!("/app.git?branch=main&fetch-by-commit=true&commit={}", commits[0]), "0", 0),
    ] {
        let files = server.check_out(&rest).unwrap_or_else(|error| panic!("{rest}: {error:?}"));
        assert_eq!((files.read("version").trim(), &files.checkout.commit), (version, &commits[commit]), "{rest}");
        assert_eq!(files.names(), ["version"], "{rest}");
        assert_eq!(files.checkout.commit_time, COMMIT_TIME);
    }
}

#[test]
fn what_is_not_there_is_named() {
    let server = Server::new();
    let (_repository, commits) = history(&server);
    assert!(server.refused("/app.git#nosuch").contains("does not contain ref nosuch"));
    assert!(server.refused(&format!("/app.git#{}", "ab".repeat(20))).contains("does not contain ref abab"));
    let other = server.refused(&format!("/app.git?branch=main&checksum={}", &commits[0][..10]));
    assert!(other.contains("expected checksum to match") && other.contains(&commits[2]), "{other}");
    assert!(server.refused("/app.git#main:nosuch").contains("has no directory \"nosuch\""));
    assert!(server.refused("/app.git#main:version").contains("has no directory \"version\""));
    let absent = server.refused("/absent.git");
    assert!(absent.starts_with("failed to fetch http://") && absent.contains("404"), "{absent}");
}

#[test]
fn files_have_two_modes_and_one_directory_may_be_taken() {
    let server = Server::new();
    let repository = server.repository("app");
    repository.file("plain", "p\n").file("sub/program", "#!/bin/sh\n").file("sub/deep/x", "x\n");
    let program = repository.work().join("sub/program");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::set_permissions(repository.work().join("plain"), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink("deep", repository.work().join("sub/link")).unwrap();
    repository.file(".gitattributes", "*.txt eol=crlf\n").file("sub/a.txt", "one\n");
    repository.commit("main");

    let all = server.check_out("/app.git?mtime=commit").unwrap();
    let mode = |path: &str| std::fs::metadata(all.directory().join(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("plain"), mode("sub/program"), mode("sub")), (0o644, 0o755, 0o755));
    assert_eq!(std::fs::read_link(all.directory().join("sub/link")).unwrap(), Path::new("deep"));
    for path in ["", "plain", "sub", "sub/deep/x", "sub/link"] {
        let mtime = std::fs::symlink_metadata(all.directory().join(path)).unwrap().mtime();
        assert_eq!(mtime, COMMIT_TIME, "{path}");
    }

    let part = server.check_out("/app.git#main:sub").unwrap();
    assert_eq!(part.names(), ["a.txt", "deep", "link", "program"]);
    assert_eq!(part.read("a.txt"), "one\n");
    let linked = server.check_out("/app.git#main:sub/link").unwrap();
    assert_eq!(linked.names(), ["x"]);
    let now = std::fs::metadata(part.directory().join("a.txt")).unwrap().mtime();
    assert!(now > COMMIT_TIME);
}

#[test]
fn the_repository_is_kept_where_it_is_wanted() {
    let server = Server::new();
    let (_repository, commits) = history(&server);
    let files = server.check_out("/app.git?tag=annotated&keep-git-dir=true").unwrap();
    assert_eq!(files.names(), [".git", "version"]);
    let git = |arguments: &[&str]| {
        let mut command = std::process::Command::new("git");
        stdout(command.arg("-C").arg(files.directory()).args(["-c", "safe.directory=*"]).args(arguments))
    };
    assert_eq!(git(&["rev-parse", "HEAD"]), commits[1]);
    assert_eq!(git(&["status", "--porcelain"]), "");
    assert_eq!(git(&["describe", "--tags"]), "annotated");
    assert_eq!(git(&["remote", "get-url", "origin"]), server.web.url("/app.git"));
    assert_eq!(git(&["rev-list", "--count", "HEAD"]), "1", "more than the commit was fetched");
    git(&["fsck"]);
}

#[test]
fn submodules_come_along_unless_they_are_not_wanted() {
    let server = Server::new();
    let inner = server.repository("inner");
    inner.file("inner-file", "i\n");
    inner.commit("main");
    let middle = server.repository("middle");
    middle.file("middle-file", "m\n");
    middle.git(&["submodule", "--quiet", "add", "../inner.git", "deep/inner"]);
    middle.commit("main");
    let outer = server.repository("outer");
    outer.file("outer-file", "o\n");
    outer.git(&["submodule", "--quiet", "add", "../middle.git", "lib/middle"]);
    outer.commit("main");

    let files = server.check_out("/outer.git").unwrap();
    assert_eq!(files.read("lib/middle/deep/inner/inner-file"), "i\n");
    assert_eq!(files.read("lib/middle/middle-file"), "m\n");
    let below = server.check_out("/outer.git#main:lib/middle/deep").unwrap();
    assert_eq!(below.read("inner/inner-file"), "i\n");
    let without = server.check_out("/outer.git?submodules=false").unwrap();
    assert!(std::fs::read_dir(without.directory().join("lib/middle")).unwrap().next().is_none());
}

#[test]
fn submodules_cannot_lead_to_this_machines_files() {
    let server = Server::new();
    let victim = server.repository("victim");
    victim.file("secret", "s\n");
    let commit = victim.commit("main");
    for (number, url) in ["/SECRET", "file:///SECRET", "ext::sh -c true", "--upload-pack=x"].iter().enumerate() {
        let hostile = server.repository(&format!("hostile{number}"));
        let url = url.replace("/SECRET", victim.bare.to_str().unwrap());
        hostile.file(".gitmodules", &format!("[submodule \"x\"]\n\tpath = x\n\turl = {url}\n"));
        hostile.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},x")]);
        hostile.git(&["add", ".gitmodules"]);
        hostile.git(&["commit", "--quiet", "--message", "x"]);
        hostile.publish("HEAD:refs/heads/main");
        let text = server.refused(&format!("/hostile{number}.git"));
        assert!(
            text.contains("is not one of git, ssh, http or https") || text.contains("names no repository"),
            "{text}"
        );
    }
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let server = Server::new();
    let repository = server.repository("hostile");
    repository.commit("main");
    let blob = repository.object("blob", b"owned\n");
    let target = repository.object("blob", b"/tmp");
    let below = repository.commit_tree("below", &[("100644", "passwd", &blob)]);
    let tree = stdout(
        std::process::Command::new("git")
            .arg("-C")
            .arg(&repository.bare)
            .args(["rev-parse", &format!("{below}^{{tree}}")]),
    );
    for (number, entries) in [
        vec![("100644", "..", blob.as_str())],
        vec![("100644", "../x", blob.as_str())],
        vec![("40000", "..", tree.as_str())],
        vec![("40000", ".git", tree.as_str())],
        vec![("40000", ".GIT", tree.as_str())],
        vec![("100644", "a/b", blob.as_str())],
        vec![("120000", "a", target.as_str()), ("40000", "a", tree.as_str())],
        vec![("120000", "a", target.as_str()), ("100644", "a", blob.as_str())],
    ]
    .into_iter()
    .enumerate()
    {
        let branch = format!("b{number}");
        repository.commit_tree(&branch, &entries);
        let text = server.refused(&format!("/hostile.git#{branch}"));
        assert!(text.contains("has an entry") || text.contains("read the files"), "{entries:?}: {text}");
    }
    assert!(!Path::new("/tmp/passwd").exists());
}

/// A repository of two kilobytes that names one directory a thousand times, again and again, is no checkout of a billion files.
#[test]
fn a_checkout_is_as_large_as_it_may_be() {
    let server = Server::new();
    let repository = server.repository("bomb");
    let blob = repository.object("blob", &[b'x'; 5000]);
    let names: Vec<String> = (0..10).map(|number| number.to_string()).collect();
    repository.commit_tree("level0", &[("100644", "file", &blob)]);
    for level in 1..10 {
        let tree = stdout(
            std::process::Command::new("git")
                .arg("-C")
                .arg(&repository.bare)
                .args(["rev-parse", &format!("level{}^{{tree}}", level - 1)]),
        );
        let entries: Vec<_> = names.iter().map(|name| ("40000", name.as_str(), tree.as_str())).collect();
        repository.commit_tree(&format!("level{level}"), &entries);
    }
    let refused = |branch: &str, entries, bytes| {
        let limits = CheckoutLimits { entries, bytes, ..CheckoutLimits::DEFAULT };
        match server.check_out_within(&format!("/bomb.git#{branch}"), &[], limits) {
            Ok(files) => panic!("{branch} is accepted: {:?}", files.checkout),
            Err(error) => (with_causes(&error), error.hint().unwrap_or_default()),
        }
    };
    let (text, hint) = refused("level9", 2_000, u64::MAX);
    assert!(text.ends_with("has more than 2000 files and directories"), "{text}");
    assert!(hint.starts_with("--context-max-entries"), "{hint}");
    let (text, hint) = refused("level9", u64::MAX, 1_000_000);
    assert!(text.contains("the files of commit") && text.ends_with("have more than 1000000 bytes"), "{text}");
    assert!(hint.starts_with("--context-max-size"), "{hint}");
    assert!(refused("level1", 19, u64::MAX).0.ends_with("more than 19 files and directories"));
    assert!(refused("level0", 1, 4999).0.ends_with("more than 4999 bytes"));
    let fits = CheckoutLimits { entries: 20, bytes: 50_000, file: 5000 };
    assert!(server.check_out_within("/bomb.git#level1", &[], fits).is_ok());
}

/// The library reads an object whole.
#[test]
fn a_file_that_would_fill_the_memory_is_refused() {
    let server = Server::new();
    let repository = server.repository("large");
    repository.file("dense", &"x".repeat(5001));
    repository.commit("main");
    let within = |file| {
        let limits = CheckoutLimits { file, ..CheckoutLimits::DEFAULT };
        server.check_out_within("/large.git#main", &[], limits).map(|files| files.names())
    };
    assert_eq!(within(5001).expect("fits"), ["dense"]);
    let text = with_causes(&within(5000).expect_err("too large"));
    assert!(text.ends_with("has an entry \"dense\" of 5001 bytes, the limit is 5000"), "{text}");
}

#[test]
fn a_link_is_no_way_out_for_a_subdirectory() {
    let server = Server::new();
    let repository = server.repository("app");
    std::os::unix::fs::symlink("/etc", repository.work().join("absolute")).unwrap();
    std::os::unix::fs::symlink("../../../../../../etc", repository.work().join("relative")).unwrap();
    repository.commit("main");
    for subdir in ["absolute", "relative"] {
        assert!(server.refused(&format!("/app.git#main:{subdir}")).contains("has no directory"), "{subdir}");
    }
}

/// `x-access-token:hunter2`
const TOKEN_LOGIN: &str = "Basic eC1hY2Nlc3MtdG9rZW46aHVudGVyMg==";

fn wants(login: &'static str) -> impl Fn(&Asked) -> Option<Answer> + Send + Sync {
    move |asked| {
        let given = asked.headers.get("authorization").is_some_and(|given| given == login);
        (!given).then(|| Answer::status(401).header("WWW-Authenticate", "Basic realm=\"git\""))
    }
}

#[test]
fn tokens_open_private_repositories() {
    let server = Server::allowing(wants(TOKEN_LOGIN));
    history(&server);
    let by_host = format!("GIT_AUTH_TOKEN.{}", server.web.host());
    for secrets in [
        [("GIT_AUTH_TOKEN", "hunter2\n")],
        [(by_host.as_str(), "hunter2")],
        [("GIT_AUTH_TOKEN.127.0.0.1", "hunter2")],
        [("GIT_AUTH_HEADER", "basic eC1hY2Nlc3MtdG9rZW46aHVudGVyMg==")],
    ] {
        let files = server.check_out_with("/app.git#main", &secrets).unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!(files.read("version"), "2\n");
    }
    let kept = server.check_out_with("/app.git?keep-git-dir=1", &[("GIT_AUTH_TOKEN", "hunter2")]).unwrap();
    for needle in ["hunter2", "aHVudGVyMg"] {
        let mut grep = std::process::Command::new("grep");
        let found = run(grep.args(["--recursive", "--text", needle]).arg(kept.place.path()));
        assert_eq!((found.code, found.said.as_str()), (1, ""));
    }
    for secrets in [vec![], vec![("GIT_AUTH_TOKEN", "wrong")], vec![("GIT_AUTH_TOKEN.other.example", "hunter2")]] {
        let error = server.check_out_with("/app.git#main", &secrets).err().unwrap();
        assert!(error.hint().unwrap_or_default().contains("GIT_AUTH_TOKEN"), "{error:?}");
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}

#[test]
fn another_scheme_is_sent_as_a_header() {
    let server = Server::allowing(wants("Bearer hunter2"));
    history(&server);
    let files = server.check_out_with("/app.git", &[("GIT_AUTH_HEADER", "Bearer hunter2")]).unwrap();
    assert_eq!(files.read("version"), "2\n");
}

/// A repository on https, and a submodule of it on the same host by plain http: what https may hear, http must not.
#[test]
fn credentials_do_not_go_to_a_submodule_over_plain_http() {
    let directory = tempfile::tempdir().unwrap();
    let private = || Web::serve_git(directory.path().to_owned(), wants(TOKEN_LOGIN));
    let (plain, behind_tls) = (private(), private());
    let secure = tls::before(behind_tls.address(), tls::acceptor(directory.path(), &["http/1.1"]));
    let module = Repository::new(directory.path(), "module");
    module.file("inside", "1\n");
    let commit = module.commit("main");
    let with_module = |name: &str, url: &str| {
        let app = Repository::new(directory.path(), name);
        app.file(".gitmodules", &format!("[submodule \"m\"]\n\tpath = m\n\turl = {url}\n"));
        app.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},m")]);
        app.git(&["add", ".gitmodules"]);
        app.git(&["commit", "--quiet", "--message", "m"]);
        app.publish("HEAD:refs/heads/main");
    };
    with_module("downgraded", &plain.url("/module.git"));
    let own = format!("GIT_AUTH_TOKEN.https://{secure}");
    for (id, value) in [
        ("GIT_AUTH_TOKEN", "hunter2"),
        ("GIT_AUTH_TOKEN.127.0.0.1", "hunter2"),
        ("GIT_AUTH_HEADER.127.0.0.1", TOKEN_LOGIN),
        (own.as_str(), "hunter2"),
    ] {
        let mut location = GitLocation::parse(&format!("https://{secure}/downgraded.git")).unwrap().unwrap();
        location.skip_tls_verify = true;
        let error = check_out(location, &[(id, value)], CheckoutLimits::DEFAULT).err().unwrap();
        assert!(
            with_causes(&error).contains(&format!(
                "failed to check out the submodule m: failed to fetch {}",
                plain.url("/module.git")
            ))
        );
        assert!(error.hint().is_some(), "{error:?}");
    }
    assert!(behind_tls.authorizations().iter().any(Option::is_some), "https hears who asks");
    assert!(plain.asked().len() >= 4);
    assert!(plain.authorizations().iter().all(Option::is_none), "{:?}", plain.asked());
}

#[test]
fn credentials_do_not_follow_a_redirect() {
    let thief = Web::serve(|_asked, _before| Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\""));
    let to = thief.url("").replace("127.0.0.1", "localhost");
    let server = Server::allowing(move |asked| Some(Answer::redirect(&format!("{to}{}?{}", asked.path, asked.query))));
    for secret in [("GIT_AUTH_TOKEN", "hunter2"), ("GIT_AUTH_HEADER", "Bearer hunter2")] {
        assert!(server.check_out_with("/app.git", &[secret]).is_err());
    }
    // Nor does a login go to another port of the same host.
    let to = thief.url("");
    let server = Server::allowing(move |asked| Some(Answer::redirect(&format!("{to}{}?{}", asked.path, asked.query))));
    assert!(server.check_out_with("/app.git", &[("GIT_AUTH_TOKEN", "hunter2")]).is_err());
    assert!(thief.authorizations().iter().all(Option::is_none), "{:?}", thief.asked());
}

#[test]
fn a_public_repository_may_have_moved() {
    let moved = Server::new();
    history(&moved);
    let to = moved.web.url("").replace("127.0.0.1", "localhost");
    let server = Server::allowing(move |asked| Some(Answer::redirect(&format!("{to}{}?{}", asked.path, asked.query))));
    assert_eq!(server.check_out("/app.git").unwrap().read("version"), "2\n");
}

#[test]
fn a_busy_server_is_asked_again() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::allowing(move |_asked| {
        (count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0).then(|| Answer::status(503))
    });
    history(&server);
    assert_eq!(server.check_out("/app.git").unwrap().read("version"), "2\n");
}
