//! Reads parser directives: `# syntax=`, `# escape=` and `# check=` on the first lines.

use super::ast::{Span, Word};
use super::lines::LineReader;

/// The directives of a file.
#[derive(Debug)]
pub(super) struct Directives {
    pub(super) escape: char,
    pub(super) syntax: Option<Word>,
    pub(super) check: Option<Word>,
    /// Offset after the last directive.
    pub(super) end: usize,
    /// Errors: span, message, hint.
    pub(super) errors: Vec<(Span, String, Option<String>)>,
}

/// Returns the offset of the first byte after the byte order mark.
pub(super) fn text_start(text: &str) -> usize {
    if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 }
}

/// Reads the directives. They end with the first other line, also with an ordinary comment or a blank line.
pub(super) fn read(text: &str) -> Directives {
    let mut directives = Directives { escape: '\\', syntax: None, check: None, end: 0, errors: Vec::new() };
    let mut reader = LineReader::new(text, text_start(text), '\\');
    let mut escape: Option<Word> = None;
    let mut after_shebang = false;
    while let Some(line) = reader.physical() {
        if line.start == text_start(text) && line.text.starts_with("#!") {
            after_shebang = true;
            continue;
        }
        let Some((key, value)) = split(line.text) else { break };
        let word =
            Word { text: line.text[value.clone()].to_owned(), span: line.start + value.start..line.start + value.end };
        let slot = match key.as_str() {
            "syntax" => &mut directives.syntax,
            "check" => &mut directives.check,
            // The line parser stops looking for directives at a `#!` line; after it, only the two that select and
            // configure the frontend are read.
            "escape" if !after_shebang => &mut escape,
            _ => break,
        };
        if slot.is_some() {
            directives.errors.push((line.span(), format!("only one {key} parser directive can be used"), None));
        } else {
            *slot = Some(word);
        }
        directives.end = reader.position();
    }
    if let Some(word) = escape {
        match word.text.as_str() {
            "\\" => {}
            "`" => directives.escape = '`',
            other => directives.errors.push((
                word.span,
                format!("invalid escape token '{other}', must be ` or \\"),
                Some("the escape directive takes a backslash or a backtick".to_owned()),
            )),
        }
    }
    directives
}

/// Returns the frontend of a file in a different language: `// syntax=IMAGE`, or a JSON object with a `syntax` key.
pub(super) fn foreign_syntax(text: &str) -> Option<Word> {
    let start = text_start(text);
    let body = &text[start..];
    if body.trim_start().starts_with('{') {
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(body).ok()?;
        let syntax = object.get("syntax")?.as_str()?;
        return Some(Word { text: syntax.to_owned(), span: start..start });
    }
    let line = body.lines().next()?;
    let comment = line.strip_prefix("//")?;
    let (key, value) = split_assignment(comment)?;
    let base = start + (line.len() - comment.len());
    (key == "syntax")
        .then(|| Word { text: comment[value.clone()].to_owned(), span: base + value.start..base + value.end })
}

/// Splits `# key = value` into the key in lower case and the value's range.
fn split(line: &str) -> Option<(String, std::ops::Range<usize>)> {
    let comment = line.trim_start().strip_prefix('#')?;
    let (key, value) = split_assignment(comment)?;
    let base = line.len() - comment.len();
    Some((key, base + value.start..base + value.end))
}

/// Splits ` key = value ` into the key in lower case and the value's range.
fn split_assignment(comment: &str) -> Option<(String, std::ops::Range<usize>)> {
    let (key, value) = comment.split_once('=')?;
    let key = key.trim();
    let well_formed =
        key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.chars().all(|c| c.is_ascii_alphanumeric());
    let trimmed = value.trim();
    if !well_formed || trimmed.is_empty() {
        return None;
    }
    let start = comment.len() - value.trim_start().len();
    Some((key.to_ascii_lowercase(), start..start + trimmed.len()))
}

#[cfg(test)]
mod tests {
    use super::{foreign_syntax, read};

    #[test]
    fn directives_are_read_until_the_first_other_line() {
        for (text, escape) in [
            ("# escape=`\n", '`'),
            ("#escape = ` \r\n", '`'),
            ("#   EsCaPe =  \\\n", '\\'),
            ("\u{feff}# escape=`\n", '`'),
            ("# syntax=docker/dockerfile:1\n# check=skip=all\n# escape=`\n", '`'),
            ("# comment\n# escape=`\n", '\\'),
            ("\n# escape=`\n", '\\'),
            ("# flavour=vanilla\n# escape=`\n", '\\'),
            ("#!/usr/bin/env builder\n# escape=`\n", '\\'),
            ("FROM a\n# escape=`\n", '\\'),
            ("# escape=\n", '\\'),
        ] {
            let directives = read(text);
            assert_eq!(directives.escape, escape, "{text:?}");
            assert_eq!(directives.errors, [], "{text:?}");
        }
    }

    #[test]
    fn values_keep_their_case_and_place() {
        let text = "#!/x\n# SYNTAX = Docker/Dockerfile:1 \n# check=skip=A,B;error=true\n";
        let directives = read(text);
        let syntax = directives.syntax.expect("syntax");
        assert_eq!(syntax.text, "Docker/Dockerfile:1");
        assert_eq!(&text[syntax.span], "Docker/Dockerfile:1");
        assert_eq!(directives.check.expect("check").text, "skip=A,B;error=true");
    }

    #[test]
    fn wrong_and_repeated_directives_are_errors() {
        let messages = |text| read(text).errors.into_iter().map(|(_, message, _)| message).collect::<Vec<_>>();
        assert_eq!(messages("# escape=x\n"), ["invalid escape token 'x', must be ` or \\"]);
        assert_eq!(messages("# escape=`\n# escape=`\n"), ["only one escape parser directive can be used"]);
        assert_eq!(messages("# syntax=a\n# Syntax=b\n"), ["only one syntax parser directive can be used"]);
    }

    #[test]
    fn files_for_other_frontends_are_recognized() {
        assert_eq!(
            foreign_syntax("// syntax=some/frontend\n{}").map(|word| word.text).as_deref(),
            Some("some/frontend")
        );
        assert_eq!(foreign_syntax("{\"syntax\": \"a/b\"}").map(|word| word.text).as_deref(), Some("a/b"));
        assert_eq!(foreign_syntax("# syntax=a/b\nFROM x"), None);
    }
}
