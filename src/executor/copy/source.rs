//! Finds the files that an instruction's sources name.
//!
//! A source is a path from the root of its tree, or a pattern; `..` does not climb above the root. Symbolic links are
//! followed within the tree. Ignored files count as missing. An ignored directory exists if something below it is not
//! ignored.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::context::pattern::{has_wildcard, matches};
use crate::context::{IgnoreMatcher, Verdict};
use crate::diag;
use crate::fs::FileKind;
use crate::rootfs::{Node, Tree};

use super::destination::{clean, shown};
use super::error::CopyError;

/// The number of links that the kernel follows before it reports a loop.
const MAX_LINKS: usize = 40;

/// The tree that files are copied from.
#[derive(Debug, Clone, Copy)]
pub struct CopySource<'a> {
    /// The files.
    pub tree: &'a Tree,
    /// The files that the build does not see.
    pub ignore: Option<&'a IgnoreMatcher>,
    /// Whether it is a build context: its files belong to root and have no extended attributes in the image.
    pub reset_owner: bool,
    /// Its name in messages: "the build context", "stage build".
    pub describe: &'a str,
}

/// A file or directory to copy.
#[derive(Debug)]
pub(super) struct FoundSource {
    /// Its name in a destination directory: that of the source, not of a link's target.
    pub(super) name: OsString,
    /// The source as a path of its tree, for messages.
    pub(super) requested: PathBuf,
    /// The path in the tree, without links.
    pub(super) path: PathBuf,
    /// The file itself.
    pub(super) node: Node,
    /// The verdict of the ignore file.
    pub(super) verdict: Verdict,
}

/// The result of following a path.
enum PathLookup {
    Visible { path: PathBuf, node: Node, verdict: Verdict },
    Ignored(Verdict),
    Missing,
}

/// Finds sources in a tree.
#[derive(Debug)]
pub(super) struct Finder<'a> {
    pub(super) source: &'a CopySource<'a>,
    no_ignored_files: IgnoreMatcher,
}

impl<'a> Finder<'a> {
    pub(super) fn new(source: &'a CopySource<'a>) -> Self {
        Self { source, no_ignored_files: IgnoreMatcher::default() }
    }

    pub(super) fn tree(&self) -> &'a Tree {
        self.source.tree
    }

    pub(super) fn ignore(&self) -> &IgnoreMatcher {
        self.source.ignore.unwrap_or(&self.no_ignored_files)
    }

    /// Returns everything that a source names, by name: the order in which it is copied.
    pub(super) fn find(&self, written: &str) -> Result<Vec<FoundSource>, CopyError> {
        if has_wildcard(written) {
            return self.find_matching(written);
        }
        Ok(vec![self.follow_existing(clean(written))?])
    }

    /// Returns the file of this name, in which wildcards have no meaning.
    pub(super) fn find_exactly(&self, name: &str) -> Result<FoundSource, CopyError> {
        self.follow_existing(clean(name))
    }

    /// Fails if the file does not exist.
    pub(super) fn require(&self, requested: PathBuf) -> Result<(), CopyError> {
        self.follow_existing(requested).map(drop)
    }

    fn follow_existing(&self, requested: PathBuf) -> Result<FoundSource, CopyError> {
        match self.follow(&requested)? {
            PathLookup::Visible { path, node, verdict } => {
                let name = requested.file_name().unwrap_or_default().to_owned();
                Ok(FoundSource { name, requested, path, node, verdict })
            }
            PathLookup::Ignored(verdict) => Err(self.not_found(&requested, self.ignored_hint(verdict))),
            PathLookup::Missing => Err(self.not_found(&requested, self.similar_name(&requested)?)),
        }
    }

    /// Returns the files that match a pattern. The search follows links only in the part before the first wildcard, and
    /// links that match. It does not continue below a matching directory.
    fn find_matching(&self, written: &str) -> Result<Vec<FoundSource>, CopyError> {
        let bad_pattern = |source| CopyError::Pattern { pattern: written.to_owned(), source };
        let cleaned = clean(written);
        let wild = |component: &Component<'_>| has_wildcard(component.as_os_str().as_bytes());
        let base: PathBuf = cleaned.components().take_while(|component| !wild(component)).collect();
        let pattern: PathBuf = cleaned.components().skip_while(|component| !wild(component)).collect();
        let pattern = pattern.as_os_str().as_bytes();
        matches(pattern, "").map_err(bad_pattern)?;
        // BuildKit fetches files of a context by the rules of ignore files, in which `*` is a wildcard even in
        // brackets.
        let fetched =
            if self.source.reset_owner { IgnoreMatcher::new([cleaned.as_os_str().as_bytes()]).ok() } else { None };
        let PathLookup::Visible { path, node, verdict } = self.follow(&base)? else { return Ok(Vec::new()) };
        if node.attributes.kind != FileKind::Directory {
            return Ok(Vec::new());
        }
        // A bracket expression may match a slash; other wildcards do not.
        let depth = 1 + pattern.iter().filter(|byte| matches!(byte, b'/' | b'[')).count();
        let mut paths = Vec::new();
        let is_match = |below: &Path| {
            matches(pattern, below.as_os_str().as_bytes()).unwrap_or(false)
                && fetched.as_ref().is_none_or(|fetched| fetched.is_ignored(&base.join(below)))
        };
        self.search(&path, Path::new(""), verdict, depth, &is_match, &mut paths)?;
        paths.into_iter().map(|below| self.follow_existing(base.join(below))).collect()
    }

    fn search(
        &self,
        top: &Path,
        below: &Path,
        verdict: Verdict,
        depth: usize,
        is_match: &dyn Fn(&Path) -> bool,
        found: &mut Vec<PathBuf>,
    ) -> Result<(), CopyError> {
        for name in self.tree().list(&top.join(below))? {
            let below = below.join(name);
            let path = top.join(&below);
            let matching = is_match(&below);
            if !matching && depth <= 1 {
                continue;
            }
            let Some(node) = self.tree().node(&path)? else { continue };
            let verdict = self.ignore().verdict(&path, verdict);
            if !self.is_visible(&path, node.attributes.kind, verdict)? {
                continue;
            }
            if matching {
                found.push(below);
            } else if node.attributes.kind == FileKind::Directory {
                self.search(top, &below, verdict, depth - 1, is_match, found)?;
            }
        }
        Ok(())
    }

    /// Follows a path through all its links. Ignored files stop it.
    fn follow(&self, requested: &Path) -> Result<PathLookup, CopyError> {
        let mut pending: Vec<OsString> = Vec::new();
        push_reversed(&mut pending, requested);
        let mut path = PathBuf::new();
        let mut verdicts = vec![Verdict::default()];
        let mut links = 0;
        while let Some(name) = pending.pop() {
            if name == ".." {
                if path.pop() {
                    verdicts.pop();
                }
                continue;
            }
            path.push(name);
            let Some(node) = self.tree().node(&path)? else { return Ok(PathLookup::Missing) };
            let verdict = self.ignore().verdict(&path, verdicts.last().copied().unwrap_or_default());
            let Some(target) = node.link_target else {
                verdicts.push(verdict);
                continue;
            };
            if verdict.is_ignored() {
                return Ok(PathLookup::Ignored(verdict));
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(CopyError::TooManyLinks { path: shown(requested), place: self.source.describe.to_owned() });
            }
            if Path::new(&target).is_absolute() {
                path.clear();
                verdicts.truncate(1);
            } else {
                path.pop();
            }
            push_reversed(&mut pending, Path::new(&target));
        }
        let verdict = verdicts.last().copied().unwrap_or_default();
        let Some(node) = self.tree().node(&path)? else { return Ok(PathLookup::Missing) };
        if self.is_visible(&path, node.attributes.kind, verdict)? {
            Ok(PathLookup::Visible { path, node, verdict })
        } else {
            Ok(PathLookup::Ignored(verdict))
        }
    }

    /// Reports whether the build sees a path: it is not ignored, or is a directory with something below it that is not.
    pub(super) fn is_visible(&self, path: &Path, kind: FileKind, verdict: Verdict) -> Result<bool, CopyError> {
        if !verdict.is_ignored() {
            return Ok(true);
        }
        if kind != FileKind::Directory || !self.ignore().may_see_below(path, verdict) {
            return Ok(false);
        }
        for name in self.tree().list(path)? {
            let below = path.join(name);
            let verdict = self.ignore().verdict(&below, verdict);
            let Some(node) = self.tree().node(&below)? else { continue };
            if self.is_visible(&below, node.attributes.kind, verdict)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn not_found(&self, requested: &Path, hint: Option<String>) -> CopyError {
        CopyError::NotFound { path: shown(requested), place: self.source.describe.to_owned(), hint }
    }

    fn ignored_hint(&self, verdict: Verdict) -> Option<String> {
        let pattern = self.ignore().deciding_pattern(verdict)?;
        let file = self.ignore().origin().and_then(Path::file_name).unwrap_or(OsStr::new(".dockerignore"));
        Some(format!("excluded by the pattern {pattern:?} of {}", file.display()))
    }

    /// Returns a name that is similar to a missing one, in the same directory.
    fn similar_name(&self, requested: &Path) -> Result<Option<String>, CopyError> {
        let (Some(above), Some(name)) = (requested.parent(), requested.file_name()) else { return Ok(None) };
        let PathLookup::Visible { path, node, verdict } = self.follow(above)? else { return Ok(None) };
        if node.attributes.kind != FileKind::Directory {
            return Ok(None);
        }
        let names = self.tree().list(&path)?;
        let seen = names.iter().filter(|name| !self.ignore().verdict(&path.join(name), verdict).is_ignored());
        let similar = diag::suggest(&name.to_string_lossy(), seen.filter_map(|name| name.to_str()));
        Ok(similar.map(|similar| format!("did you mean {:?}?", shown(&above.join(similar)))))
    }
}

fn push_reversed(pending: &mut Vec<OsString>, path: &Path) {
    pending.extend(path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    }));
}
