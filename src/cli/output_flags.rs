//! The outputs, with kaniko's flags and those of `docker buildx build`.

#![allow(rustdoc::broken_intra_doc_links, reason = "the help: brackets enclose what is optional")]

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

    /// A further name for the image, as for docker build: it is pushed only with --push. Repeatable.
    #[arg(short, long, value_name = "IMAGE", action = ArgAction::Append)]
    pub tag: Vec<String>,

    /// Push the image under every --tag. Every --destination is pushed unless --no-push is given.
    #[arg(long, action = ArgAction::Set, default_value_t = false)]
    pub push: bool,

    /// Also write a docker archive, for docker load.
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub tar_path: Option<PathBuf>,

    /// Also write an OCI image layout: a new directory, or one more image in an existing one.
    #[arg(long, value_name = "DIRECTORY", value_parser = path())]
    pub oci_layout_path: Option<PathBuf>,

    /// An output as in docker buildx build: type=KIND[,dest=PATH][,name=IMAGE][,push=true]. Repeatable.
    ///
    /// KIND is image (pushed), registry, oci or docker (archives; with tar=false a directory), tar or local (the
    /// image's files). A path alone is a directory for the image's files; - is standard output.
    #[arg(short, long, value_name = "FIELDS", action = ArgAction::Append)]
    pub output: Vec<String>,

    /// Refused: there is no engine to load into. --output type=docker,dest=FILE writes what docker load reads.
    #[arg(long, action = ArgAction::Set, default_value_t = false, hide = true)]
    pub load: bool,

    /// Write the image's digest to this file, or PUT it to this https URL.
    ///
    /// There is no line end. Parent directories are created.
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub digest_file: Option<PathBuf>,

    /// Write registry/repository@digest to this file or https URL, a line for each destination.
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub image_name_with_digest_file: Option<PathBuf>,

    /// Write registry/repository:tag@digest to this file or https URL, a line for each destination.
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub image_name_tag_with_digest_file: Option<PathBuf>,

    /// Write digests, descriptor and names of the image to this file, as JSON with the keys of docker buildx build.
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub metadata_file: Option<PathBuf>,

    /// Write the image ID, which is the digest of its configuration, to this file.
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub iidfile: Option<PathBuf>,
}
