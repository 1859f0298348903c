//! Splits the arguments of an instruction into words, in the three ways of the language.

use std::ops::Range;

/// A word, and the byte range of the logical line that it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) range: Range<usize>,
}

/// Reports whether a character separates words; a narrower set than Unicode's white space.
pub(super) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0b' | '\x0c' | '\r')
}

/// Returns `range` without surrounding white space.
pub(super) fn trim(line: &str, range: Range<usize>) -> Range<usize> {
    let text = &line[range.clone()];
    let start = range.start + (text.len() - text.trim_start().len());
    start..start + text.trim().len()
}

/// Splits at blanks; quotes have no meaning.
pub(super) fn split_blanks(line: &str, range: Range<usize>) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut start = None;
    for (offset, c) in line[range.clone()].char_indices() {
        let offset = range.start + offset;
        match (is_blank(c), start) {
            (false, None) => start = Some(offset),
            (true, Some(from)) => {
                tokens.push(token(line, from..offset));
                start = None;
            }
            _ => {}
        }
    }
    if let Some(from) = start {
        tokens.push(token(line, from..range.end));
    }
    tokens
}

/// Splits off the first word; the rest starts after the blanks, if there is a rest.
pub(super) fn split_first(line: &str, range: Range<usize>) -> (Range<usize>, Option<Range<usize>>) {
    let text = &line[range.clone()];
    let Some(end) = text.find(is_blank) else { return (range, None) };
    let behind = &text[end..];
    let rest = range.end - behind.trim_start_matches(is_blank).len();
    (range.start..range.start + end, Some(rest..range.end))
}

/// Splits at white space that is not quoted or escaped. Quotes and escapes stay in the text, and are removed by
/// expansion.
pub(super) fn split_quoted(line: &str, range: Range<usize>, escape: char) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut word: Option<(usize, String)> = None;
    let mut quote = None;
    let mut characters = line[range.clone()].char_indices().peekable();
    while let Some((offset, c)) = characters.next() {
        let offset = range.start + offset;
        if quote.is_none() && c.is_whitespace() {
            if let Some((start, text)) = word.take() {
                tokens.push(Token { text, range: start..offset });
            }
            continue;
        }
        let (_, text) = word.get_or_insert_with(|| (offset, String::new()));
        if c == escape && quote != Some('\'') {
            // At the end of the text there is nothing to escape, and the escape character is dropped.
            if let Some((_, escaped)) = characters.next() {
                text.push(c);
                text.push(escaped);
            }
            continue;
        }
        match quote {
            Some(open) if open == c => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            _ => {}
        }
        text.push(c);
    }
    if let Some((start, text)) = word.filter(|(_, text)| !text.is_empty()) {
        tokens.push(Token { text, range: start..range.end });
    }
    tokens
}

pub(super) fn token(line: &str, range: Range<usize>) -> Token {
    Token { text: line[range.clone()].to_owned(), range }
}

#[cfg(test)]
mod tests {
    use super::{split_blanks, split_first, split_quoted, trim};

    #[test]
    fn blanks_split_and_quotes_do_not_matter() {
        let line = "  a\t'b  c' \x0b\r d";
        let tokens = split_blanks(line, 0..line.len());
        assert_eq!(tokens.iter().map(|token| token.text.as_str()).collect::<Vec<_>>(), ["a", "'b", "c'", "d"]);
        for token in tokens {
            assert_eq!(&line[token.range], token.text);
        }
        assert_eq!(split_blanks("   ", 0..3), []);
    }

    #[test]
    fn first_word_and_rest() {
        assert_eq!(split_first("ab  c d", 0..7), (0..2, Some(4..7)));
        assert_eq!(split_first("ab", 0..2), (0..2, None));
        assert_eq!(trim("  é  ", 0..6), 2..4);
    }

    #[test]
    fn quotes_and_escapes_keep_words_together_and_stay() {
        for (line, escape, expected) in [
            (
                r#"a=1 b="two words" c='three words' d=four\ words"#,
                '\\',
                &["a=1", r#"b="two words""#, "c='three words'", r"d=four\ words"][..],
            ),
            (r#"pre"mid"post """#, '\\', &[r#"pre"mid"post"#, r#""""#]),
            (r#"g="in\"ner" h"#, '\\', &[r#"g="in\"ner""#, "h"]),
            (r"a='x\' b", '\\', &[r"a='x\'", "b"]),
            (r"win=c:\dir one` two", '`', &[r"win=c:\dir", "one` two"]),
            (r"a\", '\\', &["a"]),
            (r"a \", '\\', &["a"]),
            ("a=\"open b", '\\', &["a=\"open b"]),
            ("", '\\', &[]),
        ] {
            let tokens = split_quoted(line, 0..line.len(), escape);
            assert_eq!(tokens.iter().map(|token| token.text.as_str()).collect::<Vec<_>>(), expected, "{line}");
        }
    }
}
