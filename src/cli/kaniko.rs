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
    // Input.
    MissingFlag { name: "bucket", short: Some('b'), instead: None },
    replaced("git", "check the repository out and name its directory with --context"),
    // Output.
    missing("compression"),
    missing("compression-level"),
    // The build.
    missing("single-snapshot"),
    replaced("use-new-run", "leave it out, finding what a RUN changed is fast without it"),
    replaced("ignore-var-run", "leave it out, /var/run of the image is its own"),
    missing("ignore-path"),
    missing("image-fs-extract-retry"),
    replaced("kaniko-dir", "use --work-dir"),
    replaced("cleanup", "leave it out, stages are kept in directories of their own below --work-dir"),
    replaced("pre-cleanup", "leave it out, stages are kept in directories of their own below --work-dir"),
    replaced("preserve-context", "leave it out, the context is never touched"),
    missing("materialize"),
    missing("dryrun"),
    // The cache.
    missing("cache"),
    missing("cache-repo"),
    missing("cache-dir"),
    missing("cache-ttl"),
    missing("cache-copy-layers"),
    missing("cache-run-layers"),
    missing("compressed-caching"),
    missing("no-push-cache"),
    // Registries.
    replaced(
        "azure-container-registry-config",
        "give the variables AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET",
    ),
    // Spellings that kaniko keeps for old command lines.
    replaced("snapshotMode", "use --snapshot-mode"),
    replaced("customPlatform", "use --custom-platform"),
    replaced("tarPath", "use --tar-path"),
    replaced("whitelist-var-run", "leave it out, /var/run of the image is its own"),
    replaced("force-build-metadata", "leave it out, the configuration is always written"),
    replaced("skip-unused-stages", "leave it out, stages that nothing needs are never built"),
];

/// The sub-commands of kaniko's executor, and its second program.
pub const MISSING_COMMANDS: &[&str] = &["push", "completion", "warmer"];

/// The variables of the environment that would have an effect with kaniko, and have none here.
pub const MISSING_VARIABLES: &[&str] = &["KANIKO_PRINT_PLAN", "KANIKO_TELEMETRY_ENDPOINT", "BUILDER_OUTPUT"];

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
        assert_eq!(missing_flag("--cache").map(|flag| flag.name), Some("cache"));
        assert_eq!(missing_flag("-b").map(|flag| flag.name), Some("bucket"));
        assert_eq!(missing_flag("--kaniko-dir").and_then(|flag| flag.instead), Some("use --work-dir"));
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
            if let Some(name) = argument.get_long() {
                assert!(!names.contains(name), "--{name} exists");
            }
        }
    }
}
