//! Mounts over a stage in a directory that represents a container; the test plays the command.

use std::os::unix::fs::{MetadataExt, symlink};

use super::super::container::Container;
use super::super::pinned_paths::PinnedPaths;
use super::super::state::STATE;
use super::super::swap::Swapped;
use super::super::undo::recover;
use super::*;
use crate::diag::redact::Secret;

/// Creates a container with a stage and a cache in its work directory.
fn container() -> Container {
    let container = Container::with_directories(&[
        "tmp",
        "kaniko/stage/opt/full",
        "kaniko/stage/tmp",
        "kaniko/cache/deep",
        "kaniko/other",
    ]);
    container.write_all(&["tmp/socket", "kaniko/cache/kept", "kaniko/cache/deep/kept", "kaniko/other/there"], "source");
    container.write_all(&["kaniko/stage/opt/full/image", "kaniko/stage/opt/file", "kaniko/stage/top"], "image");
    symlink("/opt/full", container.path("kaniko/stage/link")).unwrap();
    container.age(&["kaniko/stage/opt", "kaniko/stage", "kaniko/cache", "kaniko", "tmp"]);
    container
}

impl Container {
    fn enter(&self) -> Swapped {
        let pinned = PinnedPaths::new(self.root(), [self.path("kaniko"), self.path(STATE)]);
        let (base, root) = (self.root().to_owned(), self.path("kaniko/stage"));
        Swapped::enter(SwapTarget { base, root, pinned }).unwrap()
    }

    fn enter_with(&self, mounts: &[Mount]) -> Swapped {
        let mut swapped = self.enter();
        swapped.mount_all(mounts).unwrap();
        swapped
    }

    fn bind(&self, source: &str, target: &str) -> Mount {
        let content = MountContent::Bind { source: self.path(source) };
        Mount { target: target.to_owned(), content, read_only: false }
    }
}

/// Plays the next start after a crash.
fn undo(container: &Container) {
    assert!(recover(container.root()).unwrap());
}

fn memory(target: &str) -> Mount {
    Mount { target: target.to_owned(), content: MountContent::Memory { size: None }, read_only: false }
}

fn secret(target: &str) -> Mount {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let content = MountContent::File { content: Secret::new(b"secret".to_vec()), mode: 0o400, uid, gid };
    Mount { target: target.to_owned(), content, read_only: true }
}

fn every_kind(container: &Container) -> Vec<Mount> {
    vec![
        container.bind("kaniko/cache", "/opt/full"),
        container.bind("tmp/socket", "/run/agent.0"),
        memory("/opt/full/deep"),
        container.bind("kaniko/other", "/opt/full/deep/new/other"),
        secret("/opt/file"),
        secret("/run/secrets/name"),
        container.bind("kaniko/cache", "/again"),
    ]
}

#[test]
fn mounts_are_visible_and_leave_no_trace() {
    let container = container();
    let before = container.entries();
    let mut swapped = container.enter_with(&every_kind(&container));
    assert_eq!(container.read("opt/full/kept"), "source");
    assert!(!container.path("opt/full/image").exists());
    assert_eq!(container.read("run/agent.0"), "source");
    assert!(!container.path("opt/full/deep/kept").exists());
    assert_eq!(container.path("opt/full/deep").metadata().unwrap().mode() & 0o7777, 0o1777);
    assert_eq!(container.read("opt/full/deep/new/other/there"), "source");
    assert_eq!(container.read("opt/file"), "secret");
    assert_eq!(container.path("opt/file").metadata().unwrap().mode() & 0o7777, 0o400);
    assert_eq!(container.read("again/kept"), "source");
    let restamped = swapped.leave().unwrap();
    assert_eq!(container.entries(), before);
    let hidden: Vec<&Path> =
        restamped.iter().map(|restamp| &*restamp.path).filter(|path| path.starts_with("opt/")).collect();
    assert_eq!(hidden, [Path::new("opt/file"), Path::new("opt/full")]);
    for restamp in &restamped {
        let now = container.path("kaniko/stage").join(&restamp.path).symlink_metadata().unwrap();
        assert_eq!(restamp.after, ChangeTime::of(&now), "{restamp:?}");
    }
}

#[test]
fn a_hidden_entry_at_the_top_is_restamped_once() {
    let container = container();
    let mut swapped = container.enter_with(&[secret("/top")]);
    let restamped = swapped.leave().unwrap();
    assert_eq!(restamped.iter().filter(|restamp| restamp.path == Path::new("top")).count(), 1);
}

#[test]
fn writes_reach_the_source_of_a_mount() {
    let container = container();
    let mut swapped =
        container.enter_with(&[container.bind("kaniko/cache", "/link"), memory("/new/memory"), secret("/new/secret")]);
    container.write("opt/full/made", "cached");
    container.write("new/memory/made", "lost");
    container.write("new/made", "layer");
    swapped.leave().unwrap();
    assert_eq!(container.read("kaniko/cache/made"), "cached");
    assert_eq!(container.read("kaniko/stage/new/made"), "layer");
    assert_eq!(container.read("kaniko/stage/opt/full/image"), "image");
    assert!(!container.path("kaniko/stage/new/memory").exists());
    assert!(!container.path("kaniko/stage/new/secret").exists());
    assert!(container.path("kaniko/stage/link").is_symlink());
}

#[test]
fn a_removed_or_replaced_mount_point_comes_back_empty() {
    let container = container();
    for replace in [false, true] {
        let mut swapped = container.enter_with(&[container.bind("kaniko/cache", "/opt/full"), secret("/opt/file")]);
        std::fs::remove_dir_all(container.path("opt/full")).unwrap();
        std::fs::remove_file(container.path("opt/file")).unwrap();
        if replace {
            symlink(container.path("kaniko/other"), container.path("opt/full")).unwrap();
            symlink(container.path("kaniko/other/there"), container.path("opt/file")).unwrap();
        }
        swapped.leave().unwrap();
        assert_eq!(std::fs::read_dir(container.path("kaniko/cache")).unwrap().count(), 0);
        assert_eq!(container.read("kaniko/other/there"), "source");
        assert_eq!(container.read("kaniko/stage/opt/full/image"), "image");
        assert_eq!(container.read("kaniko/stage/opt/file"), "image");
        assert!(!container.path(".crabwright/mounts").exists());
    }
}

#[test]
fn a_moved_mount_is_found() {
    let container = container();
    let mut swapped = container.enter_with(&[container.bind("kaniko/cache", "/opt/full"), secret("/opt/file")]);
    std::fs::rename(container.path("opt/full"), container.path("moved")).unwrap();
    std::fs::rename(container.path("opt/file"), container.path("leaked")).unwrap();
    swapped.leave().unwrap();
    assert_eq!(container.read("kaniko/cache/kept"), "source");
    assert_eq!(container.read("kaniko/stage/opt/full/image"), "image");
    assert!(!container.path("kaniko/stage/moved").exists() && !container.path("kaniko/stage/leaked").exists());
}

#[test]
fn a_link_in_place_of_the_directory_above_leads_nowhere() {
    let container = container();
    let mut swapped = container.enter_with(&[container.bind("kaniko/cache", "/opt/full"), secret("/opt/there")]);
    std::fs::rename(container.path("opt"), container.path("moved")).unwrap();
    symlink(container.path("kaniko/other"), container.path("opt")).unwrap();
    swapped.leave().unwrap();
    assert_eq!(container.read("kaniko/cache/kept"), "source");
    assert_eq!(container.read("kaniko/other/there"), "source");
    assert_eq!(container.read("kaniko/stage/moved/full/image"), "image");
    assert!(!container.path("kaniko/stage/moved/there").exists());
}

#[test]
fn a_crash_gives_sources_back_and_removes_secrets() {
    let container = container();
    // Forgotten instead of dropped, as after SIGKILL.
    std::mem::forget(container.enter_with(&every_kind(&container)));
    container.write("opt/full/made", "cached");
    undo(&container);
    assert_eq!(container.read("kaniko/cache/kept"), "source");
    assert_eq!(container.read("kaniko/cache/made"), "cached");
    assert_eq!(container.read("kaniko/cache/deep/kept"), "source");
    assert_eq!(container.read("kaniko/other/there"), "source");
    assert_eq!(container.read("tmp/socket"), "source");
    let entries = format!("{:?}", container.entries());
    assert!(!entries.contains("secret"), "{entries}");
    assert!(!entries.contains(STATE), "{entries}");
}

/// Tests every point between two moves: the later moves are undone by hand, as if a crash had prevented them.
#[test]
fn a_crash_in_the_middle_of_a_mount_is_undone() {
    for (moved, hidden) in [(false, false), (false, true), (true, true)] {
        let container = container();
        std::mem::forget(container.enter_with(&[container.bind("kaniko/cache", "/opt/full")]));
        if !moved {
            std::fs::rename(container.path("opt/full"), container.path("kaniko/cache")).unwrap();
        }
        if !hidden {
            std::fs::rename(container.path(".crabwright/mounts/0.hidden"), container.path("opt/full")).unwrap();
        }
        undo(&container);
        assert_eq!(container.read("kaniko/cache/kept"), "source", "moved: {moved}, hidden: {hidden}");
        assert_eq!(container.read("kaniko/cache/deep/kept"), "source");
        assert!(!container.path("kaniko/cache/image").exists());
        assert!(!container.path("opt").exists());
    }
}

#[test]
fn an_interrupted_undo_can_be_repeated() {
    let container = container();
    let mounts = [container.bind("kaniko/cache", "/opt/full"), container.bind("kaniko/other", "/opt/full/deep")];
    std::mem::forget(container.enter_with(&mounts));
    // The inner mount is back, the entry that it hid is not.
    std::fs::rename(container.path("opt/full/deep"), container.path("kaniko/other")).unwrap();
    undo(&container);
    assert_eq!(container.read("kaniko/other/there"), "source");
    assert_eq!(container.read("kaniko/cache/deep/kept"), "source");
}

#[test]
fn an_impossible_target_is_refused_and_everything_is_restored() {
    let container = container();
    let before = container.entries();
    for target in ["/kaniko", "/kaniko/..", "/opt/file/below"] {
        let mut swapped = container.enter();
        assert!(swapped.mount_all(&[container.bind("kaniko/cache", "/opt/full"), memory(target)]).is_err(), "{target}");
        swapped.leave().unwrap();
        assert_eq!(container.entries(), before);
    }
}

#[test]
fn a_source_on_a_different_mount_is_linked() {
    let container = container();
    let before = container.entries();
    let volume = tempfile::tempdir_in("/dev/shm").unwrap();
    std::fs::write(volume.path().join("kept"), "volume").unwrap();
    let content = MountContent::Bind { source: volume.path().to_owned() };
    let mount = Mount { target: "/opt/full".to_owned(), content, read_only: false };
    let mut swapped = container.enter_with(std::slice::from_ref(&mount));
    assert!(container.path("opt/full").is_symlink());
    assert_eq!(container.read("opt/full/kept"), "volume");
    swapped.leave().unwrap();
    assert_eq!(container.entries(), before);
    std::mem::forget(container.enter_with(&[mount]));
    undo(&container);
    assert_eq!(std::fs::read_to_string(volume.path().join("kept")).unwrap(), "volume");
}
