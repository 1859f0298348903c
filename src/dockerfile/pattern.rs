//! Matches the patterns of `${name#pattern}`, `${name%pattern}` and `${name/pattern/text}`: `*`, `?` and escaped
//! characters.

/// A compiled pattern.
#[derive(Debug)]
pub(super) struct Pattern(Vec<Part>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// `*`
    Any,
    /// `?`
    One,
    /// A literal character.
    Exactly(char),
}

/// Which of several matches to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Shortest,
    Longest,
}

impl Pattern {
    /// Compiles a pattern. `escape` before a character makes it literal; there are no character classes.
    pub(super) fn new(text: &str, escape: char) -> Self {
        let mut parts = Vec::new();
        let mut characters = text.chars();
        while let Some(c) = characters.next() {
            parts.push(match c {
                '*' => Part::Any,
                '?' => Part::One,
                c if c == escape => Part::Exactly(characters.next().unwrap_or(c)),
                c => Part::Exactly(c),
            });
        }
        // Adjacent stars match the same as one, and cost more.
        parts.dedup_by(|next, previous| *next == Part::Any && *previous == Part::Any);
        Self(parts)
    }

    /// Returns the value without the matching prefix.
    pub(super) fn trim_prefix(&self, value: &str, extent: Extent) -> String {
        let characters = value.chars().collect::<Vec<_>>();
        match match_length(&self.0, &characters, extent) {
            Some(length) => characters.into_iter().skip(length).collect(),
            None => value.to_owned(),
        }
    }

    /// Returns the value without the matching suffix.
    pub(super) fn trim_suffix(&self, value: &str, extent: Extent) -> String {
        let mut characters = value.chars().collect::<Vec<_>>();
        let reversed = characters.iter().rev().copied().collect::<Vec<_>>();
        let parts = self.0.iter().rev().copied().collect::<Vec<_>>();
        if let Some(length) = match_length(&parts, &reversed, extent) {
            characters.truncate(characters.len() - length);
        }
        characters.into_iter().collect()
    }

    /// Returns the value with the first or every match replaced; matches are as long as possible.
    ///
    /// An empty match counts, except right after another match. `None` if the result would be longer than `limit`
    /// bytes.
    pub(super) fn replace(&self, value: &str, replacement: &str, all: bool, limit: usize) -> Option<String> {
        let characters = value.chars().collect::<Vec<_>>();
        let mut result = String::new();
        let mut position = 0;
        let mut last_end = None;
        while position <= characters.len() && result.len() <= limit {
            let rest = &characters[position..];
            match match_length(&self.0, rest, Extent::Longest) {
                Some(length) if length > 0 || last_end != Some(position) => {
                    result.push_str(replacement);
                    position += length;
                    last_end = Some(position);
                    if !all {
                        break;
                    }
                    if length > 0 {
                        continue;
                    }
                }
                _ => {}
            }
            result.extend(characters.get(position));
            position += 1;
        }
        result.extend(characters.iter().skip(position));
        (result.len() <= limit).then_some(result)
    }
}

/// Returns how many characters match from the start. It follows all possibilities at once, so that stars cannot take
/// exponential time.
fn match_length(parts: &[Part], characters: &[char], extent: Extent) -> Option<usize> {
    let mut states = vec![false; parts.len() + 1];
    states[0] = true;
    let mut longest = None;
    for position in 0..=characters.len() {
        // A star may match nothing.
        for (index, part) in parts.iter().enumerate() {
            if states[index] && *part == Part::Any {
                states[index + 1] = true;
            }
        }
        if states[parts.len()] {
            longest = Some(position);
            if extent == Extent::Shortest || parts.last() == Some(&Part::Any) {
                break;
            }
        }
        let Some(c) = characters.get(position) else { break };
        let mut next = vec![false; parts.len() + 1];
        for (index, part) in parts.iter().enumerate() {
            match part {
                Part::Any => next[index] |= states[index],
                Part::One => next[index + 1] |= states[index],
                Part::Exactly(wanted) => next[index + 1] |= states[index] && wanted == c,
            }
        }
        if !next.contains(&true) {
            break;
        }
        states = next;
    }
    if extent == Extent::Longest && longest.is_some() && parts.last() == Some(&Part::Any) {
        return Some(characters.len());
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::{Extent, Pattern};

    #[test]
    fn prefixes_and_suffixes() {
        let path = "/usr/lib/lib.so.1";
        for (pattern, shortest, longest) in [
            ("*/", "usr/lib/lib.so.1", "lib.so.1"),
            ("?usr", "/lib/lib.so.1", "/lib/lib.so.1"),
            ("zzz", path, path),
            ("*", path, ""),
            ("", path, path),
        ] {
            let pattern = Pattern::new(pattern, '\\');
            assert_eq!(pattern.trim_prefix(path, Extent::Shortest), shortest, "{pattern:?}");
            assert_eq!(pattern.trim_prefix(path, Extent::Longest), longest, "{pattern:?}");
        }
        for (pattern, shortest, longest) in [
            (".*", "/usr/lib/lib.so", "/usr/lib/lib"),
            ("/*", "/usr/lib", ""),
            ("1", "/usr/lib/lib.so.", "/usr/lib/lib.so."),
        ] {
            let pattern = Pattern::new(pattern, '\\');
            assert_eq!(pattern.trim_suffix(path, Extent::Shortest), shortest, "{pattern:?}");
            assert_eq!(pattern.trim_suffix(path, Extent::Longest), longest, "{pattern:?}");
        }
    }

    #[test]
    fn escaped_characters_and_brackets_are_literal() {
        assert_eq!(Pattern::new("*\\*", '\\').trim_prefix("a*b*c", Extent::Shortest), "b*c");
        assert_eq!(Pattern::new("[ab]", '\\').trim_prefix("a", Extent::Shortest), "a");
        assert_eq!(Pattern::new("[ab]", '\\').trim_prefix("[ab]x", Extent::Shortest), "x");
        assert_eq!(Pattern::new("a\\", '\\').trim_prefix("a\\b", Extent::Shortest), "b");
    }

    #[test]
    fn replacing() {
        let replace = |pattern, value, all| Pattern::new(pattern, '\\').replace(value, "X", all, 16).expect("short");
        assert_eq!(replace("foo", "foo/bar/foo", false), "X/bar/foo");
        assert_eq!(replace("foo", "foo/bar/foo", true), "X/bar/X");
        assert_eq!(replace("o*r", "foo/bar/foo", false), "fX/foo");
        assert_eq!(replace("zip", "foo", true), "foo");
        assert_eq!(replace("*", "abc", true), "X");
        assert_eq!(replace("", "ab", true), "XaXbX");
        assert_eq!(replace("?", "né", true), "XX");
        assert_eq!(replace("a", "", true), "");
        assert_eq!(Pattern::new("a", '\\').replace("aaa", "XXX", true, 8), None);
    }

    #[test]
    fn many_stars_do_not_explode() {
        let value = "a".repeat(2000);
        assert_eq!(Pattern::new("*a*a*a*a*a*a*a*b", '\\').trim_prefix(&value, Extent::Longest), value);
    }
}
