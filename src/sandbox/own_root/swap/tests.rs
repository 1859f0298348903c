//! A swap in a directory that represents a container.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::SystemTime;

use super::super::container::{Container, ContainerFile, OLD};
use super::super::state::{STASH, STATE};
use super::super::undo::recover;
use super::*;

/// Creates a container with pinned `/etc/hosts`, `/var/run/docker.sock` and `/proc`, and a stage in its work directory.
fn container() -> Container {
    let container = Container::with_directories(&["etc/ssl", "var/run", "proc", "root"]);
    container.write_all(&["etc/hosts", "etc/own", "var/run/docker.sock", "proc/1", "root/.own"], "container");
    let stage = container.stage();
    for path in ["etc", "run", "usr/bin", "var/lib", "proc", "tmp"] {
        std::fs::create_dir_all(stage.join(path)).unwrap();
    }
    symlink("/run", stage.join("var/run")).unwrap();
    symlink("usr/bin", stage.join("bin")).unwrap();
    for path in ["etc/hosts", "etc/passwd", "etc/gone", "usr/bin/sh", "top"] {
        std::fs::write(stage.join(path), "image").unwrap();
    }
    std::fs::set_permissions(stage.join("etc"), Permissions::from_mode(0o751)).unwrap();
    container.age(&["kaniko/stage/etc", "kaniko/stage/var", "kaniko/stage"]);
    container
}

impl Container {
    fn place(&self) -> SwapTarget {
        let stay = ["etc/hosts", "var/run/docker.sock", "proc", "kaniko", STATE].map(|path| self.path(path));
        SwapTarget { base: self.root().to_owned(), root: self.stage(), pinned: PinnedPaths::new(self.root(), stay) }
    }

    fn recover(&self) -> bool {
        recover(self.root()).unwrap()
    }

    /// Returns all files outside of the work directory.
    fn own_files(&self) -> Vec<ContainerFile> {
        self.files(|path| !path.starts_with("kaniko"))
    }

    fn stage_files(&self) -> Vec<ContainerFile> {
        self.files(|path| path.starts_with("kaniko/stage"))
    }

    /// Returns the wanted files without times; the tests check those of the relevant directories.
    fn files(&self, is_wanted: impl Fn(&Path) -> bool) -> Vec<ContainerFile> {
        let entries = self.entries().into_iter().filter(|entry| is_wanted(&entry.path));
        entries.map(|entry| ContainerFile { modified: None, ..entry }).collect()
    }
}

#[test]
fn without_changes_everything_is_restored() {
    let container = container();
    let (before, stage_before) = (container.own_files(), container.stage_files());
    let mut swapped = Swapped::enter(container.place()).unwrap();
    assert_eq!(container.read("etc/passwd"), "image");
    assert_eq!(container.read("etc/hosts"), "container");
    assert_eq!(container.read("bin/sh"), "image");
    assert!(!container.path("root").exists());
    assert!(!container.path("etc/own").exists());
    assert_eq!(container.path("etc").metadata().unwrap().permissions().mode() & 0o7777, 0o751);
    let restamped = swapped.leave().unwrap();
    assert_eq!(container.own_files(), before);
    assert_eq!(container.stage_files(), stage_before);
    let paths: Vec<&str> = restamped.iter().filter_map(|restamp| restamp.path.to_str()).collect();
    assert_eq!(paths, ["bin", "run", "tmp", "top", "usr", "etc/gone", "etc/passwd", "var/lib"]);
    for restamp in &restamped {
        let now = container.stage().join(&restamp.path).symlink_metadata().unwrap();
        assert_eq!(restamp.after, ChangeTime::of(&now));
    }
    for path in ["etc", "var", ""] {
        let modified = container.stage().join(path).metadata().unwrap().modified().unwrap();
        assert_eq!(modified, SystemTime::UNIX_EPOCH + OLD, "{path:?}");
    }
    assert!(!container.path(STATE).exists());
}

#[test]
fn changes_of_a_command_end_up_in_the_stage() {
    let container = container();
    let before = container.own_files();
    let mut swapped = Swapped::enter(container.place()).unwrap();
    container.write("etc/new", "made");
    container.write("etc/passwd", "changed");
    container.write("etc/hosts", "overwritten");
    container.write("var/run/pid", "made");
    container.write("usr/bin/tool", "made");
    std::fs::remove_file(container.path("etc/gone")).unwrap();
    std::fs::create_dir(container.path("opt")).unwrap();
    std::fs::remove_file(container.path("top")).unwrap();
    container.write("top", "replaced");
    std::fs::set_permissions(container.path("var"), Permissions::from_mode(0o700)).unwrap();
    let restamped = swapped.leave().unwrap();
    assert_eq!(container.own_files(), before);
    let stage = |path: &str| std::fs::read_to_string(container.stage().join(path)).unwrap();
    assert_eq!(stage("etc/new"), "made");
    assert_eq!(stage("etc/passwd"), "changed");
    assert_eq!(stage("etc/hosts"), "image");
    assert_eq!(stage("run/pid"), "made");
    assert_eq!(stage("usr/bin/tool"), "made");
    assert_eq!(stage("top"), "replaced");
    assert!(container.stage().join("opt").is_dir());
    assert!(container.stage().join("var/run").is_symlink());
    assert!(!container.stage().join("etc/gone").exists());
    assert_eq!(container.stage().join("var").metadata().unwrap().permissions().mode() & 0o7777, 0o700);
    let paths: Vec<&str> = restamped.iter().filter_map(|restamp| restamp.path.to_str()).collect();
    // Not `run`, which has a new entry.
    assert_eq!(paths, ["bin", "tmp", "usr", "var/lib"]);
}

#[test]
fn a_directory_the_image_lacks_is_made_only_for_something_new() {
    let container = container();
    std::fs::remove_dir_all(container.stage().join("var")).unwrap();
    let mut swapped = Swapped::enter(container.place()).unwrap();
    swapped.leave().unwrap();
    assert!(!container.stage().join("var").exists());
    let mut swapped = Swapped::enter(container.place()).unwrap();
    container.write("var/run/pid", "made");
    swapped.leave().unwrap();
    let made = container.stage().join("var/run");
    assert_eq!(made.metadata().unwrap().permissions().mode() & 0o7777, 0o755);
    assert!(made.join("pid").exists());
}

#[test]
fn a_crash_is_undone_at_the_next_start() {
    let container = container();
    let before = container.own_files();
    let mut swapped = Swapped::enter(container.place()).unwrap();
    swapped.left = true;
    drop(swapped);
    assert_ne!(container.own_files(), before);
    assert!(container.recover());
    assert_eq!(container.own_files(), before);
    assert!(!container.path(STATE).exists());
    assert!(!container.recover());
}

#[test]
fn a_failure_on_the_way_in_is_rolled_back() {
    let container = container();
    let (before, stage_before) = (container.own_files(), container.stage_files());
    // A file in the place of a directory of the stash.
    container.write(STATE, "in the way");
    assert!(Swapped::enter(container.place()).is_err());
    std::fs::remove_file(container.path(STATE)).unwrap();
    std::fs::create_dir_all(container.path(STATE).join(STASH)).unwrap();
    std::fs::write(container.path(STATE).join(STASH).join("etc"), "in the way").unwrap();
    assert!(Swapped::enter(container.place()).is_err());
    std::fs::remove_dir_all(container.path(STATE)).unwrap();
    assert_eq!(container.own_files(), before);
    assert_eq!(container.stage_files(), stage_before);
}

/// A driver's file below a directory that is a link in the image.
#[test]
fn files_of_a_linked_directory_are_found_next_to_a_mount() {
    let container = container();
    for (path, content) in [("cat", "image"), ("old", "image"), ("moved", "image"), ("tool", "image")] {
        std::fs::write(container.stage().join("usr/bin").join(path), content).unwrap();
    }
    std::fs::create_dir(container.path("bin")).unwrap();
    container.write("bin/driver", "container");
    let driver = container.path("bin/driver");
    let place = || {
        let pinned =
            PinnedPaths::new(container.root(), [driver.clone(), container.path("kaniko"), container.path(STATE)]);
        SwapTarget { pinned, ..container.place() }
    };
    let (before, stage_before) = (container.own_files(), container.stage_files());
    let mut untouched = Swapped::enter(place()).unwrap();
    for name in ["sh", "cat"] {
        assert_eq!(container.read(&format!("bin/{name}")), "image");
    }
    untouched.leave().unwrap();
    assert_eq!((container.own_files(), container.stage_files()), (before.clone(), stage_before));

    let mut swapped = Swapped::enter(place()).unwrap();
    container.write("bin/new", "command");
    container.write("bin/cat", "changed");
    std::fs::remove_file(container.path("bin/old")).unwrap();
    std::fs::rename(container.path("bin/moved"), container.path("bin/renamed")).unwrap();
    std::fs::remove_file(container.path("bin/tool")).unwrap();
    container.write("bin/tool", "replaced");
    container.write("usr/bin/direct", "command");
    swapped.leave().unwrap();
    assert_eq!(container.own_files(), before);
    let stage = container.stage().join("usr/bin");
    let found: Vec<String> = Directory::open(&stage)
        .and_then(|stage| stage.names())
        .unwrap()
        .into_iter()
        .map(|name| format!("{} {}", name.display(), std::fs::read_to_string(stage.join(&name)).unwrap()))
        .collect();
    assert_eq!(found, ["cat changed", "direct command", "new command", "renamed image", "sh image", "tool replaced"]);
    assert!(container.stage().join("bin").symlink_metadata().unwrap().is_symlink());
}

/// The links of a dead run are removed with its stage.
#[test]
fn links_of_a_dead_run_are_removed() {
    let container = container();
    std::fs::create_dir(container.path("bin")).unwrap();
    container.write("bin/driver", "container");
    let stay = ["bin/driver", "kaniko", STATE].map(|path| container.path(path));
    let pinned = PinnedPaths::new(container.root(), stay);
    let before = container.own_files();
    let mut swapped = Swapped::enter(SwapTarget { pinned, ..container.place() }).unwrap();
    assert_eq!(container.read("bin/sh"), "image");
    swapped.left = true;
    drop(swapped);
    assert!(container.recover());
    assert_eq!(container.own_files(), before);
}
