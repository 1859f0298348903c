//! Shows an error's lines of a source text, with a mark below the span.

use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet as Picture};

use crate::diag::redact;

/// The most lines of a mark: the first lines of a here-document are enough to find it.
const MARKED_LINES: usize = 6;

/// A span of a text, and a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    /// The name of the text: a path as the user gave it, or a description.
    pub name: String,
    /// The whole text.
    pub text: String,
    /// The bytes of `text`; a span that ends after the text is cut.
    pub span: Range<usize>,
    /// The label at the mark; may be empty.
    pub label: String,
}

impl Snippet {
    /// Returns file, line and column, the lines, and carets; without a line feed at the end.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let marked = AnnotationKind::Primary.span(self.marked());
        let marked = if self.label.is_empty() { marked } else { marked.label(printable(&self.label)) };
        let text = redact::masked(&self.text);
        let picture = Picture::source(text.as_str()).path(self.name.as_str()).annotation(marked);
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        renderer.decor_style(DecorStyle::Ascii).render(&[Group::with_level(Level::ERROR).element(picture)])
    }

    /// Returns line and column of the span's first byte, both from 1. Columns count characters.
    #[must_use]
    pub fn location(&self) -> (usize, usize) {
        let before = &self.text[..self.marked().start];
        let line_start = before.rfind('\n').map_or(0, |feed| feed + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// Returns the span cut to the text, to character boundaries and to a few lines, without white space at its end.
    fn marked(&self) -> Range<usize> {
        let start = floor_boundary(&self.text, self.span.start);
        let end = floor_boundary(&self.text, self.span.end).max(start);
        let marked = &self.text[start..end];
        let lines: usize = marked.split_inclusive('\n').take(MARKED_LINES).map(str::len).sum();
        let marked = marked[..lines].trim_end();
        start..start + marked.len()
    }
}

fn floor_boundary(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// Returns the text on one line without control characters, because it may come from a registry or a Dockerfile.
pub(super) fn printable(text: &str) -> String {
    let line = text.split(['\n', '\r', '\t']).map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>();
    line.join(" ").chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKERFILE: &str = "FROM scratch\nCOPPY a /b\nRUN make \\\n  all\n";

    fn snippet(needle: &str, label: &str) -> Snippet {
        let start = DOCKERFILE.find(needle).unwrap();
        Snippet {
            name: "Dockerfile".to_owned(),
            text: DOCKERFILE.to_owned(),
            span: start..start + needle.len(),
            label: label.to_owned(),
        }
    }

    #[test]
    fn credentials_are_covered_and_the_mark_is_unchanged() {
        let text = "FROM scratch\nADD https://user:sesame@host/a /b\n";
        let start = text.find("/b").unwrap();
        let snippet =
            Snippet { name: "D".to_owned(), text: text.to_owned(), span: start..start + 2, label: String::new() };
        let shown = snippet.render(false);
        assert!(shown.contains("ADD https://***********@host/a /b") && !shown.contains("sesame"), "{shown}");
        let line = shown.lines().find(|line| line.contains("ADD")).unwrap();
        let mark = shown.lines().find(|line| line.contains("^^")).unwrap();
        assert_eq!(line.find("/b"), mark.find("^^"), "{shown}");
    }

    #[test]
    fn a_word_is_marked_with_carets_and_a_label() {
        insta::assert_snapshot!(snippet("COPPY", "did you mean COPY?").render(false), @r"
         --> Dockerfile:2:1
          |
        2 | COPPY a /b
          | ^^^^^ did you mean COPY?
        ");
    }

    #[test]
    fn an_instruction_of_several_lines_is_marked_whole() {
        insta::assert_snapshot!(snippet("RUN make \\\n  all\n", "").render(false), @r"
         --> Dockerfile:3:1
          |
        3 | / RUN make \
        4 | |   all
          | |_____^
        ");
    }

    #[test]
    fn a_long_instruction_is_cut() {
        let text = format!("RUN <<EOF\n{}EOF\n", "echo\n".repeat(50));
        let long = Snippet { name: "Dockerfile".to_owned(), span: 0..text.len(), text, label: String::new() };
        assert!(long.render(false).lines().count() < MARKED_LINES + 5, "{}", long.render(false));
    }

    #[test]
    fn spans_outside_of_the_text_are_cut() {
        for (text, span) in [("", 0..0), ("é", 1..2), ("é", 5..9), ("a\r\nb", 1..2), ("abc", 2..2)] {
            let snippet = Snippet { name: "x".to_owned(), text: text.to_owned(), span, label: "here".to_owned() };
            assert!(snippet.render(false).contains("x:"), "{text:?}: {}", snippet.render(false));
        }
        #[expect(clippy::reversed_empty_ranges, reason = "this is what is tried")]
        let reversed = Snippet { name: "x".to_owned(), text: "abc".to_owned(), span: 2..1, label: String::new() };
        assert_eq!(reversed.location(), (1, 3));
    }

    #[test]
    fn colours_are_used_on_request() {
        assert!(snippet("COPPY", "").render(true).contains('\u{1b}'));
        assert!(!snippet("COPPY", "").render(false).contains('\u{1b}'));
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("a\n\tb\u{1b}[2J "), "a b\u{fffd}[2J");
    }

    #[test]
    fn locations_count_lines_and_characters() {
        assert_eq!(snippet("a /b", "").location(), (2, 7));
        let accented = Snippet { name: "x".to_owned(), text: "éa".to_owned(), span: 2..3, label: String::new() };
        assert_eq!(accented.location(), (1, 2));
    }
}
