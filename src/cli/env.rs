//! The variables of the environment: the only place in which the command line looks them up.
//!
//! Below `cli` there are values, not variables. A function that needs one takes an [`Env`], so that a test passes an
//! environment of its own, and its errors are worded here once.

use std::ffi::OsString;
use std::path::PathBuf;

use super::values::{self, NotBoolean};

/// Returns the value of a variable, if it is set.
type Lookup<'e> = &'e dyn Fn(&str) -> Option<OsString>;

/// An environment, by its lookup of one variable.
#[derive(Clone, Copy)]
pub struct Env<'e> {
    lookup: Lookup<'e>,
}

/// A variable whose value is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// The value of a switch.
    #[error("environment variable {name} cannot be {value:?}")]
    NotBoolean {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// The accepted values.
        #[source]
        source: NotBoolean,
    },
    /// The value of a text.
    #[error("environment variable {name} is not valid UTF-8")]
    NotText {
        /// The variable.
        name: String,
    },
}

impl Env<'static> {
    /// The environment of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self { lookup: &|name| std::env::var_os(name) }
    }
}

impl<'e> Env<'e> {
    /// An environment that `lookup` answers for.
    #[cfg(test)]
    pub(crate) fn new(lookup: Lookup<'e>) -> Self {
        Self { lookup }
    }

    /// The lookup itself, for modules below `cli`.
    pub fn lookup(self) -> Lookup<'e> {
        self.lookup
    }

    /// Reports whether the variable is set to a value that is not empty.
    pub(crate) fn has(self, name: &str) -> bool {
        (self.lookup)(name).is_some_and(|value| !value.is_empty())
    }

    /// Returns the value as it is.
    pub(crate) fn raw(self, name: &str) -> Option<OsString> {
        (self.lookup)(name)
    }

    /// Returns the value as text, which may be empty.
    ///
    /// # Errors
    /// The value is not valid UTF-8.
    pub(crate) fn text(self, name: &str) -> Result<Option<String>, EnvError> {
        let value = self.raw(name).map(OsString::into_string).transpose();
        value.map_err(|_| EnvError::NotText { name: name.to_owned() })
    }

    /// Returns the value as text; `None` if it is empty.
    ///
    /// # Errors
    /// The value is not valid UTF-8.
    pub(crate) fn non_empty_text(self, name: &str) -> Result<Option<String>, EnvError> {
        Ok(values::non_empty(self.text(name)?))
    }

    /// Returns the value of a switch, in the spellings of a boolean flag.
    ///
    /// # Errors
    /// The value is neither true nor false; an empty one is neither.
    pub(crate) fn boolean(self, name: &'static str) -> Result<Option<bool>, EnvError> {
        let Some(value) = self.text(name)? else { return Ok(None) };
        match values::boolean(&value) {
            Ok(is_on) => Ok(Some(is_on)),
            Err(source) => Err(EnvError::NotBoolean { name, value, source }),
        }
    }

    /// Returns the value as a path; `None` if it is empty.
    pub(crate) fn path(self, name: &str) -> Option<PathBuf> {
        values::non_empty(self.raw(name).map(PathBuf::from))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    #[test]
    fn a_value_is_text_a_switch_or_a_path() {
        let lookup = |name: &str| match name {
            "ON" => Some(OsString::from("T")),
            "EMPTY" => Some(OsString::new()),
            "BYTES" => Some(OsString::from_vec(b"\xff".to_vec())),
            _ => None,
        };
        let env = Env::new(&lookup);
        assert_eq!((env.boolean("ON"), env.boolean("NONE")), (Ok(Some(true)), Ok(None)));
        assert_eq!(env.text("EMPTY"), Ok(Some(String::new())));
        assert_eq!((env.non_empty_text("EMPTY"), env.path("EMPTY")), (Ok(None), None));
        assert_eq!((env.has("ON"), env.has("EMPTY"), env.has("NONE")), (true, false, false));
        assert_eq!(env.boolean("EMPTY").unwrap_err().to_string(), "environment variable EMPTY cannot be \"\"");
        assert_eq!(env.text("BYTES").unwrap_err().to_string(), "environment variable BYTES is not valid UTF-8");
        assert!(env.path("BYTES").is_some());
    }
}
