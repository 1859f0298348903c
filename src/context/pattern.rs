//! Matches a pattern with a name, exactly as Go's `path/filepath.Match` does.
//!
//! Dockerfiles and `.dockerignore` files have always been read by Go programs, so its corner cases are part of the
//! language: `*` and `?` do not match a slash but a character class does, a class may contain an escaped character,
//! only `^` negates, and a malformed pattern is reported even if the name could not match.

/// The error of a malformed pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

/// Reports whether `pattern` matches all of `name`. Both are bytes; where a character is needed (`?`, classes) an
/// invalid UTF-8 byte counts as one.
///
/// # Errors
/// The pattern is malformed: an unfinished class, a reversed bracket, a backslash at the end.
pub fn matches(pattern: impl AsRef<[u8]>, name: impl AsRef<[u8]>) -> Result<bool, BadPattern> {
    let (mut pattern, mut name) = (pattern.as_ref(), name.as_ref());
    'pattern: while !pattern.is_empty() {
        let (star, chunk, rest) = split_chunk(pattern);
        pattern = rest;
        if star && chunk.is_empty() {
            return Ok(!name.contains(&b'/'));
        }
        // The last chunk must match to the end of the name; earlier ones need not.
        let fits = |found: Option<&[u8]>| found.is_some_and(|left| left.is_empty() || !rest.is_empty());
        let found = match_chunk(chunk, name)?;
        if let Some(left) = found.filter(|_| fits(found)) {
            name = left;
            continue;
        }
        if star {
            let skippable = name.iter().take_while(|byte| **byte != b'/').count();
            for skipped in 1..=skippable {
                let found = match_chunk(chunk, &name[skipped..])?;
                if let Some(left) = found.filter(|_| fits(found)) {
                    name = left;
                    continue 'pattern;
                }
            }
        }
        while !pattern.is_empty() {
            let (_, chunk, rest) = split_chunk(pattern);
            match_chunk(chunk, b"")?;
            pattern = rest;
        }
        return Ok(false);
    }
    Ok(name.is_empty())
}

/// Reports whether a word is a pattern: it has an unescaped `*`, `?` or `[`.
pub fn has_wildcard(word: impl AsRef<[u8]>) -> bool {
    let mut bytes = word.as_ref().iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'*' | b'?' | b'[' => return true,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
    false
}

/// Splits off leading stars and the text up to the next star outside of a class.
fn split_chunk(pattern: &[u8]) -> (bool, &[u8], &[u8]) {
    let stars = pattern.iter().take_while(|byte| **byte == b'*').count();
    let pattern = &pattern[stars..];
    let mut in_class = false;
    let mut at = 0;
    while at < pattern.len() {
        match pattern[at] {
            b'\\' if at + 1 < pattern.len() => at += 1,
            b'[' => in_class = true,
            b']' => in_class = false,
            b'*' if !in_class => break,
            _ => {}
        }
        at += 1;
    }
    (stars > 0, &pattern[..at], &pattern[at..])
}

/// Matches a chunk without stars at the start of `name` and returns the rest of the name. The chunk is always read to
/// its end, to find errors in it.
fn match_chunk<'a>(mut chunk: &[u8], name: &'a [u8]) -> Result<Option<&'a [u8]>, BadPattern> {
    let mut left = Some(name);
    while let Some((&first, rest)) = chunk.split_first() {
        left = left.filter(|name| !name.is_empty());
        match first {
            b'[' => {
                let (character, after) = left.map_or(('\0', None), |name| {
                    let (character, width) = decode(name);
                    (character, Some(&name[width..]))
                });
                let (in_class, rest) = match_class(rest, character)?;
                left = after.filter(|_| in_class);
                chunk = rest;
            }
            b'?' => {
                left = left.filter(|name| name.first() != Some(&b'/')).map(|name| &name[decode(name).1..]);
                chunk = rest;
            }
            _ => {
                let (literal, rest) =
                    if first == b'\\' { rest.split_first().ok_or(BadPattern)? } else { (&first, rest) };
                left = left.and_then(|name| name.strip_prefix(std::slice::from_ref(literal)));
                chunk = rest;
            }
        }
    }
    Ok(left)
}

/// Reads the class after its `[`: returns whether it contains `character`, and the text after its `]`.
fn match_class(class: &[u8], character: char) -> Result<(bool, &[u8]), BadPattern> {
    let (negated, mut class) = match class.strip_prefix(b"^") {
        Some(rest) => (true, rest),
        None => (false, class),
    };
    let mut held = false;
    let mut ranges = 0;
    loop {
        if let Some(rest) = class.strip_prefix(b"]").filter(|_| ranges > 0) {
            return Ok((held != negated, rest));
        }
        let (low, rest) = class_character(class)?;
        let (high, rest) = match rest.strip_prefix(b"-") {
            Some(rest) => class_character(rest)?,
            None => (low, rest),
        };
        held |= (low..=high).contains(&character);
        ranges += 1;
        class = rest;
    }
}

/// Reads a character of a class, possibly escaped; it must not be the last of the pattern.
fn class_character(class: &[u8]) -> Result<(char, &[u8]), BadPattern> {
    let class = match class.first() {
        None | Some(b'-' | b']') => return Err(BadPattern),
        Some(b'\\') => &class[1..],
        Some(_) => class,
    };
    if class.is_empty() {
        return Err(BadPattern);
    }
    let (character, width) = decode(class);
    if (character == char::REPLACEMENT_CHARACTER && width == 1) || class.len() == width {
        return Err(BadPattern);
    }
    Ok((character, &class[width..]))
}

/// Returns the first character and its width; an invalid byte is U+FFFD of width 1.
fn decode(bytes: &[u8]) -> (char, usize) {
    let head = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(),
    };
    valid.chars().next().map_or((char::REPLACEMENT_CHARACTER, 1), |character| (character, character.len_utf8()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_documented_rules() {
        for (pattern, name, expected) in [
            ("", "", true),
            ("", "a", false),
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("*", "abc", true),
            ("*", "", true),
            ("*", ".hidden", true),
            ("*", "a/b", false),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("**/x", "a/x", true),
            ("**/x", "x", false),
            ("**/x", "a/b/x", false),
            ("?", "ä", true),
            ("??", "ä", false),
            ("a?b", "a/b", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("[a-ζ]*", "α", true),
            ("a[!x]b", "a!b", true),
            ("a[^x]b", "a/b", true),
            ("[]a]", "]", false),
            ("[\\]a]", "]", true),
            ("[\\-]", "-", true),
            ("[x\\-]", "-", true),
            ("[[]0]", "[0]", true),
            ("star[*]", "star*", true),
            ("star[*]", "starry", false),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("*[a]", "ba", true),
            ("a[", "b", false),
        ] {
            let answer = matches(pattern, name);
            match pattern {
                "[]a]" | "a[" => assert_eq!(answer, Err(BadPattern), "{pattern}"),
                _ => assert_eq!(answer, Ok(expected), "{pattern} against {name}"),
            }
        }
        assert_eq!(matches(b"a?b", b"a\xffb"), Ok(true));
        assert_eq!(matches(b"a[^x]b", b"a\xffb"), Ok(true));
    }

    #[test]
    fn malformed_patterns_are_reported_for_any_name() {
        for pattern in
            ["[", "[^", "[^bc", "a[", "[-]", "[x-]", "[-x]", "[a-b-c]", "\\", "a\\", "[\\", "*a[", "x*y[", "[]"]
        {
            for name in ["", ".", "a", "zzz", "x/y"] {
                assert_eq!(matches(pattern, name), Err(BadPattern), "{pattern} against {name}");
            }
        }
    }

    #[test]
    fn an_escaped_wildcard_is_not_a_pattern() {
        assert!(has_wildcard("a*") && has_wildcard("a?") && has_wildcard("[a]") && has_wildcard("\\**"));
        assert!(!has_wildcard("plain") && !has_wildcard("star\\*.txt") && !has_wildcard("end\\"));
    }

    /// A matcher that is obviously correct, for patterns of literals, `?` and `*`.
    fn naive(pattern: &[char], name: &[char]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, rest) => rest.is_none(),
            (Some(('*', pattern)), _) => {
                naive(pattern, name)
                    || name.split_first().is_some_and(|(c, rest)| *c != '/' && naive(&[&['*'], pattern].concat(), rest))
            }
            (Some(('?', pattern)), Some((c, name))) => *c != '/' && naive(pattern, name),
            (Some((p, pattern)), Some((c, name))) => p == c && naive(pattern, name),
            (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_naive_matcher(pattern in "[ab/*?ä]{0,8}", name in "[ab/ä]{0,8}") {
            let characters = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(matches(&pattern, &name), Ok(naive(&characters(&pattern), &characters(&name))));
        }

        #[test]
        fn being_malformed_does_not_depend_on_the_name(pattern in proptest::collection::vec(any::<u8>(), 0..16), name in proptest::collection::vec(any::<u8>(), 0..16)) {
            prop_assert_eq!(matches(&pattern, &name).is_err(), matches(&pattern, b".").is_err());
        }
    }
}
