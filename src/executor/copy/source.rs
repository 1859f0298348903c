//! What the sources of an instruction lead to.
//!
//! A source is a path from the top of its tree, or a pattern; `..` does not climb above the top. Symbolic links given or met
//! on the way are followed within the tree. What the ignore file takes out is not there; a directory is there nevertheless
//! while something below it is.

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
use super::step::CopySource;

/// As many links as the kernel follows before it speaks of a loop.
const MAX_LINKS: usize = 40;

/// One file or directory to copy.
#[derive(Debug)]
pub(super) struct Found {
    /// The name it has in a directory it is copied into: that of the source, not of what a link leads to.
    pub(super) name: OsString,
    /// The source as a path of its tree, for messages.
    pub(super) asked: PathBuf,
    /// The path in the tree, without links.
    pub(super) path: PathBuf,
    /// What is there.
    pub(super) node: Node,
    /// What the ignore file says of it.
    pub(super) verdict: Verdict,
}

/// What a path leads to.
enum Sight {
    Seen { path: PathBuf, node: Node, verdict: Verdict },
    Ignored(Verdict),
    Missing,
}

/// Looks for sources in a tree.
#[derive(Debug)]
pub(super) struct Finder<'a> {
    pub(super) source: &'a CopySource<'a>,
    nothing: IgnoreMatcher,
}

impl<'a> Finder<'a> {
    pub(super) fn new(source: &'a CopySource<'a>) -> Self {
        Self { source, nothing: IgnoreMatcher::default() }
    }

    pub(super) fn tree(&self) -> &'a Tree {
        self.source.tree
    }

    pub(super) fn ignore(&self) -> &IgnoreMatcher {
        self.source.ignore.unwrap_or(&self.nothing)
    }

    /// Everything a source leads to, in the order in which it is copied: by name.
    pub(super) fn find(&self, written: &str) -> Result<Vec<Found>, CopyError> {
        if has_wildcard(written) {
            return self.find_matching(written);
        }
        Ok(vec![self.follow_existing(clean(written))?])
    }

    /// What a name without wildcards leads to, whatever characters it has.
    pub(super) fn find_exactly(&self, name: &str) -> Result<Found, CopyError> {
        self.follow_existing(clean(name))
    }

    /// Complains if there is no such file.
    pub(super) fn require(&self, asked: PathBuf) -> Result<(), CopyError> {
        self.follow_existing(asked).map(drop)
    }

    fn follow_existing(&self, asked: PathBuf) -> Result<Found, CopyError> {
        match self.follow(&asked)? {
            Sight::Seen { path, node, verdict } => {
                let name = asked.file_name().unwrap_or_default().to_owned();
                Ok(Found { name, asked, path, node, verdict })
            }
            Sight::Ignored(verdict) => Err(self.not_found(&asked, self.ignored_hint(verdict))),
            Sight::Missing => Err(self.not_found(&asked, self.similar_name(&asked)?)),
        }
    }

    /// The files a pattern matches. Below the part without wildcards no link is followed while looking; a link that matches
    /// is. A matching directory is not searched further.
    fn find_matching(&self, written: &str) -> Result<Vec<Found>, CopyError> {
        let bad_pattern = |source| CopyError::Pattern { pattern: written.to_owned(), source };
        let cleaned = clean(written);
        let wild = |component: &Component<'_>| has_wildcard(component.as_os_str().as_bytes());
        let base: PathBuf = cleaned.components().take_while(|component| !wild(component)).collect();
        let pattern: PathBuf = cleaned.components().skip_while(|component| !wild(component)).collect();
        let pattern = pattern.as_os_str().as_bytes();
        matches(pattern, "").map_err(bad_pattern)?;
        // BuildKit fetches the files of a context by the rules of ignore files, in which brackets are no shelter for `*`.
        let fetched =
            if self.source.reset_owner { IgnoreMatcher::new([cleaned.as_os_str().as_bytes()]).ok() } else { None };
        let Sight::Seen { path, node, verdict } = self.follow(&base)? else { return Ok(Vec::new()) };
        if node.attributes.kind != FileKind::Directory {
            return Ok(Vec::new());
        }
        // A class may match a slash, nothing else but a slash does.
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
            if !self.is_seen(&path, node.attributes.kind, verdict)? {
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

    /// Follows a path through all its links, minding at every step what the build does not see.
    fn follow(&self, asked: &Path) -> Result<Sight, CopyError> {
        let mut pending: Vec<OsString> = Vec::new();
        push_reversed(&mut pending, asked);
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
            let Some(node) = self.tree().node(&path)? else { return Ok(Sight::Missing) };
            let verdict = self.ignore().verdict(&path, verdicts.last().copied().unwrap_or_default());
            let Some(target) = node.link_target else {
                verdicts.push(verdict);
                continue;
            };
            if verdict.is_ignored() {
                return Ok(Sight::Ignored(verdict));
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(CopyError::TooManyLinks { path: shown(asked), place: self.source.describe.to_owned() });
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
        let Some(node) = self.tree().node(&path)? else { return Ok(Sight::Missing) };
        if self.is_seen(&path, node.attributes.kind, verdict)? {
            Ok(Sight::Seen { path, node, verdict })
        } else {
            Ok(Sight::Ignored(verdict))
        }
    }

    /// Whether the build sees a path: it is not ignored, or it is a directory on the way to something that is not.
    pub(super) fn is_seen(&self, path: &Path, kind: FileKind, verdict: Verdict) -> Result<bool, CopyError> {
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
            if self.is_seen(&below, node.attributes.kind, verdict)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn not_found(&self, asked: &Path, hint: Option<String>) -> CopyError {
        CopyError::NotFound { path: shown(asked), place: self.source.describe.to_owned(), hint }
    }

    fn ignored_hint(&self, verdict: Verdict) -> Option<String> {
        let pattern = self.ignore().deciding_pattern(verdict)?;
        let file = self.ignore().origin().and_then(Path::file_name).unwrap_or(OsStr::new(".dockerignore"));
        Some(format!("excluded by the pattern {pattern:?} of {}", file.display()))
    }

    /// The name beside a missing one that may have been meant.
    fn similar_name(&self, asked: &Path) -> Result<Option<String>, CopyError> {
        let (Some(above), Some(name)) = (asked.parent(), asked.file_name()) else { return Ok(None) };
        let Sight::Seen { path, node, verdict } = self.follow(above)? else { return Ok(None) };
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
