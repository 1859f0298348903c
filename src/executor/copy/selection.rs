//! Selects the files of a source: all but those of `--exclude`, and with `--parents` those that match the pattern.
//!
//! Patterns have the syntax of ignore files and are relative to the source directory. A directory that is not selected
//! itself is still entered if something below it may be.

use std::path::{Component, Path, PathBuf};

use crate::context::pattern::has_wildcard;
use crate::context::{IgnoreMatcher, Verdict};
use crate::plan;

use super::destination::clean;
use super::error::CopyError;

/// The files of a source directory that are copied.
#[derive(Debug, Default)]
pub(super) struct Selection {
    include: Option<Include>,
    exclude: IgnoreMatcher,
}

#[derive(Debug)]
struct Include {
    matcher: IgnoreMatcher,
    /// The part of the pattern before the first wildcard: all matches are below it.
    fixed: PathBuf,
}

/// The result of the patterns for one path, from which those of the paths below it are computed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Marks {
    included: Verdict,
    excluded: Verdict,
}

/// A source of `--parents`: `BASE/./PATTERN`, or a pattern from the root.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pivoted<'a> {
    /// The directory whose contents are copied. It and its parents are not made in the destination.
    pub(super) base: &'a str,
    /// The files to copy from it.
    pub(super) pattern: PathBuf,
}

impl<'a> Pivoted<'a> {
    pub(super) fn new(written: &'a str) -> Self {
        let (base, pattern) = written.split_once("/./").unwrap_or(("/", written));
        Self { base, pattern: clean(pattern) }
    }

    /// Reports whether the file must exist.
    pub(super) fn is_required(&self) -> bool {
        !has_wildcard(self.pattern.as_os_str().as_encoded_bytes())
    }
}

impl Selection {
    /// Selects everything but the files of `--exclude`.
    pub(super) fn new(step: &plan::Copy) -> Result<Self, CopyError> {
        let mut patterns = Vec::new();
        for pattern in &step.excludes {
            // A path below the source never starts with a slash.
            if pattern.trim().trim_start_matches('!').trim_start().starts_with('/') {
                tracing::warn!(
                    "--exclude={pattern} excludes nothing: patterns are relative to the source, without a slash"
                );
            } else {
                patterns.push(pattern);
            }
        }
        let invalid = |source| CopyError::Exclude { patterns: step.excludes.join(", "), source };
        Ok(Self { include: None, exclude: IgnoreMatcher::new(patterns).map_err(invalid)? })
    }

    /// Restricts the selection to matches of a pattern. Everything matches the empty pattern.
    pub(super) fn only(self, pattern: &Path, written: &str) -> Result<Self, CopyError> {
        if pattern.as_os_str().is_empty() {
            return Ok(self);
        }
        let matcher = IgnoreMatcher::new([pattern.as_os_str().as_encoded_bytes()])
            .map_err(|source| CopyError::ParentsPattern { pattern: written.to_owned(), source })?;
        let wild = |component: &Component<'_>| {
            let name = component.as_os_str().as_encoded_bytes();
            // An escape is not a wildcard, but the file's name differs from the pattern.
            has_wildcard(name) || name.contains(&b'\\')
        };
        let fixed = pattern.components().take_while(|component| !wild(component)).collect();
        Ok(Self { include: Some(Include { matcher, fixed }), ..self })
    }

    /// Reports whether existing directories of the destination keep their attributes, because parents are copied as
    /// well.
    pub(super) fn keeps_existing_directories(&self) -> bool {
        self.include.is_some()
    }

    /// Returns the marks of a path below the source directory.
    pub(super) fn marks(&self, below: &Path, parent: Marks) -> Marks {
        let included = self.include.as_ref().map(|include| include.matcher.verdict(below, parent.included));
        Marks { included: included.unwrap_or_default(), excluded: self.exclude.verdict(below, parent.excluded) }
    }

    /// Reports whether a path is copied.
    pub(super) fn takes(&self, marks: Marks) -> bool {
        !marks.excluded.is_ignored() && (self.include.is_none() || marks.included.is_ignored())
    }

    /// Reports whether something below a directory may be copied.
    pub(super) fn may_take_below(&self, directory: &Path, marks: Marks) -> bool {
        let reached = self.include.as_ref().is_none_or(|Include { fixed, .. }| {
            marks.included.is_ignored() || directory.starts_with(fixed) || fixed.starts_with(directory)
        });
        reached && (!marks.excluded.is_ignored() || self.exclude.may_see_below(directory, marks.excluded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pivot_splits_at_the_first_dot() {
        for (written, base, pattern, required) in [
            ("a/b", "/", "a/b", true),
            ("./a/b/", "/", "a/b", true),
            ("/a/./b/*.txt", "/a", "b/*.txt", false),
            ("./a/./b", "./a", "b", true),
            ("a/./b/./c", "a", "b/c", true),
            ("a/./", "a", "", true),
            ("a/../**/b", "/", "**/b", false),
            ("a\\*", "/", "a\\*", true),
        ] {
            let pivoted = Pivoted::new(written);
            assert_eq!(pivoted, Pivoted { base, pattern: PathBuf::from(pattern) }, "{written}");
            assert_eq!(pivoted.is_required(), required, "{written}");
        }
    }

    fn selection(excludes: &[&str], pattern: &str) -> Selection {
        let step =
            plan::Copy { excludes: excludes.iter().map(|text| (*text).to_owned()).collect(), ..plan::Copy::default() };
        Selection::new(&step).expect("excludes").only(Path::new(pattern), pattern).expect("pattern")
    }

    #[test]
    fn directories_that_cannot_lead_to_a_match_are_not_entered() {
        let selection = selection(&["skip", "!skip/deep/x"], "a/b/*.txt");
        let look = |path: &str| {
            let mut marks = Marks::default();
            let mut below = PathBuf::new();
            for component in Path::new(path).components() {
                below.push(component);
                marks = selection.marks(&below, marks);
            }
            (selection.takes(marks), selection.may_take_below(Path::new(path), marks))
        };
        assert_eq!(look("a"), (false, true));
        assert_eq!(look("a/c"), (false, false));
        assert_eq!(look("a/b/deep"), (false, true));
        assert!(look("a/b/x.txt").0);
        assert_eq!(look("node_modules"), (false, false));
    }

    #[test]
    fn an_excluded_directory_is_entered_for_exceptions_only() {
        let selection = selection(&["skip", "gone", "!skip/deep/x", "/slash"], "");
        let marks = |path: &str| selection.marks(Path::new(path), Marks::default());
        assert!(!selection.takes(marks("skip")) && selection.may_take_below(Path::new("skip"), marks("skip")));
        assert!(!selection.takes(marks("gone")) && !selection.may_take_below(Path::new("gone"), marks("gone")));
        assert!(selection.takes(marks("slash")));
    }

    #[test]
    fn malformed_patterns_are_named() {
        let step = plan::Copy { excludes: vec!["ok".to_owned(), "[".to_owned()], ..plan::Copy::default() };
        assert_eq!(Selection::new(&step).expect_err("malformed").to_string(), "bad pattern in --exclude: ok, [");
        let error = Selection::default().only(Path::new("[a"), "./[a").expect_err("malformed");
        assert_eq!(error.to_string(), "bad pattern \"./[a\"");
    }
}
