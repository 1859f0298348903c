//! kaniko's command lines and those of `docker buildx build`, from the binary to what other tools read of the result.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use crate::support::images;
use crate::support::peers::peers;
use crate::support::pod::Pod;
use crate::support::program::{Workspace, crabwright, run, stdout};
use crate::support::tls::write_signed;

const PINNED: [&str; 3] = ["--reproducible", "--build-arg", "SOURCE_DATE_EPOCH=1700000000"];

fn small() -> Workspace {
    let workspace = Workspace::new("FROM scratch AS files\nCOPY f /d/f\nFROM files\nCOPY f /g\nENV A=b\n");
    workspace.file("f", "content\n");
    workspace
}

/// Old spellings mean what the new ones mean, and are told of once each; what has nothing to do is silent.
#[test]
fn old_spellings_are_told_of_once() {
    let workspace = small();
    let mut build = workspace.build();
    build
        .env("FF_KANIKO_NEW_CACHE_LAYOUT", "1")
        .env("FF_KANIKO_SQUASH_STAGES", "nonsense")
        .args(["--no-push", "--snapshotMode=redo", "--snapshotMode=redo", "--customPlatform=linux/amd64"])
        .arg(format!("--tarPath={}", workspace.out().join("a.tar").display()))
        .args(["--whitelist-var-run=false", "--force-build-metadata", "--skip-unused-stages=false"])
        .args(["--use-new-run", "--ignore-var-run=t", "--cleanup", "--pre-cleanup=1", "--preserve-context", "--force"])
        .args(["--image-fs-extract-retry=3", "--no-cache"]);
    let said = run(&mut build).success().said;
    for old in [
        "--snapshotMode",
        "--customPlatform",
        "--tarPath",
        "--whitelist-var-run",
        "--force-build-metadata",
        "--skip-unused-stages",
    ] {
        assert_eq!(said.matches(&format!("{old} is deprecated")).count(), 1, "{old}: {said}");
    }
    assert_eq!(said.matches("warning: ").count(), 6, "{said}");
    assert!(workspace.out().join("a.tar").is_file());
    run(workspace.build().arg("--no-push").env("KANIKO_CLEANUP", "maybe"))
        .refused(1, &["environment variable KANIKO_CLEANUP cannot be \"maybe\"", "expected true or false"]);
}

/// Every file of digests and names, with a push and without, as other tools find them.
#[test]
fn digests_are_written_with_and_without_a_push() {
    let workspace = small();
    let (repository, out) = (peers().repository("digests"), workspace.out());
    let at = |name: &str| out.join("new/deeper").join(name).display().to_string();
    let read = |name: &str| std::fs::read_to_string(at(name)).unwrap();
    for push in [false, true] {
        let mut build = workspace.build();
        build
            .args(PINNED)
            .env("BUILDER_OUTPUT", out.join("output"))
            .args(["-d", &format!("{repository}:1"), "-d", &format!("{repository}:2")])
            .arg(format!("--no-push={}", !push))
            .args(["--digest-file", &at("digest"), "--image-name-with-digest-file", &at("name")])
            .args(["--metadata-file", &at("metadata"), "--iidfile", &at("id")]);
        run(&mut build).success();
        let digest = read("digest");
        assert!(digest.starts_with("sha256:") && digest.len() == 71, "{digest:?}");
        assert_eq!(read("name"), format!("{repository}@{digest}\n{repository}@{digest}\n"));
        let metadata: Value = serde_json::from_str(&read("metadata")).unwrap();
        assert_eq!(metadata["containerimage.digest"], digest);
        assert_eq!(metadata["image.name"], format!("{repository}:1,{repository}:2"));
        assert_eq!(metadata["containerimage.config.digest"], read("id"));
        let listed = std::fs::read_to_string(out.join("output/images")).unwrap();
        assert_eq!(images::exists(&format!("{repository}:2")), push);
        if !push {
            assert_eq!(listed, "");
            continue;
        }
        let lines: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[1], serde_json::json!({"name": format!("{repository}:2"), "digest": digest}));
        assert_eq!(images::digest(&format!("{repository}:1")), digest);
        assert_eq!(images::manifest(&format!("{repository}:1"))["config"]["digest"], read("id"));
    }
    let mut to_stdout = workspace.build();
    to_stdout.args(PINNED).args(["--no-push", "--digest-file", "/dev/stdout", "--progress=quiet"]);
    assert_eq!(stdout(&mut to_stdout), read("digest"));
}

/// The outputs of buildx, read by the tools that are there for them.
#[test]
fn outputs_are_what_their_readers_expect() {
    let workspace = small();
    let out = workspace.out();
    let at = |name: &str| out.join(name).display().to_string();
    let mut build = workspace.build();
    build.args(PINNED).args(["--tag", "example.org/outputs:1", "--digest-file", &at("digest")]);
    for output in [
        format!("type=oci,dest={}", at("oci.tar")),
        format!("type=oci,tar=false,dest={}", at("layout")),
        format!("type=docker,dest={},name=example.org/other:2", at("docker.tar")),
        format!("type=tar,dest={}", at("files.tar")),
        format!("type=local,dest={}", at("files")),
    ] {
        build.args(["--output", &output]);
    }
    run(&mut build).success();
    let digest = std::fs::read_to_string(at("digest")).unwrap();
    let inspect = |source: String| {
        let text = stdout(Command::new("skopeo").args(["inspect", "--format={{.Digest}}", &source]));
        text.trim().to_owned()
    };
    assert_eq!(inspect(format!("oci-archive:{}:1", at("oci.tar"))), digest);
    assert_eq!(inspect(format!("oci:{}:1", at("layout"))), digest);
    let loaded = stdout(peers().docker().args(["load", "--input", &at("docker.tar")]));
    assert!(loaded.contains("example.org/other:2"), "{loaded}");
    run(peers().docker().args(["rmi", "example.org/other:2"])).success();
    let names = stdout(Command::new("tar").args(["--list", "--file", &at("files.tar")]));
    assert_eq!(names.lines().collect::<Vec<_>>(), ["d/", "d/f", "g"]);
    for file in ["d/f", "g"] {
        assert_eq!(std::fs::read_to_string(out.join("files").join(file)).unwrap(), "content\n");
    }

    // Standard output has the archive and nothing else.
    let archive = workspace.build().args(PINNED).args(["--output", "-"]).output().unwrap();
    assert!(archive.status.success(), "{}", String::from_utf8_lossy(&archive.stderr));
    assert_eq!(archive.stdout, std::fs::read(at("files.tar")).unwrap());
}

/// What is there in the directory already stays, whatever the image's links say.
#[test]
fn files_are_laid_beside_those_that_are_there() {
    let workspace = Workspace::new("FROM scratch\nCOPY . /\n");
    let out = workspace.out();
    let context = workspace.context();
    std::fs::create_dir_all(context.join("d")).unwrap();
    workspace.file("d/one", "1").file("new", "2");
    std::os::unix::fs::symlink("/etc", context.join("link")).unwrap();
    let target = out.join("files");
    std::fs::create_dir_all(target.join("d")).unwrap();
    std::fs::write(target.join("d/other"), "stays").unwrap();
    std::fs::write(target.join("new"), "goes").unwrap();
    for _ in 0..2 {
        run(workspace.build().args(["-o", &target.display().to_string()])).success();
        let read = |path: &str| std::fs::read_to_string(target.join(path)).unwrap();
        assert_eq!((read("d/one"), read("d/other"), read("new")), ("1".into(), "stays".into(), "2".into()));
        assert_eq!(std::fs::read_link(target.join("link")).unwrap(), Path::new("/etc"));
    }
}

/// An archive and a layout are pushed as they were built; an archive of the Docker engine too.
#[test]
fn push_brings_what_was_written_to_a_registry() {
    let workspace = small();
    let out = workspace.out();
    let at = |name: &str| out.join(name).display().to_string();
    let mut build = workspace.build();
    build.args(PINNED).args(["--no-push", "--tar-path", &at("a.tar"), "--oci-layout-path", &at("layout")]);
    run(build.args(["--digest-file", &at("digest")])).success();
    let digest = std::fs::read_to_string(at("digest")).unwrap();
    let push = |path: &str, destination: &str| {
        let mut push = crabwright();
        push.args(["push", path, "-d", destination, "--insecure", "--digest-file", &at("pushed")]);
        push.args(["--work-dir", &at("work")]).env("KANIKO_NO_PUSH", "true");
        run(&mut push)
    };
    for path in ["a.tar", "layout"] {
        let destination = format!("{}:1", peers().repository(&format!("push-{}", path.replace('.', "-"))));
        push(&at(path), &destination).success();
        assert_eq!(images::digest(&destination), digest, "{path}");
        assert_eq!(std::fs::read_to_string(at("pushed")).unwrap(), digest);
    }
    let base = peers().busybox();
    stdout(peers().docker().args(["pull", &base]));
    stdout(peers().docker().args(["save", "--output", &at("saved.tar"), &base]));
    let destination = format!("{}:1", peers().repository("push-saved"));
    push(&at("saved.tar"), &destination).success();
    let said = images::run_with_docker(&destination, &["sh", "-c", "echo it runs"]).success().said;
    assert!(said.contains("it runs"), "{said}");

    push(&at("missing"), &destination).refused(1, &["push", "missing", "No such file"]);
    push(&at("digest"), &destination).refused(1, &["digest"]);
    std::fs::create_dir(out.join("empty")).unwrap();
    push(&at("empty"), &destination).refused(1, &["read the OCI layout", "empty"]);
    assert_eq!(std::fs::read_dir(out.join("work")).unwrap().count(), 0, "the work directory is not empty");
}

/// Ignored paths are there for the commands of their stage and in no layer, whichever way commands are isolated.
#[test]
fn ignored_paths_are_in_no_layer() {
    let workspace = Workspace::new(&format!(
        "FROM {}\nRUN mkdir -p /cache/deep /var/keep && echo 1 > /cache/deep/f && echo 2 > /var/keep/f && echo 3 > /kept\n\
         RUN test -f /cache/deep/f && rm -r /cache/deep && echo 4 > /cache/g\nCOPY f /cache/copied\nRUN cat /cache/copied /cache/g\n",
        peers().busybox()
    ));
    workspace.file("f", "copied\n");
    let repository = peers().repository("ignored");
    for (pod, name) in
        [(Pod::for_workspace(&workspace), "own-root"), (Pod::for_workspace(&workspace).without_seccomp(), "namespace")]
    {
        let destination = format!("{repository}:{name}");
        let arguments =
            ["--insecure", "--insecure-pull", "--ignore-path=/cache", "--ignore-path", "/var/k*p", "-d", &destination];
        let said = pod.run(&arguments).success().said;
        assert!(said.contains(name), "{said}");
        let files = tempfile::tempdir().unwrap();
        images::unpack(&destination, files.path());
        let rootfs = files.path().join("rootfs");
        let exists = |path: &str| rootfs.join(path).symlink_metadata().is_ok();
        assert!(exists("kept"), "{name}: {:?}", std::fs::read_dir(&rootfs).map(Iterator::count));
        assert!(!exists("cache") && !exists("var/keep"), "{name}");
    }
}

/// The first target is the image, the others are built and must be there.
#[test]
fn further_targets_are_built_and_not_kept() {
    let workspace =
        Workspace::new("FROM scratch AS one\nCOPY f /one\nFROM scratch AS two\nCOPY missing /two\nFROM one\n");
    workspace.file("f", "x");
    run(workspace.build().args(["--no-push", "--target=one"])).success();
    run(workspace.build().args(["--no-push", "--target=one,two"])).refused(1, &["missing", "not found"]);
    run(workspace.build().args(["--no-push", "--target=one", "--target", "three"]))
        .refused(1, &["target stage \"three\" could not be found"]);
}

/// Nothing is built, fetched from a layer, or written; the plan is on standard output.
#[test]
fn a_dry_run_prints_the_plan_alone() {
    let workspace =
        Workspace::new(&format!("FROM {} AS unused\nRUN false\nFROM scratch\nCOPY f /f\n", peers().busybox()));
    workspace.file("f", "x");
    let out = workspace.out();
    let archive = out.join("a.tar");
    let mut build = workspace.build();
    build.args(["--dryrun", "-d", "r.example/app:1", "--tar-path"]).arg(&archive);
    build.arg("--digest-file").arg(out.join("digest"));
    let plan = stdout(&mut build);
    for line in ["COPY f /f", "skip    stage unused", "push    r.example/app:1", "write   docker-archive:"] {
        assert!(plan.contains(line), "{plan}");
    }
    assert!(!archive.exists() && !out.join("digest").exists());
    let said = run(workspace.build().arg("--no-push").env("KANIKO_PRINT_PLAN", "1").args(["--tar-path"]).arg(&archive));
    assert!(said.success().said.contains("which becomes the image"));
    assert!(archive.exists());
}

/// BuildKit's objects are on every line of standard error; quiet has none; a terminal is needed to draw on.
#[test]
fn progress_has_the_shapes_of_buildkit() {
    let workspace = small();
    let raw = workspace.build().args(["--no-push", "--progress=rawjson"]).output().unwrap();
    assert!(raw.status.success());
    let text = String::from_utf8(raw.stderr).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let completed = |name: &str| {
        let vertexes = lines.iter().filter_map(|line| line["vertexes"].as_array()).flatten();
        vertexes.filter(|vertex| vertex["name"] == name && vertex["completed"].is_string()).count()
    };
    assert_eq!(completed("[stage-1 2/3] COPY f /g"), 1, "{text}");
    let quiet = run(workspace.build().args(["--no-push", "--progress=quiet"])).success();
    assert_eq!(quiet.said, "");
    run(workspace.build().args(["--no-push", "--progress=quiet", "--target=none"])).refused(1, &["error: ", "none"]);
    run(workspace.build().args(["--no-push", "--progress=tty"])).refused(1, &["needs a terminal", "--progress=plain"]);
    run(workspace.build().args(["--no-push", "--progress=loud"]))
        .refused(1, &["--progress cannot be \"loud\": expected auto, plain, tty, rawjson, quiet"]);
}

/// On a terminal lines stand as they do elsewhere, and nothing of what was drawn is left.
#[test]
fn a_terminal_shows_what_is_under_way() {
    let workspace = small();
    let build = workspace.build();
    let words = std::iter::once(build.get_program()).chain(build.get_args());
    let line = words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &format!("{line} --no-push"), "/dev/null"]);
    let said = run(script.env("TERM", "xterm").env("HOME", "/nonexistent")).success().said;
    assert!(said.contains("[stage-1 2/3] COPY f /g\r\n"), "{said:?}");
    assert!(said.contains("digest   sha256:"), "{said:?}");
}

#[test]
fn a_completion_script_is_one_its_shell_reads() {
    let script = stdout(crabwright().args(["completion", "bash"]));
    let words = "COMP_WORDS=(crabwright --dest); COMP_CWORD=1; _crabwright crabwright --dest crabwright; echo \"${COMPREPLY[@]}\"";
    let answer = stdout(Command::new("bash").args(["-c", &format!("{script}\n{words}")]));
    assert_eq!(answer, "--destination");
}

/// A server over TLS that writes down what it is sent, and answers each request with the next of these.
fn tls_server(directory: &Path, answers: &'static [&'static str]) -> (u16, Arc<Mutex<Vec<String>>>) {
    write_signed(directory);
    let chain = vec![CertificateDer::from_pem_file(directory.join("pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(directory.join("key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .unwrap();
    let (listener, config) = (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::new(config));
    let (port, seen) = (listener.local_addr().unwrap().port(), Arc::<Mutex<Vec<String>>>::default());
    let requests = Arc::clone(&seen);
    std::thread::spawn(move || {
        for answer in answers {
            let (stream, _) = listener.accept().unwrap();
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut reader = BufReader::new(StreamOwned::new(connection, stream));
            let (mut request, mut length) = (String::new(), 0);
            while !request.ends_with("\r\n\r\n") {
                let start = request.len();
                assert_ne!(reader.read_line(&mut request).unwrap(), 0, "the client went away");
                if let Some(value) = request[start..].to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            requests.lock().unwrap().push(request + std::str::from_utf8(&body).unwrap());
            let text = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            reader.get_mut().write_all(text.as_bytes()).unwrap();
            reader.get_mut().conn.send_close_notify();
            reader.get_mut().flush().unwrap();
        }
    });
    (port, seen)
}

/// A digest goes to a URL with PUT, once more where the server is busy; a refusal ends the build before its tag is written.
#[test]
fn a_digest_is_sent_to_a_url() {
    let workspace = small();
    let directory = tempfile::tempdir().unwrap();
    let (port, seen) = tls_server(directory.path(), &["503 Busy", "201 Created", "403 Forbidden"]);
    let url = format!("https://127.0.0.1:{port}/bucket/digest?signature=hidden");
    let destination = format!("{}:1", peers().repository("sent"));
    let build = || {
        let mut build = workspace.build();
        build.env("SSL_CERT_FILE", directory.path().join("ca.pem")).args(["--digest-file", &url, "-d", &destination]);
        build
    };
    run(build().arg("--no-push").args(PINNED)).success();
    let requests = seen.lock().unwrap().clone();
    assert_eq!(requests.len(), 2, "{requests:?}");
    assert!(requests[1].starts_with("PUT /bucket/digest?signature=hidden HTTP/1.1\r\n"), "{}", requests[1]);
    assert!(requests[1].to_lowercase().contains("\r\ncontent-type: text/plain\r\n"), "{}", requests[1]);
    let (_, body) = requests[1].split_once("\r\n\r\n").unwrap();
    assert!(body.starts_with("sha256:") && body.len() == 71, "{body:?}");
    let refused = run(&mut build()).refused(1, &["send the digest to", "127.0.0.1", "answered 403"]);
    assert!(!refused.said.contains("hidden"), "{}", refused.said);
    assert!(!images::exists(&destination));
}
