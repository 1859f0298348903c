//! Parses `--secret`: `id=ID[,src|source=FILE][,env=VARIABLE][,type=file|env]`, as in `docker build`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use crate::csv::{self, CsvError};
use crate::diag::redact::Secret;
use crate::diag::suggest;

/// A secret's name and source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSource {
    /// Its name in the Dockerfile.
    pub id: String,
    /// The source of its value.
    pub value: SecretValue,
}

/// The source of a secret's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretValue {
    /// A file, read when the secret is used.
    File(PathBuf),
    /// The value itself, taken from the environment.
    Text(Secret<Vec<u8>>),
}

/// A `--secret` that is invalid, or names a variable that is not set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// `--secret` is not a list of fields.
    #[error("--secret {text:?} cannot be read")]
    Csv {
        /// As given.
        text: String,
        /// The error of the list.
        #[source]
        source: CsvError,
    },
    /// A field is not `key=value`.
    #[error("--secret {text:?}: {field:?} is not of the form key=value")]
    Field {
        /// As given.
        text: String,
        /// The field.
        field: String,
    },
    /// A key that `--secret` does not have.
    #[error(
        "--secret {text:?}: unexpected key '{key}'{}; the keys are id, src, source, env and type",
        suggestion.as_ref().map(|key| format!(", did you mean {key}?")).unwrap_or_default()
    )]
    Key {
        /// As given.
        text: String,
        /// The key.
        key: String,
        /// The key that was probably meant.
        suggestion: Option<String>,
    },
    /// A key occurs twice.
    #[error("--secret {text:?}: '{key}' is given twice")]
    KeyTwice {
        /// As given.
        text: String,
        /// The first name of the key.
        key: &'static str,
    },
    /// A type that is neither `file` nor `env`.
    #[error("--secret {text:?}: unsupported secret type '{kind}': it is file or env")]
    Type {
        /// As given.
        text: String,
        /// The type.
        kind: String,
    },
    /// The name is missing.
    #[error("--secret {text:?} has no name: it is id=NAME,src=FILE or id=NAME,env=VARIABLE")]
    NoId {
        /// As given.
        text: String,
    },
    /// Both a file and a variable are given.
    #[error("--secret {text:?}: a secret comes from a file (src) or a variable (env), not from both")]
    TwoSources {
        /// As given.
        text: String,
    },
    /// The variable is not set.
    #[error("secret {id}: environment variable {variable} is not set")]
    Variable {
        /// The secret's name.
        id: String,
        /// The variable's name.
        variable: String,
    },
}

const KEYS: [&str; 5] = ["id", "src", "source", "env", "type"];

/// The fields as written.
#[derive(Default)]
struct Fields {
    id: Option<String>,
    source: Option<String>,
    variable: Option<String>,
    kind: Option<String>,
}

impl SecretSource {
    /// Parses the value of a `--secret` flag. `environment` looks up a variable.
    ///
    /// Without `src`, `env` and `type` the name itself is that of a variable or else of a file; with `type=env`, `src`
    /// is the name of a variable (as in BuildKit's client).
    ///
    /// # Errors
    /// It has no name, an unknown key or two sources, or names a variable that is not set.
    pub fn parse(text: &str, environment: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, SourceError> {
        let Fields { id, source, variable, kind } = fields(text)?;
        let id = id.filter(|id| !id.is_empty()).ok_or_else(|| SourceError::NoId { text: text.to_owned() })?;
        let both = || Err(SourceError::TwoSources { text: text.to_owned() });
        let named = |variable: String| match environment(&variable) {
            Some(value) => Ok(SecretValue::Text(Secret::new(value.into_vec()))),
            None => Err(SourceError::Variable { id: id.clone(), variable }),
        };
        let value = match (kind.as_deref(), source, variable) {
            (_, Some(_), Some(_)) => return both(),
            (Some("env"), Some(variable), None) | (None | Some("env"), None, Some(variable)) => named(variable)?,
            (Some("env"), None, None) => named(id.clone())?,
            (Some("file"), None, Some(_)) => return both(),
            (None | Some("file"), Some(path), None) => SecretValue::File(path.into()),
            (Some("file"), None, None) => SecretValue::File(id.clone().into()),
            (None, None, None) => named(id.clone()).or_else(|_| Ok(SecretValue::File(id.clone().into())))?,
            (Some(kind), ..) => return Err(SourceError::Type { text: text.to_owned(), kind: kind.to_owned() }),
        };
        Ok(Self { id, value })
    }
}

fn fields(text: &str) -> Result<Fields, SourceError> {
    let mut fields = Fields::default();
    let record = csv::record(text).map_err(|source| SourceError::Csv { text: text.to_owned(), source })?;
    for field in record {
        let Some((key, value)) = field.text.split_once('=') else {
            return Err(SourceError::Field { text: text.to_owned(), field: field.text });
        };
        let key = key.to_lowercase();
        let (name, slot) = match key.as_str() {
            "id" => ("id", &mut fields.id),
            "src" | "source" => ("src", &mut fields.source),
            "env" => ("env", &mut fields.variable),
            "type" => ("type", &mut fields.kind),
            _ => {
                let suggestion = suggest(&key, KEYS);
                return Err(SourceError::Key { text: text.to_owned(), key, suggestion });
            }
        };
        if slot.replace(value.to_owned()).is_some() {
            return Err(SourceError::KeyTwice { text: text.to_owned(), key: name });
        }
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<SecretSource, String> {
        let environment = |name: &str| (name == "SET").then(|| OsString::from("value"));
        SecretSource::parse(text, &environment).map_err(|error| error.to_string())
    }

    #[test]
    fn every_form_has_its_source() {
        let file = |path: &str| SecretValue::File(path.into());
        let set = || SecretValue::Text(Secret::new(b"value".to_vec()));
        for (text, id, value) in [
            ("id=a,src=/f", "a", file("/f")),
            ("id=a,source=/f,type=file", "a", file("/f")),
            ("ID=a,\"src=/f,g\"", "a", file("/f,g")),
            ("id=a", "a", file("a")),
            ("id=SET", "SET", set()),
            ("id=SET,type=file", "SET", file("SET")),
            ("id=SET,type=env", "SET", set()),
            ("id=a,env=SET", "a", set()),
            ("id=a,type=env,env=SET", "a", set()),
            ("type=env,src=SET,id=a", "a", set()),
        ] {
            assert_eq!(parse(text), Ok(SecretSource { id: id.to_owned(), value }), "{text}");
        }
    }

    #[test]
    fn errors_name_the_mistake() {
        for (text, message) in [
            ("", "has no name"),
            ("src=/f", "has no name"),
            ("id=,src=/f", "has no name"),
            ("id=a,/f", "\"/f\" is not of the form key=value"),
            ("id=a,sorce=/f", "unexpected key 'sorce', did you mean source?"),
            ("id=a,src=/f,env=SET", "not from both"),
            ("id=a,type=file,env=SET", "not from both"),
            ("id=a,src=/f,source=/g", "'src' is given twice"),
            ("id=a,type=vault", "unsupported secret type 'vault'"),
            ("id=a,env=UNSET", "environment variable UNSET is not set"),
            ("id=a,type=env", "environment variable a is not set"),
            ("id=a,s\"rc=/f", "cannot be read"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
