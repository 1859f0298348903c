//! The contract with kaniko: its flags, variables and sub-commands, and the status of each here. The table in
//! docs/kaniko-flags.md and the man page are generated from the definitions of the flags and compared with the files:
//! `UPDATE_DOCS=1 cargo test --test it documents` writes them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Arg;
use crabwright::cli::kaniko::NO_OP_VARIABLES;
use crabwright::cli::{Invocation, all_commands, command, parse};

use crate::support::markdown::generated;
use crate::support::program::source_directory;

/// The flags of `executor`, with their single letter and their default.
const FLAGS: &[(&str, Option<char>, &str)] = &[
    ("dockerfile", Some('f'), "Dockerfile"),
    ("context", Some('c'), "/workspace/"),
    ("context-sub-path", None, ""),
    ("bucket", Some('b'), ""),
    ("destination", Some('d'), ""),
    ("target", None, "last stage"),
    ("build-arg", None, ""),
    ("label", None, ""),
    ("annotation", None, ""),
    ("secret", None, ""),
    ("custom-platform", None, "this machine's"),
    ("snapshot-mode", None, "full"),
    ("single-snapshot", None, "false"),
    ("use-new-run", None, "false"),
    ("reproducible", None, "false"),
    ("cache", None, "false"),
    ("cache-repo", None, ""),
    ("cache-dir", None, "/cache"),
    ("cache-ttl", None, "336h"),
    ("cache-copy-layers", None, "false"),
    ("cache-run-layers", None, "true"),
    ("compressed-caching", None, "true"),
    ("compression", None, "gzip"),
    ("compression-level", None, "-1"),
    ("image-format", None, "that of the base"),
    ("digest-file", None, ""),
    ("image-name-with-digest-file", None, ""),
    ("image-name-tag-with-digest-file", None, ""),
    ("oci-layout-path", None, ""),
    ("tar-path", None, ""),
    ("no-push", None, "false"),
    ("no-push-cache", None, "false"),
    ("skip-push-permission-check", None, "false"),
    ("ignore-var-run", None, "true"),
    ("ignore-path", None, ""),
    ("image-fs-extract-retry", None, "0"),
    ("kaniko-dir", None, "/kaniko"),
    ("cleanup", None, "false"),
    ("pre-cleanup", None, "false"),
    ("preserve-context", None, "false"),
    ("materialize", None, "false"),
    ("git", None, ""),
    ("dryrun", None, "false"),
    ("verbosity", Some('v'), "info"),
    ("log-format", None, "color"),
    ("log-timestamp", None, "false"),
    ("force", None, "false"),
    ("insecure", None, "false"),
    ("skip-tls-verify", None, "false"),
    ("insecure-pull", None, "false"),
    ("skip-tls-verify-pull", None, "false"),
    ("push-retry", None, "0"),
    ("push-ignore-immutable-tag-errors", None, "false"),
    ("image-download-retry", None, "0"),
    ("insecure-registry", None, ""),
    ("skip-tls-verify-registry", None, ""),
    ("registry-certificate", None, ""),
    ("registry-client-cert", None, ""),
    ("registry-map", None, ""),
    ("registry-mirror", None, ""),
    ("skip-default-registry-fallback", None, "false"),
    ("credential-helpers", None, "all"),
    ("azure-container-registry-config", None, ""),
    ("snapshotMode", None, "full"),
    ("customPlatform", None, ""),
    ("tarPath", None, ""),
    ("whitelist-var-run", None, "true"),
    ("force-build-metadata", None, "false"),
    ("skip-unused-stages", None, "false"),
];

/// The sub-commands and programs, each with its flags.
const COMMANDS: &[(&str, &str, &[&str])] = &[
    (
        "push",
        "`executor push PATH`",
        &[
            "destination",
            "skip-push-permission-check",
            "insecure",
            "skip-tls-verify",
            "insecure-registry",
            "skip-tls-verify-registry",
            "push-retry",
            "push-ignore-immutable-tag-errors",
            "registry-certificate",
            "registry-client-cert",
            "credential-helpers",
            "azure-container-registry-config",
        ],
    ),
    ("login", "`executor login REGISTRY`", &["username", "password", "password-stdin"]),
    ("version", "`executor version`", &[]),
    ("completion", "`executor completion SHELL`", &[]),
    ("help", "`executor help`", &[]),
    (
        "warmer",
        "`warmer`",
        &[
            "image",
            "cache-dir",
            "force",
            "cache-ttl",
            "dockerfile",
            "build-arg",
            "customPlatform",
            "insecure-pull",
            "skip-tls-verify-pull",
            "insecure-registry",
            "skip-tls-verify-registry",
            "registry-certificate",
            "registry-client-cert",
            "registry-map",
            "registry-mirror",
            "skip-default-registry-fallback",
            "azure-container-registry-config",
            "verbosity",
            "log-format",
            "log-timestamp",
        ],
    ),
];

/// The variables of the environment that kaniko itself reads, and what they mean.
const VARIABLES: &[(&str, &str)] = &[
    ("KANIKO_DIR", "default of `--work-dir`"),
    ("KANIKO_NO_PUSH", "default of `--no-push`"),
    ("KANIKO_REGISTRY_MIRROR", "an additional `--registry-mirror`"),
    ("KANIKO_REGISTRY_MAP", "additional `--registry-map`s"),
    ("KANIKO_CLEANUP", "default of `--cleanup`"),
    ("KANIKO_PRE_CLEANUP", "default of `--pre-cleanup`"),
    ("KANIKO_PRESERVE_CONTEXT", "default of `--preserve-context`"),
    ("KANIKO_PRINT_PLAN", "print the plan, and build"),
    ("KANIKO_IGNORE_ASSERTIONS", ""),
    ("KANIKO_IGNORE_HINTS", ""),
    ("KANIKO_TELEMETRY_ENDPOINT", ""),
    ("KANIKO_TELEMETRY_OMIT_DOCKERFILE", ""),
    ("BUILDER_OUTPUT", "a directory: names and digests of what was pushed are written to `images` in it"),
    ("SNAPSHOT_TIMEOUT_DURATION", ""),
    ("STACKLOG_PATH", ""),
    ("UPSTREAM_CLIENT_TYPE", ""),
    ("BENCHMARK_FILE", ""),
    ("OTEL_EXPORTER_OTLP_HEADERS", ""),
    ("OTEL_RESOURCE_ATTRIBUTES", ""),
    ("OTEL_SERVICE_NAME", ""),
    ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", ""),
    ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", ""),
    ("KANIKO_{host}_USER", "the user of a registry, whose host is written in capitals, with `_` for `.` and `-`"),
    ("KANIKO_{host}_PASSWORD", "and the password"),
    ("XDG_RUNTIME_DIR", "the directory of `containers/auth.json`"),
    ("XDG_CONFIG_HOME", "the directory of `containers/auth.json`"),
    ("GOOGLE_APPLICATION_CREDENTIALS", "a file of credentials for Google's registries"),
    ("DOCKER_CREDENTIAL_GCR_CONFIG", "the configuration of Google's credential helper"),
    ("AWS_ECR_IGNORE_CREDS_STORAGE", ""),
    ("AWS_ECR_CACHE_DIR", ""),
    ("AWS_ECR_DISABLE_CACHE", ""),
    ("AWS_SDK_LOAD_CONFIG", ""),
    ("AZURE_CLIENT_ID", "the client for Azure's registries"),
    ("AZURE_CLIENT_SECRET", "its secret"),
    ("AZURE_TENANT_ID", "its tenant"),
    ("AZURE_FEDERATED_TOKEN", "its federated token"),
    ("AZURE_FEDERATED_TOKEN_FILE", "the file of its federated token"),
    ("AZURE_ENVIRONMENT", "which of Azure's clouds"),
    ("CI_REGISTRY", "GitLab's registry"),
    ("CI_REGISTRY_USER", "its user"),
    ("CI_REGISTRY_PASSWORD", "its password"),
    ("container", "indicates a container"),
    ("GODEBUG", ""),
    ("DOCKER_CONFIG", "the directory of `config.json`"),
    ("DOCKER_AUTH_CONFIG", "the content of `config.json`"),
    ("REGISTRY_AUTH_FILE", "the path of a `config.json`"),
    ("GIT_USERNAME", "the user of git contexts"),
    ("GIT_PASSWORD", "the password of git contexts"),
    ("GIT_TOKEN", "the token of git contexts"),
    ("GIT_PULL_METHOD", "`https` or `http` for git contexts"),
    ("S3_ENDPOINT", "the server of S3 contexts"),
    ("S3_FORCE_PATH_STYLE", "buckets of S3 contexts are in the path"),
    ("AZURE_STORAGE_ACCESS_KEY", "the key of Azure contexts"),
    ("SSL_CERT_FILE", "a file of certificate authorities"),
    ("SSL_CERT_DIR", "a directory of certificate authorities"),
    ("HOME", "the directory of `.docker/config.json` and `.ssh/known_hosts`"),
];

/// kaniko's feature flags, and what this program does instead of asking.
const FEATURES: &[(&str, &str)] = &[
    ("ADD_CHECKSUM", "`ADD --checksum` is verified"),
    ("BUILDKIT_ARG_ENV_PRECEDENCE", "the later of `ARG` and `ENV` wins"),
    ("CACHE_LOOKAHEAD", "the plan is known before anything runs"),
    ("CACHE_PROBE_AFTER_MISS", "every step is looked up, also after a miss"),
    ("CHOWN_ON_IMPLICIT_DIRS", "directories that `WORKDIR` makes belong to `USER`"),
    ("CLEAN_KANIKO_DIR", "the build's files are removed from the work directory"),
    ("COPY_AS_ROOT", "files of `COPY` and `ADD` belong to root unless `--chown` says otherwise"),
    ("COPY_CHMOD_ON_IMPLICIT_DIRS", "`--chmod` applies to implied directories, too"),
    ("COPY_SKIP_SPECIAL_FILES", "sockets are left out"),
    ("CROSS_REPO_MOUNT", "blobs are mounted across repositories where the registry can"),
    ("DEPRECATE_INTER_STAGE_RESTORE", "the context is never touched"),
    ("DEPRECATE_LAYERLESS_CACHE_ENTRIES", "instructions that only configure make no layer"),
    ("DISABLE_HTTP2", "blobs move over several HTTP/1.1 connections"),
    ("EXPAND_HEREDOC", "variables in here-documents are expanded as BuildKit expands them"),
    ("HASH_DIR_FRAMING", "every field of a key is framed"),
    ("IGNORE_CACHED_MANIFEST", "cached content is verified by its digest"),
    ("INFER_CROSS_STAGE_CACHE_KEY", "the key of `COPY --from` follows from the stage"),
    ("NATIVE_COPY", "hard links and capabilities survive every copy"),
    ("NO_PROPAGATE_ANNOTATIONS", "annotations of the base are not the image's"),
    ("OCI_SCRATCH_BASE", "the manifest of an image from scratch is OCI's"),
    ("OCI_WARMER", "cached images are stored byte for byte"),
    ("PATH_SCOPED_REGISTRY_AUTH", "credentials are those of the longest matching path"),
    ("PLATFORM_CACHE_KEY", "the platform is part of every cache key"),
    ("PRECOMPILE_DOCKERIGNORE", "`.dockerignore` is read once"),
    ("PRESERVE_HARDLINKS", "hard links survive `COPY --from`"),
    ("PRESERVE_MOUNTED_PATHS", "mount points of the pod are never removed"),
    ("RELATIVE_LINK_TARGETS", "names of hard links in layers are relative"),
    ("REPRODUCIBLE_PRESERVE_BASE_LAYERS", "layers of the base stay as they are"),
    ("RESOLVE_CACHE_KEY", "keys contain expanded words and here-documents"),
    ("ROLLING_CACHE_KEY", "every field of a key is framed"),
    ("RUN_HONOR_GROUP", "the group of `USER` is that of `RUN`"),
    ("RUN_MOUNT_BIND", "`RUN --mount` works with every type"),
    ("RUN_VIA_TINI", "processes that outlive a command are killed and reaped"),
    ("SCOPED_DOCKERIGNORE", "`.dockerignore` applies to the context only"),
    ("SECUREJOIN_EXTRACTION", "nothing is unpacked outside its root directory"),
    ("SHARED_BASE_CACHE", "a blob is fetched once"),
    ("SKIP_CACHED_STAGES", "stages whose result is not needed are not built"),
    ("SKIP_RELABEL_RECOMPRESS", "a layer is never compressed again for its media type"),
    ("SKIP_WRITE_WHITEOUTS", "whiteouts are applied, never written as files"),
    ("UNTAR_SKIP_ROOT", "`ADD` of an archive leaves its destination's attributes"),
    ("VOLUME_SKIP_MKDIR", "`VOLUME` makes no directory"),
    ("WARMER_CACHE_LOCK", "several warmers may fill a directory at the same time"),
];

#[test]
fn documents_list_every_flag_variable_and_command_of_kaniko() {
    let mut text = String::from(
        "# kaniko's command line\n\n\
         Generated from the definitions of the flags; a test compares this file with them. *Supported* means\n\
         what it means with kaniko. *No effect* means accepted, with nothing left to do, for the reason\n\
         given. Boolean flags take `--flag`, `--flag=true` and `--flag=false`, and every spelling that Go\n\
         accepts. Each deprecated flag causes one warning. `executor bake` does not exist.\n\n\
         ## Flags\n\n| flag | kaniko's default | here | |\n| --- | --- | --- | --- |\n",
    );
    let command = command();
    let mut lost = Vec::new();
    for (name, short, default) in FLAGS {
        let shown = short.map_or_else(|| format!("`--{name}`"), |short| format!("`-{short}`, `--{name}`"));
        let found = command.get_arguments().find(|arg| {
            arg.get_long_and_visible_aliases().unwrap_or_default().contains(name)
                || arg.get_all_aliases().unwrap_or_default().contains(name)
        });
        let Some(arg) = found else {
            lost.push(format!("--{name}"));
            continue;
        };
        assert!(short.is_none() || arg.get_short() == *short, "--{name} has no -{short:?}");
        let (status, note) = status(arg, name);
        writeln!(text, "| {shown} | {} | {status} | {} |", code(default), cell(&note)).unwrap();
    }
    text.push_str("\n## Sub-commands\n\n| command | here |\n| --- | --- |\n");
    for (name, shown, command_flags) in COMMANDS {
        let help = match parse(["crabwright", name, "--help"]) {
            Ok(Invocation::Print(help)) => Some(help),
            _ if parse(["crabwright", name, "bash"]).is_ok() => Some(String::new()),
            _ => None,
        };
        let help = help.unwrap_or_else(|| panic!("there is no command {name}"));
        let missing = command_flags.iter().filter(|flag| !help.contains(&format!("--{flag}")));
        lost.extend(missing.map(|flag| format!("{name} --{flag}")));
        writeln!(text, "| {shown} | supported |").unwrap();
    }
    text.push_str("\n## Environment\n\n| variable | here | |\n| --- | --- | --- |\n");
    let sources = sources();
    for (name, meaning) in VARIABLES {
        let no_op = NO_OP_VARIABLES.iter().find(|(known, _)| known == name);
        let is_read = sources.iter().any(|source| source.contains(&format!("\"{name}\"")));
        let (status, note) = match no_op {
            Some((_, why)) => ("no effect", *why),
            None if is_read => ("supported", *meaning),
            None => {
                lost.push((*name).to_owned());
                continue;
            }
        };
        let shown = name.replace("{host}", "<HOST>");
        writeln!(text, "| `{shown}` | {status} | {note} |").unwrap();
    }
    text.push_str(
        "\n`HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in upper or lower case, apply to every\n\
         connection.\n\n\
         ## Feature flags\n\nEvery variable that begins with `FF_KANIKO_` is accepted and has no effect. Most of what \
         they\nenable is always done here; the rest is about a way of working that is not used. Layer hints\n\
         (`FF_KANIKO_LAYER_HINTS`) are not printed.\n\n\
         | variable | what is always done |\n| --- | --- |\n",
    );
    for (name, what) in FEATURES {
        writeln!(text, "| `FF_KANIKO_{name}` | {what} |").unwrap();
    }
    assert!(lost.is_empty(), "kaniko has, and crabwright does not: {}", lost.join(", "));
    generated("docs/kaniko-flags.md", &text);
}

/// A flag whose help says so has no effect; the rest of its help is the reason.
fn status(arg: &Arg, name: &str) -> (&'static str, String) {
    let help = |text: Option<&clap::builder::StyledStr>| text.map(ToString::to_string).unwrap_or_default();
    let (short, long) = (help(arg.get_help()), help(arg.get_long_help()));
    if short.contains("it has no effect") {
        return ("no effect", long.split_once("\n\n").map(|(_, why)| why.to_owned()).unwrap_or_default());
    }
    match arg.get_long() {
        Some(own) if own != name => ("supported", format!("the same as `--{own}`")),
        _ => ("supported", short),
    }
}

/// A man page of the same definitions that `--help` prints: the build, then each sub-command in a section of its own.
#[test]
fn documents_have_a_man_page() {
    let mut page = Vec::new();
    for (index, command) in all_commands().into_iter().enumerate() {
        let name = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
        let man = clap_mangen::Man::new(command.clone()).manual("crabwright");
        if index == 0 {
            man.render_title(&mut page).unwrap();
            man.render_name_section(&mut page).unwrap();
            man.render_synopsis_section(&mut page).unwrap();
            man.render_description_section(&mut page).unwrap();
            man.render_options_section(&mut page).unwrap();
            man.render_subcommands_section(&mut page).unwrap();
            man.render_extra_section(&mut page).unwrap();
            continue;
        }
        // What a build has, too, is above.
        let mut section = Vec::new();
        let is_own = |arg: &Arg| !["help", "version"].contains(&arg.get_id().as_str()) && !is_in_a_build(arg);
        let command = command.mut_args(|arg| if is_own(&arg) { arg.help_heading(None) } else { arg.hide(true) });
        let man = clap_mangen::Man::new(command).manual("crabwright");
        man.render_synopsis_section(&mut section).unwrap();
        man.render_description_section(&mut section).unwrap();
        man.render_options_section(&mut section).unwrap();
        let section = String::from_utf8(section).unwrap();
        let section = format!(".SH \"{}\"\n{}", name.to_uppercase(), section.replace(".SH ", ".SS "));
        page.extend(section.into_bytes());
    }
    let page = String::from_utf8(page).unwrap();
    for name in ["destination", "ignore-path", "offline", "keep", "password-stdin"] {
        assert!(page.contains(&name.replace('-', "\\-")), "{name}");
    }
    generated("docs/crabwright.1", &page);
}

/// Whether a build has the same flag; one of another meaning has another text.
fn is_in_a_build(arg: &Arg) -> bool {
    let text = |arg: &Arg| arg.get_help().map(ToString::to_string);
    command().get_arguments().any(|other| other.get_id() == arg.get_id() && text(other) == text(arg))
}

/// No flag of ours means something else to kaniko, and no name is listed twice.
#[test]
fn the_contract_is_sound() {
    let names: BTreeSet<&str> = FLAGS.iter().map(|(name, ..)| *name).collect();
    assert_eq!(names.len(), FLAGS.len());
    let letters: Vec<_> = FLAGS.iter().filter_map(|(name, short, _)| Some((*name, (*short)?))).collect();
    for arg in command().get_arguments() {
        if let Some((name, letter)) =
            arg.get_short().and_then(|short| letters.iter().find(|(_, known)| *known == short))
        {
            assert_eq!(arg.get_long(), Some(*name), "-{letter} is kaniko's");
        }
    }
}

fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{text}`") }
}

fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn sources() -> Vec<String> {
    fn collect(directory: PathBuf, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("cli/kaniko.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                // What only tests mention is not read by the program.
                found.push(text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    collect(source_directory().join("src"), &mut found);
    found
}
