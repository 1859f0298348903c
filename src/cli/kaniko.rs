//! The flags and sub-commands of kaniko that are not here yet.
//!
//! They are refused by name: to ignore a flag that someone relies on would make another image than they asked for.

/// A flag of kaniko's executor that this program does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingFlag {
    /// The name without dashes.
    pub name: &'static str,
    /// The single letter, if it has one.
    pub short: Option<char>,
    /// What can be done instead.
    pub instead: Option<&'static str>,
}

const fn missing(name: &'static str) -> MissingFlag {
    MissingFlag { name, short: None, instead: None }
}

const fn replaced(name: &'static str, instead: &'static str) -> MissingFlag {
    MissingFlag { name, short: None, instead: Some(instead) }
}

/// Every such flag, deprecated spellings included.
pub const MISSING_FLAGS: &[MissingFlag] = &[
    // The cache.
    missing("cache-dir"),
    // Registries.
    replaced(
        "azure-container-registry-config",
        "give the variables AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET",
    ),
];

/// The sub-commands of kaniko's executor, and its second program.
pub const MISSING_COMMANDS: &[&str] = &["warmer"];

/// The variables of kaniko's that have nothing to do here, and why.
pub const NO_OP_VARIABLES: &[(&str, &str)] = &[
    ("KANIKO_CLEANUP", "what a build needs is always removed at its end"),
    ("KANIKO_PRE_CLEANUP", "a stage begins with a directory of its own"),
    ("KANIKO_PRESERVE_CONTEXT", "the context is only read"),
    ("KANIKO_IGNORE_ASSERTIONS", "there are no such assertions"),
    ("KANIKO_TELEMETRY_ENDPOINT", "nothing is sent to anybody; a warning says so"),
    ("KANIKO_TELEMETRY_OMIT_DOCKERFILE", "nothing is sent to anybody"),
    ("SNAPSHOT_TIMEOUT_DURATION", "finding what a step changed has no time limit"),
    ("STACKLOG_PATH", "there is no log of stacks"),
    ("UPSTREAM_CLIENT_TYPE", "servers are told this program's own name"),
    ("BENCHMARK_FILE", "the summary says where the time went"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "nothing is sent to anybody"),
    ("OTEL_RESOURCE_ATTRIBUTES", "nothing is sent to anybody"),
    ("OTEL_SERVICE_NAME", "nothing is sent to anybody"),
    ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "nothing is sent to anybody"),
    ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "nothing is sent to anybody"),
    ("AWS_ECR_IGNORE_CREDS_STORAGE", "tokens of Amazon's registries are kept in memory only"),
    ("AWS_ECR_CACHE_DIR", "tokens of Amazon's registries are kept in memory only"),
    ("AWS_ECR_DISABLE_CACHE", "tokens of Amazon's registries are kept in memory only"),
    ("AWS_SDK_LOAD_CONFIG", "Amazon's profiles are read in any case"),
    ("GODEBUG", "this is no Go program"),
];

/// Looks a flag up as it was typed: `--name` or `-x`.
#[must_use]
pub fn missing_flag(typed: &str) -> Option<&'static MissingFlag> {
    if let Some(name) = typed.strip_prefix("--") {
        return MISSING_FLAGS.iter().find(|flag| flag.name == name);
    }
    let letter = typed.strip_prefix('-')?.chars().next()?;
    MISSING_FLAGS.iter().find(|flag| flag.short == Some(letter))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn flags_are_found_by_name_and_letter() {
        assert_eq!(missing_flag("--cache-dir").map(|flag| flag.name), Some("cache-dir"));
        assert_eq!(missing_flag("--cach"), None);
        assert_eq!(missing_flag("cache"), None);
    }

    #[test]
    fn no_flag_is_listed_twice_or_exists() {
        let mut names = BTreeSet::new();
        for flag in MISSING_FLAGS {
            assert!(names.insert(flag.name), "--{} is listed twice", flag.name);
        }
        for argument in super::super::flags::command().get_arguments() {
            for name in argument.get_long_and_visible_aliases().unwrap_or_default() {
                assert!(!names.contains(name), "--{name} exists");
            }
        }
    }
}
