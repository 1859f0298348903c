//! STYLE.md's rules that a program can check: no page and no source contains the words of `tests/words`, and no line of
//! a page is too long.

use std::path::{Path, PathBuf};

use crate::support::markdown;
use crate::support::program::source_directory;

/// The most columns of a line in a page, tables and code blocks excepted.
const MAX_COLUMNS: usize = 100;

/// A line of `tests/words`.
struct Unwanted {
    phrase: String,
    instead: String,
    /// Longer phrases in which it is good English.
    allowed: Vec<String>,
}

fn unwanted() -> Vec<Unwanted> {
    let text = std::fs::read_to_string(source_directory().join("tests/words")).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let words: Vec<Unwanted> = lines
        .map(|line| {
            let fields: Vec<&str> = line.split('|').map(str::trim).collect();
            let [phrase, instead, allowed] = fields[..] else { panic!("tests/words: not three fields: {line}") };
            let allowed = allowed.split(',').map(|phrase| phrase.trim().to_owned());
            Unwanted {
                phrase: phrase.to_owned(),
                instead: instead.to_owned(),
                allowed: allowed.filter(|phrase| !phrase.is_empty()).collect(),
            }
        })
        .collect();
    assert!(words.len() > 20, "tests/words is gone");
    words
}

/// Prose in lower case with single blanks, and the line of each of its bytes: a phrase may go on in the next line.
#[derive(Default)]
struct Prose {
    text: String,
    lines: Vec<usize>,
}

impl Prose {
    fn add(&mut self, line: usize, text: &str) {
        for word in text.to_lowercase().split_whitespace() {
            self.text.push(' ');
            self.text.push_str(word);
        }
        self.lines.resize(self.text.len(), line);
    }

    /// Where `phrase` occurs as whole words.
    fn find(&self, phrase: &str) -> impl Iterator<Item = usize> {
        let is_word = |character: Option<char>| character.is_some_and(|c| c.is_alphanumeric() || c == '_');
        self.text.match_indices(phrase).map(|(start, _)| start).filter(move |start| {
            let (before, after) = (&self.text[..*start], &self.text[start + phrase.len()..]);
            !is_word(before.chars().next_back()) && !is_word(after.chars().next())
        })
    }

    /// Whether a phrase in `allowed` covers the one at `start`.
    fn is_allowed(&self, start: usize, unwanted: &Unwanted) -> bool {
        let end = start + unwanted.phrase.len();
        unwanted.allowed.iter().any(|longer| {
            self.find(longer).any(|longer_start| longer_start <= start && end <= longer_start + longer.len())
        })
    }

    fn complaints(&self, file: &Path, words: &[Unwanted]) -> Vec<String> {
        let found = words.iter().flat_map(|unwanted| {
            let starts = self.find(&unwanted.phrase).filter(|start| !self.is_allowed(*start, unwanted));
            starts.map(move |start| (self.lines[start], unwanted))
        });
        let complaint = |(line, unwanted): (usize, &Unwanted)| {
            format!("{}:{line}: {:?}: {}", file.display(), unwanted.phrase, unwanted.instead)
        };
        found.map(complaint).collect()
    }
}

/// The prose of a page: no code, no targets of links.
fn prose_of_page(text: &str) -> Prose {
    let mut prose = Prose::default();
    for (number, line) in markdown::outside_code_blocks(text) {
        let (line, _) = markdown::without_code_spans(line);
        let mut parts = line.split("](");
        prose.add(number, parts.next().unwrap_or_default());
        parts.for_each(|part| prose.add(number, part.split_once(')').map_or("", |(_, rest)| rest)));
    }
    prose
}

/// The prose of a source: comments without their code spans, and string literals.
fn prose_of_source(source: &str) -> Prose {
    let mut prose = Prose::default();
    let (mut rest, mut line) = (source, 1);
    while let Some(character) = rest.chars().next() {
        let (length, text) = match character {
            '/' if rest.starts_with("//") => {
                let comment = rest.lines().next().unwrap_or_default();
                (comment.len(), markdown::without_code_spans(comment.trim_start_matches(['/', '!'])).0)
            }
            '"' => string(rest),
            'r' if rest.starts_with("r\"") || rest.starts_with("r#") => raw_string(rest),
            // Of a character literal that holds a quote; a lifetime has none.
            '\'' if rest.starts_with("'\"'") => (3, String::new()),
            '\'' if rest.starts_with("'\\") => (4, String::new()),
            other => (other.len_utf8(), String::new()),
        };
        prose.add(line, &text);
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    prose
}

/// The length of the string literal at the start, and its text.
fn string(rest: &str) -> (usize, String) {
    let mut escaped = false;
    let end = rest.char_indices().skip(1).find(|(_, character)| {
        let is_end = *character == '"' && !escaped;
        escaped = *character == '\\' && !escaped;
        is_end
    });
    let end = end.map_or(rest.len(), |(end, _)| end + 1);
    (end, rest[1..end].trim_end_matches('"').replace("\\n", " ").replace("\\\n", " "))
}

/// The same of `r"…"` and `r#"…"#`; of a raw identifier, its first letter.
fn raw_string(rest: &str) -> (usize, String) {
    let hashes = rest[1..].chars().take_while(|character| *character == '#').count();
    let Some(text) = rest[1 + hashes..].strip_prefix('"') else { return (1, String::new()) };
    let close = format!("\"{}", "#".repeat(hashes));
    let end = text.find(&close).unwrap_or(text.len());
    (2 + hashes + end + close.len(), text[..end].to_owned())
}

#[test]
fn pages_use_no_unwanted_word() {
    let words = unwanted();
    let complaints: Vec<String> = markdown::pages()
        .iter()
        .flat_map(|page| prose_of_page(&markdown::text(page)).complaints(page, &words))
        .collect();
    assert!(complaints.is_empty(), "{} words that STYLE.md rules out:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn sources_use_no_unwanted_word() {
    let words = unwanted();
    let sources = sources(&source_directory().join("src"));
    assert!(sources.len() > 300, "{} sources", sources.len());
    let complaints: Vec<String> = sources
        .iter()
        .flat_map(|path| prose_of_source(&std::fs::read_to_string(path).unwrap()).complaints(path, &words))
        .collect();
    assert!(complaints.is_empty(), "{} words that STYLE.md rules out:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn lines_of_pages_are_short() {
    let mut complaints = Vec::new();
    for page in markdown::pages() {
        let text = markdown::text(&page);
        for (number, line) in markdown::outside_code_blocks(&text) {
            // What cannot be broken may be as long as it is.
            let is_one_word = !line.trim_start_matches([' ', '-', '*']).contains(' ');
            if line.chars().count() > MAX_COLUMNS && !line.starts_with('|') && !is_one_word {
                complaints.push(format!("{}:{number}: {} columns", page.display(), line.chars().count()));
            }
        }
    }
    assert!(complaints.is_empty(), "more than {MAX_COLUMNS} columns:\n{}", complaints.join("\n"));
}

/// The check itself: what it finds, and what it leaves alone.
#[test]
fn unwanted_words_are_found_in_prose_alone() {
    let words = unwanted();
    let found = |prose: Prose| prose.complaints(Path::new("f"), &words).join("\n");
    assert!(found(prose_of_page("One.\nNobody\nis here.")).starts_with("f:2: \"nobody\""));
    let page = "| a | it is\n| no file |\n";
    assert_eq!(found(prose_of_page(page)), "");
    assert!(found(prose_of_page("This is\n  no file.")).starts_with("f:1: \"is no\""));
    for clean in ["There is no file.", "It is no longer.", "`nobody`", "```\nnobody\n```", "[a](nobody.md)", "nobodys"]
    {
        assert_eq!(found(prose_of_page(clean)), "", "{clean}");
    }
    for source in ["/// Nobody", "//! a\n// nobody", "#[error(\"nobody\")]", "r#\"nobody\"#", "'\"'; \"nobody\""] {
        assert!(found(prose_of_source(source)).contains("nobody"), "{source}");
    }
    for source in ["let nobody = 1;", "// `nobody`", "let a = \"\\\"\"; nobody();", "'\"'; nobody();"] {
        assert_eq!(found(prose_of_source(source)), "", "{source}");
    }
    assert!(found(prose_of_source("\"one \\\n two\";\n\n// nobody")).starts_with("f:4:"));
}

/// A source, or all sources below a directory.
fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).unwrap();
        return entries.flat_map(|entry| sources(&entry.unwrap().path())).collect();
    }
    let is_source = path.is_file() && path.extension().is_some_and(|extension| extension == "rs");
    is_source.then(|| path.to_owned()).into_iter().collect()
}
