//! Decides which files of a context a build does not see: the rules of `.dockerignore`.
//!
//! The last pattern that matches a path or a directory above it decides; `!` includes files again. So a walk only has
//! to carry down the number of the last pattern that matched: only later patterns can change the verdict, and they are
//! tried from the last one up.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::error::{ContextError, IgnoreError};
use super::prefilter::{PathEnds, Prefilter};
use super::rule::{Rule, trim};

/// The compiled patterns of an ignore file, or of `--exclude` flags.
#[derive(Debug, Clone, Default)]
pub struct IgnoreMatcher {
    rules: Vec<Rule>,
    /// The prefilter of each rule.
    screens: Vec<Prefilter>,
    origin: Option<PathBuf>,
}

/// The verdict of the patterns on a path, needed for the paths below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verdict {
    /// One more than the number of the last matching pattern, 0 for none.
    decided_by: usize,
    ignored: bool,
}

impl Verdict {
    /// Reports whether the build does not see the path.
    pub fn is_ignored(self) -> bool {
        self.ignored
    }
}

impl IgnoreMatcher {
    /// Compiles patterns in order; blank ones are ignored.
    ///
    /// # Errors
    /// A malformed pattern, or a `!` alone.
    pub fn new<P: AsRef<[u8]>>(patterns: impl IntoIterator<Item = P>) -> Result<Self, IgnoreError> {
        let mut rules = Vec::new();
        for pattern in patterns {
            if !trim(pattern.as_ref()).is_empty() {
                rules.push(Rule::new(pattern.as_ref())?);
            }
        }
        Ok(Self::of(rules, None))
    }

    /// Parses an ignore file: one pattern per line, comments start with `#` in the first column. A byte order mark and
    /// carriage returns are not part of the patterns.
    ///
    /// # Errors
    /// A malformed pattern, with its line.
    pub fn parse(text: &[u8], path: &Path) -> Result<Self, ContextError> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let mut rules = Vec::new();
        for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let pattern = trim(line);
            if line.starts_with(b"#") || pattern.is_empty() {
                continue;
            }
            rules.push(Rule::new(pattern).map_err(|source| ContextError::IgnorePattern {
                path: path.to_owned(),
                line: number + 1,
                pattern: Some(String::from_utf8_lossy(pattern).into_owned()),
                source,
            })?);
        }
        Ok(Self::of(rules, Some(path.to_owned())))
    }

    fn of(rules: Vec<Rule>, origin: Option<PathBuf>) -> Self {
        Self { screens: rules.iter().map(Rule::prefilter).collect(), rules, origin }
    }

    /// Returns the file of the patterns.
    pub fn origin(&self) -> Option<&Path> {
        self.origin.as_deref()
    }

    /// Reports whether a pattern includes files again (`!`).
    pub fn has_exceptions(&self) -> bool {
        self.rules.iter().any(|rule| rule.negated)
    }

    /// Reports whether a pattern matches every file of the context: `*`, `**` or `**/*`.
    pub fn ignores_everything(&self) -> bool {
        self.rules.iter().any(|rule| !rule.negated && ["*", "**", "**/*"].contains(&rule.text()))
    }

    /// Reports whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Returns the verdict on a path of the context, given its parent's verdict. The context itself has the default
    /// verdict and is never ignored. The caller must have resolved symbolic links in the path.
    pub fn verdict(&self, path: &Path, parent: Verdict) -> Verdict {
        let path = path.as_os_str().as_bytes();
        let ends = PathEnds::of(path);
        let undecided = self.screens.iter().zip(&self.rules).enumerate().skip(parent.decided_by);
        let mut last_first = undecided.rev();
        match last_first.find(|(_, (prefilter, rule))| prefilter.may_match(ends) && rule.matches(path)) {
            Some((index, (_, rule))) => Verdict { decided_by: index + 1, ignored: !rule.negated },
            None => parent,
        }
    }

    /// Returns the verdict on a path, after evaluating the directories above it.
    pub fn verdict_from_root(&self, path: &Path) -> Verdict {
        let mut verdict = Verdict::default();
        let mut above = PathBuf::new();
        for component in path.components() {
            above.push(component);
            verdict = self.verdict(&above, verdict);
        }
        verdict
    }

    /// Reports whether the build does not see a path of the context.
    pub fn is_ignored(&self, path: &Path) -> bool {
        self.verdict_from_root(path).is_ignored()
    }

    /// Reports whether a path below an ignored directory may be visible, because a later `!` pattern could match it.
    pub fn may_see_below(&self, directory: &Path, verdict: Verdict) -> bool {
        let directory = directory.as_os_str().as_bytes();
        let undecided = self.rules.get(verdict.decided_by..).unwrap_or_default();
        undecided.iter().any(|rule| rule.negated && rule.reaches_below(directory))
    }

    /// Returns the pattern that decided, as written.
    pub fn deciding_pattern(&self, verdict: Verdict) -> Option<&str> {
        verdict.decided_by.checked_sub(1).and_then(|index| self.rules.get(index)).map(Rule::text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> IgnoreMatcher {
        IgnoreMatcher::parse(text.as_bytes(), Path::new(".dockerignore")).expect(text)
    }

    fn ignored<'a>(text: &str, paths: &[&'a str]) -> Vec<&'a str> {
        let matcher = parse(text);
        paths.iter().copied().filter(|path| matcher.is_ignored(Path::new(path))).collect()
    }

    const PATHS: [&str; 11] =
        [".dockerignore", "a.txt", "b.md", "d", "d/a.txt", "d/b.md", "d/e", "d/e/a.txt", "d/e/b.md", "node", "node/x"];

    #[test]
    fn the_documented_rules() {
        for (text, expected) in [
            ("", vec![]),
            ("a.txt\nnode\n", vec!["a.txt", "node", "node/x"]),
            ("*.md", vec!["b.md"]),
            ("**/*.md", vec!["b.md", "d/b.md", "d/e/b.md"]),
            ("*\n!d\n!a.txt", vec![".dockerignore", "b.md", "node", "node/x"]),
            ("d\n!d/e/a.txt", vec!["d", "d/a.txt", "d/b.md", "d/e", "d/e/b.md"]),
            ("!a.txt\n*.txt\n!d/a.txt\nd/*.txt", vec!["a.txt", "d/a.txt"]),
            ("!a.txt", vec![]),
            ("# a.txt\n\n   b.md   \n #d\n\t\nnode \n", vec!["b.md", "node", "node/x"]),
            (
                "/a.txt\nd/e/\n./node\nd//b.md",
                vec!["a.txt", "d/b.md", "d/e", "d/e/a.txt", "d/e/b.md", "node", "node/x"],
            ),
            ("../a.txt\n.\n./d/../b.md\n/", vec!["b.md"]),
            ("d\n!d/e\nd", vec!["d", "d/a.txt", "d/b.md", "d/e", "d/e/a.txt", "d/e/b.md"]),
            ("**\n!**/a.txt", vec![".dockerignore", "b.md", "d", "d/b.md", "d/e", "d/e/b.md", "node", "node/x"]),
            ("\u{feff}a.txt\r\nnode\r\n", vec!["a.txt", "node", "node/x"]),
            ("! d/e \nnode/**", vec!["node/x"]),
        ] {
            assert_eq!(ignored(text, &PATHS), expected, "{text:?}");
        }
    }

    #[test]
    fn a_malformed_pattern_is_named_with_its_line() {
        let error = IgnoreMatcher::parse(b"ok\n# [\n[\n", Path::new("c/.dockerignore")).expect_err("malformed");
        assert_eq!(error.to_string(), "c/.dockerignore:3: bad pattern \"[\"");
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        assert_eq!(cause.as_deref(), Some("syntax error in pattern"));
        let error = IgnoreMatcher::new(["a", "!"]).expect_err("lone");
        assert_eq!(error.to_string(), "illegal exclusion pattern: \"!\"");
    }

    #[test]
    fn the_deciding_pattern_is_known() {
        let matcher = parse("d\n!d/e\n");
        let verdict = matcher.verdict_from_root(Path::new("d/x"));
        assert_eq!((verdict.is_ignored(), matcher.deciding_pattern(verdict)), (true, Some("d")));
        let verdict = matcher.verdict_from_root(Path::new("d/e/x"));
        assert_eq!((verdict.is_ignored(), matcher.deciding_pattern(verdict)), (false, Some("!d/e")));
        assert_eq!(matcher.deciding_pattern(Verdict::default()), None);
    }

    /// Patterns are compiled once, when the matcher is created. This counts the remaining work for each file;
    /// benches/ignore.rs measures the same files and patterns.
    #[test]
    fn few_patterns_are_tried_on_a_file() {
        let patterns = (0..200).map(|number| match number % 5 {
            0 => format!("**/*.ext{number}"),
            1 => format!("dir{number}/sub/*"),
            2 => format!("**/name{number}"),
            3 => format!("!keep{number}/**/x"),
            _ => format!("file{number}"),
        });
        let matcher = IgnoreMatcher::new(patterns).expect("patterns");
        let (mut files, mut tried) = (0, 0);
        for directory in 0..100 {
            for file in 0..10 {
                let path = format!("packages/module-{directory}/src/component-{file}.ts");
                let ends = PathEnds::of(path.as_bytes());
                files += 1;
                tried += matcher.screens.iter().filter(|prefilter| prefilter.may_match(ends)).count();
                assert!(!matcher.is_ignored(Path::new(&path)));
            }
        }
        assert_eq!((files, tried), (1000, 0), "no pattern starts or ends as these paths do");
        let ends = PathEnds::of(b"packages/file4/x.ext0");
        assert_eq!(matcher.screens.iter().filter(|prefilter| prefilter.may_match(ends)).count(), 1, "**/*.ext0 alone");
    }

    /// The documented rules in their simplest form: blanks around a pattern and slashes before it are dropped, `.` and
    /// `..` resolved; every pattern is compared with the path and all its parents, and the last match decides.
    fn naive(patterns: &[String], path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        let mut ignored = false;
        for pattern in patterns {
            let pattern = pattern.trim();
            let (negated, pattern) = pattern.strip_prefix('!').map_or((false, pattern), |rest| (true, rest.trim()));
            let pattern = resolved(pattern);
            if (1..=parts.len()).any(|length| components_match(&pattern, &parts[..length])) {
                ignored = !negated;
            }
        }
        ignored
    }

    fn resolved(pattern: &str) -> Vec<&str> {
        let absolute = pattern.starts_with('/');
        let mut components: Vec<&str> = Vec::new();
        for component in pattern.split('/').filter(|component| !component.is_empty() && *component != ".") {
            match (component, components.last()) {
                ("..", None) if absolute => {}
                ("..", Some(last)) if *last != ".." => drop(components.pop()),
                _ => components.push(component),
            }
        }
        components
    }

    fn components_match(pattern: &[&str], path: &[&str]) -> bool {
        match (pattern.split_first(), path.split_first()) {
            (None, rest) => rest.is_none(),
            (Some((&"**", [])), _) => !path.is_empty(),
            (Some((&"**", rest)), _) => {
                components_match(rest, path)
                    || path.split_first().is_some_and(|(_, path)| components_match(pattern, path))
            }
            (Some((first, rest)), Some((name, path))) => component_matches(first, name) && components_match(rest, path),
            (Some(_), None) => false,
        }
    }

    /// `*` matches any text, `?` any character, `[ab]` one of these, `[^ab]` any other, `\\` makes the next character
    /// literal.
    fn component_matches(pattern: &str, name: &str) -> bool {
        let rest_of = |text: &str| name.chars().next().is_some_and(|_| component_matches(text, &name[1..]));
        match pattern.chars().next() {
            None => name.is_empty(),
            Some('*') => component_matches(&pattern[1..], name) || rest_of(pattern),
            Some('?') => rest_of(&pattern[1..]),
            Some('[') => {
                let (members, rest) = pattern[1..].split_once(']').expect("a whole class");
                let (negated, members) = members.strip_prefix('^').map_or((false, members), |rest| (true, rest));
                name.chars().next().is_some_and(|found| members.contains(found) != negated) && rest_of(rest)
            }
            Some('\\') => name.starts_with(&pattern[1..2]) && rest_of(&pattern[2..]),
            Some(wanted) => name.starts_with(wanted) && rest_of(&pattern[1..]),
        }
    }

    fn patterns() -> impl Strategy<Value = Vec<String>> {
        let component = prop_oneof![
            3 => "[ab.?]{1,2}",
            2 => "[ab]?\\*[ab]?",
            1 => Just("**".to_owned()),
            // A negated class also matches a slash within a component; here it is only at an end.
            1 => "[ab]?\\[[ab]{1,2}\\][ab]?|\\[\\^[ab.]\\][ab]?",
            1 => "[ab]?\\\\[*?]",
        ];
        let path = proptest::collection::vec(component, 1..4).prop_map(|parts| parts.join("/"));
        let written = ("( |!|! )?", "(/|//|\\./|a/\\.\\./|\\.\\./)?", path, "(/|/\\.| )?");
        let written = written.prop_map(|(sign, start, path, end)| format!("{sign}{start}{path}{end}"));
        proptest::collection::vec(written, 0..6)
    }

    fn tree() -> impl Strategy<Value = Vec<String>> {
        let path = proptest::collection::vec("[ab][ab.*?]?|[.][ab]", 1..5).prop_map(|parts| parts.join("/"));
        proptest::collection::vec(path, 1..8)
    }

    proptest! {
        #[test]
        fn agrees_with_a_naive_matcher(patterns in patterns(), tree in tree()) {
            let matcher = IgnoreMatcher::new(&patterns).expect("well formed");
            for path in &tree {
                prop_assert_eq!(matcher.is_ignored(Path::new(path)), naive(&patterns, path), "{:?} {}", patterns, path);
            }
        }

        #[test]
        fn visible_paths_below_an_ignored_directory_are_predicted(patterns in patterns(), tree in tree()) {
            let matcher = IgnoreMatcher::new(&patterns).expect("well formed");
            for path in &tree {
                for directory in Path::new(path).ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
                    let verdict = matcher.verdict_from_root(directory);
                    if verdict.is_ignored() && !matcher.is_ignored(Path::new(path)) {
                        prop_assert!(matcher.may_see_below(directory, verdict), "{:?} {} {:?}", patterns, path, directory);
                    }
                }
            }
        }
    }
}
