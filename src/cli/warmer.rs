//! `warmer`: kaniko's second program, here the same one under a different name, or a sub-command.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgAction, FromArgMatches as _, Parser};

use super::cache_flags::lifetime;
use super::flags::{self, Flags, with_booleans};
use super::log_flags::LogFlags;
use super::registry_flags::{RegistryFlags, client_config};
use super::request::{RequestError, build_request, platform};
use crate::builder::WarmRequest;
use crate::image::{Platform, Reference};

/// Fills a directory with base images, which builds read with --cache=true and --cache-dir.
///
/// Images that exist and have not expired are left alone.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "crabwright warmer",
    max_term_width = 100,
    override_usage = "crabwright warmer --image <IMAGE> [FLAGS]\n       crabwright warmer --dockerfile <PATH> [FLAGS]",
    after_help = "Exit status:\n  0  At least one image is in the directory\n  1  None is, or there was an error"
)]
pub struct WarmerFlags {
    /// An image. Repeatable.
    #[arg(short, long, value_name = "IMAGE", action = ArgAction::Append)]
    pub image: Vec<String>,

    /// A Dockerfile, or its URL: the base images of all of its stages.
    #[arg(short, long, value_name = "PATH")]
    pub dockerfile: Option<String>,

    /// A value for an ARG of the Dockerfile. Repeatable.
    #[arg(long, value_name = "NAME[=VALUE]", action = ArgAction::Append)]
    pub build_arg: Vec<String>,

    /// The directory.
    #[arg(short, long, value_name = "DIRECTORY", default_value = "/cache")]
    pub cache_dir: PathBuf,

    /// How old an image may be, such as 6h or 90m.
    #[arg(long, value_name = "DURATION", default_value = "336h0m0s", value_parser = lifetime)]
    pub cache_ttl: Duration,

    /// Fetch images again that exist already.
    #[arg(short, long, action = ArgAction::Set, default_value_t = false)]
    pub force: bool,

    /// The images' platform, such as linux/arm64.
    #[arg(long = "customPlatform", visible_aliases = ["custom-platform", "platform"], value_name = "PLATFORM")]
    pub platform: Option<String>,

    /// How registries are reached.
    #[command(flatten)]
    pub registries: RegistryFlags,

    /// The log and the progress output.
    #[command(flatten)]
    pub log: LogFlags,
}

/// Reports whether the program was started under kaniko's name for this.
pub(super) fn is_called_so(program: Option<&OsString>) -> bool {
    program.and_then(|program| Path::new(program).file_name()).is_some_and(|name| name == "warmer")
}

/// The parser.
pub(super) fn command() -> clap::Command {
    use clap::CommandFactory as _;
    with_booleans(WarmerFlags::command())
}

/// Reads the command line, which starts with the program's name. The second result has the flags of a build with
/// defaults: the Dockerfile is read as that build would read it.
pub(super) fn parse(
    command: &mut clap::Command,
    arguments: Vec<OsString>,
) -> Result<(WarmerFlags, Flags), clap::Error> {
    let flags = command.try_get_matches_from_mut(arguments).and_then(|words| WarmerFlags::from_arg_matches(&words))?;
    let words = ["crabwright", "--no-push", "--context=."];
    let build = flags::command().try_get_matches_from(words).and_then(|words| Flags::from_arg_matches(&words))?;
    Ok((flags, build))
}

/// Returns the request of the flags.
///
/// # Errors
/// There is nothing to fetch, or a value is not valid.
pub fn warm_request(
    flags: WarmerFlags,
    build: Flags,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<WarmRequest, RequestError> {
    let dockerfile = flags.dockerfile.clone().filter(|path| !path.is_empty());
    if flags.image.is_empty() && dockerfile.is_none() {
        return Err(RequestError::NothingToWarm);
    }
    let images = flags
        .image
        .iter()
        .map(|text| Reference::parse(text).map_err(|source| RequestError::WarmImage { text: text.clone(), source }));
    let images: Vec<Reference> = images.collect::<Result<_, _>>()?;
    let platform = platform(flags.platform.clone())?.unwrap_or_else(Platform::host);
    let mut registries = client_config(flags.registries.clone(), environment)?;
    registries.named_registries.extend(images.iter().map(|name| name.registry.clone()));
    let read = |dockerfile| {
        let WarmerFlags { build_arg, platform: custom_platform, registries, .. } = flags.clone();
        let flags = Flags { dockerfile, dockerfile_is_named: true, build_arg, custom_platform, registries, ..build };
        build_request(flags, false, environment)
    };
    Ok(WarmRequest {
        images,
        dockerfile: dockerfile.map(read).transpose()?.map(Box::new),
        directory: flags.cache_dir,
        lifetime: flags.cache_ttl,
        force: flags.force,
        platform,
        registries,
    })
}
