//! The text of a Dockerfile and its words, and the translation of byte offsets to lines and columns.

use std::ops::Range;

/// Byte offsets into [`Source::text`].
pub type Span = Range<usize>;

/// A text to parse, with its name for diagnostics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The path as the user gave it, or a description such as `ONBUILD of docker.io/library/x:1`.
    pub name: String,
    /// The complete text, byte order mark included.
    pub text: String,
}

/// A word as written, and its location.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Word {
    /// The text for expansion: with quotes and escapes, except that elements of a JSON array are decoded and a flag's
    /// value has had one level of quoting removed.
    pub text: String,
    /// Its location in the source.
    pub span: Span,
}

impl Source {
    /// Returns the line and the column of a byte offset, both counted from 1; the column counts characters, not bytes.
    ///
    /// An offset beyond the end means the end, one inside a character its start.
    pub fn location(&self, offset: usize) -> (usize, usize) {
        let offset = self.text.floor_char_boundary(offset);
        let before = &self.text[..offset];
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (line, before[line_start..].chars().count() + 1)
    }

    /// Returns the text of a line counted from 1, without its line end; empty for a line that does not exist.
    pub fn line_text(&self, line: usize) -> &str {
        let text = line.checked_sub(1).and_then(|index| self.text.split('\n').nth(index)).unwrap_or_default();
        text.strip_suffix('\r').unwrap_or(text)
    }
}

impl Word {
    /// Returns the span from the byte `offset` of the word's text to the word's end.
    ///
    /// It is the complete word if its text is not the source's (continued over lines, unquoted flag values, JSON
    /// strings).
    pub fn span_from(&self, offset: usize) -> Span {
        if self.text.len() == self.span.len() && self.text.is_char_boundary(offset) {
            self.span.start + offset..self.span.end
        } else {
            self.span.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Source, Word};

    fn source(text: &str) -> Source {
        Source { name: "Dockerfile".to_owned(), text: text.to_owned() }
    }

    #[test]
    fn offsets_become_lines_and_character_columns() {
        let source = source("FROM a\r\nENV é=1\n");
        assert_eq!(source.location(0), (1, 1));
        assert_eq!(source.location(8), (2, 1));
        assert_eq!(source.location(14), (2, 6), "the two bytes of é are one column");
        assert_eq!(source.location(13), (2, 5), "inside a character");
        assert_eq!(source.location(999), (3, 1));
    }

    #[test]
    fn lines_come_without_their_ends() {
        let source = source("one\r\ntwo");
        assert_eq!(source.line_text(1), "one");
        assert_eq!(source.line_text(2), "two");
        assert_eq!(source.line_text(3), "");
        assert_eq!(source.line_text(0), "");
    }

    #[test]
    fn a_joined_word_has_one_span() {
        let plain = Word { text: "${A:=x}".to_owned(), span: 10..17 };
        assert_eq!(plain.span_from(3), 13..17);
        let joined = Word { text: "ab".to_owned(), span: 10..14 };
        assert_eq!(joined.span_from(1), 10..14);
    }
}
