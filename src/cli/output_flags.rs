//! Where the image goes besides a registry, in kaniko's words and in those of `docker buildx build`.

use std::path::PathBuf;

use clap::ArgAction;

use super::flags::path;

/// What is written, and under which names.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct OutputFlags {
    /// Do not push; the other outputs are still written.
    #[arg(long, action = ArgAction::Set)]
    pub no_push: Option<bool>,

    /// One more name for the image, as docker build has it: nothing is pushed unless --push says so.
    #[arg(short, long, value_name = "IMAGE", action = ArgAction::Append)]
    pub tag: Vec<String>,

    /// Push the image under every --tag. What --destination names is pushed in any case.
    #[arg(long, action = ArgAction::Set, default_value_t = false)]
    pub push: bool,

    /// Also write a docker archive, for docker load.
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub tar_path: Option<PathBuf>,

    /// Also write an OCI image layout: a new directory, or one more image in an existing one.
    #[arg(long, value_name = "DIRECTORY", value_parser = path())]
    pub oci_layout_path: Option<PathBuf>,

    /// An output as docker buildx build has it: type=KIND[,dest=PATH][,name=IMAGE][,push=true]. Repeatable.
    ///
    /// image (pushed), registry, oci and docker (archives; with tar=false a directory), tar and local (the image's files). A
    /// path alone is a directory for the image's files; - is standard output.
    #[arg(short, long, value_name = "FIELDS", action = ArgAction::Append)]
    pub output: Vec<String>,

    /// Refused: there is no engine to load into. --output type=docker,dest=FILE writes what docker load reads.
    #[arg(long, action = ArgAction::Set, default_value_t = false, hide = true)]
    pub load: bool,

    /// Write the image's digest to this file, or PUT it to this https URL.
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub digest_file: Option<PathBuf>,

    /// Write registry/repository@digest to this file, a line for each destination.
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub image_name_with_digest_file: Option<PathBuf>,

    /// Write registry/repository:tag@digest to this file, a line for each destination.
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub image_name_tag_with_digest_file: Option<PathBuf>,

    /// Write digests, descriptor and names of the image to this file, as JSON with the keys of docker buildx build.
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub metadata_file: Option<PathBuf>,

    /// Write the image's ID, the digest of its configuration, to this file.
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub iidfile: Option<PathBuf>,
}
