//! Finds the `<<NAME` words of a line, and reads the bodies of here-documents below it.

use std::ops::Range;

use super::ast::{Command, Heredoc, Run};
use super::error::Problem;
use super::lines::{LineReader, LogicalLine};

/// A `<<NAME` word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opening {
    /// Byte range of the word in the logical line, with a file descriptor before it.
    pub(super) range: Range<usize>,
    name: String,
    expand: bool,
    strip_tabs: bool,
    /// True if there are blanks between `<<` and the name.
    spaced: bool,
}

/// Finds the here-documents that a line opens, in order.
///
/// Words are split as by a shell, so quoted text opens nothing. A line that a shell could not split (an unclosed quote
/// or brace) opens nothing either.
pub(super) fn openings(line: &str) -> Vec<Opening> {
    let mut scanner = Scanner { text: line, position: 0 };
    let mut found = Vec::new();
    loop {
        match scanner.word() {
            Some(Ok(word)) => found.extend(word.opening(line)),
            Some(Err(Unbalanced)) => return Vec::new(),
            None => return found,
        }
    }
}

/// Reads the body of an opening; afterwards the reader is after the terminating line.
pub(super) fn read_body(
    reader: &mut LineReader<'_>,
    line: &LogicalLine,
    opening: &Opening,
) -> Result<Heredoc, Problem> {
    let start = reader.position();
    let mut body = String::new();
    let mut near_miss = false;
    while let Some(physical) = reader.physical() {
        let text = if opening.strip_tabs { physical.text.trim_start_matches('\t') } else { physical.text };
        if text == opening.name {
            return Ok(Heredoc {
                name: opening.name.clone(),
                body,
                expand: opening.expand,
                strip_tabs: opening.strip_tabs,
                span: line.span(opening.range.clone()),
                body_span: start..physical.start,
            });
        }
        near_miss |= physical.text.trim() == opening.name;
        body.push_str(if opening.strip_tabs {
            physical.full_text.trim_start_matches('\t')
        } else {
            physical.full_text
        });
    }
    let hint = if near_miss {
        format!("the line that ends it must hold `{}` alone, without blanks; `<<-` allows tabs before it", opening.name)
    } else if opening.spaced {
        format!(
            "no line below consists of `{}` alone; if `<<` does not start a here-document here, write it without blanks or quote it",
            opening.name
        )
    } else {
        format!("no line below consists of `{}` alone", opening.name)
    };
    Err(Problem::new(opening.range.clone(), format!("unterminated heredoc {}", opening.name)).with_hint(hint))
}

impl Run {
    /// Returns the here-document that is the whole command (`RUN <<EOF`): a script rather than a command's input.
    pub fn script(&self) -> Option<&Heredoc> {
        let Command::Shell(text) = &self.command else { return None };
        let [heredoc] = self.heredocs.as_slice() else { return None };
        let is_script = openings(text).first().is_some_and(|opening| opening.range == (0..text.len()));
        is_script.then_some(heredoc)
    }
}

/// An unclosed quote or brace.
#[derive(Debug)]
struct Unbalanced;

/// A word as a shell splits it.
struct ShellWord {
    range: Range<usize>,
    /// Start of the name, after `<<` and blanks; the word's start if there is no such operator.
    name_start: usize,
    /// The text from `name_start` on, without quotes and escapes.
    unquoted: String,
    /// True if there are blanks between the operator and the name.
    spaced: bool,
}

impl ShellWord {
    fn opening(self, line: &str) -> Option<Opening> {
        let text = &line[self.range.clone()];
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let operator = text[digits..].strip_prefix("<<")?;
        let strip_tabs = operator.starts_with('-');
        let written = &line[self.name_start..self.range.end];
        if self.unquoted.is_empty() || written.contains('<') {
            return None;
        }
        Some(Opening {
            expand: self.unquoted == written,
            name: self.unquoted,
            strip_tabs,
            spaced: self.spaced,
            range: self.range,
        })
    }
}

struct Scanner<'a> {
    text: &'a str,
    position: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.position..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.position += c.len_utf8();
        Some(c)
    }

    fn blanks(&mut self) {
        let rest = &self.text[self.position..];
        self.position += rest.len() - rest.trim_start().len();
    }

    fn word(&mut self) -> Option<Result<ShellWord, Unbalanced>> {
        self.blanks();
        self.peek()?;
        let start = self.position;
        let mut word = ShellWord { range: start..start, unquoted: String::new(), name_start: start, spaced: false };
        // `[fd]<<[-]`, and blanks up to the name, which do not end the word.
        let text = &self.text[start..];
        let behind_digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
        if let Some(behind) = behind_digits.strip_prefix("<<") {
            let name = behind.strip_prefix('-').unwrap_or(behind);
            word.spaced = name.starts_with(char::is_whitespace);
            self.position = self.text.len() - name.trim_start().len();
            word.name_start = self.position;
        }
        while let Some(c) = self.peek() {
            if c.is_whitespace() {
                break;
            }
            if self.part(&mut word.unquoted).is_err() {
                return Some(Err(Unbalanced));
            }
        }
        word.range.end = self.position;
        Some(Ok(word))
    }

    /// Reads a character, a quoted text or a `${…}`.
    fn part(&mut self, unquoted: &mut String) -> Result<(), Unbalanced> {
        match self.next() {
            Some('\'') => loop {
                match self.next().ok_or(Unbalanced)? {
                    '\'' => return Ok(()),
                    c => unquoted.push(c),
                }
            },
            Some('"') => loop {
                match self.next().ok_or(Unbalanced)? {
                    '"' => return Ok(()),
                    '\\' => match self.next().ok_or(Unbalanced)? {
                        c @ ('"' | '$' | '\\') => unquoted.push(c),
                        c => unquoted.extend(['\\', c]),
                    },
                    c => unquoted.push(c),
                }
            },
            Some('\\') => {
                unquoted.extend(self.next());
                Ok(())
            }
            Some('$') if self.peek() == Some('{') => {
                let start = self.position - 1;
                self.braces()?;
                unquoted.push_str(&self.text[start..self.position]);
                Ok(())
            }
            Some(c) => {
                unquoted.push(c);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Skips `{…}` with nested and quoted text.
    fn braces(&mut self) -> Result<(), Unbalanced> {
        let mut depth = 0_usize;
        let mut quote = None;
        loop {
            let c = self.next().ok_or(Unbalanced)?;
            match (quote, c) {
                (Some('\''), '\'') | (Some('"'), '"') => quote = None,
                (Some('\''), _) => {}
                (_, '\\') => {
                    self.next();
                }
                (None, '\'' | '"') => quote = Some(c),
                (None, '{') => depth += 1,
                (None, '}') => {
                    depth -= 1;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::openings;

    fn found(line: &str) -> Vec<(String, bool, bool)> {
        openings(line).into_iter().map(|opening| (opening.name, opening.expand, opening.strip_tabs)).collect()
    }

    #[test]
    fn every_form_of_the_word() {
        for (line, name, expand, strip_tabs) in [
            ("RUN <<EOF", "EOF", true, false),
            ("RUN <<-EOF", "EOF", true, true),
            ("RUN <<'EOF'", "EOF", false, false),
            ("RUN <<\"EOF\"", "EOF", false, false),
            ("RUN <<-\"E F\" cat", "E F", false, true),
            ("RUN <<E\\OF", "EOF", false, false),
            ("RUN <<E'O'F", "EOF", false, false),
            ("RUN cat << EOF > /f", "EOF", true, false),
            ("RUN cat <<- EOF > /f", "EOF", true, true),
            ("RUN cat 3<<EOF", "EOF", true, false),
            ("RUN cat <<$X", "$X", true, false),
            ("COPY <<a.txt /x/", "a.txt", true, false),
        ] {
            assert_eq!(found(line), [(name.to_owned(), expand, strip_tabs)], "{line}");
        }
    }

    #[test]
    fn several_in_order() {
        let line = "RUN cat <<ONE 3<<'TWO' && x";
        let words = openings(line).into_iter().map(|opening| &line[opening.range]).collect::<Vec<_>>();
        assert_eq!(words, ["<<ONE", "3<<'TWO'"]);
    }

    #[test]
    fn similar_words_open_nothing() {
        for line in [
            "RUN x=$((1<<3))",
            "RUN echo '<<EOF'",
            "RUN echo \"a << b\"",
            "RUN echo \"<<EOF\"",
            "RUN cat <<<text",
            "RUN cat <<a<b",
            "RUN a<<EOF",
            "RUN cat <<",
            "RUN cat <<''",
            "RUN echo \\<<EOF",
            "RUN echo it's <<EOF",
            "RUN echo \"open <<EOF",
            "RUN echo ${open <<EOF",
        ] {
            assert_eq!(found(line), [], "{line}");
        }
    }

    #[test]
    fn braces_hide_what_is_in_them() {
        assert_eq!(found("RUN echo ${a:- <<EOF } <<B").len(), 1);
        assert_eq!(found("RUN echo ${a:-'}' ${b}} <<B").len(), 1);
    }
}
