//! What steps take from the network, and contexts from elsewhere: which version there is decides, and is asked for with as
//! little as that takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::support::git::Repository;
use crate::support::program::stdout;
use crate::support::web::{Answer, Asked, Web};

/// Requests that make a repository's server send objects.
fn fetches(git: &Web) -> usize {
    git.asked().iter().filter(|asked| asked.method == "POST").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_counts_by_its_commit_and_is_fetched_only_for_a_miss() {
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::new(directory.path(), "app");
    repository.file("main.txt", "one");
    let first = repository.commit("main");
    repository.git(&["tag", "--annotate", "--message=tag", "v1"]);
    repository.publish("refs/tags/v1");
    let git = Web::serve_git(directory.path().to_owned(), |_| None);
    let url = |reference: &str| git.url(&format!("/app.git#{reference}"));
    let dockerfile =
        |add: &str| format!("FROM {}\nADD {add} /app/\nRUN cat /app/main.txt > /copy\n", peers().busybox());
    let bench = Bench::with(Store::Registry, &dockerfile(&url("main")), Habits::default()).await;
    assert_eq!(bench.build().executed(), 2);
    let asked = fetches(&git);
    assert!(asked > 0, "the repository was fetched");
    let unchanged = bench.build();
    assert_eq!((unchanged.executed(), fetches(&git)), (0, asked), "{}", unchanged.said());

    repository.file("main.txt", "two");
    repository.commit("main");
    let moved = bench.build();
    assert_eq!(moved.executed(), 2);
    moved.says(&format!("not cached: {} changed", url("main")));
    // What a tag with a message leads to, the commit itself, and the start of its hash, which only a fetch can tell.
    for reference in ["v1", "refs/tags/v1", &first, &first[..12]] {
        bench.workspace.file("Dockerfile", &dockerfile(&url(reference)));
        // Files have the time of the checkout: where that is the same second, the command behind it is found by them.
        assert!((1..=2).contains(&bench.build().executed()), "{reference}");
        let before = fetches(&git);
        assert_eq!(bench.build().executed(), 0, "{reference}");
        assert_eq!(fetches(&git) == before, reference != &first[..12], "{reference}");
    }
    // The same commit below the same name is the same, wherever the tag is.
    repository.git(&["tag", "--force", "v1", "HEAD"]);
    repository.publish("+refs/tags/v1");
    bench.workspace.file("Dockerfile", &dockerfile(&url("v1")));
    assert!((1..=2).contains(&bench.build().executed()), "the tag was moved");
    // A commit that is not the one that is expected is an error as ever.
    bench.workspace.file("Dockerfile", &dockerfile(&format!("--checksum={first} {}", url("main"))));
    run(&mut bench.command()).refused(1, &["expected checksum to match"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_moves_during_the_build_is_not_kept() {
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::new(directory.path(), "app");
    repository.file("main.txt", "one");
    let first = repository.commit("main");
    repository.file("main.txt", "two");
    let second = repository.commit("main");
    let bare = repository.bare.clone();
    let point_to = move |commit: &str| {
        stdout(Command::new("git").arg("-C").arg(&bare).args(["update-ref", "refs/heads/main", commit]));
    };
    point_to(&first);
    let references = std::sync::atomic::AtomicUsize::new(0);
    let git = Web::serve_git(directory.path().to_owned(), move |asked| {
        // Asked for the key, and again for the files.
        if asked.path.ends_with("/info/refs") && references.fetch_add(1, Ordering::SeqCst) == 1 {
            point_to(&second);
        }
        None
    });
    let dockerfile =
        format!("FROM {{base}}\nRUN echo x > /x\nADD {} /app/\nRUN cat /app/main.txt\n", git.url("/app.git#main"));
    let bench = Bench::with(Store::Directory, &dockerfile, Habits::default()).await;
    let built = bench.build();
    built.says("changed during the build").says("two");
    assert_eq!(bench.layers().len(), 1, "of the command before it alone");
    assert_eq!(bench.build().executed(), 2);
    assert_eq!(bench.build().executed(), 0);
}

/// A server of one file, with what it says of the version.
fn serve(version: &Arc<AtomicBool>, say: impl Fn(&Asked, Answer, &str) -> Answer + Send + Sync + 'static) -> Web {
    let version = Arc::clone(version);
    Web::serve(move |asked, _before| {
        let number = if version.load(Ordering::SeqCst) { "2" } else { "1" };
        say(asked, Answer::ok(format!("version {number}")), number)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_counts_by_what_its_server_says_of_it() {
    fn tag(_: &Asked, answer: Answer, number: &str) -> Answer {
        answer.header("ETag", &format!("\"{number}\""))
    }
    fn time(_: &Asked, answer: Answer, number: &str) -> Answer {
        answer.header("Last-Modified", &format!("Sun, 0{number} Jan 2023 00:00:00 GMT"))
    }
    fn weak(asked: &Asked, answer: Answer, number: &str) -> Answer {
        time(asked, answer, number).header("ETag", "W/\"same\"")
    }
    fn nothing(_: &Asked, answer: Answer, _: &str) -> Answer {
        answer
    }
    fn no_head(asked: &Asked, answer: Answer, number: &str) -> Answer {
        if asked.method == "HEAD" { Answer::status(403) } else { tag(asked, answer, number) }
    }
    fn elsewhere(asked: &Asked, answer: Answer, number: &str) -> Answer {
        if asked.path == "/file" { Answer::redirect("/other") } else { tag(asked, answer, number) }
    }
    type Say = fn(&Asked, Answer, &str) -> Answer;
    // And how often the file itself is asked for by a build that needs nothing of it.
    let servers: [(&str, Say, usize); 6] = [
        ("a tag", tag, 0),
        ("a time", time, 0),
        ("a weak tag and a time", weak, 0),
        ("nothing", nothing, 2),
        ("no answer to HEAD", no_head, 1),
        ("a redirect", elsewhere, 0),
    ];
    for (name, say, expected) in servers {
        let changed = Arc::new(AtomicBool::new(false));
        let web = serve(&changed, say);
        let dockerfile = format!("FROM {{base}}\nADD {} /file\nRUN cat /file > /copy\n", web.url("/file"));
        let bench = Bench::with(Store::Directory, &dockerfile, Habits::default()).await;
        assert_eq!(bench.build().executed(), 2, "{name}");
        let got = || web.asked().iter().filter(|asked| asked.method == "GET").count();
        let before = got();
        assert_eq!(bench.build().executed(), 0, "{name}");
        assert_eq!(got() - before, expected, "{name}");
        changed.store(true, Ordering::SeqCst);
        let built = bench.build();
        assert_eq!(built.executed(), 2, "{name}");
        built.says(&format!("not cached: {} changed", web.url("/file")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_a_checksum_is_not_asked_for_at_all() {
    let changed = Arc::new(AtomicBool::new(false));
    let web = serve(&changed, |_, answer, _| answer);
    let checksum = Digest::sha256_of(b"version 1");
    let dockerfile = format!("FROM {{base}}\nADD --checksum={checksum} {} /file\n", web.url("/file"));
    let bench = Bench::with(Store::Directory, &dockerfile, Habits::default()).await;
    bench.build();
    let before = web.asked().len();
    changed.store(true, Ordering::SeqCst);
    assert_eq!(bench.build().executed(), 0);
    assert_eq!(web.asked().len(), before);
}

/// What was fetched is another version than the one that the key names: nobody may find it under that key.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_during_the_build_is_not_kept() {
    let settled = Arc::new(AtomicBool::new(false));
    let web = serve(&settled, |asked, answer, settled| {
        let number = if asked.method == "HEAD" && settled == "1" { "1" } else { "2" };
        answer.header("ETag", &format!("\"{number}\""))
    });
    let url = web.url("/file");
    let dockerfile = format!("FROM {{base}}\nRUN echo x > /x\nADD {url} /file\nRUN cat /file > /copy\n");
    let bench = Bench::with(Store::Directory, &dockerfile, Habits::default()).await;
    bench.build().says(&format!("{url} changed during the build"));
    assert_eq!(bench.layers().len(), 1, "of the command before it alone");
    settled.store(true, Ordering::SeqCst);
    assert_eq!(bench.build().executed(), 2);
    assert_eq!(bench.build().executed(), 0);
}

/// Directories, archives and repositories that have a name count by the files that are read of them, images by theirs.
#[tokio::test(flavor = "multi_thread")]
async fn named_contexts_count_by_their_files() {
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::new(directory.path(), "app");
    repository.file("code.txt", "one").file("notes.txt", "one");
    repository.commit("main");
    let git = Web::serve_git(directory.path().to_owned(), |_| None);
    let files = directory.path().join("files");
    std::fs::create_dir(&files).unwrap();
    let file = |name: &str, content: &str| std::fs::write(files.join(name), content).unwrap();
    file("used.txt", "one");
    let archive = directory.path().join("archive.tar.gz");
    let pack = || drop(stdout(Command::new("tar").arg("-czf").arg(&archive).arg("-C").arg(&files).arg("used.txt")));
    pack();
    let dockerfile = "FROM start AS first\nFROM image\nCOPY --from=code code.txt /code\nCOPY --from=packed used.txt /used\n\
                      COPY --from=first used.txt /first\nRUN --mount=from=files,target=/mnt cat /mnt/used.txt > /mounted\n";
    let bench = Bench::with(Store::Directory, dockerfile, Habits::default()).await;
    let contexts = [
        format!("--build-context=start={}", files.display()),
        format!("--build-context=image=docker-image://{}", peers().busybox()),
        format!("--build-context=code={}", git.url("/app.git#main")),
        format!("--build-context=packed=tar://{}", archive.display()),
        format!("--build-context=files={}", files.display()),
    ];
    let contexts: Vec<&str> = contexts.iter().map(String::as_str).collect();
    let build = || bench.build_with(&contexts);
    assert_eq!(build().executed(), 5);
    assert_eq!(build().executed(), 0);
    // Another commit, of which nothing is read that changed.
    repository.file("notes.txt", "two");
    repository.commit("main");
    assert_eq!(build().executed(), 0);
    repository.file("code.txt", "two");
    repository.commit("main");
    let code = build();
    code.says("file code.txt changed");
    assert!(build().executed() == 0 && code.executed() > 0);
    file("used.txt", "two");
    let mounted = build();
    mounted.says("file used.txt changed");
    assert_eq!(mounted.cached(), ["COPY --from=code code.txt /code", "COPY --from=packed used.txt /used"]);
    pack();
    let packed = build();
    assert!(packed.cached().contains(&"COPY --from=code code.txt /code"), "{}", packed.said());
    assert!(!packed.cached().contains(&"COPY --from=packed used.txt /used"), "{}", packed.said());
    assert_eq!(build().executed(), 0);
}
