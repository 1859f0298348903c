//! Computes cache keys: digests of all inputs of a step.
//!
//! [`KeyInputs`] is a list of named ingredients (the instruction's words, a variable, a file), each with its digest;
//! the key is the digest of the list. The names are stored so that a miss can name the ingredient that changed. Every
//! value is encoded with its type and length, so that different lists have different encodings.

use std::fmt;
use std::str::FromStr;

use crate::image::Digest;

/// The start of every key: different versions of the format have different keys.
const VERSION: &str = "crabwright step 1";
/// The number of digits of a key.
const LENGTH: usize = 64;

/// The name of a cache entry: 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// Returns the key in the form of a tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not 64 hexadecimal digits")]
pub struct NotAKey;

impl FromStr for Key {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if text.len() == LENGTH && is_hex { Ok(Self(text.to_owned())) } else { Err(NotAKey) }
    }
}

/// The kind of inputs that a key is computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// The Dockerfile and the build's inputs, known before anything runs.
    Definition,
    /// The files that the step starts from and reads, known when they exist.
    Content,
}

/// Encodes values so that every list of values has its own encoding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    /// Returns an empty encoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes.
    #[must_use]
    pub fn bytes(mut self, value: &[u8]) -> Self {
        self.bytes.push(b'b');
        self.bytes.extend_from_slice(&(value.len() as u64).to_be_bytes());
        self.bytes.extend_from_slice(value);
        self
    }

    /// Adds a text.
    #[must_use]
    pub fn text(self, value: &str) -> Self {
        self.bytes(value.as_bytes())
    }

    /// Adds a number.
    #[must_use]
    pub fn number(mut self, value: u64) -> Self {
        self.bytes.push(b'n');
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Adds a boolean.
    #[must_use]
    pub fn flag(mut self, value: bool) -> Self {
        self.bytes.push(if value { b'y' } else { b'-' });
        self
    }

    /// Adds an optional text; `None` differs from an empty text.
    #[must_use]
    pub fn optional(self, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.flag(true).text(value),
            None => self.flag(false),
        }
    }

    /// Adds texts and their number.
    #[must_use]
    pub fn texts<T: AsRef<str>>(self, values: impl ExactSizeIterator<Item = T>) -> Self {
        let count = self.number(values.len() as u64);
        values.fold(count, |encoder, value| encoder.text(value.as_ref()))
    }

    /// Adds byte strings. The caller adds their number.
    #[must_use]
    pub fn all_bytes(self, values: &[Vec<u8>]) -> Self {
        values.iter().fold(self, |encoder, value| encoder.bytes(value))
    }

    /// Returns the encoding.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn digest(&self) -> Digest {
        Digest::sha256_of(&self.bytes)
    }
}

/// The inputs of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInputs {
    kind: KeyKind,
    ingredients: Vec<(String, Digest)>,
}

impl KeyInputs {
    /// Returns empty inputs.
    pub fn new(kind: KeyKind) -> Self {
        Self { kind, ingredients: Vec::new() }
    }

    /// Adds an ingredient. `name` is for messages.
    pub fn add(&mut self, name: impl Into<String>, value: &Encoder) {
        self.ingredients.push((name.into(), value.digest()));
    }

    /// Adds an ingredient by its digest.
    pub fn add_digest(&mut self, name: impl Into<String>, digest: Digest) {
        self.ingredients.push((name.into(), digest));
    }

    /// Returns names and digests in the order in which they were added.
    pub fn ingredients(&self) -> &[(String, Digest)] {
        &self.ingredients
    }

    /// Returns the key.
    pub fn key(&self) -> Key {
        Key(self.encoded().digest().hex().to_owned())
    }

    fn encoded(&self) -> Encoder {
        let start = Encoder::new().text(VERSION).flag(self.kind == KeyKind::Content);
        let start = start.number(self.ingredients.len() as u64);
        self.ingredients.iter().fold(start, |encoder, (name, digest)| encoder.text(name).text(&digest.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, PartialEq)]
    enum Value {
        Bytes(Vec<u8>),
        Number(u64),
        Flag(bool),
    }

    fn encode(values: &[Value]) -> Vec<u8> {
        let encoder = values.iter().fold(Encoder::new(), |encoder, value| match value {
            Value::Bytes(bytes) => encoder.bytes(bytes),
            Value::Number(number) => encoder.number(*number),
            Value::Flag(flag) => encoder.flag(*flag),
        });
        encoder.as_bytes().to_vec()
    }

    fn decode(mut bytes: &[u8]) -> Option<Vec<Value>> {
        let mut values = Vec::new();
        while let Some((kind, rest)) = bytes.split_first() {
            let number = |rest: &[u8]| rest.get(..8).and_then(|word| word.try_into().ok()).map(u64::from_be_bytes);
            values.push(match kind {
                b'y' | b'-' => {
                    bytes = rest;
                    Value::Flag(*kind == b'y')
                }
                b'n' => {
                    bytes = &rest[8..];
                    Value::Number(number(rest)?)
                }
                b'b' => {
                    let length = usize::try_from(number(rest)?).ok()?;
                    bytes = &rest[8 + length..];
                    Value::Bytes(rest[8..8 + length].to_vec())
                }
                _ => return None,
            });
        }
        Some(values)
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            proptest::collection::vec(prop_oneof![Just(b'b'), Just(b'n'), Just(0), any::<u8>()], 0..12)
                .prop_map(Value::Bytes),
            any::<u64>().prop_map(Value::Number),
            any::<bool>().prop_map(Value::Flag),
        ]
    }

    fn key_inputs() -> impl Strategy<Value = KeyInputs> {
        let ingredient = ("[ab ]{0,3}", "[ab]{0,2}");
        proptest::collection::vec(ingredient, 0..4).prop_map(|ingredients| {
            let mut key_inputs = KeyInputs::new(KeyKind::Definition);
            for (name, value) in ingredients {
                key_inputs.add(name, &Encoder::new().text(&value));
            }
            key_inputs
        })
    }

    proptest! {
        /// An encoding that can be decoded is unambiguous.
        #[test]
        fn values_can_be_read_back(values in proptest::collection::vec(value(), 0..6)) {
            prop_assert_eq!(decode(&encode(&values)), Some(values));
        }

        #[test]
        fn different_inputs_have_different_keys(one in key_inputs(), other in key_inputs()) {
            prop_assert_eq!(one == other, one.key() == other.key());
            prop_assert_eq!(one == other, one.encoded() == other.encoded());
        }
    }

    #[test]
    fn kinds_of_keys_differ() {
        assert_ne!(KeyInputs::new(KeyKind::Definition).key(), KeyInputs::new(KeyKind::Content).key());
    }

    #[test]
    fn keys_are_read_back() {
        let key = KeyInputs::new(KeyKind::Definition).key();
        assert_eq!(key.as_str().parse(), Ok(key.clone()));
        for text in ["", "latest", &key.as_str()[1..], &key.as_str().to_uppercase()] {
            assert_eq!(text.parse::<Key>(), Err(NotAKey), "{text}");
        }
    }
}
