//! Compiles a line of a `.dockerignore` file.
//!
//! The patterns look like Go's `filepath.Match` and are checked by it, but are matched as the regular expressions that
//! moby's patternmatcher makes of them. The difference is visible: `*` and `?` keep their meaning within brackets
//! (`[*]` does not match a star), `\d` is a digit and a bare `^` matches nothing. Builds depend on it, so the same
//! expressions are used.

use std::borrow::Cow;

use regex::Regex;

use super::error::IgnoreError;
use super::pattern::{self, BadPattern};
use super::prefilter::Prefilter;

/// A compiled pattern.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// The pattern as written, for messages.
    text: String,
    /// True if it includes files again (`!`).
    pub(super) negated: bool,
    cleaned: Vec<u8>,
    kind: Kind,
    /// The start and end of every matching path, which rule out most paths.
    prefix: Vec<u8>,
    suffix: Vec<u8>,
}

#[derive(Debug, Clone)]
enum Kind {
    /// The path itself.
    Exact,
    /// `name**`: every path with this prefix.
    Prefix,
    /// `**name`: every path with this suffix, and `name` without its leading slash.
    Suffix,
    Expression(Regex),
}

impl Rule {
    /// Compiles a pattern that may start with `!`, after cleaning its path.
    pub(super) fn new(written: &[u8]) -> Result<Self, IgnoreError> {
        let text = String::from_utf8_lossy(written).into_owned();
        let (negated, path) = match trim(written).strip_prefix(b"!") {
            Some(path) => (true, trim(path)),
            None => (false, trim(written)),
        };
        if negated && path.is_empty() {
            return Err(IgnoreError::LoneExclamationMark);
        }
        let mut cleaned = clean(path);
        if cleaned.len() > 1 && cleaned.first() == Some(&b'/') {
            cleaned.remove(0);
        }
        // The name does not matter: only the syntax is checked.
        pattern::matches(&cleaned, b".")?;
        let Translation { kind, prefix, suffix } = translate(&replace_invalid(&cleaned))?;
        let (prefix, suffix) = match &kind {
            Kind::Expression(_) => (prefix, suffix),
            Kind::Exact => (cleaned.clone(), Vec::new()),
            Kind::Prefix => (cleaned[..cleaned.len() - 2].to_vec(), Vec::new()),
            Kind::Suffix => (Vec::new(), cleaned[2..].strip_prefix(b"/").unwrap_or(&cleaned[2..]).to_vec()),
        };
        Ok(Self { text, negated, cleaned, kind, prefix, suffix })
    }

    /// Returns the pattern as written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the filter that rules out paths without evaluating the pattern.
    pub(super) fn prefilter(&self) -> Prefilter {
        Prefilter::new(&self.prefix, &self.suffix)
    }

    /// Reports whether the pattern matches this path itself; paths below a match are handled by the caller.
    pub(super) fn matches(&self, path: &[u8]) -> bool {
        if !path.starts_with(&self.prefix) || !path.ends_with(&self.suffix) {
            return false;
        }
        match &self.kind {
            Kind::Exact => path.len() == self.cleaned.len(),
            Kind::Prefix => true,
            Kind::Suffix => {
                let suffix = &self.cleaned[2..];
                path.ends_with(suffix) || suffix.strip_prefix(b"/") == Some(path)
            }
            Kind::Expression(expression) => expression.is_match(&replace_invalid(path)),
        }
    }

    /// Reports whether a path below `directory` could match. May return true too often.
    pub(super) fn reaches_below(&self, directory: &[u8]) -> bool {
        let common = directory.len().min(self.prefix.len());
        if directory[..common] != self.prefix[..common] {
            return false;
        }
        match &self.kind {
            Kind::Exact => self.prefix.len() > directory.len() && self.prefix.get(directory.len()) == Some(&b'/'),
            _ => self.prefix.get(directory.len()).is_none_or(|byte| *byte == b'/'),
        }
    }
}

struct Translation {
    kind: Kind,
    prefix: Vec<u8>,
    suffix: Vec<u8>,
}

/// The shape of the pattern as read so far.
#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Exact,
    Prefix,
    Suffix,
    Expression,
}

impl Shape {
    /// Returns how a pattern of this shape matches; `expression` is its regular expression in Go's syntax, without the end.
    fn into_kind(self, expression: String) -> Result<Kind, IgnoreError> {
        Ok(match self {
            Self::Exact => Kind::Exact,
            Self::Prefix => Kind::Prefix,
            Self::Suffix => Kind::Suffix,
            Self::Expression => Kind::Expression(Regex::new(&from_go(&(expression + "$"))).map_err(|_| BadPattern)?),
        })
    }
}

/// Translates a pattern to the regular expression of moby's patternmatcher, unless a simpler match suffices.
fn translate(pattern: &str) -> Result<Translation, IgnoreError> {
    let mut expression = String::from("^");
    let mut literals = Literals::default();
    let mut shape = Shape::Exact;
    let mut characters = pattern.chars().peekable();
    let mut first = true;
    while let Some(character) = characters.next() {
        match character {
            '*' if characters.next_if_eq(&'*').is_some() => {
                characters.next_if_eq(&'/');
                literals.interrupt();
                if characters.peek().is_some() {
                    expression.push_str("(.*/)?");
                    shape = Shape::Expression;
                } else if shape == Shape::Exact {
                    shape = Shape::Prefix;
                } else {
                    expression.push_str(".*");
                    shape = Shape::Expression;
                }
                if first {
                    shape = Shape::Suffix;
                }
            }
            '*' => {
                literals.interrupt();
                expression.push_str("[^/]*");
                shape = Shape::Expression;
            }
            '?' => {
                literals.interrupt();
                expression.push_str("[^/]");
                shape = Shape::Expression;
            }
            '.' | '+' | '(' | ')' | '|' | '{' | '}' | '$' => {
                literals.push(character);
                expression.push('\\');
                expression.push(character);
            }
            '\\' => {
                expression.push('\\');
                let Some(escaped) = characters.next() else { break };
                // `\d` and the like are classes in a regular expression.
                if escaped.is_ascii_punctuation() {
                    literals.push(escaped);
                } else {
                    literals.interrupt();
                }
                expression.push(escaped);
                shape = Shape::Expression;
            }
            '[' | ']' => {
                literals.interrupt();
                literals.in_class = character == '[';
                expression.push(character);
                shape = Shape::Expression;
            }
            '^' => {
                literals.interrupt();
                expression.push(character);
            }
            _ => {
                literals.push(character);
                expression.push(character);
            }
        }
        first = false;
    }
    let kind = shape.into_kind(expression)?;
    let Literals { prefix, run, interrupted, .. } = literals;
    let suffix = if interrupted { run } else { String::new() };
    Ok(Translation { kind, prefix: prefix.into_bytes(), suffix: suffix.into_bytes() })
}

/// The literal text at the start and end of a pattern.
#[derive(Default)]
struct Literals {
    prefix: String,
    run: String,
    interrupted: bool,
    in_class: bool,
}

impl Literals {
    fn push(&mut self, character: char) {
        if self.in_class {
            return;
        }
        // A replacement character does not determine the invalid byte.
        if character == char::REPLACEMENT_CHARACTER {
            return self.interrupt();
        }
        if !self.interrupted {
            self.prefix.push(character);
        }
        self.run.push(character);
    }

    fn interrupt(&mut self) {
        self.interrupted = true;
        self.run.clear();
    }
}

/// Translates an expression from Go's syntax: within a class, Go has no nested classes and no set operations.
fn from_go(expression: &str) -> String {
    let mut written = String::with_capacity(expression.len() + 8);
    let mut characters = expression.chars().peekable();
    while let Some(character) = characters.next() {
        written.push(character);
        match character {
            '\\' => written.extend(characters.next()),
            '[' => {
                written.extend(characters.next_if_eq(&'^'));
                if characters.next_if_eq(&']').is_some() {
                    written.push_str("\\]");
                }
                while let Some(member) = characters.next() {
                    match member {
                        '\\' => {
                            written.push('\\');
                            written.extend(characters.next());
                        }
                        '[' if characters.peek() == Some(&':') => written.push('['),
                        '[' | '&' | '~' => {
                            written.push('\\');
                            written.push(member);
                        }
                        _ => written.push(member),
                    }
                    if member == ']' {
                        break;
                    }
                }
            }
            _ => {}
        }
    }
    written
}

/// Replaces each invalid byte by U+FFFD, which is how Go's regular expressions see it.
fn replace_invalid(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len() * 2);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(std::iter::repeat_n(char::REPLACEMENT_CHARACTER, chunk.invalid().len()));
    }
    Cow::Owned(text)
}

/// Returns the bytes without surrounding white space.
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.trim().as_bytes(),
        Err(_) => bytes.trim_ascii(),
    }
}

/// Cleans a path like Go's `filepath.Clean`: no empty, `.` or needless `..` components; an empty path becomes `.`.
fn clean(path: &[u8]) -> Vec<u8> {
    let absolute = path.first() == Some(&b'/');
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|last| *last != b"..") => drop(parts.pop()),
            b".." if absolute => {}
            _ => parts.push(part),
        }
    }
    let mut cleaned = if absolute { b"/".to_vec() } else { Vec::new() };
    cleaned.extend(parts.join(&b'/'));
    if cleaned.is_empty() {
        cleaned.push(b'.');
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Rule::new(pattern.as_bytes()).expect(pattern).matches(path.as_bytes())
    }

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (path, expected) in [
            ("", "."),
            (".", "."),
            ("/", "/"),
            ("a//b/", "a/b"),
            ("./a", "a"),
            ("a/./b/../c", "a/c"),
            ("../a", "../a"),
            ("../../a/..", "../.."),
            ("/../a", "/a"),
            ("a/..", "."),
        ] {
            assert_eq!(clean(path.as_bytes()), expected.as_bytes(), "{path}");
        }
    }

    #[test]
    fn the_documented_rules() {
        for (pattern, path, expected) in [
            ("a.txt", "a.txt", true),
            ("a.txt", "axtxt", false),
            ("a.txt", "d/a.txt", false),
            ("/a.txt", "a.txt", true),
            ("d/e/", "d/e", true),
            ("./d//e", "d/e", true),
            ("d/../a", "a", true),
            ("../a", "a", false),
            (".", "a", false),
            ("*", "a", true),
            ("*", "d/a", false),
            ("*.md", "b.md", true),
            ("*.md", ".md", true),
            ("*/*.md", "d/b.md", true),
            ("?.md", "b.md", true),
            ("?.md", "bb.md", false),
            ("d?e", "d/e", false),
            ("**", "a/b/c", true),
            ("**/", "a", true),
            ("**/*.md", "b.md", true),
            ("**/*.md", "d/e/b.md", true),
            ("**/*.md", "d/e/b.mdx", false),
            ("**/e", "e", true),
            ("**/e", "d/e", true),
            ("**/e", "de", false),
            ("**e", "de", true),
            ("d/**", "d/a", true),
            ("d/**", "d", false),
            ("d/**", "dd/a", false),
            ("d/**/a.txt", "d/a.txt", true),
            ("d/**/a.txt", "d/e/f/a.txt", true),
            ("d/**/a.txt", "d/xa.txt", false),
            ("a**b", "a/x/b", true),
            ("**/a/**", "a/x", true),
            ("**/a/**", "x/a/y/z", true),
            ("**/a/**", "x/ab/y", false),
            ("[a-b].md", "b.md", true),
            ("[^a].md", "b.md", true),
            ("[^a].md", "a.md", false),
            ("\\!bang", "!bang", true),
            ("\\#hash", "#hash", true),
            ("st\\*r", "st*r", true),
            ("st\\*r", "star", false),
            ("a+(b)|{c}$", "a+(b)|{c}$", true),
            ("*+(b)|{c}$", "a+(b)|{c}$", true),
            ("A.TXT", "a.txt", false),
            ("ü*", "ü✓", true),
            // Cases in which the regular expression is visible.
            ("star[*].txt", "star*.txt", false),
            ("[&&~~[]x", "&x", true),
            ("[&&~~[]x", "[x", true),
            ("a^b*", "a^bc", false),
            ("a^b", "a^b", true),
            ("[[:alpha:]]", "x", true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} against {path}");
        }
        assert!(Rule::new(b"?").expect("pattern").matches(b"\xff"));
        assert!(Rule::new(b"*\xfe").expect("pattern").matches(b"a\xfe"));
        assert!(Rule::new(b"\xff").expect("pattern").matches(b"\xff"));
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for pattern in ["[", "a[", "[]", "[a-", "a\\", "!["] {
            assert_eq!(Rule::new(pattern.as_bytes()).err(), Some(IgnoreError::Syntax(BadPattern)), "{pattern}");
        }
        for pattern in ["!", " ! ", "!\t"] {
            assert_eq!(Rule::new(pattern.as_bytes()).err(), Some(IgnoreError::LoneExclamationMark), "{pattern}");
        }
    }

    #[test]
    fn a_rule_knows_directories_without_matches() {
        for (pattern, directory, expected) in [
            ("d/e/a", "d", true),
            ("d/e/a", "d/e", true),
            ("d/e/a", "d/e/a", false),
            ("d/e/a", "d/x", false),
            ("de/a", "d", false),
            ("d/*", "d", true),
            ("d*", "d", true),
            ("*x", "d", true),
            ("dd*", "d", false),
            ("**/a", "any/where", true),
            ("d/**", "d/e/f", true),
        ] {
            let rule = Rule::new(pattern.as_bytes()).expect(pattern);
            assert_eq!(rule.reaches_below(directory.as_bytes()), expected, "{pattern} below {directory}");
        }
    }
}
