//! What kaniko has and this program does not, and what of kaniko's is accepted without an effect.
//!
//! A missing flag is refused by name: to ignore one that someone relies on would make another image than they asked for.

/// A flag of kaniko's executor that this program does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingFlag {
    /// The name without dashes.
    pub name: &'static str,
    /// What can be done instead.
    pub instead: &'static str,
}

/// Every such flag.
pub const MISSING_FLAGS: &[MissingFlag] = &[MissingFlag {
    name: "azure-container-registry-config",
    instead: "give the variables AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET",
}];

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

/// Looks a flag up as it was typed.
#[must_use]
pub fn missing_flag(typed: &str) -> Option<&'static MissingFlag> {
    let name = typed.strip_prefix("--")?;
    MISSING_FLAGS.iter().find(|flag| flag.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_found_by_its_name_and_does_not_exist() {
        assert!(missing_flag("--azure-container-registry-config").is_some());
        assert_eq!(missing_flag("--cache"), None);
        assert_eq!(missing_flag("azure-container-registry-config"), None);
        for argument in super::super::flags::command().get_arguments() {
            for name in argument.get_long_and_visible_aliases().unwrap_or_default() {
                assert!(MISSING_FLAGS.iter().all(|flag| flag.name != name), "--{name} exists");
            }
        }
    }
}
