//! Finds the context's directory and its ignore file.

use std::io;
use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;

use crate::diag::redact;
use crate::fs;

use super::directory::Context;
use super::error::ContextError;
use super::file::InputFile;
use super::ignore::IgnoreMatcher;

/// The name of a context's ignore file, and the suffix of one that belongs to a Dockerfile.
const IGNORE_FILE: &str = ".dockerignore";

impl Context {
    /// Opens the context at `location`, a path or `dir://` and a path, which may also be relative to `/`. `sub_path`
    /// names a directory in it, for every form of location.
    ///
    /// # Errors
    /// The scheme is unsupported, or the directory does not exist.
    pub fn open(location: &str, sub_path: Option<&str>) -> Result<Self, ContextError> {
        let root = directory_at(location, Path::new("/"))?;
        check_directory(&root, || ContextError::Missing { path: root.clone() })?;
        let description = format!("build context {}", root.display());
        let mut context = Self { root, ignore: IgnoreMatcher::default(), description };
        if let Some(sub_path) = sub_path.filter(|sub_path| !sub_path.is_empty()) {
            context.enter(sub_path, &context.root.display().to_string())?;
            context.description = format!("build context {}", context.root.display());
        }
        Ok(context)
    }

    /// Returns the context that was fetched from `location` to `root`; `sub_path` as for [`Context::open`].
    ///
    /// # Errors
    /// It has no such sub-path, or the sub-path leaves it.
    pub fn fetched(root: PathBuf, location: &str, sub_path: Option<&str>) -> Result<Self, ContextError> {
        let description = format!("build context {location}");
        let mut context = Self { root, ignore: IgnoreMatcher::default(), description };
        if let Some(sub_path) = sub_path.filter(|sub_path| !sub_path.is_empty()) {
            context.enter(sub_path, location)?;
            context.description = format!("{}, directory {sub_path}", context.description);
        }
        Ok(context)
    }

    /// Changes the context to a directory in it. `location` is the context's name for messages.
    fn enter(&mut self, sub_path: &str, location: &str) -> Result<(), ContextError> {
        let within = within(sub_path)?;
        let location = || PathBuf::from(location);
        let missing = || ContextError::MissingSubPath { root: location(), sub_path: sub_path.to_owned() };
        // Links in it belong to the context and must not leave it.
        let resolved = match fs::Root::open(&self.root)?.resolve(&within, true) {
            Ok(resolved) => self.root.join(resolved),
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(missing()),
            Err(errno) => return Err(fs::Error::new("find", self.root.join(within), errno).into()),
        };
        let leads_out = ContextError::SubPathLink { root: location(), sub_path: sub_path.to_owned() };
        let is_elsewhere = fs::gated::is_dir(self.root.join(within));
        check_directory(&resolved, || if is_elsewhere { leads_out } else { missing() })?;
        self.root = resolved;
        Ok(())
    }

    /// Reads the ignore file of `dockerfile`: its name with `.dockerignore` appended if that file exists, or else the
    /// context's own `.dockerignore`. The two are never merged.
    ///
    /// # Errors
    /// The file cannot be read, or contains a malformed pattern.
    pub fn load_ignore(&mut self, dockerfile: &Path) -> Result<(), ContextError> {
        let mut beside = dockerfile.as_os_str().to_owned();
        beside.push(IGNORE_FILE);
        match self.named_file(Path::new(&beside))? {
            Some(file) => self.ignore = patterns(&file)?,
            None => self.load_own_ignore()?,
        }
        Ok(())
    }

    /// Reads the context's own `.dockerignore`, for a context without a Dockerfile.
    ///
    /// # Errors
    /// The file cannot be read, or contains a malformed pattern.
    pub fn load_own_ignore(&mut self) -> Result<(), ContextError> {
        let name = Path::new(IGNORE_FILE);
        let file = self.file(name)?;
        if file.is_none()
            && let Some(target) = self.lost_link(name)
        {
            tracing::warn!(
                "{IGNORE_FILE} is a symbolic link to {}, which is not a file of the {}: no file is ignored",
                target.display(),
                self.description
            );
        }
        self.ignore = file.as_ref().map(patterns).transpose()?.unwrap_or_default();
        Ok(())
    }
}

/// Parses the patterns of an ignore file.
fn patterns(file: &InputFile) -> Result<IgnoreMatcher, ContextError> {
    IgnoreMatcher::parse(&file.content, &file.path).map_err(|error| match error {
        ContextError::IgnorePattern { path, line, source, .. } if !file.may_be_quoted => {
            ContextError::IgnorePattern { path, line, pattern: None, source }
        }
        error => error,
    })
}

fn local_path(location: &str) -> Result<&str, ContextError> {
    let path = match location.split_once("://") {
        Some(("dir", path)) => path,
        // A path may contain "://" later.
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

/// Returns the sub-path relative to the context. A leading slash means the context; `..` must not leave it.
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

fn check_directory(path: &Path, missing: impl FnOnce() -> ContextError) -> Result<(), ContextError> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(ContextError::NotDirectory { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing()),
        Err(error) => Err(error.into()),
    }
}

/// Returns the directory of a location. `dir://workspace` is in the current directory or else in `top`, which is `/`:
/// kaniko changes to `/` before it reads a context, and the pod in its tutorial relies on that.
fn directory_at(location: &str, top: &Path) -> Result<PathBuf, ContextError> {
    let path = PathBuf::from(local_path(location)?);
    let from_top = top.join(&path);
    let is_meant = location.starts_with("dir://") && !fs::gated::exists(&path) && fs::gated::is_dir(&from_top);
    Ok(if is_meant { from_top } else { path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_url_may_be_relative_to_the_root() {
        let top = tempfile::tempdir().expect("temporary directory");
        std::fs::create_dir_all(top.path().join("no-such-work/src")).expect("directories");
        let found = |location: &str| directory_at(location, top.path()).expect(location);
        assert_eq!(found("dir://no-such-work"), top.path().join("no-such-work"));
        // The current directory takes precedence, and a path is not a URL.
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
    fn errors_name_the_path() {
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
    fn the_ignore_file_of_the_dockerfile_replaces_the_contexts() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let root = directory.path();
        let dockerfile = root.join("sub/x.Dockerfile");
        std::fs::create_dir(root.join("sub")).expect("directory");
        let load = |root: &Path| {
            let mut context = Context::open(root.to_str().expect("text"), None).expect("context");
            context.load_ignore(&dockerfile).map(|()| context.ignore)
        };
        assert!(load(root).expect("none").is_empty());
        std::fs::write(root.join(".dockerignore"), "a\n").expect("file");
        assert!(load(root).expect("context's").is_ignored(Path::new("a")));
        std::fs::write(root.join("sub/x.Dockerfile.dockerignore"), "b\n").expect("file");
        let own = load(root).expect("own");
        assert!(own.is_ignored(Path::new("b")) && !own.is_ignored(Path::new("a")));
        assert_eq!(own.origin(), Some(root.join("sub/x.Dockerfile.dockerignore").as_path()));
    }

    /// A link out of the context does not reveal its target, and a directory reached by one is not a context.
    #[test]
    fn links_out_of_the_context_are_not_followed() {
        let place = tempfile::tempdir().expect("temporary directory");
        let root = place.path().join("context");
        std::fs::create_dir_all(root.join("real")).expect("directories");
        std::fs::create_dir(place.path().join("outside")).expect("directory");
        std::fs::write(place.path().join("token"), "[SESAME").expect("file");
        std::os::unix::fs::symlink("real", root.join("alias")).expect("link");
        std::os::unix::fs::symlink("../outside", root.join("escape")).expect("link");
        std::os::unix::fs::symlink("../../outside", root.join("real/escape")).expect("link");
        let location = root.to_str().expect("text");
        assert_eq!(Context::open(location, Some("alias")).expect("inside").root, root.join("real"));
        for sub_path in ["escape", "alias/escape"] {
            let error = Context::open(location, Some(sub_path)).expect_err(sub_path);
            assert!(matches!(error, ContextError::SubPathLink { .. }), "{error}");
        }
        std::os::unix::fs::symlink("../token", root.join(".dockerignore")).expect("link");
        std::os::unix::fs::symlink("../../token", root.join("real/D.dockerignore")).expect("link");
        let mut context = Context::open(location, None).expect("context");
        context.load_ignore(&root.join("real/D")).expect("nothing to read");
        assert!(context.ignore.is_empty());
        // The Dockerfile next to it is named by the command line; the link leads to a file that its author chose.
        let mut below = Context::open(location, Some("real")).expect("context");
        std::os::unix::fs::symlink("../token", root.join("D.dockerignore")).expect("link");
        let error = below.load_ignore(&root.join("D")).expect_err("malformed").to_string();
        assert!(error.ends_with("D.dockerignore:1: bad pattern"), "{error}");
    }
}
