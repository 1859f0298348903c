//! Injects failures into the system calls of an exchange and of its undo, one after the other, in a directory that
//! represents a container.
//!
//! Each call is a point, and every kind of failure is tried at each. Death is the failure of this call and all
//! following ones, as after SIGKILL. After the next start the container must always be as it was.

use std::cell::RefCell;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;

use super::container::{Container, ContainerFile};
use super::pinned_paths::PinnedPaths;
use super::state::STATE;
use super::swap::Swapped;
use super::swap_target::SwapTarget;
use super::undo::recover;

/// Calls that need space on the disk.
const NEED_SPACE: [&str; 5] = ["mkdirat", "openat create", "pwrite at the end", "symlinkat", "fsetxattr"];

/// A failure at a point.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// One call fails with this error.
    Once(Errno),
    /// All calls from here on that need space fail.
    DiskFull,
    /// The process is killed.
    Death,
}

const KINDS: [Fault; 6] = [
    Fault::Once(Errno::IO),
    Fault::Once(Errno::NOSPC),
    Fault::Once(Errno::XDEV),
    Fault::Once(Errno::MFILE),
    Fault::DiskFull,
    Fault::Death,
];

#[derive(Default)]
struct Plan {
    calls: Vec<&'static str>,
    fault: Option<(usize, Fault)>,
}

thread_local! {
    static PLAN: RefCell<Plan> = RefCell::default();
}

/// Called before each system call.
pub(super) fn point(call: &'static str) -> rustix::io::Result<()> {
    PLAN.with_borrow_mut(|plan| {
        let number = plan.calls.len();
        plan.calls.push(call);
        match plan.fault {
            Some((at, Fault::Once(errno))) if number == at => Err(errno),
            Some((at, Fault::DiskFull)) if number >= at && NEED_SPACE.contains(&call) => Err(Errno::NOSPC),
            Some((at, Fault::Death)) if number >= at => Err(Errno::OWNERDEAD),
            _ => Ok(()),
        }
    })
}

/// Runs `work` with a fault at a point, and returns the calls that were made.
fn with<T>(fault: Option<(usize, Fault)>, work: impl FnOnce() -> T) -> (T, Vec<&'static str>) {
    PLAN.set(Plan { calls: Vec::new(), fault });
    let result = work();
    (result, PLAN.take().calls)
}

/// Creates a container with every kind of file that matters to a swap: pinned files at the top and deeper, directories
/// that the image has, lacks or has as links, attributes, and old times.
fn container() -> Container {
    // In memory: the tests create thousands of them.
    let container =
        Container::within(Path::new("/dev/shm"), &["etc/ssl", "var/run", "proc", "root/deep", "bin", "opt/pods"]);
    container.write_all(
        &["etc/hosts", "etc/own", "var/run/docker.sock", "proc/1", "root/deep/own", "bin/driver", "opt/pods/volume"],
        "container",
    );
    let stage = container.stage();
    for path in ["etc", "run", "usr/bin", "var", "tmp"] {
        std::fs::create_dir_all(stage.join(path)).unwrap();
    }
    symlink("/run", stage.join("var/run")).unwrap();
    symlink("usr/bin", stage.join("bin")).unwrap();
    for path in ["etc/hosts", "etc/passwd", "usr/bin/sh", "usr/bin/cat", "top"] {
        std::fs::write(stage.join(path), "image").unwrap();
    }
    for (path, mode) in [("kaniko/stage/etc", 0o751), ("etc", 0o750), ("var", 0o1777), ("root", 0o700)] {
        std::fs::set_permissions(container.path(path), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    container.age(&["etc/ssl", "etc", "var/run", "var", "proc", "root/deep", "root", "bin", "opt/pods", "opt"]);
    container
}

fn place(container: &Container) -> SwapTarget {
    let stay = ["etc/hosts", "var/run/docker.sock", "proc", "bin/driver", "opt/pods/volume", "kaniko", STATE];
    let pinned = PinnedPaths::new(container.root(), stay.map(|path| container.path(path)));
    SwapTarget { base: container.root().to_owned(), root: container.stage(), pinned }
}

/// Plays the command: changes, creates and removes something in every kind of directory.
fn command(container: &Container) {
    for path in ["etc/new", "var/run/pid", "bin/new", "opt/pods/new", "usr/bin/direct"] {
        container.write(path, "command");
    }
    container.write("etc/hosts", "command, and more than there was");
    for path in ["top", "bin/cat"] {
        std::fs::remove_file(container.path(path)).unwrap();
    }
}

/// Runs a build with failures and returns its error, if it noticed one.
fn build(container: &Container) -> Result<(), String> {
    let mut swapped = Swapped::enter(place(container)).map_err(|error| crate::diag::with_causes(&error))?;
    command(container);
    swapped.leave().map(drop).map_err(|error| crate::diag::with_causes(&error))
}

/// Returns the container's own files. A file whose content was restored has a new time.
fn own(container: &Container) -> Vec<ContainerFile> {
    let entries = container.entries().into_iter().filter(|entry| !entry.path.starts_with("kaniko"));
    let without_time = |entry: ContainerFile| match entry.path == Path::new("etc/hosts") {
        true => ContainerFile { modified: None, ..entry },
        false => entry,
    };
    entries.map(without_time).collect()
}

fn stage(container: &Container) -> Vec<(std::path::PathBuf, String)> {
    let entries = container.entries().into_iter().filter(|entry| entry.path.starts_with("kaniko/stage"));
    entries.map(|entry| (entry.path, entry.content)).collect()
}

#[track_caller]
fn assert_restored(container: &Container, before: &[ContainerFile], what: &str) {
    let now = own(container);
    let difference: Vec<&ContainerFile> = now
        .iter()
        .filter(|entry| !before.contains(entry))
        .chain(before.iter().filter(|entry| !now.contains(entry)))
        .collect();
    assert!(difference.is_empty(), "{what}: the container is not as it was: {difference:#?}");
}

/// Runs `work` for each number, on more threads than cores, because most of the time is spent in waits.
fn for_each(count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed) as usize;
                    if number >= count {
                        break;
                    }
                    work(number);
                }
            });
        }
    });
}

/// Returns the calls of a build without failures, and the resulting files of the stage.
fn undisturbed() -> (Vec<&'static str>, Vec<(std::path::PathBuf, String)>) {
    let container = container();
    let before = own(&container);
    let (result, calls) = with(None, || build(&container));
    result.unwrap();
    assert_restored(&container, &before, "nothing went wrong");
    (calls, stage(&container))
}

#[test]
fn after_any_failure_at_any_point_the_container_is_as_it_was() {
    let (calls, expected) = undisturbed();
    eprintln!("{} points, {} kinds", calls.len(), KINDS.len());
    for_each(calls.len() * KINDS.len(), |number| {
        let (at, kind) = (number / KINDS.len(), KINDS[number % KINDS.len()]);
        let what = format!("{kind:?} at call {at}, {}", calls[at]);
        let container = container();
        let before = own(&container);
        let (result, _) = with(Some((at, kind)), || build(&container));
        match result {
            // Some failures have a fallback; the image must then be right, too.
            Ok(()) => {
                assert_eq!(stage(&container), expected, "{what}");
                assert_restored(&container, &before, &what);
            }
            Err(error) => {
                // The disk may still be full at the next start.
                let still = (kind == Fault::DiskFull).then_some((0, kind));
                let (recovered, _) = with(still, || recover(container.root()));
                let recovered = recovered.map_err(|error| crate::diag::with_causes(&error));
                recovered.unwrap_or_else(|second| panic!("{what}: after {error}: {second}"));
                assert_restored(&container, &before, &what);
            }
        }
        assert!(!container.path(STATE).exists(), "{what}");
    });
}

/// The next start also fails, at each of its points, and the following one succeeds.
#[test]
fn a_failed_recovery_is_completed_by_the_next_one() {
    let (calls, _) = undisturbed();
    let entered = with(None, || Swapped::enter(place(&container()))).1.len();
    // Killed while the container's files move out, while the command runs, and while they move back.
    let kinds = [Fault::Once(Errno::IO), Fault::Death];
    for death in [entered * 2 / 3, entered, calls.len() - 60] {
        let dead = || {
            let container = container();
            let before = own(&container);
            with(Some((death, Fault::Death)), || build(&container)).0.unwrap_err();
            (container, before)
        };
        let (container, before) = dead();
        let points = with(None, || recover(container.root())).1;
        assert_restored(&container, &before, "undisturbed recovery");
        for_each(points.len() * kinds.len(), |number| {
            let (at, kind) = (number / kinds.len(), kinds[number % kinds.len()]);
            let what = format!("dead at call {death}, then {kind:?} at call {at} of the recovery, {}", points[at]);
            let (container, before) = dead();
            let _failed = with(Some((at, kind)), || recover(container.root()));
            recover(container.root()).unwrap_or_else(|error| panic!("{what}: {}", crate::diag::with_causes(&error)));
            assert_restored(&container, &before, &what);
            assert!(!container.path(STATE).exists(), "{what}");
        });
    }
}

/// A command that replaces a directory with a pod's mount by a link redirects nothing, whatever fails.
#[test]
fn a_replaced_directory_is_put_back_whatever_fails() {
    let attempt = |fault| {
        let container = container();
        container.write_all(&["kaniko/executor", "kaniko/config"], "own");
        let before = container.entries().into_iter().filter(|entry| !entry.path.starts_with("kaniko/stage"));
        let before: Vec<ContainerFile> = before.collect();
        let (result, calls) = with(fault, || {
            let mut swapped = Swapped::enter(place(&container)).map_err(|error| crate::diag::with_causes(&error))?;
            std::fs::rename(container.path("opt"), container.path("opt.moved")).unwrap();
            symlink(container.path("kaniko"), container.path("opt")).unwrap();
            swapped.leave().map(drop).map_err(|error| crate::diag::with_causes(&error))
        });
        let error = result.unwrap_err();
        recover(container.root()).unwrap();
        let now = container.entries().into_iter().filter(|entry| !entry.path.starts_with("kaniko/stage"));
        assert_eq!(now.collect::<Vec<_>>(), before, "{fault:?}");
        (error, calls.len())
    };
    let (error, calls) = attempt(None);
    assert!(error.contains("moved, replaced or removed") && error.contains("/opt"), "{error}");
    let entered = with(None, || Swapped::enter(place(&container()))).1.len();
    // Not death: without the open directory, a moved directory is found by its mount point only, and there is none
    // here.
    let kinds = [Fault::Once(Errno::IO), Fault::Once(Errno::NOSPC), Fault::Once(Errno::MFILE)];
    for_each((calls - entered) * kinds.len(), |number| {
        attempt(Some((entered + number / kinds.len(), kinds[number % kinds.len()])));
    });
}

/// A journal that a command truncated or overwrote is refused, with the advice what to do.
#[test]
fn a_journal_that_makes_no_sense_is_refused() {
    let entered = with(None, || Swapped::enter(place(&container()))).1.len();
    let container = container();
    with(Some((entered, Fault::Death)), || build(&container)).0.unwrap_err();
    let journal = container.path(STATE).join("own-root.journal");
    let complete = std::fs::read(&journal).unwrap();
    let line = complete.iter().position(|byte| *byte == b'\n').unwrap();
    let mut altered = complete.clone();
    altered[line + 2] = b'!';
    for broken in [
        &complete[..10],
        &complete[..=line],
        &complete[..line + 100],
        &altered,
        b"something else altogether, and long enough\n{}\n",
    ] {
        std::fs::write(&journal, broken).unwrap();
        let before = container.entries();
        let said = recover(container.root()).unwrap_err().to_string();
        assert!(said.contains("own-root.journal") && said.contains("/.crabwright/stash"), "{said}");
        assert_eq!(container.entries(), before);
    }
    std::fs::remove_file(&journal).unwrap();
    // The stash has the container's files, so it is not removed.
    assert!(recover(container.root()).unwrap_err().to_string().contains("is gone"));
    std::fs::write(&journal, &complete).unwrap();
    assert!(recover(container.root()).unwrap());
    assert!(container.path("root/deep/own").exists() && Path::exists(&container.path("etc/own")));
}
