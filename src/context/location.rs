//! Finding the context's directory and its ignore file.

use std::io;
use std::path::{Component, Path, PathBuf};

use crate::diag::redact;
use crate::fs;

use super::error::ContextError;
use super::ignore::IgnoreMatcher;

/// Bytes an ignore file may have; no sensible one comes near.
const MAX_IGNORE_FILE: u64 = 16 * 1024 * 1024;

/// A local directory that COPY, ADD and bind mounts take files from.
#[derive(Debug, Clone)]
pub struct Context {
    /// The directory.
    pub root: PathBuf,
    /// What of it the build does not see.
    pub ignore: IgnoreMatcher,
    /// How to speak of it in messages.
    pub description: String,
    /// Somebody else has made the directory: links in it must not lead the build's own reading out of it.
    pub is_foreign: bool,
}

impl Context {
    /// Opens the context at `location`, a path or `dir://` and a path, which may also be meant from `/`. `sub_path` names a directory within; it counts for
    /// every form of location.
    ///
    /// # Errors
    /// Another scheme, or no directory there.
    pub fn open(location: &str, sub_path: Option<&str>) -> Result<Self, ContextError> {
        let root = directory_at(location, Path::new("/"))?;
        check_directory(&root, || ContextError::Missing { path: root.clone() })?;
        let sub_path = sub_path.filter(|sub_path| !sub_path.is_empty());
        let Some(sub_path) = sub_path else {
            return Ok(Self {
                description: format!("build context {}", root.display()),
                root,
                ignore: IgnoreMatcher::default(),
                is_foreign: false,
            });
        };
        let below = root.join(within(sub_path)?);
        check_directory(&below, || ContextError::MissingSubPath { root: root.clone(), sub_path: sub_path.to_owned() })?;
        let description = format!("build context {}", below.display());
        Ok(Self { root: below, ignore: IgnoreMatcher::default(), description, is_foreign: false })
    }

    /// The context that has come from `location` to lie in `root`; `sub_path` as for [`Context::open`].
    ///
    /// # Errors
    /// There is no such sub-path in it, or it leads out of it.
    pub fn fetched(root: PathBuf, location: &str, sub_path: Option<&str>) -> Result<Self, ContextError> {
        let description = format!("build context {location}");
        let mut context = Self { root, ignore: IgnoreMatcher::default(), description, is_foreign: true };
        if let Some(sub_path) = sub_path.filter(|sub_path| !sub_path.is_empty()) {
            let missing =
                || ContextError::MissingSubPath { root: PathBuf::from(location), sub_path: sub_path.to_owned() };
            let below = context.confined(&context.root.join(within(sub_path)?)).ok_or_else(missing)?;
            check_directory(&below, missing)?;
            context.description = format!("{}, directory {sub_path}", context.description);
            context.root = below;
        }
        Ok(context)
    }

    /// Where a path leads. One in a foreign context leads through links to files of the context alone; `None` if that fails.
    pub fn confined(&self, path: &Path) -> Option<PathBuf> {
        match path.strip_prefix(&self.root) {
            Ok(inside) if self.is_foreign => {
                let resolved = fs::Root::open(&self.root).ok()?.resolve(inside, true).ok()?;
                Some(self.root.join(resolved))
            }
            _ => Some(path.to_owned()),
        }
    }

    /// Reads the ignore file that goes with `dockerfile`: see the function [`load_ignore`].
    ///
    /// # Errors
    /// The file cannot be read, or holds a malformed pattern.
    pub fn load_ignore(&mut self, dockerfile: &Path) -> Result<(), ContextError> {
        self.ignore = first_ignore(dockerfile, &self.root, |path| self.confined(path))?;
        Ok(())
    }

    /// Reads the context's own `.dockerignore`, for a context that no Dockerfile is the build of.
    ///
    /// # Errors
    /// The file cannot be read, or holds a malformed pattern.
    pub fn load_own_ignore(&mut self) -> Result<(), ContextError> {
        let path = self.confined(&self.root.join(".dockerignore"));
        self.ignore = path.map(|path| read_ignore(&path)).transpose()?.flatten().unwrap_or_default();
        Ok(())
    }
}

/// The patterns for a build of `dockerfile`: those of `<dockerfile>.dockerignore` beside it if there is such a file, else
/// those of `.dockerignore` in the context. The two are never merged.
///
/// # Errors
/// The file cannot be read, or holds a malformed pattern.
pub fn load_ignore(dockerfile: &Path, context_root: &Path) -> Result<IgnoreMatcher, ContextError> {
    first_ignore(dockerfile, context_root, |path| Some(path.to_owned()))
}

/// The same, with every path led through `confined` first.
fn first_ignore(
    dockerfile: &Path,
    context_root: &Path,
    confined: impl Fn(&Path) -> Option<PathBuf>,
) -> Result<IgnoreMatcher, ContextError> {
    let mut beside = dockerfile.as_os_str().to_owned();
    beside.push(".dockerignore");
    for path in [PathBuf::from(beside), context_root.join(".dockerignore")] {
        if let Some(patterns) = confined(&path).map(|path| read_ignore(&path)).transpose()?.flatten() {
            return Ok(patterns);
        }
    }
    Ok(IgnoreMatcher::default())
}

/// The patterns of an ignore file, if it is there.
fn read_ignore(path: &Path) -> Result<Option<IgnoreMatcher>, ContextError> {
    let size = match fs::metadata(path) {
        Ok(found) => found.len(),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    if size > MAX_IGNORE_FILE {
        return Err(fs::Error::new("read", path, io::Error::from(io::ErrorKind::FileTooLarge)).into());
    }
    IgnoreMatcher::parse(&fs::read(path)?, path).map(Some)
}

fn local_path(location: &str) -> Result<&str, ContextError> {
    let path = match location.split_once("://") {
        Some(("dir", path)) => path,
        // A path may hold "://" further on.
        Some((scheme, _))
            if !scheme.is_empty()
                && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) =>
        {
            let (location, scheme) = (redact::url(location), format!("{scheme}://"));
            return Err(ContextError::UnknownScheme { location, scheme });
        }
        _ => location,
    };
    if path.is_empty() { Err(ContextError::Empty) } else { Ok(path) }
}

/// The sub-path relative to the context. A leading slash means the context; `..` must not lead out of it.
fn within(sub_path: &str) -> Result<PathBuf, ContextError> {
    let mut path = PathBuf::new();
    for component in Path::new(sub_path).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::ParentDir if !path.pop() => {
                return Err(ContextError::SubPathOutside { sub_path: sub_path.to_owned() });
            }
            _ => {}
        }
    }
    Ok(path)
}

fn check_directory(path: &Path, missing: impl Fn() -> ContextError) -> Result<(), ContextError> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(ContextError::NotDirectory { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing()),
        Err(error) => Err(error.into()),
    }
}

/// The directory of a location. `dir://workspace` is one of the current directory or else of `top`, which is `/`: kaniko goes
/// there before it reads a context, and its tutorial's pod relies on it.
fn directory_at(location: &str, top: &Path) -> Result<PathBuf, ContextError> {
    let path = PathBuf::from(local_path(location)?);
    let from_top = top.join(&path);
    let is_meant = location.starts_with("dir://") && !path.exists() && from_top.is_dir();
    Ok(if is_meant { from_top } else { path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_url_may_be_meant_from_the_top() {
        let top = tempfile::tempdir().expect("temporary directory");
        std::fs::create_dir_all(top.path().join("no-such-work/src")).expect("directories");
        let found = |location: &str| directory_at(location, top.path()).expect(location);
        assert_eq!(found("dir://no-such-work"), top.path().join("no-such-work"));
        // What the current directory has goes first, and a path is no URL.
        for (location, expected) in [("dir://src", "src"), ("no-such-work", "no-such-work"), ("dir://gone", "gone")] {
            assert_eq!(found(location), Path::new(expected), "{location}");
        }
    }

    #[test]
    fn a_directory_is_found_with_and_without_scheme_and_sub_path() {
        let directory = tempfile::tempdir().expect("temporary directory");
        std::fs::create_dir_all(directory.path().join("a/b")).expect("directories");
        let plain = directory.path().to_str().expect("text");
        for location in [plain.to_owned(), format!("dir://{plain}")] {
            for (sub_path, expected) in [(None, ""), (Some(""), ""), (Some("a/b"), "a/b"), (Some("/a/../a/"), "a")] {
                let context = Context::open(&location, sub_path).expect("context");
                assert_eq!(context.root, directory.path().join(expected), "{location} {sub_path:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_opened_is_named() {
        let directory = tempfile::tempdir().expect("temporary directory");
        std::fs::write(directory.path().join("file"), "").expect("file");
        let root = directory.path().to_str().expect("text");
        let message =
            |location: &str, sub_path| Context::open(location, sub_path).map(drop).expect_err(location).to_string();
        assert_eq!(message("/no/such/place", None), "build context directory /no/such/place does not exist");
        assert_eq!(message(&format!("{root}/file"), None), format!("build context {root}/file is not a directory"));
        assert_eq!(message(root, Some("gone")), format!("build context {root} has no directory \"gone\""));
        assert_eq!(message(root, Some("a/../../x")), "context sub-path \"a/../../x\" leads out of the build context");
        assert_eq!(message("dir://", None), "no build context given");
        assert!(message("ftp://x", None).contains("unknown scheme ftp://"));
        assert!(!message("ftp://user:hunter2@host/x", None).contains("hunter2"));
    }

    #[test]
    fn the_ignore_file_beside_the_dockerfile_wins_alone() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let root = directory.path();
        let dockerfile = root.join("sub/x.Dockerfile");
        std::fs::create_dir(root.join("sub")).expect("directory");
        assert!(load_ignore(&dockerfile, root).expect("none").is_empty());
        std::fs::write(root.join(".dockerignore"), "a\n").expect("file");
        assert!(load_ignore(&dockerfile, root).expect("context's").is_ignored(Path::new("a")));
        std::fs::write(root.join("sub/x.Dockerfile.dockerignore"), "b\n").expect("file");
        let own = load_ignore(&dockerfile, root).expect("own");
        assert!(own.is_ignored(Path::new("b")) && !own.is_ignored(Path::new("a")));
        assert_eq!(own.origin(), Some(root.join("sub/x.Dockerfile.dockerignore").as_path()));
    }
}
