//! Makes directories that an instruction needs and the tree lacks.

use std::path::{Path, PathBuf};

use crate::diag::Hint;
use crate::fs::{FileKind, Timestamp};
use crate::rootfs::{Attributes, RootfsError, Tree};

use super::users::Owner;

/// The mode of a directory without a specified mode.
const DEFAULT_MODE: u32 = 0o755;
const SET_GROUP_ID: u32 = 0o2000;

/// A directory that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// A different file is at its path, or at a parent's.
    #[error("{} is not a directory", path.display())]
    NotDirectory {
        /// The file in the way, as a path of the image.
        path: PathBuf,
    },
    /// The tree could not be changed.
    #[error(transparent)]
    Tree(#[from] RootfsError),
}

impl Hint for DirectoryError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Tree(error) => error.hint(),
            Self::NotDirectory { .. } => None,
        }
    }
}

/// The attributes of new directories. The defaults are those of mkdir(2): mode 0755, owned by root; below a
/// set-group-ID directory, its group and the set-group-ID bit are inherited.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct NewDirectories {
    /// The mode (07777).
    pub mode: Option<u32>,
    /// The owner.
    pub owner: Option<Owner>,
}

/// Makes the directory `path` and its missing parents; existing directories do not change. The path must be resolved: a
/// symbolic link in it is an error.
///
/// # Errors
/// A file that is not a directory is in the way, or the tree cannot be changed.
pub(super) fn create_directories(tree: &mut Tree, path: &Path, new: NewDirectories) -> Result<(), DirectoryError> {
    let mut missing = Vec::new();
    let mut existing_parent = None;
    for directory in path.ancestors() {
        if let Some(node) = tree.node(directory)? {
            existing_parent = Some((directory, node.attributes));
            break;
        }
        missing.push(directory);
    }
    let Some((existing, mut parent)) = existing_parent else { return Ok(()) };
    if parent.kind != FileKind::Directory {
        return Err(DirectoryError::NotDirectory { path: Path::new("/").join(existing) });
    }
    for directory in missing.into_iter().rev() {
        let inherited = parent.mode & SET_GROUP_ID;
        let mut attributes = Attributes::new(FileKind::Directory, new.mode.unwrap_or(DEFAULT_MODE | inherited));
        attributes.gid = if inherited == 0 { 0 } else { parent.gid };
        if let Some(Owner { uid, gid }) = new.owner {
            (attributes.uid, attributes.gid) = (uid, gid);
        }
        attributes.mtime = Timestamp::now();
        tree.create_directory(directory, &attributes)?;
        parent = attributes;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, Tree) {
        let directory = tempfile::tempdir().expect("temporary directory");
        let tree = Tree::create(directory.path().join("root")).expect("tree");
        (directory, tree)
    }

    fn look(tree: &Tree, path: &str) -> (u32, u32, u32) {
        let attributes = tree.node(Path::new(path)).expect("look").expect(path).attributes;
        (attributes.mode, attributes.uid, attributes.gid)
    }

    #[test]
    fn only_missing_directories_are_made() {
        let (_directory, mut tree) = tree();
        let owner = Some(Owner { uid: 5, gid: 6 });
        create_directories(&mut tree, Path::new("a"), NewDirectories::default()).expect("first");
        create_directories(&mut tree, Path::new("a/b/c"), NewDirectories { mode: Some(0o700), owner }).expect("more");
        assert_eq!(look(&tree, "a"), (0o755, 0, 0));
        assert_eq!(look(&tree, "a/b"), (0o700, 5, 6));
        assert_eq!(look(&tree, "a/b/c"), (0o700, 5, 6));
        create_directories(&mut tree, Path::new(""), NewDirectories::default()).expect("the root exists");
    }

    #[test]
    fn a_set_group_id_directory_passes_on_its_group() {
        let (_directory, mut tree) = tree();
        let mut shared = Attributes::new(FileKind::Directory, 0o2775);
        shared.gid = 50;
        tree.create_directory(Path::new("shared"), &shared).expect("directory");
        create_directories(&mut tree, Path::new("shared/a/b"), NewDirectories::default()).expect("made");
        assert_eq!(look(&tree, "shared/a/b"), (0o2755, 0, 50));
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let (_directory, mut tree) = tree();
        tree.create_file(Path::new("file"), &Attributes::new(FileKind::File, 0o644), &b""[..]).expect("file");
        let error = create_directories(&mut tree, Path::new("file/a"), NewDirectories::default()).expect_err("file");
        assert_eq!(error.to_string(), "/file is not a directory");
    }
}
