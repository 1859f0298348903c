//! Names the isolation that the user requests, and the one that was chosen.

use std::fmt;
use std::str::FromStr;

use super::id_mapping::IdMapping;

/// The value of `--isolation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// The strongest mechanism that works in this container.
    #[default]
    Auto,
    /// Linux namespaces over the stage's root directory.
    Namespace,
    /// The stage's files in place of the container's own.
    OwnRoot,
}

impl Isolation {
    /// Returns the value of `--isolation`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Namespace => "namespace",
            Self::OwnRoot => "own-root",
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A mechanism that isolates commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// Linux namespaces over the stage's root directory.
    Namespace,
    /// The stage's files in place of the container's own.
    OwnRoot,
}

impl Mechanism {
    /// Returns the value of `--isolation` that requests this mechanism.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => Isolation::Namespace.as_str(),
            Self::OwnRoot => Isolation::OwnRoot.as_str(),
        }
    }
}

/// Permissions for own-root to run where it otherwise refuses to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OwnRootConsent {
    /// May run where no container was detected (`--force`).
    pub outside_container: bool,
    /// May move away the files of an operating system while a command runs (`--force --pre-cleanup`).
    pub own_system: bool,
}

/// A value that does not name an isolation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown isolation '{0}': expected auto, namespace or own-root")]
pub struct UnknownIsolation(String);

impl FromStr for Isolation {
    type Err = UnknownIsolation;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "auto" => Ok(Self::Auto),
            "namespace" => Ok(Self::Namespace),
            "own-root" => Ok(Self::OwnRoot),
            other => Err(UnknownIsolation(other.to_owned())),
        }
    }
}

/// The isolation that works in this container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The mechanism.
    pub mechanism: Mechanism,
    /// Why it was chosen, or its variant, as a phrase for messages.
    pub reason: String,
    pub(super) id_mapping: Option<IdMapping>,
    pub(super) processes: bool,
    /// For own-root: an operating system's files may be moved away.
    pub(super) own_system: bool,
}

impl Chosen {
    /// Returns the mapping of the user namespace to enter first, if one is needed.
    #[must_use]
    pub fn id_mapping(&self) -> Option<&IdMapping> {
        self.id_mapping.as_ref()
    }

    /// Reports whether commands get a process namespace and a `/proc` of their own.
    #[must_use]
    pub fn has_own_processes(&self) -> bool {
        self.processes
    }
}

impl fmt::Display for Chosen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "isolation: {} ({})", self.mechanism.as_str(), self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn isolation_words_round_trip() {
        for word in ["auto", "namespace", "own-root"] {
            assert_eq!(word.parse::<Isolation>().unwrap().to_string(), word);
        }
        assert!("chroot".parse::<Isolation>().unwrap_err().to_string().contains("'chroot'"));
    }
}
