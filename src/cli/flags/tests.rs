//! Every flag as it is typed, and what it sets.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::kaniko::SnapshotMode;
use super::log::{LogFormat, ProgressKind, Verbosity};
use super::question::Called;
use super::*;
use crate::builder::{Format, Question};
use crate::cli::{Invocation, command, parse};
use crate::image::ImageFormat;
use crate::layer::Compression;
use crate::sandbox::Isolation;

fn typed(line: &str) -> BuildFlags {
    match parse(std::iter::once("crabwright").chain(line.split_whitespace())) {
        Ok(Invocation::Build(flags)) => *flags,
        other => panic!("{line}: {other:?}"),
    }
}

/// The name of a flag, a command line, and what it must have set.
type Meaning = (&'static str, &'static str, fn(&BuildFlags) -> bool);

const MEANINGS: &[Meaning] = &[
    ("dockerfile", "", |flags| flags.dockerfile.dockerfile.is_none()),
    ("dockerfile", "--dockerfile a/D", |flags| flags.dockerfile.dockerfile.as_deref() == Some("a/D")),
    ("dockerfile", "-f D", |flags| flags.dockerfile.dockerfile.as_deref() == Some("D")),
    ("dockerfile", "-f=D", |flags| flags.dockerfile.dockerfile.as_deref() == Some("D")),
    ("dockerfile", "-fD", |flags| flags.dockerfile.dockerfile.as_deref() == Some("D")),
    ("dockerfile", "-f a --dockerfile=b", |flags| flags.dockerfile.dockerfile.as_deref() == Some("b")),
    ("context", "", |flags| flags.context.context == "/workspace/"),
    ("context", "--context dir:///w", |flags| flags.context.context == "dir:///w"),
    ("context", "-c .", |flags| flags.context.context == "."),
    ("bucket", "-b x", |flags| flags.context.bucket.as_deref() == Some("x")),
    ("git", "--git=branch=x,depth=1", |flags| flags.context.git == ["branch=x,depth=1"]),
    ("context_max_size", "", |flags| flags.context.context_max_size == 8 << 30),
    ("context_max_size", "--context-max-size=2KiB", |flags| flags.context.context_max_size == 2048),
    ("context_max_entries", "--context-max-entries=7", |flags| flags.context.context_max_entries == 7),
    ("context_sub_path", "", |flags| flags.context.context_sub_path.is_none()),
    ("context_sub_path", "--context-sub-path a/b", |flags| flags.context.context_sub_path.as_deref() == Some("a/b")),
    ("build_context", "--build-context a=/d --build-context=b=dir://x=y", |flags| {
        flags.context.build_context == ["a=/d", "b=dir://x=y"]
    }),
    ("ssh", "--ssh default --ssh=a=/k,/l", |flags| flags.secrets.ssh == ["default", "a=/k,/l"]),
    ("secret", "--secret id=a,src=/f --secret=id=b", |flags| flags.secrets.secret == ["id=a,src=/f", "id=b"]),
    ("build_arg", "--build-arg A=1 --build-arg=B", |flags| flags.dockerfile.build_arg == ["A=1", "B"]),
    ("build_arg", "--build-arg A=1,2", |flags| flags.dockerfile.build_arg == ["A=1,2"]),
    ("build_arg", "--build-arg -A=-O2", |flags| flags.dockerfile.build_arg == ["-A=-O2"]),
    ("target", "--target a", |flags| flags.target == ["a"]),
    ("target", "--target a,b --target c", |flags| flags.target == ["a", "b", "c"]),
    ("custom_platform", "", |flags| flags.dockerfile.custom_platform.is_none()),
    ("custom_platform", "--custom-platform linux/arm64", |flags| {
        flags.dockerfile.custom_platform.as_deref() == Some("linux/arm64")
    }),
    ("custom_platform", "--platform=linux", |flags| flags.dockerfile.custom_platform.as_deref() == Some("linux")),
    ("call", "", |flags| flags.question.call == Called { question: None, format: Format::Text }),
    ("call", "--call check", |flags| {
        flags.question.call == Called { question: Some(Question::Check), format: Format::Text }
    }),
    ("call", "--call=outline,format=json", |flags| {
        flags.question.call == Called { question: Some(Question::Outline), format: Format::Json }
    }),
    ("call", "--call=targets,format=text", |flags| flags.question.call.question == Some(Question::Targets)),
    ("check", "--check", |flags| flags.question.check && flags.question.call.question.is_none()),
    ("check", "--check=false", |flags| !flags.question.check),
    ("destination", "--destination r/a:1 -d r/b:2", |flags| flags.output.destination == ["r/a:1", "r/b:2"]),
    ("destination", "-d=a -db", |flags| flags.output.destination == ["a", "b"]),
    ("no_push", "", |flags| flags.output.no_push.is_none()),
    ("no_push", "--no-push", |flags| flags.output.no_push == Some(true)),
    ("no_push", "--no-push=true", |flags| flags.output.no_push == Some(true)),
    ("no_push", "--no-push --no-push=false", |flags| flags.output.no_push == Some(false)),
    ("tar_path", "--tar-path /a.tar", |flags| flags.output.tar_path == Some("/a.tar".into())),
    ("oci_layout_path", "--oci-layout-path=/o", |flags| flags.output.oci_layout_path == Some("/o".into())),
    ("digest_file", "--digest-file /dev/stdout", |flags| {
        flags.output.reports.digest_file == Some("/dev/stdout".into())
    }),
    ("digest_file", "--digest-file=", |flags| flags.output.reports.digest_file == Some("".into())),
    ("image_name_with_digest_file", "--image-name-with-digest-file f", |flags| {
        flags.output.reports.image_name_with_digest_file == Some("f".into())
    }),
    ("image_name_tag_with_digest_file", "--image-name-tag-with-digest-file f", |flags| {
        flags.output.reports.image_name_tag_with_digest_file == Some("f".into())
    }),
    ("label", "--label a=b --label c=d=e,f", |flags| flags.image.label == ["a=b", "c=d=e,f"]),
    ("reproducible", "", |flags| !flags.layers.reproducible),
    ("reproducible", "--reproducible", |flags| flags.layers.reproducible),
    ("annotation", "--annotation a=b --annotation c=d=e,f", |flags| flags.image.annotation == ["a=b", "c=d=e,f"]),
    ("image_format", "", |flags| flags.image.image_format == ImageFormat::Oci),
    ("image_format", "--image-format docker", |flags| flags.image.image_format == ImageFormat::Docker),
    ("compression", "", |flags| flags.layers.compression == Compression::Gzip),
    ("compression", "--compression gzip", |flags| flags.layers.compression == Compression::Gzip),
    ("compression", "--compression=zstd", |flags| flags.layers.compression == Compression::Zstd),
    ("compression_level", "", |flags| flags.layers.compression_level == -1),
    ("compression_level", "--compression-level 9", |flags| flags.layers.compression_level == 9),
    ("compression_level", "--compression-level -1", |flags| flags.layers.compression_level == -1),
    ("single_snapshot", "", |flags| !flags.layers.single_snapshot),
    ("single_snapshot", "--single-snapshot", |flags| flags.layers.single_snapshot),
    ("compressed_caching", "", |flags| flags.kaniko.compressed_caching),
    ("compressed_caching", "--compressed-caching=false", |flags| !flags.kaniko.compressed_caching),
    ("insecure", "", |flags| !flags.registries.push.insecure),
    ("insecure", "--insecure", |flags| flags.registries.push.insecure && !flags.registries.pull.insecure_pull),
    ("insecure_pull", "--insecure-pull", |flags| {
        flags.registries.pull.insecure_pull && !flags.registries.push.insecure
    }),
    ("insecure_registry", "--insecure-registry a:5000 --insecure-registry=b", |flags| {
        flags.registries.hosts.insecure_registry == ["a:5000", "b"]
    }),
    ("skip_tls_verify", "--skip-tls-verify", |flags| {
        flags.registries.push.skip_tls_verify && !flags.registries.pull.skip_tls_verify_pull
    }),
    ("skip_tls_verify_pull", "--skip-tls-verify-pull", |flags| {
        flags.registries.pull.skip_tls_verify_pull && !flags.registries.push.skip_tls_verify
    }),
    ("skip_tls_verify_registry", "--skip-tls-verify-registry a --skip-tls-verify-registry b:1", |flags| {
        flags.registries.hosts.skip_tls_verify_registry == ["a", "b:1"]
    }),
    ("registry_certificate", "--registry-certificate a=/x --registry-certificate b=/y", |flags| {
        flags.registries.hosts.registry_certificate == ["a=/x", "b=/y"]
    }),
    ("registry_client_cert", "--registry-client-cert a=/x,/y", |flags| {
        flags.registries.hosts.registry_client_cert == ["a=/x,/y"]
    }),
    ("registry_map", "--registry-map a=b --registry-map c=d;e=f", |flags| {
        flags.registries.pull.registry_map == ["a=b", "c=d;e=f"]
    }),
    ("registry_mirror", "--registry-mirror a --registry-mirror b/c", |flags| {
        flags.registries.pull.registry_mirror == ["a", "b/c"]
    }),
    ("skip_default_registry_fallback", "--skip-default-registry-fallback", |flags| {
        flags.registries.pull.skip_default_registry_fallback
    }),
    ("push_retry", "", |flags| flags.registries.push.push_retry == 0),
    ("push_retry", "--push-retry 7", |flags| flags.registries.push.push_retry == 7),
    ("image_download_retry", "--image-download-retry=9", |flags| flags.registries.pull.image_download_retry == 9),
    ("push_ignore_immutable_tag_errors", "--push-ignore-immutable-tag-errors", |flags| {
        flags.registries.push.push_ignore_immutable_tag_errors
    }),
    ("skip_push_permission_check", "", |flags| !flags.registries.push.skip_push_permission_check),
    ("skip_push_permission_check", "--skip-push-permission-check", |flags| {
        flags.registries.push.skip_push_permission_check
    }),
    ("credential_helpers", "", |flags| flags.registries.hosts.credential_helpers.is_empty()),
    ("credential_helpers", "--credential-helpers=", |flags| flags.registries.hosts.credential_helpers == [""]),
    ("credential_helpers", "--credential-helpers env,ecr --credential-helpers acr", |flags| {
        flags.registries.hosts.credential_helpers == ["env", "ecr", "acr"]
    }),
    ("azure_container_registry_config", "--azure-container-registry-config /c", |flags| {
        flags.registries.hosts.azure_container_registry_config == Some("/c".into())
    }),
    ("tag", "-t a --tag=b", |flags| flags.output.tag == ["a", "b"]),
    ("push", "", |flags| !flags.output.push),
    ("push", "--push", |flags| flags.output.push),
    ("output", "-o out --output type=oci,dest=a", |flags| flags.output.output == ["out", "type=oci,dest=a"]),
    ("load", "--load", |flags| flags.output.load),
    ("metadata_file", "--metadata-file m.json", |flags| flags.output.reports.metadata_file == Some("m.json".into())),
    ("iidfile", "--iidfile=id", |flags| flags.output.reports.iidfile == Some("id".into())),
    ("no_cache", "--no-cache", |flags| flags.cache.no_cache),
    ("ignore_path", "--ignore-path /a,b --ignore-path=/c", |flags| flags.layers.ignore_path == ["/a,b", "/c"]),
    ("dryrun", "", |flags| !flags.question.dryrun),
    ("dryrun", "--dryrun", |flags| flags.question.dryrun),
    ("use_new_run", "--use-new-run", |flags| flags.kaniko.use_new_run),
    ("ignore_var_run", "", |flags| flags.kaniko.ignore_var_run),
    ("ignore_var_run", "--ignore-var-run=f", |flags| !flags.kaniko.ignore_var_run),
    ("whitelist_var_run", "--whitelist-var-run", |flags| flags.kaniko.whitelist_var_run == Some(true)),
    ("image_fs_extract_retry", "--image-fs-extract-retry 3", |flags| flags.kaniko.image_fs_extract_retry == 3),
    ("cleanup", "--cleanup", |flags| flags.kaniko.cleanup == Some(true)),
    ("pre_cleanup", "--pre-cleanup=T", |flags| flags.sandbox.pre_cleanup == Some(true)),
    ("preserve_context", "--preserve-context=0", |flags| flags.kaniko.preserve_context == Some(false)),
    ("materialize", "--materialize", |flags| flags.kaniko.materialize),
    ("force_build_metadata", "--force-build-metadata", |flags| flags.kaniko.force_build_metadata == Some(true)),
    ("skip_unused_stages", "--skip-unused-stages=false", |flags| flags.kaniko.skip_unused_stages == Some(false)),
    ("snapshot_mode_camel", "--snapshotMode=redo", |flags| {
        flags.kaniko.snapshot_mode_camel == Some(SnapshotMode::Redo)
    }),
    ("snapshot_mode_camel", "--snapshotMode=redo --snapshot-mode=time", |flags| {
        flags.kaniko.snapshot_mode_camel.is_none() && flags.kaniko.snapshot_mode == SnapshotMode::Time
    }),
    ("snapshot_mode_camel", "--snapshot-mode=time --snapshotMode redo", |flags| {
        flags.kaniko.snapshot_mode_camel == Some(SnapshotMode::Redo)
    }),
    ("custom_platform_camel", "--customPlatform=linux/arm64", |flags| {
        flags.kaniko.custom_platform_camel.as_deref() == Some("linux/arm64")
    }),
    ("tar_path_camel", "--tarPath x --tarPath=y", |flags| flags.kaniko.tar_path_camel == Some("y".into())),
    ("work_dir", "--kaniko-dir=/k", |flags| flags.sandbox.work_dir.work_dir == Some("/k".into())),
    ("cache", "", |flags| !flags.cache.cache),
    ("cache", "--cache=true", |flags| flags.cache.cache),
    ("cache_repo", "--cache-repo r/c", |flags| flags.cache.cache_repo.as_deref() == Some("r/c")),
    ("cache_dir", "", |flags| flags.cache.cache_dir.to_str() == Some("/cache")),
    ("cache_dir", "--cache-dir /c", |flags| flags.cache.cache_dir.to_str() == Some("/c")),
    ("cache_ttl", "", |flags| flags.cache.cache_ttl == Duration::from_secs(336 * 3600)),
    ("cache_ttl", "--cache-ttl 1h30m", |flags| flags.cache.cache_ttl == Duration::from_secs(5400)),
    ("cache_run_layers", "", |flags| flags.cache.cache_run_layers),
    ("cache_run_layers", "--cache-run-layers=false", |flags| !flags.cache.cache_run_layers),
    ("cache_copy_layers", "", |flags| flags.cache.cache_copy_layers.is_none()),
    ("cache_copy_layers", "--cache-copy-layers", |flags| flags.cache.cache_copy_layers == Some(true)),
    ("cache_key_file", "", |flags| flags.cache.cache_key_file.is_none()),
    ("cache_key_file", "--cache-key-file /run/secrets/key", |flags| {
        flags.cache.cache_key_file == Some("/run/secrets/key".into())
    }),
    ("no_push_cache", "--no-push-cache", |flags| flags.cache.no_push_cache),
    ("cache_mounts_repo", "--cache-mounts-repo r/m", |flags| {
        flags.cache.mounts.cache_mounts_repo.as_deref() == Some("r/m")
    }),
    ("cache_mounts_limit", "", |flags| flags.cache.mounts.cache_mounts_limit.is_none()),
    ("cache_mounts_limit", "--cache-mounts-limit 500MB", |flags| {
        flags.cache.mounts.cache_mounts_limit == Some(500_000_000)
    }),
    ("isolation", "", |flags| flags.sandbox.isolation == Isolation::Auto),
    ("isolation", "--isolation namespace", |flags| flags.sandbox.isolation == Isolation::Namespace),
    ("isolation", "--isolation=own-root", |flags| flags.sandbox.isolation == Isolation::OwnRoot),
    ("work_dir", "", |flags| flags.sandbox.work_dir.work_dir.is_none()),
    ("work_dir", "--work-dir /w", |flags| flags.sandbox.work_dir.work_dir == Some("/w".into())),
    ("parallel", "", |flags| flags.sandbox.parallel.is_none()),
    ("parallel", "--parallel=3", |flags| flags.sandbox.parallel.map(NonZeroUsize::get) == Some(3)),
    ("snapshot_mode", "", |flags| flags.kaniko.snapshot_mode == SnapshotMode::Full),
    ("snapshot_mode", "--snapshot-mode redo", |flags| flags.kaniko.snapshot_mode == SnapshotMode::Redo),
    ("snapshot_mode", "--snapshot-mode=time", |flags| flags.kaniko.snapshot_mode == SnapshotMode::Time),
    ("force", "--force=F --force=1", |flags| flags.sandbox.force),
    ("force", "--force --force=FALSE", |flags| !flags.sandbox.force),
    ("verbosity", "", |flags| flags.log.verbosity == Verbosity::Info),
    ("verbosity", "-v debug", |flags| flags.log.verbosity == Verbosity::Debug),
    ("verbosity", "--verbosity=WARNING", |flags| flags.log.verbosity == Verbosity::Warn),
    ("verbosity", "--verbosity panic", |flags| flags.log.verbosity == Verbosity::Panic),
    ("log_format", "", |flags| flags.log.log_format == LogFormat::Color),
    ("log_format", "--log-format json", |flags| flags.log.log_format == LogFormat::Json),
    ("progress", "", |flags| flags.log.progress == ProgressKind::Auto),
    ("progress", "--progress=rawjson", |flags| flags.log.progress == ProgressKind::RawJson),
    ("progress", "--progress quiet", |flags| flags.log.progress == ProgressKind::Quiet),
    ("log_timestamp", "", |flags| !flags.log.log_timestamp),
    ("log_timestamp", "--log-timestamp", |flags| flags.log.log_timestamp),
];

#[test]
fn every_flag_means_what_it_says() {
    for (name, line, meaning) in MEANINGS {
        assert!(meaning(&typed(line)), "{name}: {line}");
    }
    let tried: BTreeSet<_> = MEANINGS.iter().map(|(name, ..)| *name).collect();
    let command = command();
    let all: BTreeSet<_> = command.get_arguments().map(|argument| argument.get_id().as_str()).collect();
    assert_eq!(tried, all);
}

#[test]
fn the_help_names_every_compression_and_its_levels() {
    let command = command();
    let help = |id: &str| {
        let flag = command.get_arguments().find(|flag| flag.get_id() == id).unwrap();
        flag.get_help().unwrap().to_string()
    };
    for compression in Compression::ALL {
        let (name, levels, default) = (compression.name(), compression.levels(), compression.default_level());
        assert!(help("compression").contains(name), "{name}");
        for said in [format!("{} to {} for {name}", levels.start(), levels.end()), format!("{default} for {name}")] {
            assert!(help("compression_level").contains(&said), "{said}");
        }
    }
}
