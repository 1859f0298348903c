//! kaniko's variables that are accepted without effect. Its flags without effect say so in their help.

/// Variables of kaniko that have no effect, and why.
pub const NO_OP_VARIABLES: &[(&str, &str)] = &[
    ("KANIKO_CLEANUP", "the files of a build are always removed at its end"),
    ("KANIKO_PRESERVE_CONTEXT", "the context is never changed"),
    ("KANIKO_IGNORE_ASSERTIONS", "there are no such assertions"),
    ("KANIKO_IGNORE_HINTS", "hints about the content of layers are not printed"),
    ("KANIKO_TELEMETRY_ENDPOINT", "no telemetry is sent; a warning says so"),
    ("KANIKO_TELEMETRY_OMIT_DOCKERFILE", "no telemetry is sent"),
    ("SNAPSHOT_TIMEOUT_DURATION", "finding what a step changed has no time limit"),
    ("STACKLOG_PATH", "there is no stack log"),
    ("UPSTREAM_CLIENT_TYPE", "requests carry this program's own name"),
    ("BENCHMARK_FILE", "the summary says where the time went"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "no telemetry is sent"),
    ("OTEL_RESOURCE_ATTRIBUTES", "no telemetry is sent"),
    ("OTEL_SERVICE_NAME", "no telemetry is sent"),
    ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "no telemetry is sent"),
    ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "no telemetry is sent"),
    ("AWS_ECR_IGNORE_CREDS_STORAGE", "tokens of Amazon's registries are held in memory only"),
    ("AWS_ECR_CACHE_DIR", "tokens of Amazon's registries are held in memory only"),
    ("AWS_ECR_DISABLE_CACHE", "tokens of Amazon's registries are held in memory only"),
    ("AWS_SDK_LOAD_CONFIG", "Amazon's profiles are always read"),
    ("GODEBUG", "this is not a Go program"),
];
