//! Parses the value of `RUN --mount`: comma-separated fields (RFC 4180) to a typed mount.
//!
//! Values may contain variables, which only the plan knows. So a flag is read in two steps: [`MountFlag::parse`] finds
//! the fields and checks the keys, and [`MountFlag::resolve`] checks the meaning of the expanded values (`meaning`). If
//! no value has a variable, the parser does the second step too, so that such errors are reported with the others of
//! the file.

mod meaning;
#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::csv;
use crate::diag::suggest;

use super::expand::has_variable;
use super::source::{Span, Word};

pub use meaning::{CACHE_MODE, MountKind, MountOwner, MountSpec, Sharing};

/// A `--mount` flag with checked keys and values as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    /// The complete value.
    pub span: Span,
    /// In order; of several fields with the same key the last counts.
    pub fields: Vec<MountField>,
}

/// A `key=value` of a mount, or a key alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountField {
    /// The key.
    pub key: MountKey,
    /// The value; expanded by the plan, unless the key is [`MountKey::From`].
    pub value: Option<Word>,
    /// The complete field.
    pub span: Span,
}

/// The keys of `--mount` (Dockerfile reference, "RUN --mount"), aliases folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountKey {
    /// `type`.
    Type,
    /// `from`.
    From,
    /// `source`, `src`.
    Source,
    /// `target`, `dst`, `destination`.
    Target,
    /// `readonly`, `ro`.
    ReadOnly,
    /// `readwrite`, `rw`.
    ReadWrite,
    /// `id`.
    Id,
    /// `sharing`.
    Sharing,
    /// `required`.
    Required,
    /// `size`.
    Size,
    /// `mode`.
    Mode,
    /// `uid`.
    Uid,
    /// `gid`.
    Gid,
    /// `env`.
    Env,
}

const KEYS: [(&str, MountKey); 19] = [
    ("type", MountKey::Type),
    ("from", MountKey::From),
    ("source", MountKey::Source),
    ("src", MountKey::Source),
    ("target", MountKey::Target),
    ("dst", MountKey::Target),
    ("destination", MountKey::Target),
    ("readonly", MountKey::ReadOnly),
    ("ro", MountKey::ReadOnly),
    ("readwrite", MountKey::ReadWrite),
    ("rw", MountKey::ReadWrite),
    ("id", MountKey::Id),
    ("sharing", MountKey::Sharing),
    ("required", MountKey::Required),
    ("size", MountKey::Size),
    ("mode", MountKey::Mode),
    ("uid", MountKey::Uid),
    ("gid", MountKey::Gid),
    ("env", MountKey::Env),
];

impl MountKey {
    /// Returns the first name in the reference.
    #[must_use]
    pub fn name(self) -> &'static str {
        KEYS.iter().find(|(_, key)| *key == self).map_or("", |(name, _)| name)
    }

    /// Reports whether the key may have no value.
    fn is_boolean(self) -> bool {
        matches!(self, Self::ReadOnly | Self::ReadWrite | Self::Required)
    }
}

/// An error in a mount, with its location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountProblem {
    /// The field or the complete value; points into the same text as [`MountField::span`].
    pub span: Span,
    /// The message, in BuildKit's words.
    pub message: String,
    /// Advice for the user.
    pub hint: Option<String>,
}

impl MountProblem {
    fn new(span: &Span, message: impl Into<String>) -> Self {
        Self { span: span.clone(), message: message.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn suggest<'a>(mut self, word: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        self.hint = suggest(word, known).map(|known| format!("did you mean {known}?"));
        self
    }
}

impl MountFlag {
    /// Parses the fields of a `--mount` value; spans are bytes of `text`. Reports all errors in it.
    ///
    /// # Errors
    /// It is not a CSV record, has an unknown key, a key without its value, or a variable in `from`.
    pub fn parse(text: &str, escape: char) -> Result<Self, Vec<MountProblem>> {
        let span = 0..text.len();
        let record = csv::record(text).map_err(|error| {
            vec![MountProblem::new(&error.range(), "failed to parse csv mounts").hint(error.to_string())]
        })?;
        if record.is_empty() {
            return Err(vec![
                MountProblem::new(&span, "failed to parse csv mounts").hint("write --mount=type=TYPE,target=PATH"),
            ]);
        }
        let (mut fields, mut problems) = (Vec::new(), Vec::new());
        for read in record {
            match field(read, escape) {
                Ok(field) => fields.push(field),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(Self { span, fields }) } else { Err(problems) }
    }

    /// Returns the flag with its spans translated from bytes of the value to bytes of the file.
    #[must_use]
    pub fn placed(mut self, place: &dyn Fn(Range<usize>) -> Span) -> Self {
        for field in &mut self.fields {
            field.span = place(field.span.clone());
            if let Some(value) = &mut field.value {
                value.span = place(value.span.clone());
            }
        }
        self.span = place(self.span);
        self
    }

    /// Reports whether its meaning depends on a variable.
    #[must_use]
    pub fn has_variable(&self, escape: char) -> bool {
        self.fields.iter().filter_map(|field| field.value.as_ref()).any(|value| has_variable(&value.text, escape))
    }

    /// Returns `from`, which is known before expansion.
    #[must_use]
    pub fn from(&self) -> Option<&Word> {
        self.last(MountKey::From).and_then(|field| field.value.as_ref()).filter(|word| !word.text.is_empty())
    }

    /// Returns the words that variables are expanded in.
    pub fn expanded_words(&self) -> impl Iterator<Item = &Word> {
        self.fields.iter().filter(|field| field.key != MountKey::From).filter_map(|field| field.value.as_ref())
    }

    fn last(&self, key: MountKey) -> Option<&MountField> {
        self.fields.iter().rev().find(|field| field.key == key)
    }

    fn text(&self, key: MountKey) -> Option<&str> {
        self.last(key).and_then(|field| field.value.as_ref()).map(|value| value.text.as_str())
    }
}

fn field(read: csv::Field, escape: char) -> Result<MountField, MountProblem> {
    let csv::Field { text, range: span } = read;
    let (written, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (text.as_str(), None),
    };
    let lower = written.to_lowercase();
    let Some((_, key)) = KEYS.iter().find(|(name, _)| *name == lower) else {
        return Err(MountProblem::new(&span, format!("unexpected key '{written}' in '{text}'"))
            .suggest(written, KEYS.map(|(name, _)| name)));
    };
    let key = *key;
    if value.is_none() && !key.is_boolean() {
        return Err(MountProblem::new(&span, format!("invalid field '{text}' must be a key=value pair")));
    }
    if key == MountKey::From && value.is_some_and(|value| has_variable(value, escape)) {
        let message = "'from' doesn't support variable expansion, define alias stage instead";
        return Err(MountProblem::new(&span, message).hint("write FROM IMAGE AS NAME above, and from=NAME here"));
    }
    let value = value.map(|value| {
        // A quoted field is shown whole: its bytes are not those of the value.
        let start = if span.len() == text.len() { span.end - value.len() } else { span.start };
        Word { text: value.to_owned(), span: start..span.end }
    });
    Ok(MountField { key, value, span })
}
