//! Builds that follow one another for a long time leave nothing behind.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::*;

const BUILDS: usize = 200;

/// Everything below a directory, itself left out.
fn entries_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found
}

/// The processes that were started with this text in their environment.
fn processes_with(marker: &str) -> Vec<PathBuf> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let has_marker = |process: &PathBuf| {
        // One that has ended meanwhile has none.
        let environment = std::fs::read(process.join("environ")).unwrap_or_default();
        environment.windows(marker.len()).any(|window| window == marker.as_bytes())
    };
    processes.filter(has_marker).collect()
}

/// Counts what could stay behind after each of its kind has been made 200 times: files and sockets below the work directory, in the
/// directory for temporary files and in the home directory; processes, whose descriptors would be open still; mounts; and upload
/// sessions in the storage of a real registry. Every other build finds all it needs in the cache, the others write into it.
#[test]
fn two_hundred_builds_leave_nothing_behind() {
    let workspace = Workspace::new("FROM scratch\nCOPY main.txt /\nCOPY --link lib /lib\n");
    workspace.file("lib/a.txt", "a\n");
    let repository = peers().repository("builds");
    let (temporary, home) = (workspace.out().join("tmp"), workspace.out().join("home"));
    for directory in [&temporary, &home] {
        std::fs::create_dir(directory).unwrap();
    }
    let marker = format!("CRABWRIGHT_TEST_RUN={}", workspace.out().display());
    for number in 0..BUILDS {
        workspace.file("main.txt", &format!("{}\n", number / 2));
        let mut command = workspace.build();
        command.args(["--cache", "--cache-copy-layers=true", &format!("--cache-repo={repository}/cache")]);
        command.arg(format!("--destination={repository}:1"));
        command.env("TMPDIR", &temporary).env("HOME", &home).env("CRABWRIGHT_TEST_RUN", workspace.out());
        let built = Built(run(&mut command).success());
        let expected = match number {
            0 => 2,
            _ if number % 2 == 0 => 1,
            _ => 0,
        };
        assert_eq!(built.executed(), expected, "build {number}:\n{}", built.said());
    }
    let work = workspace.out().join("work");
    for directory in [&work, &temporary, &home] {
        assert_eq!(entries_below(directory), Vec::<PathBuf>::new());
    }
    assert_eq!(processes_with(&marker), Vec::<PathBuf>::new());
    let mounts = std::fs::read("/proc/self/mountinfo").unwrap();
    let out = workspace.out();
    assert!(
        !mounts.windows(out.as_os_str().len()).any(|window| window == out.as_os_str().as_bytes()),
        "a mount is left"
    );
    let storage = peers().registry_storage(&repository);
    let sessions: Vec<PathBuf> = ["", "cache"]
        .iter()
        .flat_map(|name| {
            let repository = storage.join(name);
            assert!(
                repository.join("_manifests").is_dir(),
                "{} is not where the registry keeps it",
                repository.display()
            );
            // Of an upload that it was told to give up the registry itself leaves the state of a hash, and this file goes.
            entries_below(&repository.join("_uploads")).into_iter().filter(|path| path.ends_with("startedat"))
        })
        .collect();
    assert_eq!(sessions, Vec::<PathBuf>::new());
}
