//! Contexts that are archives, here and behind URLs, and repositories: honest, hostile, and interrupted ones.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use crate::support::archive::Archive;
use crate::support::contexts::Place;
use crate::support::git::Repository;
use crate::support::program::run;
use crate::support::web::{Answer, Web};

/// The names of an image's files without the Dockerfile, which all of these contexts have.
fn others(mut files: BTreeMap<String, String>) -> Vec<(String, String)> {
    assert!(files.remove("Dockerfile").is_some(), "{files:?}");
    files.into_iter().collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect()
}

#[test]
fn archives_are_told_by_their_content_however_they_are_called() {
    for program in ["", "gzip", "zstd", "bzip2", "xz"] {
        let place = Place::new();
        let file = place.file("context", &Archive::context().file("a", b"A").bytes());
        if !program.is_empty() {
            let packed = std::process::Command::new(program).arg("-c").arg(&file).output().unwrap().stdout;
            std::fs::write(&file, packed).unwrap();
        }
        let files = place.build(&mut place.command(&format!("tar://{}", file.display())));
        assert_eq!(others(files), pairs(&[("a", "A")]), "{program}");
    }
}

#[test]
fn an_archive_comes_through_a_pipe() {
    for context in ["tar://stdin", "-"] {
        let place = Place::new();
        let mut child = place.command(context).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&Archive::context().file("dir/a", b"A").gzip()).unwrap();
        assert!(child.wait().unwrap().success());
        let files = crate::support::contexts::layer_files(&place.path().join("layout"));
        assert_eq!(others(files), pairs(&[("dir/a", "A")]));
    }
    let place = Place::new();
    place.refused(place.command("-").arg("--dockerfile=-").stdin(Stdio::null()), &["cannot both"]);
}

#[test]
fn what_is_no_archive_is_refused_by_name() {
    let place = Place::new();
    let cut = Archive::context().file("a", [b'x'; 4096]).gzip();
    for (content, words) in [
        (&b"hello"[..], &["is not a tar archive"][..]),
        (b"", &["is not a tar archive"]),
        (&[b'x'; 2048], &["is not a tar archive"]),
        (&cut[..cut.len() / 2], &["failed to unpack"]),
    ] {
        let file = place.file("context.tar.gz", content);
        place.refused(&mut place.command(&format!("tar://{}", file.display())), words);
    }
    place.refused(&mut place.command("tar:///no/such/file"), &["/no/such/file"]);
}

#[test]
fn no_member_leaves_the_context() {
    let place = Place::new();
    let outside = place.file("outside", b"untouched");
    let up = "../".repeat(12);
    let above = format!("{up}{}", outside.display());
    let file = place.file(
        "context.tar",
        &Archive::context()
            .file(&above[..above.len().min(99)], b"evil")
            .file("/absolute", b"in the context")
            .symlink("way", "/etc")
            .file("way/crabwright-was-here", b"evil")
            .symlink("up", "../../../..")
            .file("up/tmp/crabwright-was-here", b"evil")
            .bytes(),
    );
    let ended = run(&mut place.command(&format!("tar://{}", file.display())));
    assert_eq!(std::fs::read(&outside).unwrap(), b"untouched");
    for path in ["/etc/crabwright-was-here", "/tmp/crabwright-was-here", "/absolute"] {
        assert!(!Path::new(path).exists(), "{path}: {}", ended.said);
    }
    // A link to a directory that is not in the context is a link to nothing.
    assert!(ended.code == 1 && ended.said.contains("no such file or directory"), "{}", ended.said);

    let inside = place.file("inside.tar", &Archive::context().file("../../a", b"A").file("/b", b"B").bytes());
    let files = place.build(&mut place.command(&format!("tar://{}", inside.display())));
    assert_eq!(others(files), pairs(&[("a", "A"), ("b", "B")]));
}

#[test]
fn the_builds_own_reading_does_not_follow_links_out_of_the_context() {
    let place = Place::new();
    let secret = place.file("secret", b"hunter2 is no instruction\n");
    let outside = secret.to_str().unwrap();
    let link = |name: &str, target: &str| Archive::default().symlink(name, target).bytes();
    let dockerfile = place.file("dockerfile.tar", &link("Dockerfile", outside));
    let words = ["Dockerfile is a symbolic link to", "not a file of the build context", "--dockerfile"];
    let ended = place.refused(&mut place.command(&format!("tar://{}", dockerfile.display())), &words);
    assert!(!ended.said.contains("hunter2"), "{}", ended.said);

    let sub = place.file("sub.tar", &link("sub", place.path().to_str().unwrap()));
    place.file("Dockerfile", b"FROM scratch\nCOPY . /\n");
    let mut command = place.command(&format!("tar://{}", sub.display()));
    let ended = place.refused(command.arg("--context-sub-path=sub"), &["\"sub\" leads out of the build context"]);
    assert!(!ended.said.contains("hunter2"), "{}", ended.said);
}

/// A checkout by somebody else is a context like an archive: what its links lead to outside is neither read nor shown, in the build's
/// log least of all (the class of CVE-2024-23653: the build's own rights used for a stranger's input).
#[test]
fn links_of_a_directory_show_nothing_of_this_machine() {
    let place = Place::new();
    let token = place.file("token", b"[SESAME is no pattern and no instruction\n");
    let root = place.path().join("checkout");
    std::fs::create_dir(&root).unwrap();
    let location = format!("dir://{}", root.display());
    let link = |target: &Path, name: &str| {
        drop(std::fs::remove_file(root.join(name)));
        std::os::unix::fs::symlink(target, root.join(name)).unwrap();
    };
    let dockerfile = root.join("Dockerfile");
    for target in
        [Path::new("/proc/self/environ"), Path::new("/proc/thread-self/environ"), &token, Path::new("../token")]
    {
        link(target, "Dockerfile");
        for named in [None, Some(dockerfile.as_path())] {
            let mut command = place.command(&location);
            command
                .env("AWS_SECRET_ACCESS_KEY", "SESAME")
                .args(named.map(|path| format!("--dockerfile={}", path.display())));
            let ended = place.refused(&mut command, &["is a symbolic link to", "--dockerfile"]);
            assert!(!ended.said.contains("SESAME"), "{}", ended.said);
        }
    }
    std::fs::remove_file(&dockerfile).unwrap();
    std::fs::write(root.join("real"), "FROM scratch\nCOPY real /\n").unwrap();
    link(Path::new("real"), "Dockerfile");
    for name in [".dockerignore", "Dockerfile.dockerignore"] {
        link(&token, name);
        let files = place.build(&mut place.command(&location));
        assert_eq!(files.keys().collect::<Vec<_>>(), ["real"], "{name}");
        std::fs::remove_file(root.join(name)).unwrap();
        drop(std::fs::remove_dir_all(place.path().join("layout")));
    }
    // A file that only a link in another directory names may hold anything: nothing of its text is shown.
    let named = place.path().join("named");
    std::os::unix::fs::symlink(&token, &named).unwrap();
    std::fs::create_dir(place.path().join("elsewhere")).unwrap();
    std::fs::rename(&named, place.path().join("elsewhere/Dockerfile")).unwrap();
    let named = place.path().join("elsewhere/Dockerfile");
    let mut command = place.command(&location);
    let ended = place.refused(command.arg(format!("--dockerfile={}", named.display())), &["its text is not shown"]);
    assert!(!ended.said.contains("SESAME"), "{}", ended.said);
    // What the command line names is read, wherever it is, and shown with its mistakes.
    let mut command = place.command(&location);
    place.refused(command.arg(format!("--dockerfile={}", token.display())), &["unknown instruction", "SESAME"]);
}

/// Without a flag that names it, the Dockerfile is the context's.
#[test]
fn a_dockerfile_of_the_current_directory_has_to_be_named() {
    let place = Place::new();
    place.file("Dockerfile", b"FROM scratch\nCOPY a /here\n");
    let root = place.path().join("context");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("a"), "A").unwrap();
    let location = format!("dir://{}", root.display());
    place.refused(&mut place.command(&location), &["there is no Dockerfile at", "--dockerfile"]);
    let files = place.build(place.command(&location).arg("--dockerfile=Dockerfile"));
    assert_eq!(files.into_iter().collect::<Vec<_>>(), pairs(&[("here", "A")]));
}

/// Neither waits a build for a writer, nor does it read a device to an end that never comes.
#[test]
fn special_files_are_no_instructions() {
    let place = Place::new();
    let root = place.path().join("context");
    for name in ["Dockerfile", ".dockerignore", "Dockerfile.dockerignore"] {
        drop(std::fs::remove_dir_all(&root));
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("Dockerfile"), "FROM scratch\nCOPY . /\n").unwrap();
        drop(std::fs::remove_file(root.join(name)));
        run(std::process::Command::new("mkfifo").arg(root.join(name))).success();
        let words = [name, "is a named pipe", "only a regular file"];
        place.refused(&mut place.command(&format!("dir://{}", root.display())), &words);
        let others = if name == "Dockerfile" { Archive::default() } else { Archive::context() };
        let pipe = place.file("pipe.tar", &others.member(b'6', name, "", b"").bytes());
        place.refused(&mut place.command(&format!("tar://{}", pipe.display())), &words);
        // The device whose content is zeros without end.
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_entry_type(tar::EntryType::Char);
        header.set_mode(0o644);
        header.set_size(0);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_device_major(1).unwrap();
        header.set_device_minor(5).unwrap();
        header.set_cksum();
        let mut device = if name == "Dockerfile" { Archive::default() } else { Archive::context() };
        device.push_bytes(header.as_bytes());
        let device = place.file("device.tar", &device.bytes());
        place.refused(&mut place.command(&format!("tar://{}", device.display())), &[name, "is a device"]);
    }
}

#[test]
fn a_sub_path_is_a_directory_of_the_archive() {
    let place = Place::new();
    let archive = Archive::context().file("app/Dockerfile", b"FROM scratch\nCOPY . /\n").file("app/a", b"A");
    let file = place.file("context.tar", &archive.file("app/.dockerignore", b".dockerignore\n").bytes());
    let mut command = place.command(&format!("tar://{}", file.display()));
    assert_eq!(others(place.build(command.arg("--context-sub-path=app"))), pairs(&[("a", "A")]));
}

#[test]
fn bombs_are_refused_before_they_fill_the_disk() {
    // A header that promises ten GB of zeros is not even begun with.
    let place = Place::new();
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut entry = tar::Header::new_gnu();
    entry.set_path("zeros").unwrap();
    entry.set_mode(0o644);
    entry.set_size(10 << 30);
    entry.set_cksum();
    bomb.write_all(entry.as_bytes()).unwrap();
    for _ in 0..64 {
        bomb.write_all(&[0; 1 << 20]).unwrap();
    }
    let file = place.file("bomb.tar.gz", &bomb.finish().unwrap());
    let context = format!("tar://{}", file.display());
    place.refused(&mut place.command(&context), &["unpacks to more than 8589934592 bytes", "--context-max-size"]);

    // Many small files, a sparse one that is none, and what is between the members, count as well.
    let mut archive = Archive::context();
    for number in 0..40 {
        archive = archive.file(&format!("f{number}"), [0; 1 << 16]);
    }
    let file = place.file("many.tar.gz", &archive.gzip());
    let context = format!("tar://{}", file.display());
    place.refused(place.command(&context).arg("--context-max-size=1MiB"), &["more than 1048576 bytes"]);
    place.refused(
        place.command(&context).arg("--context-max-entries=20"),
        &["more than 20 files and directories", "--context-max-entries"],
    );
    place.build(place.command(&context).arg("--context-max-entries=41"));
    let deep = place.file("deep.tar", &Archive::context().file(&"d/".repeat(40), b"").bytes());
    let context = format!("tar://{}", deep.display());
    place.refused(place.command(&context).arg("--context-max-entries=30"), &["more than 30 files"]);
}

#[test]
fn very_many_entries_are_unpacked() {
    let place = Place::new();
    let mut archive = Archive::context().file(".dockerignore", b"many\n");
    for number in 0..20_000 {
        archive = archive.file(&format!("many/{}/{number}", number % 100), b"x");
    }
    let file = place.file("many.tar.gz", &archive.gzip());
    let files = place.build(&mut place.command(&format!("tar://{}", file.display())));
    assert_eq!(others(files), pairs(&[(".dockerignore", "many\n")]));
}

#[test]
fn a_transfer_goes_on_where_it_broke() {
    let content: Vec<u8> = (0..300_000_u32).flat_map(|number| number.to_le_bytes()).collect();
    let whole = Archive::context().file("big", &content).gzip();
    let web = Web::serve(move |asked, before| match (asked.path.as_str(), asked.headers.get("range")) {
        ("/dead.tar.gz", _) => Answer::ok(whole.clone()).cut_at(100_000),
        ("/plain.tar.gz", _) => Answer::ok(whole.clone()).cut_at(if before == 0 { 100_000 } else { whole.len() }),
        ("/changed.tar.gz", Some(_)) => Answer::ok(whole.clone()).header("ETag", "\"two\""),
        ("/again.tar.gz", Some(_)) => Answer::ok(whole.clone()).header("ETag", "\"one\""),
        (_, Some(range)) => {
            let from: usize = range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
            let last = whole.len() - 1;
            let rest = Answer::partial(whole[from..].to_vec()).header("ETag", "\"one\"");
            rest.header("Content-Range", &format!("bytes {from}-{last}/{}", whole.len()))
        }
        (_, None) => Answer::ok(whole.clone()).header("ETag", "\"one\"").cut_at(100_000),
    });
    let place = Place::new();
    for path in ["/resumed.tar.gz", "/again.tar.gz"] {
        let place = Place::new();
        let files = run(&mut place.command(&web.url(path))).success();
        assert!(files.said.contains("trying again"), "{}", files.said);
        let asked: Vec<_> = web.asked().into_iter().filter(|asked| asked.path == path).collect();
        assert_eq!(asked.len(), 2, "{path}");
        assert_eq!(asked[1].headers.get("if-range").map(String::as_str), Some("\"one\""), "{path}");
        let layers = std::fs::read_dir(place.path().join("layout/blobs/sha256")).unwrap().count();
        assert_eq!(layers, 3, "{path}");
    }
    place.refused(&mut place.command(&web.url("/changed.tar.gz")), &["changed during the download"]);
    // Nobody knows whether the second half of an unnamed version belongs to the first.
    place.refused(&mut place.command(&web.url("/dead.tar.gz")), &["lost the connection", "starting again"]);
    run(&mut Place::new().command(&web.url("/plain.tar.gz"))).success();
    for (path, count) in [("/dead.tar.gz", 3), ("/plain.tar.gz", 2)] {
        let asked: Vec<_> = web.asked().into_iter().filter(|asked| asked.path == path).collect();
        assert!(asked.len() == count && asked.iter().all(|asked| !asked.headers.contains_key("range")), "{asked:?}");
    }
}

#[test]
fn urls_say_what_is_wrong_and_show_no_credentials() {
    let web = Web::serve(|asked, _before| match asked.path.as_str() {
        "/secret.tar" if asked.headers.get("authorization").is_some_and(|value| value == "Bearer hunter2") => {
            Answer::ok(Archive::context().file("a", b"A").bytes())
        }
        "/secret.tar" => Answer::status(401),
        _ => Answer::status(404),
    });
    let place = Place::new();
    let mut command = place.command(&web.url("/gone.tar?sig=hunter2"));
    let ended = place.refused(&mut command, &["invalid response status 404"]);
    assert!(!ended.said.contains("hunter2"), "{}", ended.said);
    place.refused(&mut place.command(&web.url("/secret.tar")), &["401", "HTTP_AUTH_TOKEN_"]);
    let mut command = place.command(&web.url("/secret.tar"));
    command.arg(format!("--secret=id=HTTP_AUTH_TOKEN_{},env=TOKEN", web.host())).env("TOKEN", "hunter2");
    assert_eq!(others(place.build(&mut command)), pairs(&[("a", "A")]));
}

#[test]
fn repositories_are_read_as_kaniko_reads_them() {
    let place = Place::new();
    let repository = Repository::new(place.path(), "app");
    repository.file("Dockerfile", "FROM scratch\nCOPY version /\n").file("version", "1").file("sub/version", "sub");
    repository.file("sub/Dockerfile", "FROM scratch\nCOPY version /\n");
    let first = repository.commit("main");
    repository.file("version", "2");
    repository.commit("main");
    repository.git(&["tag", "v1", &first]);
    repository.publish("v1");
    repository.publish(&format!("{first}:refs/pull/7/head"));
    repository.file("version", "dev");
    repository.commit("dev");
    let git = Web::serve_git(place.path().to_owned(), |_asked| None);
    let url = |rest: &str| format!("git://{}/app.git{rest}", git.host());
    for (rest, option, version) in [
        ("", "", "2"),
        ("#refs/heads/main", "", "2"),
        ("#dev", "", "dev"),
        ("", "branch=dev,single-branch=true,depth=1", "dev"),
        ("#refs/tags/v1", "", "1"),
        ("#refs/pull/7/head", "", "1"),
        (&format!("#{first}"), "", "1"),
        (&format!("#{}", &first[..8]), "", "1"),
        (&format!("#refs/heads/main#{first}"), "", "1"),
        ("#main:sub", "", "sub"),
    ] {
        let place = Place::new();
        let mut command = place.command(&url(rest));
        let files = place.build(command.arg(format!("--git={option}")).env("GIT_PULL_METHOD", "http"));
        assert_eq!(files.get("version").map(String::as_str), Some(version), "{rest} {option}");
    }
    let mut command = place.command(&url("#nothing"));
    place.refused(command.env("GIT_PULL_METHOD", "http"), &["does not contain ref nothing"]);
    let mut command = place.command(&url(""));
    place.refused(command.arg("--git=nonsense=1"), &["--git", "nonsense", "recurse-submodules"]);
}

#[test]
fn a_repository_whose_transfer_breaks_is_asked_for_again() {
    let place = Place::new();
    let repository = Repository::new(place.path(), "app");
    repository.file("Dockerfile", "FROM scratch\nCOPY a /\n").file("a", "A");
    repository.commit("main");
    let git = Web::serve_git_breaking_once(place.path().to_owned());
    let place = Place::new();
    let mut command = place.command(&format!("git://{}/app.git", git.host()));
    let files = place.build(command.env("GIT_PULL_METHOD", "http"));
    assert_eq!(files.get("a").map(String::as_str), Some("A"));
    let packs = git.asked().into_iter().filter(|asked| asked.method == "POST").count();
    assert!(packs > 2, "it was not asked for again: {:?}", git.asked());
}

#[test]
fn repositories_get_kanikos_credentials() {
    let place = Place::new();
    let repository = Repository::new(place.path(), "app");
    repository.file("Dockerfile", "FROM scratch\nCOPY a /\n").file("a", "A");
    repository.commit("main");
    // user:hunter2, hunter2:
    let git = Web::serve_git(place.path().to_owned(), |asked| {
        let known = ["Basic dXNlcjpodW50ZXIy", "Basic aHVudGVyMjo="];
        let login = asked.headers.get("authorization").map(String::as_str).unwrap_or_default();
        (!known.contains(&login)).then(|| Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\""))
    });
    let url = format!("git://{}/app.git", git.host());
    let build = |variables: &[(&str, &str)]| {
        let place = Place::new();
        let mut command = place.command(&url);
        command.env("GIT_PULL_METHOD", "http").envs(variables.iter().copied());
        let ended = run(&mut command);
        assert!(!ended.said.contains("hunter2"), "{}", ended.said);
        ended
    };
    build(&[("GIT_USERNAME", "user"), ("GIT_PASSWORD", "hunter2")]).success();
    build(&[("GIT_TOKEN", "hunter2")]).success();
    build(&[("GIT_USERNAME", "user"), ("GIT_PASSWORD", "wrong")]).refused(1, &["GIT_AUTH_TOKEN"]);
    build(&[]).refused(1, &["GIT_AUTH_TOKEN"]);
}
