//! Which of kaniko's variables are accepted without an effect. Its flags are all there: those without an effect say so in
//! their help.

/// The variables of kaniko's that have nothing to do here, and why.
pub const NO_OP_VARIABLES: &[(&str, &str)] = &[
    ("KANIKO_CLEANUP", "what a build needs is always removed at its end"),
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
