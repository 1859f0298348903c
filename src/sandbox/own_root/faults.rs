//! Makes the system calls of an exchange and of putting back fail, one after the other, in a directory that stands for a
//! container.
//!
//! Each call is a point; at each of them every kind of failure is tried. Death is the failure of this call and of all that
//! follow, which is what SIGKILL leaves. Whatever happened, after the next start the container must be as it was.

use std::cell::RefCell;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;

use super::container::{Container, Entry};
use super::pinned_paths::PinnedPaths;
use super::state::STATE;
use super::swap::Swapped;
use super::swap_target::SwapTarget;
use super::undo::recover;

/// Calls that need space on the disk.
const NEED_SPACE: [&str; 5] = ["mkdirat", "openat create", "pwrite at the end", "symlinkat", "fsetxattr"];

/// What goes wrong from a point on.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// One call gets this answer.
    Once(Errno),
    /// No call that needs space has any from here on.
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

/// Does `work` with a fault at a point; gives the calls that were made.
fn with<T>(fault: Option<(usize, Fault)>, work: impl FnOnce() -> T) -> (T, Vec<&'static str>) {
    PLAN.set(Plan { calls: Vec::new(), fault });
    let result = work();
    (result, PLAN.take().calls)
}

/// Something of every kind that a swap has to do with: what stays at the top and deeper, directories that the image has, lacks and
/// has as links, attributes, and times long ago.
fn container() -> Container {
    // Thousands of them: in memory.
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

/// What a command does: it changes, makes and removes something in every kind of directory.
fn command(container: &Container) {
    for path in ["etc/new", "var/run/pid", "bin/new", "opt/pods/new", "usr/bin/direct"] {
        container.write(path, "command");
    }
    container.write("etc/hosts", "command, and more than there was");
    for path in ["top", "bin/cat"] {
        std::fs::remove_file(container.path(path)).unwrap();
    }
}

/// A build in which something goes wrong; whether it noticed.
fn build(container: &Container) -> Result<(), String> {
    let mut swapped = Swapped::enter(place(container)).map_err(|error| crate::diag::with_causes(&error))?;
    command(container);
    swapped.leave().map(drop).map_err(|error| crate::diag::with_causes(&error))
}

/// Everything but what is the build's. A file whose content was set back has the time of that.
fn own(container: &Container) -> Vec<Entry> {
    let entries = container.entries().into_iter().filter(|entry| !entry.path.starts_with("kaniko"));
    let without_time = |entry: Entry| match entry.path == Path::new("etc/hosts") {
        true => Entry { modified: None, ..entry },
        false => entry,
    };
    entries.map(without_time).collect()
}

fn stage(container: &Container) -> Vec<(std::path::PathBuf, String)> {
    let entries = container.entries().into_iter().filter(|entry| entry.path.starts_with("kaniko/stage"));
    entries.map(|entry| (entry.path, entry.content)).collect()
}

#[track_caller]
fn assert_restored(container: &Container, before: &[Entry], what: &str) {
    let now = own(container);
    let difference: Vec<&Entry> = now
        .iter()
        .filter(|entry| !before.contains(entry))
        .chain(before.iter().filter(|entry| !now.contains(entry)))
        .collect();
    assert!(difference.is_empty(), "{what}: the container is not as it was: {difference:#?}");
}

/// Does `work` for each number, on as many threads as there are waits to sleep through.
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

/// The calls of a build that nothing happens to, and what it makes of the stage.
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
            // What can be gone round is gone round: then the image is right, too.
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

/// The next start fails, too, at each of its points, and the one after it does not.
#[test]
fn a_recovery_that_fails_is_done_by_the_one_after_it() {
    let (calls, _) = undisturbed();
    let entered = with(None, || Swapped::enter(place(&container()))).1.len();
    // Dead while the container's files move out, while the command runs, and while they move back.
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

/// A command that puts a link in the place of a directory that holds a pod's mount leads nothing astray, whatever fails.
#[test]
fn a_replaced_directory_is_put_back_whatever_fails() {
    let attempt = |fault| {
        let container = container();
        container.write_all(&["kaniko/executor", "kaniko/config"], "own");
        let before = container.entries().into_iter().filter(|entry| !entry.path.starts_with("kaniko/stage"));
        let before: Vec<Entry> = before.collect();
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
    // Not death: without the open directory, what was moved is known by its mount point only, of which there is none here.
    let kinds = [Fault::Once(Errno::IO), Fault::Once(Errno::NOSPC), Fault::Once(Errno::MFILE)];
    for_each((calls - entered) * kinds.len(), |number| {
        attempt(Some((entered + number / kinds.len(), kinds[number % kinds.len()])));
    });
}

/// A journal that a command cut short or wrote over is not taken for another one, and what to do is said.
#[test]
fn a_journal_that_makes_no_sense_is_refused() {
    let entered = with(None, || Swapped::enter(place(&container()))).1.len();
    let container = container();
    with(Some((entered, Fault::Death)), || build(&container)).0.unwrap_err();
    let journal = container.path(STATE).join("own-root.journal");
    let whole = std::fs::read(&journal).unwrap();
    let line = whole.iter().position(|byte| *byte == b'\n').unwrap();
    let mut altered = whole.clone();
    altered[line + 2] = b'!';
    for broken in [
        &whole[..10],
        &whole[..=line],
        &whole[..line + 100],
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
    // What is in the stash is the container's: it is not removed.
    assert!(recover(container.root()).unwrap_err().to_string().contains("is gone"));
    std::fs::write(&journal, &whole).unwrap();
    assert!(recover(container.root()).unwrap());
    assert!(container.path("root/deep/own").exists() && Path::exists(&container.path("etc/own")));
}
