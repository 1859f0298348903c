//! Parses the JSON form of arguments: `["a", "b"]`.

use std::ops::Range;

use serde_json::value::RawValue;

use super::error::Problem;
use super::words::Token;

/// Returns the strings of a JSON array; `None` if the text is not a JSON array, and so has a different meaning.
///
/// A valid array with other elements than strings is an error, never a shell command.
pub(super) fn parse(line: &str, range: Range<usize>) -> Result<Option<Vec<Token>>, Problem> {
    let text = &line[range.clone()];
    if !text.starts_with('[') {
        return Ok(None);
    }
    if let Some(tokens) = Strings::new(text, range.start).array() {
        return Ok(Some(tokens));
    }
    let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(text) else { return Ok(None) };
    let Some(other) = elements.into_iter().map(RawValue::get).find(|element| !element.starts_with('"')) else {
        return Ok(None);
    };
    // The element borrows from the text, so its distance from the start is its offset.
    let start = range.start + (other.as_ptr().addr() - text.as_ptr().addr());
    Err(Problem::new(
        start..start + other.len(),
        "when using JSON array syntax, arrays must be comprised of strings only",
    )
    .with_hint("put it in double quotes"))
}

/// A reader of string arrays that records the range of every element, and treats lone surrogates like Go.
struct Strings<'a> {
    text: &'a str,
    position: usize,
    base: usize,
}

impl<'a> Strings<'a> {
    fn new(text: &'a str, base: usize) -> Self {
        Self { text, position: 0, base }
    }

    fn array(mut self) -> Option<Vec<Token>> {
        let mut elements = Vec::new();
        self.expect(b'[')?;
        self.blanks();
        if self.expect(b']').is_none() {
            loop {
                self.blanks();
                let start = self.position;
                let text = self.string()?;
                elements.push(Token { text, range: self.base + start..self.base + self.position });
                self.blanks();
                if self.expect(b',').is_none() {
                    self.expect(b']')?;
                    break;
                }
            }
        }
        self.blanks();
        (self.position == self.text.len()).then_some(elements)
    }

    fn blanks(&mut self) {
        let rest = &self.text[self.position..];
        self.position += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.text.as_bytes().get(self.position) == Some(&byte)).then(|| self.position += 1)
    }

    fn string(&mut self) -> Option<String> {
        self.expect(b'"')?;
        let mut result = String::new();
        loop {
            let c = self.next()?;
            match c {
                '"' => return Some(result),
                '\\' => {
                    let escaped = match self.next()? {
                        'b' => '\u{8}',
                        'f' => '\u{c}',
                        'n' => '\n',
                        'r' => '\r',
                        't' => '\t',
                        'u' => self.unicode()?,
                        c @ ('"' | '\\' | '/') => c,
                        _ => return None,
                    };
                    result.push(escaped);
                }
                '\0'..='\x1f' => return None,
                c => result.push(c),
            }
        }
    }

    fn next(&mut self) -> Option<char> {
        let c = self.text[self.position..].chars().next()?;
        self.position += c.len_utf8();
        Some(c)
    }

    /// Reads the digits after `\u`: one unit, or two that form a character together.
    fn unicode(&mut self) -> Option<char> {
        let unit = self.hexadecimal()?;
        if let Some(c) = char::from_u32(unit) {
            return Some(c);
        }
        let behind_first = self.position;
        if unit < 0xdc00 && self.text[self.position..].starts_with("\\u") {
            self.position += 2;
            let low = self.hexadecimal()?;
            if (0xdc00..0xe000).contains(&low) {
                return char::from_u32(0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00));
            }
            self.position = behind_first;
        }
        Some(char::REPLACEMENT_CHARACTER)
    }

    fn hexadecimal(&mut self) -> Option<u32> {
        let digits = self.text.get(self.position..self.position + 4)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        self.position += 4;
        u32::from_str_radix(digits, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    fn strings(text: &str) -> Option<Vec<String>> {
        parse(text, 0..text.len()).expect("no error").map(|tokens| tokens.into_iter().map(|token| token.text).collect())
    }

    #[test]
    fn arrays_of_strings() {
        assert_eq!(strings("[]"), Some(vec![]));
        assert_eq!(strings("[ ]"), Some(vec![]));
        assert_eq!(
            strings(r#"[ "a\tb" , "\u00e9\"q\"", "back\\slash" ]"#).expect("array"),
            ["a\tb", "é\"q\"", "back\\slash"]
        );
        assert_eq!(
            strings(r#"["\ud83e\udd80", "\ud83e", "\ud83e\u0041", "\/"]"#).expect("array"),
            ["🦀", "\u{fffd}", "\u{fffd}A", "/"]
        );
    }

    #[test]
    fn anything_else_is_not_json() {
        for text in [
            "a",
            "['a']",
            r#"["a"] b"#,
            r#"["a",]"#,
            r#"["a" "b"]"#,
            r#"[ "a" = "a" ] && x"#,
            "[",
            r#"["a"#,
            r#"["\x"]"#,
            "[ -d /bin ]",
            r#"["\u00zz"]"#,
            "[1e999, x]",
        ] {
            assert_eq!(strings(text), None, "{text}");
        }
    }

    #[test]
    fn other_elements_are_errors_at_the_element() {
        for (text, element) in [
            (r#"CMD ["sleep", 5]"#, "5"),
            (r#"CMD [null]"#, "null"),
            (r#"CMD ["a", ["b"], 1]"#, r#"["b"]"#),
            (r#"CMD [{"a": 1}]"#, r#"{"a": 1}"#),
        ] {
            let problem = parse(text, 4..text.len()).expect_err(text);
            assert_eq!(&text[problem.range], element);
            assert!(problem.message.contains("arrays must be comprised of strings only"));
        }
    }

    #[test]
    fn elements_have_their_range() {
        let text = r#"COPY ["a b", "é"]"#;
        let tokens = parse(text, 5..text.len()).expect("no error").expect("array");
        assert_eq!(tokens.iter().map(|token| &text[token.range.clone()]).collect::<Vec<_>>(), [r#""a b""#, r#""é""#]);
    }
}
