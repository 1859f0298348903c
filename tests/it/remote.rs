//! Builds that take files from the network: ADD of a URL, contexts and Dockerfiles behind URLs; and downloads that go wrong.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crabwright::diag::Hint as _;
use crabwright::diag::progress::Progress;
use crabwright::http::RetryPolicy;
use crabwright::location::HttpLocation;
use crabwright::remote::{DownloadError, Downloaded, Downloader, Validator, http_authorization};

use crate::support::archive::Archive;
use crate::support::git::Repository;
use crate::support::peers::peers;
use crate::support::pod::Pod;
use crate::support::program::{Ended, Workspace, run};
use crate::support::web::{Answer, Web, lookup};

/// Downloads into a directory with few, quick attempts.
fn fetch(url: &str, directory: &Path, secrets: &[(&str, &str)]) -> Result<Downloaded, DownloadError> {
    fetch_checked(url, directory, secrets, None)
}

fn fetch_checked(
    url: &str,
    directory: &Path,
    secrets: &[(&str, &str)],
    checksum: Option<&str>,
) -> Result<Downloaded, DownloadError> {
    let policy =
        RetryPolicy { attempts: 3, first_pause: Duration::from_millis(1), longest_pause: Duration::from_millis(4) };
    let downloader = Downloader::new(policy, Progress::hidden()).unwrap();
    let location = HttpLocation::parse(url).unwrap().unwrap();
    let authorization = http_authorization(&lookup(secrets), &location);
    let checksum = checksum.map(|text| text.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(downloader.fetch(&location, checksum.as_ref(), authorization.as_ref(), directory))
}

/// The names in a directory.
fn names(directory: &Path) -> Vec<String> {
    std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

const HELLO: &str = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

#[test]
fn a_file_comes_with_name_time_and_digest() {
    let web = Web::serve(|asked, _before| match asked.path.as_str() {
        "/dir/file" => {
            Answer::ok("hello").header("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT").header("ETag", "\"e\"")
        }
        _ => Answer::ok(""),
    });
    let directory = tempfile::tempdir().unwrap();
    let file = fetch(&web.url("/dir/file?x=1"), directory.path(), &[]).unwrap();
    assert_eq!((file.file_name.as_str(), file.size, &file.validator), ("file", 5, &Validator::Tag("\"e\"".to_owned())));
    assert_eq!(file.digest.to_string(), HELLO);
    assert_eq!(file.last_modified, UNIX_EPOCH + Duration::from_secs(784_111_777));
    let found = std::fs::metadata(&file.path).unwrap();
    assert_eq!(found.modified().unwrap(), file.last_modified);
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o777, 0o600);
    let unnamed = fetch(&web.url("/"), directory.path(), &[]).unwrap();
    assert_eq!((unnamed.file_name.as_str(), unnamed.last_modified), ("__unnamed__", SystemTime::UNIX_EPOCH));
    assert_eq!(web.asked()[0].query, "x=1");
}

#[test]
fn what_may_pass_is_tried_again_and_nothing_else() {
    let web = Web::serve(|asked, before| match (asked.path.as_str(), before) {
        ("/busy", 0) => Answer::status(503),
        ("/busy", 1) => Answer::status(429).header("Retry-After", "0"),
        ("/cut", 0) => Answer::ok("hello").cut_at(2),
        ("/dead", _) => Answer::status(500),
        ("/gone", _) => Answer::status(404),
        ("/short", _) => Answer::ok("hello").cut_at(2),
        _ => Answer::ok("hello"),
    });
    let directory = tempfile::tempdir().unwrap();
    for path in ["/busy", "/cut"] {
        assert_eq!(fetch(&web.url(path), directory.path(), &[]).unwrap().digest.to_string(), HELLO, "{path}");
    }
    let count = |path: &str| web.asked().iter().filter(|asked| asked.path == path).count();
    for (path, attempts, message) in [
        ("/dead", 3, "invalid response status 500"),
        ("/gone", 1, "invalid response status 404"),
        ("/short", 3, "lost the connection"),
    ] {
        let error = fetch(&web.url(path), directory.path(), &[]).unwrap_err();
        assert!(error.to_string().contains(message), "{path}: {error}");
        assert_eq!(count(path), attempts, "{path}");
    }
    let mut left = names(directory.path());
    left.sort();
    assert_eq!(left, ["busy", "cut"], "a file that did not come whole is left");
}

#[test]
fn another_content_than_the_checksum_says_is_refused() {
    let web = Web::serve(|_asked, _before| Answer::ok("hello"));
    let directory = tempfile::tempdir().unwrap();
    fetch_checked(&web.url("/a"), directory.path(), &[], Some(HELLO)).unwrap();
    let wrong = format!("sha256:{}", "0".repeat(64));
    let error = fetch_checked(&web.url("/b"), directory.path(), &[], Some(&wrong)).unwrap_err();
    assert!(error.to_string().ends_with(&format!("digest mismatch {HELLO}: {wrong}")), "{error}");
    assert_eq!(names(directory.path()), ["a"]);
}

#[test]
fn credentials_stay_with_their_host() {
    let other = Web::serve(|_asked, _before| Answer::ok("hello"));
    let to = other.url("/elsewhere");
    let web = Web::serve(move |asked, _before| match asked.path.as_str() {
        "/moved" => Answer::redirect("/here"),
        "/gone" => Answer::redirect(&to),
        _ if asked.headers.contains_key("authorization") => Answer::ok("hello"),
        _ => Answer::status(401),
    });
    let directory = tempfile::tempdir().unwrap();
    let token = format!("HTTP_AUTH_TOKEN_{}", web.host());
    let header = format!("HTTP_AUTH_HEADER_{}", web.host());
    for (secret, sent) in [((token.as_str(), "hunter2\n"), "Bearer hunter2"), ((header.as_str(), "Basic x"), "Basic x")]
    {
        fetch(&web.url("/moved"), directory.path(), &[secret]).unwrap();
        assert_eq!(web.authorizations().pop().flatten().as_deref(), Some(sent));
        fetch(&web.url("/gone"), directory.path(), &[secret]).unwrap();
    }
    assert_eq!(other.authorizations(), [None, None]);
    let error = fetch(&web.url("/here"), directory.path(), &[("HTTP_AUTH_TOKEN_h", "hunter2")]).unwrap_err();
    assert!(error.hint().unwrap().contains("HTTP_AUTH_TOKEN_"), "{error}");
    let odd = fetch(&web.url("/here"), directory.path(), &[(token.as_str(), "a\nhunter2")]).unwrap_err();
    assert!(!format!("{odd:?} {odd}").contains("hunter2"));
}

#[test]
fn redirects_end_somewhere() {
    let web = Web::serve(|asked, _before| match asked.path.as_str() {
        "/file" => Answer::redirect("file:///etc/passwd"),
        "/nowhere" => Answer::status(302),
        _ => Answer::redirect("/round"),
    });
    let directory = tempfile::tempdir().unwrap();
    for (path, message) in [
        ("/round", "redirects more than"),
        ("/file", "redirects to file:///etc/passwd: refused"),
        ("/nowhere", "redirects without a Location"),
    ] {
        let error = fetch(&web.url(path), directory.path(), &[]).unwrap_err().to_string();
        assert!(error.contains(message), "{path}: {error}");
    }
}

/// Builds into an OCI layout and gives the names and contents of the files in all layers.
fn build(workspace: &Workspace, arguments: &[&str]) -> BTreeMap<String, String> {
    let layout = workspace.out().join("layout");
    run(workspace.build().args(["--no-push", "--force", "--oci-layout-path"]).arg(&layout).args(arguments)).success();
    layer_files(&layout)
}

fn layer_files(layout: &Path) -> BTreeMap<String, String> {
    let json = |path: &Path| -> serde_json::Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let blob = |descriptor: &serde_json::Value| {
        layout.join("blobs").join(descriptor["digest"].as_str().unwrap().replace(':', "/"))
    };
    let manifest = json(&blob(&json(&layout.join("index.json"))["manifests"][0]));
    let mut files = BTreeMap::new();
    for layer in manifest["layers"].as_array().unwrap() {
        let layer = std::fs::File::open(blob(layer)).unwrap();
        for entry in tar::Archive::new(flate2::read::GzDecoder::new(layer)).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            if entry.header().entry_type().is_file() {
                let mut text = String::new();
                entry.read_to_string(&mut text).unwrap();
                files.insert(name, text.trim_end().to_owned());
            }
        }
    }
    files
}

fn files(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect()
}

/// A tar of one file, `a`.
fn archive() -> Vec<u8> {
    Archive::default()
        .file(
            "a", "A
",
        )
        .bytes()
}

#[test]
fn a_build_adds_files_archives_and_repositories() {
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::new(directory.path(), "app");
    repository.file("src/main", "m\n").file("src/skipped", "s\n").file("README", "r\n");
    repository.commit("main");
    let git = Web::serve_git(directory.path().to_owned(), |_asked| None);
    let web = Web::serve(|asked, _before| match asked.path.as_str() {
        "/[a].tar" => Answer::ok(archive()),
        path => Answer::ok(path.to_owned()),
    });
    let workspace = Workspace::new(&format!(
        "FROM scratch\nADD {one} local {two} /many/\nADD --unpack {tar} /unpacked/\nADD --exclude=skipped {git}#main:src /git/\n\
         ADD --link {one} /linked/\n",
        one = web.url("/one"),
        two = web.url("/two"),
        tar = web.url("/[a].tar"),
        git = git.url("/app.git"),
    ));
    workspace.file("local", "l\n");
    let expected = files(&[
        ("many/one", "/one"),
        ("many/local", "l"),
        ("many/two", "/two"),
        ("unpacked/a", "A"),
        ("git/main", "m"),
        ("linked/one", "/one"),
    ]);
    assert_eq!(build(&workspace, &[]), expected);
    let fetched = web.asked().iter().filter(|asked| asked.path == "/one").count();
    assert_eq!(fetched, 1, "a file is fetched once");
}

#[test]
fn a_default_pod_fetches_too() {
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::new(directory.path(), "app");
    repository.file("main", "m\n");
    repository.commit("main");
    let git = Web::serve_git(directory.path().to_owned(), |_asked| None);
    let web = Web::serve(|_asked, _before| Answer::ok("w\n"));
    let workspace =
        Workspace::new(&format!("FROM scratch\nADD {} /w\nADD {} /git/\n", web.url("/w"), git.url("/app.git")));
    let arguments = ["--context=dir:///workspace", "--no-push", "--oci-layout-path=/out/layout"];
    Pod::for_workspace(&workspace).run(&arguments).success();
    assert_eq!(layer_files(&workspace.out().join("layout")), files(&[("w", "w"), ("git/main", "m")]));
}

#[test]
fn contexts_and_dockerfiles_come_from_the_network() {
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::new(directory.path(), "app");
    repository.file("sub/g", "G\n").file("sub/.dockerignore", "*\n");
    repository.commit("main");
    let git = Web::serve_git(directory.path().to_owned(), |_asked| None);
    let web = Web::serve(|asked, _before| match asked.path.as_str() {
        "/x.tar" => Answer::ok(archive()),
        "/Dockerfile" => Answer::ok(
            "FROM scratch\nCOPY --from=git g /g\nCOPY --from=tar a /t\nCOPY --from=file plain /p\nCOPY local /l\n",
        ),
        _ => Answer::ok("P\n"),
    });
    let workspace = Workspace::new("FROM nothing\n");
    workspace.file("local", "l\n").file("ignored", "i\n").file(".dockerignore", "ignored\n");
    let named = [
        format!("--build-context=git={}", git.url("/app.git#main:sub")),
        format!("--build-context=tar={}", web.url("/x.tar")),
        format!("--build-context=file={}", web.url("/plain")),
        format!("--dockerfile={}", web.url("/Dockerfile")),
    ];
    let arguments: Vec<&str> = named.iter().map(String::as_str).collect();
    assert_eq!(build(&workspace, &arguments), files(&[("g", "G"), ("t", "A"), ("p", "P"), ("l", "l")]));
}

#[test]
fn a_stage_may_start_from_a_directory() {
    let workspace = Workspace::new("FROM base\nCOPY local /l\n");
    workspace.file("local", "l\n");
    let base = workspace.out().join("base");
    std::fs::create_dir_all(base.join("etc")).unwrap();
    std::fs::write(base.join("etc/f"), "F\n").unwrap();
    let context = format!("--build-context=base={}", base.display());
    assert_eq!(build(&workspace, &[&context]), files(&[("etc/f", "F"), ("l", "l")]));
}

#[test]
fn an_image_may_come_from_a_layout() {
    let base = Workspace::new("FROM scratch\nCOPY a /a\nLABEL from=layout\n");
    base.file("a", "A\n");
    let layout = base.out().join("layout");
    build(&base, &["--destination=x:one"]);
    let workspace = Workspace::new("FROM base\nCOPY --from=other a /b\n");
    for name in ["", ":one"] {
        let contexts = ["base", "other"]
            .map(|context| format!("--build-context={context}=oci-layout://{}{name}", layout.display()));
        drop(std::fs::remove_dir_all(workspace.out().join("layout")));
        assert_eq!(build(&workspace, &[&contexts[0], &contexts[1]]), files(&[("a", "A"), ("b", "A")]), "{name}");
    }
    let context = |rest: &str| format!("--build-context=base=oci-layout://{}{rest}", layout.display());
    let refused = |rest: &str, words: &[&str]| {
        let mut command = workspace.build();
        run(command.args(["--no-push", "--force", "--build-context=other=docker-image://x"]).arg(context(rest)))
            .refused(1, words);
    };
    refused(":two", &["Dockerfile:1", "has no image called \"two\""]);
    refused("/gone", &["is not an OCI image layout"]);
    // What is damaged does not get into an image.
    let index: serde_json::Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    std::fs::write(layout.join("blobs").join(digest.replace(':', "/")), "{}").unwrap();
    refused("", &["expected", "bytes"]);
}

/// Runs a build whose Dockerfile comes on standard input.
fn build_from_input(workspace: &Workspace, dockerfile: &str) -> Ended {
    let mut command = workspace.build();
    command.args(["--no-push", "--force", "--dockerfile=-"]).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(dockerfile.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code().unwrap(),
        said: String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
    }
}

#[test]
fn a_dockerfile_may_come_on_standard_input() {
    let workspace = Workspace::new("FROM nothing\n");
    workspace.file("local", "l\n").file(".dockerignore", "hidden\n").file("hidden", "h\n");
    build_from_input(&workspace, "FROM scratch\nCOPY local /l\n").success();
    build_from_input(&workspace, "FROM scratch\nCOPY hidden /\n").refused(1, &["hidden", "excluded by the pattern"]);
    build_from_input(&workspace, "FORM scratch\n")
        .refused(1, &["Dockerfile from standard input:1:1", "did you mean FROM"]);
}

#[test]
fn what_cannot_be_fetched_is_shown_at_its_line() {
    let web = Web::serve(|_asked, _before| Answer::status(404));
    let url = web.url("/absent?signature=hunter2");
    let workspace = Workspace::new(&format!("ARG B\nFROM {}\nARG U\nADD $U /x\n", peers().busybox()));
    let said = run(workspace.build().args(["--no-push", "--force"]).arg(format!("--build-arg=U={url}")))
        .refused(1, &["Dockerfile:4", "404", "HTTP_AUTH_TOKEN_"])
        .said;
    let shown = said.lines().filter(|line| line.contains("caused by")).collect::<String>();
    assert!(!shown.contains("hunter2"), "{said}");
}
