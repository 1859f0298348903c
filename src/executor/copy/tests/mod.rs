//! `COPY` and `ADD` over real trees: steps as a user writes them, and listings of the destination.
//!
//! A tree records metadata that the file system refuses, so the tests need no root.

mod archives;
mod files;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;

use crate::context::IgnoreMatcher;
use crate::diag::with_causes;
use crate::fs::{FileKind, Timestamp};
use crate::rootfs::{Attributes, Tree};

use super::{CopyError, CopySource, copy};
use crate::plan;

const THEN: Timestamp = Timestamp::from_seconds(1_500_000_000);

/// A source and a destination.
struct Trees {
    directory: tempfile::TempDir,
    source: Tree,
    destination: Tree,
    ignore: IgnoreMatcher,
    is_context: bool,
}

fn trees() -> Trees {
    let directory = tempfile::tempdir().expect("temporary directory");
    let source = Tree::create(directory.path().join("source")).expect("source");
    let destination = Tree::create(directory.path().join("destination")).expect("destination");
    Trees { directory, source, destination, ignore: IgnoreMatcher::default(), is_context: true }
}

impl Trees {
    fn source(mut self, build: impl Fn(&mut Tree)) -> Self {
        build(&mut self.source);
        self
    }

    fn destination(mut self, build: impl Fn(&mut Tree)) -> Self {
        build(&mut self.destination);
        self
    }

    fn ignoring(mut self, text: &str) -> Self {
        self.ignore = IgnoreMatcher::parse(text.as_bytes(), Path::new("/c/.dockerignore")).expect("patterns");
        self
    }

    fn of_a_stage(mut self) -> Self {
        self.is_context = false;
        self
    }

    fn try_step(&mut self, step: &plan::Copy) -> Result<(), CopyError> {
        let describe = if self.is_context { "the build context" } else { "stage s" };
        let ignore = self.is_context.then_some(&self.ignore);
        let source = CopySource { tree: &self.source, ignore, reset_owner: self.is_context, describe };
        copy(step, &source, &BTreeMap::new(), &mut self.destination)
    }

    fn step(&mut self, words: &str) -> &mut Self {
        self.try_step(&step(words)).expect(words);
        self
    }

    fn refused(&mut self, words: &str) -> String {
        with_causes(&self.try_step(&step(words)).expect_err(words))
    }

    /// Returns all paths of the destination, one per line.
    fn listing(&self) -> String {
        let mut lines = String::new();
        list(&self.destination, Path::new(""), &mut lines);
        lines
    }

    fn mtime(&self, path: &str) -> Timestamp {
        self.destination.node(Path::new(path)).expect("look").expect(path).attributes.mtime
    }
}

/// `[ADD] [--parents] [--exclude=] [--chown=] [--chmod=] [<<NAME] SOURCE... DESTINATION`, in the working directory
/// `/w`.
fn step(words: &str) -> plan::Copy {
    let mut step = plan::Copy { working_directory: "/w".to_owned(), ..plan::Copy::default() };
    for word in words.split(' ') {
        if word == "ADD" {
            step.add = true;
            step.unpack = true;
        } else if word == "--parents" {
            step.parents = true;
        } else if let Some(pattern) = word.strip_prefix("--exclude=") {
            step.excludes.push(pattern.to_owned());
        } else if let Some(chown) = word.strip_prefix("--chown=") {
            step.chown = Some(chown.to_owned());
        } else if let Some(chmod) = word.strip_prefix("--chmod=") {
            step.chmod = Some(chmod.to_owned());
        } else if let Some(name) = word.strip_prefix("<<") {
            step.texts.push(plan::TextFile { name: name.to_owned(), content: "text".to_owned() });
        } else {
            step.sources.push(word.to_owned());
        }
    }
    step.destination = step.sources.pop().expect("a destination");
    step
}

fn list(tree: &Tree, below: &Path, lines: &mut String) {
    for name in tree.list(below).expect("list") {
        let path = below.join(name);
        let node = tree.node(&path).expect("look").expect("there");
        let Attributes { kind, mode, uid, gid, .. } = node.attributes;
        let what = match kind {
            FileKind::Directory => "/".to_owned(),
            FileKind::Symlink => format!(" -> {}", node.link_target.expect("target").display()),
            FileKind::File => {
                format!("={}", std::io::read_to_string(tree.open_file(&path).expect("open")).unwrap_or_default())
            }
            other => format!(" {other:?}"),
        };
        let owner = if (uid, gid) == (0, 0) { String::new() } else { format!(" {uid}:{gid}") };
        lines.push_str(&format!("{}{what} {mode:o}{owner}\n", path.display()));
        if kind == FileKind::Directory {
            list(tree, &path, lines);
        }
    }
}

fn attributes(kind: FileKind, mode: u32, owner: u32) -> Attributes {
    Attributes { uid: owner, gid: owner, mtime: THEN, ..Attributes::new(kind, mode) }
}

fn file(tree: &mut Tree, path: &str, content: impl AsRef<[u8]>) {
    let attributes = attributes(FileKind::File, 0o644, 0);
    tree.create_file(Path::new(path), &attributes, content.as_ref()).expect(path);
}

fn directory(tree: &mut Tree, path: &str, mode: u32) {
    tree.create_directory(Path::new(path), &attributes(FileKind::Directory, mode, 0)).expect(path);
}

fn link(tree: &mut Tree, path: &str, target: &str) {
    let attributes = attributes(FileKind::Symlink, 0o777, 0);
    tree.create_symlink(Path::new(path), OsStr::new(target), &attributes).expect(path);
}

/// `a`, `b`, and a directory `d` with `c` and `e/f`.
fn common_source(tree: &mut Tree) {
    file(tree, "a", "a");
    file(tree, "b", "b");
    directory(tree, "d", 0o750);
    file(tree, "d/c", "c");
    directory(tree, "d/e", 0o711);
    file(tree, "d/e/f", "f");
    restore_times(tree);
}

/// Restores the times of `d` and `d/e`, which change when they are filled.
fn restore_times(tree: &mut Tree) {
    directory(tree, "d/e", 0o711);
    directory(tree, "d", 0o750);
}
