//! Holds the variables of the environment, for credential sources.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::sync::Arc;

/// The variables of the environment at the start of the program. They hold secrets and are never shown.
#[derive(Clone, Default)]
pub struct Variables(Arc<BTreeMap<String, String>>);

impl Variables {
    /// Returns those of this process that are valid UTF-8.
    pub fn of_process() -> Self {
        let text = |text: OsString| text.into_string().ok();
        Self(Arc::new(std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect()))
    }

    /// Returns a variable's value; an empty one counts as unset.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Variables {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(Arc::new(pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Variables").finish_non_exhaustive()
    }
}
