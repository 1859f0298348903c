//! `crabwright push`: pushes an image that an earlier build wrote.

use std::path::PathBuf;

use clap::{ArgAction, Args};

use super::env::Env;
use super::flags::log::LogFlags;
use super::flags::output::destinations;
use super::flags::registry::RegistryFlags;
use super::flags::report::ReportFlags;
use super::flags::sandbox::WorkDirFlags;
use super::request::RequestError;
use super::values::path;
use crate::builder::{OutputsRequest, PushRequest};

const NOTES: &str = "\
PATH is an archive with one image, written by docker save or --tar-path, or the directory of an OCI image layout with
one image. An image of a layout keeps its digest. Uncompressed layers of an archive are compressed.

Exit status:
  0  Every tag was written
  1  There was an error; no tag was written unless the message names it";

/// Push an image from a docker archive or an OCI image layout.
#[derive(Debug, Clone, Args)]
#[command(override_usage = "crabwright push <PATH> --destination <IMAGE> [FLAGS]", after_help = NOTES)]
pub struct PushFlags {
    /// The archive or the layout's directory.
    #[arg(value_name = "PATH", value_parser = path())]
    pub path: PathBuf,

    /// A name to push the image under. Repeatable.
    #[arg(short, long, value_name = "IMAGE", action = ArgAction::Append, required = true, help_heading = "Output")]
    pub destination: Vec<String>,

    /// Files that report on the image.
    #[command(flatten)]
    pub reports: ReportFlags,

    /// How registries are reached.
    #[command(flatten)]
    pub registries: RegistryFlags,

    /// The work directory.
    #[command(flatten)]
    pub work_dir: WorkDirFlags,

    /// The log and the progress output.
    #[command(flatten)]
    pub log: LogFlags,
}

/// Returns the request of the flags.
///
/// # Errors
/// A value is not valid.
pub fn push_request(flags: PushFlags, env: Env<'_>) -> Result<PushRequest, RequestError> {
    let destinations = destinations(&flags.destination)?;
    let pushes = &flags.registries.push;
    let outputs = OutputsRequest {
        push: true,
        check_push: !pushes.skip_push_permission_check,
        ignore_immutable_tags: pushes.push_ignore_immutable_tag_errors,
        reports: flags.reports.reports(env),
        digest_files: flags.reports.digest_files(),
        destinations,
        ..OutputsRequest::default()
    };
    let mut registries = flags.registries.config(env)?;
    registries.named_registries.extend(outputs.destinations.iter().map(|name| name.registry.clone()));
    Ok(PushRequest { image: flags.path, outputs, registries, work_dir: flags.work_dir.directory(env) })
}
