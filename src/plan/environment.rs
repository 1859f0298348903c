//! Holds the values of names: build arguments, global arguments, and the environment of a stage.

use std::sync::Arc;

use crate::dockerfile::ast::{Source, Word};
use crate::dockerfile::expand;
use crate::image::Platform;

use super::error::PlanError;
use super::options::Options;

/// Build arguments that every RUN sees without an `ARG` line (Dockerfile reference, "Predefined ARGs"). They are not in
/// the history, because they often hold credentials.
pub const PROXY_VARIABLES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// The `PATH` of an image without one.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Names and values in the order in which they were first set, as an image configuration keeps them.
#[derive(Debug, Clone, Default)]
pub struct Environment(Vec<(String, String)>);

impl Environment {
    /// Parses `NAME=value` entries; an entry without `=` has an empty value.
    pub fn from_entries(entries: &[String]) -> Self {
        let mut environment = Self::default();
        for entry in entries {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            environment.set(name, value);
        }
        environment
    }

    /// Sets a value; an existing name keeps its position.
    pub fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }

    /// Returns the value of a name, if it is set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns names and values.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// Returns `NAME=value` entries.
    pub fn entries(&self) -> Vec<String> {
        self.0.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }
}

/// Returns the proxy variables of a command. Each that is set in upper or lower case is set in both, as in BuildKit:
/// some programs read only one of them.
pub(super) fn proxy_variables(options: &Options) -> impl Iterator<Item = (&'static str, &str)> {
    PROXY_VARIABLES.into_iter().filter_map(|name| {
        let spellings = PROXY_VARIABLES.into_iter().filter(|other| other.eq_ignore_ascii_case(name));
        let value =
            options.build_arg(name).or_else(|| spellings.into_iter().find_map(|other| options.build_arg(other)));
        Some((name, value?))
    })
}

/// Returns the platform arguments (Dockerfile reference, "Automatic platform ARGs in the global scope").
pub fn platform_arguments(options: &Options, target_stage: &str) -> Environment {
    let mut arguments = Environment::default();
    let mut describe = |prefix: &str, platform: &Platform| {
        arguments.set(&format!("{prefix}PLATFORM"), &platform.to_string());
        arguments.set(&format!("{prefix}OS"), &platform.os);
        arguments.set(&format!("{prefix}OSVERSION"), platform.os_version.as_deref().unwrap_or(""));
        arguments.set(&format!("{prefix}ARCH"), &platform.architecture);
        arguments.set(&format!("{prefix}VARIANT"), platform.variant.as_deref().unwrap_or(""));
    };
    describe("BUILD", &options.build_platform);
    describe("TARGET", &options.target_platform);
    arguments.set("TARGETSTAGE", target_stage);
    let names: Vec<String> = arguments.pairs().iter().map(|(name, _)| name.clone()).collect();
    for name in names {
        if let Some(value) = options.build_arg(&name) {
            arguments.set(&name, value);
        }
    }
    arguments
}

/// Expands a word with `scope`; an error points into the word.
pub(super) fn expand_in(
    scope: &Environment,
    word: &Word,
    escape: char,
    source: &Arc<Source>,
) -> Result<String, PlanError> {
    expand::expand(&word.text, escape, &mut |name| scope.get(name).map(str::to_owned))
        .map_err(|error| PlanError::expansion(&error, word, source))
}

#[cfg(test)]
mod tests {
    use super::Environment;

    #[test]
    fn a_name_keeps_its_position() {
        let mut environment = Environment::from_entries(&["A=1".to_owned(), "B=x=y".to_owned(), "C".to_owned()]);
        environment.set("A", "2");
        environment.set("D", "");
        assert_eq!(environment.entries(), ["A=2", "B=x=y", "C=", "D="]);
        assert_eq!(environment.get("B"), Some("x=y"));
        assert_eq!(environment.get("E"), None);
    }
}
