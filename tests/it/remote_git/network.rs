//! Git servers and repositories that lead elsewhere, or hold a build: what is asked of whom. The classes are those of names.rs for
//! registries; here it is redirects and `.gitmodules` that lead.

use std::net::{IpAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::support::names::in_network;
use crate::support::program::{Workspace, crabwright};
use crate::support::web::git_backend;

/// Documentation addresses (RFC 5737) play the internet, one of RFC 1918 the cluster.
const HUB: &str = "203.0.113.5";
const OTHER: &str = "203.0.113.6";
const CLUSTER: &str = "10.1.2.3";
const ADDRESSES: &[&str] = &[HUB, OTHER, CLUSTER, "169.254.169.254", "fd00:ec2::254"];

fn zone(name: &str, _before: usize) -> Vec<IpAddr> {
    let texts: &[&str] = match name {
        "hub.example" => &[HUB],
        "other.example" => &[OTHER],
        "git.corp.example" => &[CLUSTER],
        "inner.example" => &["127.0.0.1"],
        "amazon.example" | "metadata.google.internal" => &["169.254.169.254"],
        "amazon6.example" => &["fd00:ec2::254"],
        "both.example" => &[OTHER, "127.0.0.1"],
        _ => &[],
    };
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// What is on this machine and at its link, on the ports that leads name: nothing may connect to it.
struct Inner(Arc<AtomicUsize>);

impl Inner {
    fn start() -> Self {
        let connections = Arc::<AtomicUsize>::default();
        for host in ["127.0.0.1", "[::1]", "169.254.169.254", "[fd00:ec2::254]"] {
            for port in [80, 22, 9099, 9418] {
                let listener = TcpListener::bind(format!("{host}:{port}")).unwrap();
                let connections = Arc::clone(&connections);
                std::thread::spawn(move || {
                    for _connection in listener.incoming() {
                        connections.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        }
        Self(connections)
    }

    #[track_caller]
    fn assert_untouched(&self, what: &str) {
        assert_eq!(self.0.load(Ordering::SeqCst), 0, "{what} was followed");
    }
}

/// Places that a server or a repository elsewhere must not lead to, by any scheme.
const LEADS: &[&str] = &[
    "http://127.0.0.1:9099/x.git",
    "http://localhost:9099/x.git",
    "http://x.localhost:9099/x.git",
    "http://2130706433:9099/x.git",
    "http://0x7f.1:9099/x.git",
    "http://[::1]:9099/x.git",
    "http://[::ffff:127.0.0.1]:9099/x.git",
    "http://inner.example:9099/x.git",
    "http://169.254.169.254/x.git",
    "http://amazon.example/x.git",
    "http://amazon6.example/x.git",
    "http://metadata.google.internal/x.git",
    "http://[fd00:ec2::254]/x.git",
];

/// A name that is elsewhere and here: over http nothing but the address elsewhere is connected to.
const BOTH: &str = "http://both.example:9099/x.git";

/// Those that only a repository can name.
const LIBRARY_LEADS: &[&str] = &[
    "ssh://git@127.0.0.1/x.git",
    "ssh://git@0x7f.1/x.git",
    "ssh://git@2130706433/x.git",
    "ssh://git@[::1]/x.git",
    "ssh://git@inner.example/x.git",
    "ssh://git@both.example/x.git",
    "ssh://git@amazon.example:80/x.git",
    "git@inner.example:x.git",
    "git://127.0.0.1/x",
    "git://localhost/x",
    "git://inner.example/x",
    "git://169.254.169.254:80/x",
];

fn location(url: &str) -> GitLocation {
    GitLocation::parse(url).unwrap().unwrap()
}

fn fetch(url: &str) -> Result<Files, GitError> {
    check_out(location(url), &[], CheckoutLimits::DEFAULT)
}

/// Why a URL cannot be fetched, and the hint.
#[track_caller]
fn failure(url: &str) -> String {
    match fetch(url) {
        Ok(files) => panic!("{url} is accepted: {:?}", files.checkout),
        Err(error) => format!("{}; {}", with_causes(&error), error.hint().unwrap_or_default()),
    }
}

/// A repository with a submodule at `m` that is somewhere else.
fn with_module(directory: &Path, name: &str, url: &str, commit: &str) {
    let app = Repository::new(directory, name);
    app.file(".gitmodules", &format!("[submodule \"m\"]\n\tpath = m\n\turl = {url}\n"));
    app.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},m")]);
    app.git(&["add", ".gitmodules"]);
    app.git(&["commit", "--quiet", "--message", "m"]);
    app.publish("HEAD:refs/heads/main");
}

/// A repository with a file, and its commit.
fn plain(directory: &Path, name: &str) -> String {
    let repository = Repository::new(directory, name);
    repository.file("inside", "1\n");
    repository.commit("main")
}

fn redirect(asked: &Asked, base: &str) -> Answer {
    let rest = asked.path.split_once(".git").map_or("", |(_, rest)| rest);
    Answer::redirect(&format!("{base}{rest}?{}", asked.query))
}

/// The class of CVE-2022-24765's neighbours in libraries that follow where they are led: server-side request forgery by a redirect.
#[test]
fn a_git_server_elsewhere_leads_neither_to_this_machine_nor_to_its_metadata() {
    in_network(ADDRESSES, zone, || {
        let inner = Inner::start();
        let lead = Arc::new(Mutex::new(String::new()));
        let (first, second) = (Arc::clone(&lead), Arc::clone(&lead));
        // One that leads there, and one that leads to one that does.
        let _hub = Web::serve_at(&format!("{HUB}:80"), move |asked, _| match asked.path.starts_with("/far") {
            true => redirect(asked, "http://other.example/x.git"),
            false => redirect(asked, &first.lock().unwrap()),
        });
        let _other = Web::serve_at(&format!("{OTHER}:80"), move |asked, _| redirect(asked, &second.lock().unwrap()));
        for place in LEADS.iter().chain([&BOTH]) {
            *lead.lock().unwrap() = (*place).to_owned();
            for url in ["http://hub.example/app.git", "http://203.0.113.5/app.git", "http://hub.example/far.git"] {
                let said = failure(url);
                inner.assert_untouched(&format!("{place} of {url}"));
                assert!(said.starts_with(&format!("failed to fetch {url}: ")), "{said}");
                if *place == BOTH {
                    assert!(said.contains("cannot connect to both.example:9099"), "{said}");
                } else {
                    assert!(
                        said.contains("a remote server must not refer to it; a remote server must not refer"),
                        "{said}"
                    );
                }
            }
        }
    });
}

#[test]
fn a_repository_elsewhere_names_no_submodule_on_this_machine_or_at_its_metadata() {
    in_network(ADDRESSES, zone, || {
        let inner = Inner::start();
        let directory = tempfile::tempdir().unwrap();
        let commit = plain(directory.path(), "plain");
        let _hub = Web::serve_git_at(&format!("{HUB}:80"), directory.path().to_owned(), |_| None);
        let refused = LEADS.iter().chain(LIBRARY_LEADS).map(|place| (*place, "?submodules=false"));
        let others = [
            (BOTH, "cannot connect to both.example:9099"),
            ("ssh://git@hub.example@127.0.0.1/x.git", "the URL is not one of a git server"),
            ("git://nowhere.example/x", "could not be resolved"),
        ];
        for (number, (place, words)) in refused.chain(others).enumerate() {
            with_module(directory.path(), &format!("app{number}"), place, &commit);
            let said = failure(&format!("http://hub.example/app{number}.git"));
            inner.assert_untouched(place);
            assert!(said.contains("failed to check out the submodule m: failed to fetch"), "{said}");
            assert!(said.contains(words), "{said}");
            let without = fetch(&format!("http://hub.example/app{number}.git?submodules=false"));
            assert_eq!(without.unwrap().names(), [".gitmodules", "m"]);
        }
    });
}

/// The host that the user named may lead to its own kind of place; what it led elsewhere to may not lead back.
#[test]
fn there_is_no_way_back_from_elsewhere() {
    in_network(ADDRESSES, zone, || {
        let directory = tempfile::tempdir().unwrap();
        let commit = plain(directory.path(), "plain");
        with_module(directory.path(), "near", "http://localhost:8000/plain.git", &commit);
        let near = Repository::new(directory.path(), "unused").git(&[
            "-C",
            directory.path().join("near.git").to_str().unwrap(),
            "rev-parse",
            "main",
        ]);
        with_module(directory.path(), "far", "http://other.example/near.git", &near);
        with_module(directory.path(), "relative", "../plain.git", &commit);
        let moved =
            |asked: &Asked| asked.path.starts_with("/moved").then(|| redirect(asked, "http://other.example/near.git"));
        let own = Web::serve_git_at("127.0.0.1:8000", directory.path().to_owned(), moved);
        let _other = Web::serve_git_at(&format!("{OTHER}:80"), directory.path().to_owned(), |_| None);
        assert_eq!(fetch("http://127.0.0.1:8000/near.git").unwrap().read("m/inside"), "1\n");
        assert_eq!(fetch("http://127.0.0.1:8000/relative.git").unwrap().read("m/inside"), "1\n");
        assert_eq!(fetch("http://other.example/relative.git").unwrap().read("m/inside"), "1\n");
        let asked = || own.asked().iter().filter(|asked| asked.path.starts_with("/plain.git")).count();
        let before = asked();
        for url in ["http://127.0.0.1:8000/far.git", "http://127.0.0.1:8000/moved.git", "http://other.example/near.git"]
        {
            let said = failure(url);
            assert!(said.contains("a remote server must not refer to it"), "{url}: {said}");
            assert_eq!(asked(), before, "{url}: {said}");
        }
    });
}

#[test]
fn a_submodule_may_be_anywhere_else() {
    in_network(ADDRESSES, zone, || {
        let directory = tempfile::tempdir().unwrap();
        let commit = plain(directory.path(), "plain");
        let serve = |address: &str| Web::serve_git_at(&format!("{address}:80"), directory.path().to_owned(), |_| None);
        let _servers = [HUB, OTHER, CLUSTER].map(serve);
        for (number, host) in ["other.example", "git.corp.example", CLUSTER, "hub.example"].into_iter().enumerate() {
            with_module(directory.path(), &format!("app{number}"), &format!("http://{host}/plain.git"), &commit);
            let files =
                fetch(&format!("http://hub.example/app{number}.git")).unwrap_or_else(|error| panic!("{error:?}"));
            assert_eq!(files.read("m/inside"), "1\n", "{host}");
        }
    });
}

/// DNS rebinding: the name is elsewhere for the question, and this machine for what comes after it.
#[test]
fn a_name_that_moves_to_this_machine_is_not_followed_there() {
    let moving = |name: &str, before: usize| match (name, before) {
        ("moving.example", 0) => vec![HUB.parse().unwrap()],
        ("moving.example", _) => vec!["127.0.0.1".parse().unwrap()],
        _ => Vec::new(),
    };
    in_network(ADDRESSES, moving, move || {
        let directory = tempfile::tempdir().unwrap();
        plain(directory.path(), "plain");
        let hub = Web::serve_git_at(&format!("{HUB}:80"), directory.path().to_owned(), |_| None);
        let inner = Inner::start();
        let said = failure("http://moving.example/plain.git");
        inner.assert_untouched("the moved name");
        assert!(said.contains("a remote server must not refer to it"), "{said}");
        assert_eq!(hub.asked().len(), 1, "the references");
    });
}

/// The class of CVE-2022-39253's and curl's CVE-2022-27774: credentials stay with the scheme, host and port they are for.
#[test]
fn a_repository_that_moved_to_another_host_is_fetched_without_credentials() {
    let moved = Server::new();
    history(&moved);
    let to = moved.web.url("/app.git").replace("127.0.0.1", "localhost");
    let server = Server::allowing(move |asked| wants(TOKEN_LOGIN)(asked).or_else(|| Some(redirect(asked, &to))));
    let url = server.web.url("/app.git").replace("http://", "http://x-access-token:hunter2@");
    for (url, secrets) in [
        (server.web.url("/app.git"), &[("GIT_AUTH_TOKEN", "hunter2")][..]),
        (server.web.url("/app.git"), &[("GIT_AUTH_HEADER", TOKEN_LOGIN)]),
        (url, &[]),
    ] {
        let files =
            check_out(location(&url), secrets, CheckoutLimits::DEFAULT).unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!(files.read("version"), "2\n");
    }
    assert!(server.web.authorizations().iter().any(Option::is_some), "its own server hears them");
    assert!(moved.web.asked().len() >= 9, "references twice and a pack, three times");
    assert!(moved.web.authorizations().iter().all(Option::is_none), "{:?}", moved.web.asked());
}

/// Hosts of repositories redirect to the URL that ends in `.git`, or to a new name, on the same server.
#[test]
fn a_private_repository_may_have_moved_on_its_server() {
    let private = wants(TOKEN_LOGIN);
    let server = Server::allowing(move |asked| {
        private(asked).or_else(|| {
            let old = asked.path.strip_prefix("/old.git")?;
            Some(Answer::redirect(&format!("/app.git{old}?{}", asked.query)))
        })
    });
    history(&server);
    let files = server.check_out_with("/old.git", &[("GIT_AUTH_TOKEN", "hunter2")]).unwrap();
    assert_eq!(files.read("version"), "2\n");
    let packs: Vec<_> = server.web.asked().into_iter().filter(|asked| asked.method == "POST").collect();
    assert!(packs.iter().all(|asked| asked.path == "/app.git/git-upload-pack"), "what follows goes to the new place");
}

#[test]
fn only_the_first_question_is_redirected() {
    let thief = Web::serve(|_asked, _before| Answer::status(500));
    let to = thief.url("/app.git");
    let server = Server::allowing(move |asked| (asked.method == "POST").then(|| redirect(asked, &to)));
    history(&server);
    let said = server.refused("/app.git");
    assert!(said.contains("redirects a later request to"), "{said}");
    assert!(thief.asked().is_empty(), "{:?}", thief.asked());
    let server = Server::allowing(|asked| Some(Answer::redirect(&format!("http://{}/login", asked.headers["host"]))));
    assert!(server.refused("/app.git").contains("redirects more than 10 times"));
    let web = Web::serve(|asked, _| match asked.path.as_str() {
        "/login" => Answer::ok("0000").header("Content-Type", "application/x-git-upload-pack-advertisement"),
        _ => Answer::redirect("/login?next=secret"),
    });
    let said = failure(&web.url("/app.git"));
    assert!(said.contains("not the list of references") && !said.contains("secret"), "{said}");
}

/// A pause of the drip is far shorter than any limit of silence, and the window shorter than the answer would take.
const PACE: Pace = Pace { window: Duration::from_millis(100), least: 4096 };

#[test]
fn a_server_that_drips_is_given_up() {
    for method in ["GET", "POST"] {
        let directory = tempfile::tempdir().unwrap();
        plain(directory.path(), "plain");
        let served = directory.path().to_owned();
        let drips = move |asked: &Asked| {
            (asked.method == method).then(|| git_backend(&served, asked).dripping(Duration::from_millis(5)))
        };
        let web = Web::serve_git(directory.path().to_owned(), drips);
        let error = check_out_at(location(&web.url("/plain.git")), &[], CheckoutLimits::DEFAULT, PACE).err().unwrap();
        let said = with_causes(&error);
        assert_eq!(said, format!("failed to fetch {}: {} sends too slowly", web.url("/plain.git"), web.host()));
        let attempts = web.asked().iter().filter(|asked| asked.method == method).count();
        assert_eq!(attempts, 3, "it is tried as often as what breaks");
    }
}

#[test]
fn servers_are_told_who_asks() {
    let server = Server::new();
    history(&server);
    server.check_out("/app.git").unwrap();
    for asked in server.web.asked() {
        let agent = &asked.headers["user-agent"];
        // Some hosts serve nothing that does not begin like git.
        assert!(agent.starts_with("git/2.0 (crabwright/"), "{agent}");
    }
}

/// Repositories that lie as files on a web server, and servers that are none of git.
#[test]
fn what_is_no_git_server_is_told_from_one() {
    let refs = format!("{}\trefs/heads/main\n", "ab".repeat(20));
    let web =
        Web::serve(move |_asked, _before| Answer::ok(refs.clone()).header("Content-Type", "text/plain; charset=utf-8"));
    let said = failure(&web.url("/app.git"));
    assert!(said.contains("does not respond as a git server: it sent text/plain"), "{said}");
    assert!(said.contains("smart protocol"), "{said}");
    assert_eq!(web.asked().len(), 1, "it is not asked again");
}

/// What is said of a server's certificate is said of its host and port, wherever that leads; its own submodules are there, too.
#[test]
fn an_exception_for_a_certificate_is_for_the_server_that_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let commit = plain(directory.path(), "plain");
    let other = Web::serve_git(directory.path().to_owned(), |_| None);
    let other_secure = tls::before(other.address(), tls::acceptor(directory.path(), &["http/1.1"]));
    let to = format!("https://{other_secure}/plain.git");
    let web = Web::serve_git(directory.path().to_owned(), {
        let to = to.clone();
        move |asked| asked.path.starts_with("/moved.git").then(|| redirect(asked, &to))
    });
    let secure = tls::before(web.address(), tls::acceptor(directory.path(), &["http/1.1"]));
    with_module(directory.path(), "own", "../plain.git", &commit);
    with_module(directory.path(), "far", &to, &commit);
    let fetch = |name: &str| {
        let mut location = location(&format!("https://{secure}/{name}.git"));
        location.skip_tls_verify = true;
        check_out(location, &[], CheckoutLimits::DEFAULT)
    };
    assert_eq!(fetch("own").unwrap().read("m/inside"), "1\n");
    for name in ["far", "moved"] {
        let error = fetch(name).err().unwrap();
        let said = with_causes(&error);
        assert!(said.contains(&format!("cannot connect to {other_secure}")) && said.contains("certificate"), "{said}");
        assert!(error.hint().is_some_and(|hint| hint.contains("SSL_CERT_FILE")), "{error:?}");
    }
    assert!(other.asked().is_empty(), "{:?}", other.asked());
}

#[test]
fn proxies_of_the_environment_are_used() {
    let directory = tempfile::tempdir().unwrap();
    let app = Repository::new(directory.path(), "app");
    app.file("Dockerfile", "FROM scratch\nCOPY f /f\n").file("f", "content\n").commit("main");
    let proxy = Web::serve_git(directory.path().to_owned(), |_| None);
    let out = tempfile::tempdir().unwrap();
    let mut command = crabwright();
    command
        .env("HTTP_PROXY", proxy.url(""))
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .env("GIT_PULL_METHOD", "http");
    command.args(["--no-push", "--context=git://git.example/app.git"]);
    run(command.arg(format!("--work-dir={}", out.path().display()))).success();
    let asked = proxy.asked();
    assert!(asked.iter().any(|asked| asked.path == "http://git.example/app.git/git-upload-pack"), "{asked:?}");
}

#[test]
fn authorities_are_those_of_everything_else() {
    let directory = tempfile::tempdir().unwrap();
    plain(directory.path(), "app");
    let web = Web::serve_git(directory.path().to_owned(), |_| None);
    let secure = tls::before(web.address(), tls::acceptor_with_authority(directory.path(), &["http/1.1"]));
    let workspace = Workspace::new(&format!("FROM scratch\nADD https://{secure}/app.git /\n"));
    let build = |variables: &[(&str, &Path)]| {
        let mut command = workspace.build();
        run(command.env_remove("SSL_CERT_FILE").envs(variables.iter().copied()).arg("--no-push"))
    };
    build(&[]).refused(1, &["cannot connect to", &secure.to_string(), "certificate", "SSL_CERT_FILE"]);
    build(&[("SSL_CERT_FILE", &directory.path().join("ca.pem"))]).success();
    // A server's own certificate, as `openssl req -x509` makes it.
    let secure = tls::before(web.address(), tls::acceptor(directory.path(), &["http/1.1"]));
    let workspace = Workspace::new(&format!("FROM scratch\nADD https://{secure}/app.git /\n"));
    let mut command = workspace.build();
    run(command.env("SSL_CERT_FILE", directory.path().join("pem")).arg("--no-push")).success();
}
