//! Joins physical lines to logical ones: continuations, comments and blank lines inside them, the length limit.

use std::ops::Range;

use super::ast::{Span, Word};

/// The longest physical line in bytes, without its line end, as in BuildKit's scanner.
pub(super) const LINE_LIMIT: usize = 65_535;

/// A line of the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct PhysicalLine<'a> {
    /// Offset of its first byte.
    pub(super) start: usize,
    /// Its text without the line end.
    pub(super) text: &'a str,
    /// Its text with the line end.
    pub(super) full_text: &'a str,
}

impl PhysicalLine<'_> {
    /// Returns the span of its text.
    pub(super) fn span(&self) -> Span {
        self.start..self.start + self.text.len()
    }
}

/// An instruction's text with its continuation lines joined, and a map from its bytes to the source.
#[derive(Debug, Default)]
pub(super) struct LogicalLine {
    /// The joined text.
    pub(super) text: String,
    /// (offset in `text`, offset in the source) of the start of each contiguous piece.
    pieces: Vec<(usize, usize)>,
    /// The comment lines directly above, without `#` and blanks.
    pub(super) comments: Vec<String>,
    /// The first blank line inside.
    pub(super) blank_line: Option<Span>,
}

impl LogicalLine {
    fn push(&mut self, text: &str, source_offset: usize) {
        if !text.is_empty() {
            self.pieces.push((self.text.len(), source_offset));
            self.text.push_str(text);
        }
    }

    fn source_offset(&self, offset: usize) -> usize {
        let following = self.pieces.partition_point(|(start, _)| *start <= offset);
        match following.checked_sub(1).and_then(|index| self.pieces.get(index)) {
            Some((start, source)) => source + (offset - start),
            None => 0,
        }
    }

    /// Returns the span in the source of a byte range of the joined text.
    pub(super) fn span(&self, range: Range<usize>) -> Span {
        if range.is_empty() {
            // The position right after the preceding text: a missing argument is missing there.
            let position =
                range.start.checked_sub(1).map_or_else(|| self.source_offset(0), |last| self.source_offset(last) + 1);
            return position..position;
        }
        self.source_offset(range.start)..self.source_offset(range.end - 1) + 1
    }

    /// Returns a part of the line as a word.
    pub(super) fn word(&self, range: Range<usize>) -> Word {
        Word { text: self.text[range.clone()].to_owned(), span: self.span(range) }
    }
}

/// Reads a text line by line.
pub(super) struct LineReader<'a> {
    text: &'a str,
    position: usize,
    escape: char,
    /// Lines longer than [`LINE_LIMIT`] so far.
    pub(super) too_long: Vec<Span>,
    /// Lines before this offset are parser directives, not comments.
    pub(super) comments_from: usize,
}

impl<'a> LineReader<'a> {
    pub(super) fn new(text: &'a str, position: usize, escape: char) -> Self {
        Self { text, position, escape, too_long: Vec::new(), comments_from: 0 }
    }

    /// Returns the offset of the next line.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Reads the next physical line.
    pub(super) fn physical(&mut self) -> Option<PhysicalLine<'a>> {
        let rest = &self.text[self.position..];
        if rest.is_empty() {
            return None;
        }
        let (line, length) = match rest.find('\n') {
            Some(newline) => (&rest[..newline], newline + 1),
            None => (rest, rest.len()),
        };
        let start = self.position;
        self.position += length;
        let physical = PhysicalLine { start, text: line.trim_end_matches('\r'), full_text: &rest[..length] };
        if line.len() > LINE_LIMIT {
            self.too_long.push(physical.span());
        }
        Some(physical)
    }

    /// Reads the next instruction's text, without leading blanks; skips comments and blank lines.
    pub(super) fn logical(&mut self) -> Option<LogicalLine> {
        let mut comments = Vec::new();
        loop {
            let first = self.physical()?;
            let text = first.text.trim_start();
            if let Some(comment) = text.strip_prefix('#') {
                if first.start >= self.comments_from {
                    comments.push(comment.trim().to_owned());
                }
                continue;
            }
            if text.is_empty() {
                comments.clear();
                continue;
            }
            let mut line = LogicalLine { comments: std::mem::take(&mut comments), ..LogicalLine::default() };
            let (text, mut continues) = trim_continuation(text, self.escape);
            line.push(text, first.start + (first.text.len() - first.text.trim_start().len()));
            while continues && let Some(next) = self.physical() {
                if is_comment(next.text) {
                    continue;
                }
                if next.text.trim_start().is_empty() {
                    line.blank_line.get_or_insert_with(|| next.span());
                    continue;
                }
                let (text, more) = trim_continuation(next.text, self.escape);
                line.push(text, next.start);
                continues = more;
            }
            // The text consists of escape characters and comments only.
            if !line.text.trim().is_empty() {
                return Some(line);
            }
        }
    }
}

/// Returns the line without a final escape character (blanks may follow it), and whether there was one. Two in a row
/// are text.
fn trim_continuation(line: &str, escape: char) -> (&str, bool) {
    match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
        Some(before) if !before.ends_with(escape) => (before, true),
        _ => (line, false),
    }
}

/// Reports whether a line is a comment, which inside a continuation may be indented.
fn is_comment(line: &str) -> bool {
    line.trim_start_matches([' ', '\t', '\r', '\x0c']).starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::{LINE_LIMIT, LineReader, trim_continuation};

    fn logical(text: &str) -> Vec<String> {
        let mut reader = LineReader::new(text, 0, '\\');
        std::iter::from_fn(|| reader.logical()).map(|line| line.text).collect()
    }

    #[test]
    fn continuation_takes_one_escape_and_trailing_blanks() {
        for (line, expected) in [
            ("a \\", ("a ", true)),
            ("a\\ \t ", ("a", true)),
            ("a\\\\", ("a\\\\", false)),
            ("\\", ("", true)),
            ("\\ ", ("", true)),
            ("  \\", ("  ", true)),
            ("a", ("a", false)),
            ("a  ", ("a  ", false)),
            ("a\\\x0c", ("a\\\x0c", false)),
        ] {
            assert_eq!(trim_continuation(line, '\\'), expected, "{line:?}");
        }
        assert_eq!(trim_continuation("c:\\", '`'), ("c:\\", false));
        assert_eq!(trim_continuation("c:`", '`'), ("c:", true));
    }

    #[test]
    fn lines_are_joined_without_a_space_and_keep_their_indentation() {
        assert_eq!(logical("RUN a \\\n  b\\\nc\n  ENV x\n"), ["RUN a   bc", "ENV x"]);
    }

    #[test]
    fn comments_inside_a_continuation_vanish_and_do_not_end_it() {
        assert_eq!(logical("RUN a \\\n# c \\\n   # d\n b # kept \\\n# e\n c\nCMD x"), ["RUN a  b # kept  c", "CMD x"]);
        assert_eq!(logical("# c \\\nRUN a"), ["RUN a"], "a comment is never continued");
    }

    #[test]
    fn blank_lines_inside_a_continuation_are_skipped_and_the_first_is_kept() {
        let line = LineReader::new("RUN a \\\n\n  \n b\n", 0, '\\').logical().expect("a line");
        assert_eq!((line.text.as_str(), line.blank_line), ("RUN a  b", Some(8..8)));
    }

    #[test]
    fn comments_belong_to_the_line_directly_below_them() {
        let mut reader = LineReader::new("# escape=x\n# far\n\n# one\n\t#two \nRUN a\nRUN b\n", 0, '\\');
        reader.comments_from = 11;
        assert_eq!(reader.logical().map(|line| line.comments), Some(vec!["one".to_owned(), "two".to_owned()]));
        assert_eq!(reader.logical().map(|line| line.comments), Some(Vec::new()));
        let mut reader = LineReader::new("# check=skip=all\n# far\nRUN a\n", 0, '\\');
        reader.comments_from = 17;
        assert_eq!(reader.logical().map(|line| line.comments), Some(vec!["far".to_owned()]));
    }

    #[test]
    fn escape_before_the_end_of_the_file_is_dropped() {
        assert_eq!(logical("RUN a \\"), ["RUN a "]);
        assert_eq!(logical("RUN a \\\n"), ["RUN a "]);
        assert_eq!(logical("\\\n# nothing\n\\"), [""; 0]);
    }

    #[test]
    fn carriage_returns_belong_to_the_line_end() {
        assert_eq!(logical("RUN a \\\r\n  b\r\n\r\nCMD c\r\n"), ["RUN a   b", "CMD c"]);
    }

    #[test]
    fn spans_lead_back_through_continuations() {
        let text = "  RUN on\\\n# c\ne two\n";
        let line = LineReader::new(text, 0, '\\').logical().expect("a line");
        assert_eq!(line.text, "RUN one two");
        assert_eq!(&text[line.span(0..3)], "RUN");
        assert_eq!(&text[line.span(4..7)], "on\\\n# c\ne");
        assert_eq!(&text[line.span(8..11)], "two");
        assert_eq!(line.span(11..11), 19..19);
    }

    #[test]
    fn the_limit_counts_bytes_before_the_newline() {
        for (length, refused) in [(LINE_LIMIT, 0), (LINE_LIMIT + 1, 1)] {
            let text = format!("RUN {}\n", "x".repeat(length - 4));
            let mut reader = LineReader::new(&text, 0, '\\');
            assert!(reader.logical().is_some());
            assert_eq!(reader.too_long.len(), refused, "{length}");
        }
    }
}
