//! Parses a record of comma-separated values (RFC 4180): the notation of `RUN --mount` and `--secret`.
//!
//! The csv-core library splits the record. This module adds the range of each field, for carets, and BuildKit's
//! strictness about quotes.

use std::ops::Range;

use csv_core::{ReadFieldResult, Reader};

/// A field of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The value without its quotes.
    pub text: String,
    /// The field as written, quotes included: bytes of the record.
    pub range: Range<usize>,
}

/// A reason why a text is not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsvError {
    /// A quote inside an unquoted field, or text after the closing quote.
    #[error("misplaced or missing \" in a field: quote the whole field and write \"\" for a quote in it")]
    Quote {
        /// The field: bytes of the record.
        range: Range<usize>,
    },
    /// More than one line.
    #[error("a line break outside quotes")]
    LineBreak {
        /// The line break: bytes of the record.
        range: Range<usize>,
    },
}

impl CsvError {
    /// Returns the range of the error: bytes of the record, on character boundaries.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        match self {
            Self::Quote { range } | Self::LineBreak { range } => range.clone(),
        }
    }
}

/// Splits `text`, which is one record. An empty text has no fields.
///
/// # Errors
/// See [`CsvError`].
pub fn record(text: &str) -> Result<Vec<Field>, CsvError> {
    if text.starts_with(['\n', '\r']) {
        return Err(CsvError::LineBreak { range: 0..1 });
    }
    let mut reader = Reader::new();
    let mut fields = Vec::new();
    // A decoded field is never longer than its written form.
    let mut decoded = vec![0; text.len()];
    let (mut position, mut start, mut length) = (0, 0, 0);
    loop {
        let (result, read, written) = reader.read_field(&text.as_bytes()[position..], &mut decoded[length..]);
        position += read;
        length += written;
        match result {
            // The next, empty read marks the end of the input.
            ReadFieldResult::InputEmpty => {}
            ReadFieldResult::Field { record_end } => {
                let end = if text[start..position].ends_with(',') && !record_end { position - 1 } else { position };
                let end = start + text[start..end].trim_end_matches(['\n', '\r']).len().max(quoted(&text[start..end]));
                fields.push(field(text, start..end, &decoded[..length])?);
                if record_end {
                    return if end == text.len() {
                        Ok(fields)
                    } else {
                        Err(CsvError::LineBreak { range: end..end + 1 })
                    };
                }
                (start, length) = (position, 0);
            }
            ReadFieldResult::OutputFull | ReadFieldResult::End => return Ok(fields),
        }
    }
}

/// Returns the length of a field up to its last quote, in which line breaks are allowed.
fn quoted(field: &str) -> usize {
    field.rfind('"').map_or(0, |quote| quote + 1)
}

fn field(text: &str, range: Range<usize>, decoded: &[u8]) -> Result<Field, CsvError> {
    let written = &text[range.clone()];
    let value = String::from_utf8_lossy(decoded).into_owned();
    let sound = if written.starts_with('"') {
        written == format!("\"{}\"", value.replace('"', "\"\""))
    } else {
        !written.contains('"')
    };
    if sound { Ok(Field { text: value, range }) } else { Err(CsvError::Quote { range }) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(text: &str) -> Vec<String> {
        record(text).expect(text).into_iter().map(|field| field.text).collect()
    }

    #[test]
    fn fields_are_split_and_unquoted() {
        assert_eq!(texts(""), Vec::<String>::new());
        assert_eq!(texts("a"), ["a"]);
        assert_eq!(texts("a,b=c,,"), ["a", "b=c", "", ""]);
        assert_eq!(texts("\"a,b\",c"), ["a,b", "c"]);
        assert_eq!(texts("\"a \"\"b\"\"\",\"\""), ["a \"b\"", ""]);
        assert_eq!(texts("\"a\n\""), ["a\n"]);
        let places: Vec<_> = record("é,\"b,\",c").expect("a record").into_iter().map(|field| field.range).collect();
        assert_eq!(places, [0..2, 3..7, 8..9]);
    }

    #[test]
    fn stray_quotes_and_second_lines_are_errors() {
        for text in ["a\"b", "x,\"a", "\"a\"b", "\"a\" ,b", "\""] {
            assert!(matches!(record(text), Err(CsvError::Quote { .. })), "{text}: {:?}", record(text));
        }
        for text in ["a\nb", "\na", "a,b\r\n", "a\n"] {
            assert!(matches!(record(text), Err(CsvError::LineBreak { .. })), "{text:?}: {:?}", record(text));
        }
    }

    proptest! {
        #[test]
        fn quoted_fields_round_trip(values in prop::collection::vec("[a-zé,\"\n\r =]{0,6}", 1..5)) {
            let written: Vec<String> =
                values.iter().map(|value| format!("\"{}\"", value.replace('"', "\"\""))).collect();
            prop_assert_eq!(texts(&written.join(",")), values);
        }

        #[test]
        fn error_ranges_are_inside_the_text(text in "[a-cé,\"\n\r=]{0,12}") {
            match record(&text) {
                Ok(fields) => for field in fields { prop_assert!(text.get(field.range).is_some()); },
                Err(error) => prop_assert!(text.get(error.range()).is_some()),
            }
        }
    }
}
