//! Fuzz target: ignore files.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use super::IgnoreMatcher;

/// Compiles any ignore file, or refuses it, and checks that its verdicts are consistent. The first zero byte ends the
/// patterns; the paths follow, one per line.
pub(crate) fn ignore(input: &[u8]) {
    let (patterns, paths) = match input.iter().position(|byte| *byte == 0) {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (input, &b"a/b.c/d\n.hidden"[..]),
    };
    let Ok(matcher) = IgnoreMatcher::parse(patterns, Path::new(".dockerignore")) else { return };
    // As many paths as any number of patterns can be matched with quickly.
    for path in paths.split(|byte| *byte == b'\n').take(100).map(|path| Path::new(OsStr::from_bytes(path))) {
        // Paths of a walk: relative and clean.
        if path.as_os_str().is_empty() || !path.components().all(|part| matches!(part, Component::Normal(_))) {
            continue;
        }
        let verdict = matcher.verdict_from_root(path);
        assert_eq!(
            verdict.is_ignored(),
            matcher.deciding_pattern(verdict).is_some_and(|text| !text.trim().starts_with('!'))
        );
        for directory in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
            let above = matcher.verdict_from_root(directory);
            // A walk may skip a directory if nothing in it can be seen.
            if above.is_ignored() && !verdict.is_ignored() {
                assert!(matcher.may_see_below(directory, above), "{path:?} below {directory:?}");
            }
        }
    }
}
