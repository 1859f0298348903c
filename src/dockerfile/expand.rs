//! Expands variables in a word: quotes, escapes, `$name`, `${name}` and its modifiers.
//!
//! The rules are those of "Environment replacement" in the Dockerfile reference; the messages are BuildKit's.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::error::ParseError;
use super::go::go_quote;
use super::pattern::{Extent, Pattern};
use super::source::{Source, Word};

/// The deepest nesting of `${a:-${b:-…}}`; each level takes stack.
const NESTING_LIMIT: usize = 100;

/// The longest text that substitutions may produce, in bytes: otherwise a few lines of `ENV A=$A$A` would fill any
/// memory.
const LENGTH_LIMIT: usize = 16 << 20;
/// The longest pattern in a substitution, in bytes: matching costs its length at every position of the value.
const PATTERN_LIMIT: usize = 4096;

/// A word that cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {}: {message}", go_quote(word))]
pub struct ExpandError {
    /// The word.
    pub word: String,
    /// Byte offset of the error in the word: a `$`, a quote or a modifier.
    pub offset: usize,
    /// The message.
    pub message: String,
    /// True if the error depends on a variable's value (`${x:?message}`).
    pub about_value: bool,
}

impl ExpandError {
    /// Returns the error with its location in the source, for the word that was expanded.
    pub fn at(&self, word: &Word, source: &Arc<Source>) -> ParseError {
        ParseError {
            span: word.span_from(self.offset),
            message: self.to_string(),
            hint: None,
            source: Arc::clone(source),
        }
    }
}

/// Returns the value of a variable, `None` if it is unset.
pub type Lookup<'a> = &'a mut dyn FnMut(&str) -> Option<String>;

/// Expands a word: removes quotes and escapes and inserts values.
///
/// # Errors
/// An unclosed quote or brace, an unknown modifier, or the error of `${name:?message}`.
pub fn expand(word: &str, escape: char, lookup: Lookup<'_>) -> Result<String, ExpandError> {
    Lexer::new(word, escape, Quotes::Remove, lookup).expand_all(None)
}

/// Expands a word and splits the result at white space that is not quoted (`EXPOSE $PORTS`).
///
/// # Errors
/// As [`expand`].
pub fn expand_words(word: &str, escape: char, lookup: Lookup<'_>) -> Result<Vec<String>, ExpandError> {
    let mut words = Words::default();
    Lexer::new(word, escape, Quotes::Remove, lookup).expand_all(Some(&mut words))?;
    Ok(words.finish())
}

/// An expanded word, with the unset variables in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expanded {
    /// The text.
    pub text: String,
    /// The unset variables whose value the word uses, each once. `${name-word}`, `${name+word}` and `${name?message}`
    /// define what an unset variable means, and do not count.
    pub unset: Vec<String>,
}

/// Expands a word and lists the unset variables.
///
/// # Errors
/// As [`expand`].
pub fn expand_and_find_unset(word: &str, escape: char, lookup: Lookup<'_>) -> Result<Expanded, ExpandError> {
    Lexer::new(word, escape, Quotes::Remove, lookup).expanded()
}

/// Expands the body of a here-document like [`expand_heredoc`], and lists the unset variables.
///
/// # Errors
/// As [`expand`].
pub fn expand_heredoc_and_find_unset(body: &str, lookup: Lookup<'_>) -> Result<Expanded, ExpandError> {
    Lexer::new(body, '\\', Quotes::Keep, lookup).expanded()
}

/// Expands the body of a here-document whose name is not quoted: quotes are text, and the escape character is always a
/// backslash.
///
/// # Errors
/// As [`expand`].
pub fn expand_heredoc(body: &str, lookup: Lookup<'_>) -> Result<String, ExpandError> {
    Lexer::new(body, '\\', Quotes::Keep, lookup).expand_all(None)
}

/// Reports whether a word contains a variable, for words that may not.
pub fn has_variable(word: &str, escape: char) -> bool {
    let mut characters = word.chars().peekable();
    while let Some(c) = characters.next() {
        if c == escape {
            characters.next();
        } else if c == '$' && characters.peek().is_some_and(|c| *c == '{' || *c == '_' || c.is_alphanumeric()) {
            return true;
        }
    }
    false
}

/// The words of an expansion.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    current: String,
}

impl Words {
    /// Adds a character; white space ends the word.
    fn push(&mut self, c: char) {
        if c.is_whitespace() {
            self.end();
        } else {
            self.current.push(c);
        }
    }

    fn end(&mut self) {
        if !self.current.is_empty() {
            self.done.push(std::mem::take(&mut self.current));
        }
    }

    fn finish(mut self) -> Vec<String> {
        self.end();
        self.done
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quotes {
    /// They group, and are removed.
    Remove,
    /// They are text.
    Keep,
}

/// The treatment of escape characters in a run of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escapes {
    /// The escape character is removed.
    Remove,
    /// It is kept, for a pattern.
    Keep,
}

/// A message and its offset.
struct Failure {
    offset: usize,
    message: String,
    about_value: bool,
}

fn fail<T>(offset: usize, message: impl Into<String>) -> Result<T, Failure> {
    Err(Failure { offset, message: message.into(), about_value: false })
}

struct Lexer<'a> {
    text: &'a str,
    position: usize,
    escape: char,
    quotes: Quotes,
    lookup: Lookup<'a>,
    depth: usize,
    unset: Vec<String>,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str, escape: char, quotes: Quotes, lookup: Lookup<'a>) -> Self {
        Self { text, position: 0, escape, quotes, lookup, depth: 0, unset: Vec::new() }
    }

    fn expanded(mut self) -> Result<Expanded, ExpandError> {
        let text = self.expand_all(None)?;
        Ok(Expanded { text, unset: self.unset })
    }

    /// Returns the value of a variable that should be set.
    fn value(&mut self, name: &str) -> String {
        (self.lookup)(name).unwrap_or_else(|| {
            if !self.unset.iter().any(|known| known == name) {
                self.unset.push(name.to_owned());
            }
            String::new()
        })
    }

    fn expand_all(&mut self, words: Option<&mut Words>) -> Result<String, ExpandError> {
        self.until(None, Escapes::Remove, words).map_err(|Failure { offset, message, about_value }| ExpandError {
            word: self.text.to_owned(),
            offset,
            message,
            about_value,
        })
    }

    fn peek(&self) -> Option<char> {
        self.text[self.position..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.position += c.len_utf8();
        Some(c)
    }

    fn at_end(&self) -> bool {
        self.position == self.text.len()
    }

    /// Expands up to `stop`, which is consumed, or to the end of the text if there is none.
    fn until(
        &mut self,
        stop: Option<char>,
        escapes: Escapes,
        mut words: Option<&mut Words>,
    ) -> Result<String, Failure> {
        let start = self.position;
        let mut result = String::new();
        while let Some(c) = self.peek() {
            if stop == Some(c) {
                self.next();
                return Ok(result);
            }
            match c {
                '\'' | '"' if self.quotes == Quotes::Remove => {
                    let text = if c == '"' { self.double_quoted(escapes)? } else { self.single_quoted()? };
                    result.push_str(&text);
                    if let Some(words) = words.as_deref_mut() {
                        words.current.push_str(&text);
                    }
                }
                '$' => {
                    let start = self.position;
                    let text = self.dollar()?;
                    result.push_str(&text);
                    check_length(start, &result)?;
                    if let Some(words) = words.as_deref_mut() {
                        text.chars().for_each(|c| words.push(c));
                    }
                }
                c if c == self.escape => {
                    self.next();
                    if escapes == Escapes::Keep {
                        result.push(c);
                    }
                    // At the end of the text an escape character has nothing to escape.
                    if let Some(escaped) = self.next() {
                        result.push(escaped);
                        if let Some(words) = words.as_deref_mut() {
                            words.current.push(escaped);
                        }
                    }
                }
                c => {
                    self.next();
                    result.push(c);
                    if let Some(words) = words.as_deref_mut() {
                        words.push(c);
                    }
                }
            }
        }
        match stop {
            None => Ok(result),
            Some(stop) => fail(start, format!("unexpected end of statement while looking for matching {stop}")),
        }
    }

    fn single_quoted(&mut self) -> Result<String, Failure> {
        let start = self.position;
        self.next();
        let rest = &self.text[self.position..];
        let Some(end) = rest.find('\'') else {
            self.position = self.text.len();
            return fail(start, "unexpected end of statement while looking for matching single-quote");
        };
        self.position += end + 1;
        Ok(rest[..end].to_owned())
    }

    /// Reads up to the closing double quote. Only a quote, a dollar and the escape character itself can be escaped
    /// there.
    fn double_quoted(&mut self, escapes: Escapes) -> Result<String, Failure> {
        let start = self.position;
        self.next();
        let mut result = String::new();
        loop {
            match self.peek() {
                None => return fail(start, "unexpected end of statement while looking for matching double-quote"),
                Some('"') => {
                    self.next();
                    return Ok(result);
                }
                Some('$') => {
                    let start = self.position;
                    result.push_str(&self.dollar()?);
                    check_length(start, &result)?;
                }
                Some(c) if c == self.escape => {
                    self.next();
                    match self.peek() {
                        Some(escaped) if escaped == '"' || escaped == '$' || escaped == self.escape => {
                            if escapes == Escapes::Keep {
                                result.push(c);
                            }
                            self.next();
                            result.push(escaped);
                        }
                        Some(_) => result.push(c),
                        None => {}
                    }
                }
                Some(c) => {
                    self.next();
                    result.push(c);
                }
            }
        }
    }

    fn dollar(&mut self) -> Result<String, Failure> {
        let start = self.position;
        self.next();
        if self.peek() != Some('{') {
            let name = self.name();
            return Ok(if name.is_empty() { "$".to_owned() } else { self.value(&name) });
        }
        if self.depth == NESTING_LIMIT {
            return fail(start, "syntax error: substitutions are nested too deeply");
        }
        self.depth += 1;
        let value = self.braces(start);
        self.depth -= 1;
        value
    }

    /// Reads `{name…}`; `start` is the offset of the dollar.
    fn braces(&mut self, start: usize) -> Result<String, Failure> {
        self.next();
        match self.peek() {
            None => return fail(start, MISSING_BRACE),
            Some('{' | '}' | ':') => return fail(start, "syntax error: bad substitution"),
            Some(_) => {}
        }
        let name = self.name();
        let modifier_start = self.position;
        match self.next() {
            None => fail(start, MISSING_BRACE),
            Some('}') => Ok(self.value(&name)),
            Some(':') => match self.next() {
                None => fail(start, MISSING_BRACE),
                Some(modifier @ ('-' | '+' | '?')) => self.alternative(&name, modifier, true, start),
                Some(other) => unsupported(modifier_start, &format!(":{other}")),
            },
            Some(modifier @ ('-' | '+' | '?')) => self.alternative(&name, modifier, false, start),
            Some(end @ ('#' | '%')) => self.trimmed(&name, end, start),
            Some('/') => self.replaced(&name, start),
            Some(other) => unsupported(modifier_start, &other.to_string()),
        }
    }

    /// Expands `${name-word}`, `${name+word}`, `${name?message}`; with a colon an empty value counts as unset.
    fn alternative(
        &mut self,
        name: &str,
        modifier: char,
        empty_is_unset: bool,
        start: usize,
    ) -> Result<String, Failure> {
        let word = self.part('}', Escapes::Remove, start, MISSING_BRACE)?;
        let value = (self.lookup)(name);
        let unset = value.is_none();
        let value = value.filter(|value| !(empty_is_unset && value.is_empty()));
        match (modifier, value) {
            ('+', Some(_)) | ('-', None) => Ok(word),
            ('+', None) => Ok(String::new()),
            ('?', None) => {
                let state = if unset { "unset" } else { "empty" };
                let message = if word.is_empty() { format!("is not allowed to be {state}") } else { word };
                Err(Failure { offset: start, message: format!("{name}: {message}"), about_value: true })
            }
            (_, Some(value)) => Ok(value),
            (other, None) => unsupported(start, &other.to_string()),
        }
    }

    /// Expands `${name#pattern}`, `##`, `%` and `%%`.
    fn trimmed(&mut self, name: &str, end: char, start: usize) -> Result<String, Failure> {
        let text = self.part('}', Escapes::Keep, start, MISSING_BRACE)?;
        let (pattern, extent) = match text.strip_prefix(end) {
            Some(pattern) => (pattern, Extent::Longest),
            None => (text.as_str(), Extent::Shortest),
        };
        let pattern = pattern_of(pattern, self.escape, start)?;
        let value = self.value(name);
        Ok(if end == '#' { pattern.trim_prefix(&value, extent) } else { pattern.trim_suffix(&value, extent) })
    }

    /// Expands `${name/pattern/text}` and `${name//pattern/text}`.
    fn replaced(&mut self, name: &str, start: usize) -> Result<String, Failure> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let pattern = self.part('/', Escapes::Keep, start, "syntax error: missing '/' in ${}")?;
        let replacement = self.part('}', Escapes::Keep, start, MISSING_BRACE)?;
        let value = self.value(name);
        let pattern = pattern_of(&pattern, self.escape, start)?;
        pattern.replace(&value, &replacement, all, LENGTH_LIMIT).map_or_else(|| too_long(start), Ok)
    }

    /// Reads a part of a substitution. `missing` is the message if the text ends first.
    fn part(&mut self, stop: char, escapes: Escapes, start: usize, missing: &str) -> Result<String, Failure> {
        self.until(Some(stop), escapes, None)
            .or_else(|inner| if self.at_end() { fail(start, missing) } else { Err(inner) })
    }

    /// Reads a name, digits, or one of the shell's special parameters; empty if there is none.
    fn name(&mut self) -> String {
        let rest = &self.text[self.position..];
        let length = match rest.chars().next() {
            Some(c) if c.is_numeric() => prefix_length(rest, char::is_numeric),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
            _ => prefix_length(rest, |c| c == '_' || c.is_alphanumeric()),
        };
        self.position += length;
        rest[..length].to_owned()
    }
}

const MISSING_BRACE: &str = "syntax error: missing '}'";

/// Compiles a pattern, which may itself be the result of substitutions; its matching cost grows with its length.
fn pattern_of(text: &str, escape: char, start: usize) -> Result<Pattern, Failure> {
    match text.len() <= PATTERN_LIMIT {
        true => Ok(Pattern::new(text, escape)),
        false => fail(start, format!("the pattern would be longer than {PATTERN_LIMIT} bytes")),
    }
}

fn too_long<T>(offset: usize) -> Result<T, Failure> {
    fail(offset, format!("the value would be longer than {LENGTH_LIMIT} bytes"))
}

/// Checks the length of a text that a substitution produced.
fn check_length(offset: usize, text: &str) -> Result<(), Failure> {
    if text.len() > LENGTH_LIMIT { too_long(offset) } else { Ok(()) }
}

fn unsupported<T>(offset: usize, modifier: &str) -> Result<T, Failure> {
    fail(offset, format!("unsupported modifier ({modifier}) in substitution"))
}

fn prefix_length(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}
