//! `warmer`: kaniko's second program, here the same one under a different name, or a sub-command.

use super::env::Env;
use super::flags::context::git_login;
use super::flags::dockerfile::{DockerfileFlags, platform};
use super::flags::warmer::WarmerFlags;
use super::request::{RequestError, read_only};
use super::values::non_empty;
use crate::builder::{InputsRequest, WarmRequest};
use crate::executor::copy::UnpackLimits;
use crate::image::Platform;
use crate::location::ContextLocation;

/// Returns the request of the flags.
///
/// # Errors
/// There is nothing to fetch, or a value is not valid.
pub fn warm_request(flags: WarmerFlags, env: Env<'_>) -> Result<WarmRequest, RequestError> {
    let images = flags.images()?;
    let platform = platform(flags.platform.clone())?.unwrap_or_else(Platform::host);
    let mut registries = flags.registries.clone().config(env)?;
    registries.named_registries.extend(images.iter().map(|name| name.registry.clone()));
    let read = |dockerfile| {
        // The Dockerfile is read as a build in the current directory would read it.
        let inputs = InputsRequest {
            context: ContextLocation::Directory(".".to_owned()),
            context_sub_path: None,
            context_limits: UnpackLimits::NONE,
            git_login: git_login(env)?,
            contexts: Vec::new(),
            context_directories: Vec::new(),
            dockerfile,
            dockerfile_is_named: true,
            secrets: Vec::new(),
            ssh: Vec::new(),
        };
        let arguments =
            DockerfileFlags { dockerfile: None, build_arg: flags.build_arg, custom_platform: flags.platform };
        read_only(inputs, &arguments, &[], flags.registries, env)
    };
    Ok(WarmRequest {
        images,
        dockerfile: non_empty(flags.dockerfile).map(read).transpose()?.map(Box::new),
        directory: flags.cache_dir,
        lifetime: flags.cache_ttl,
        force: flags.force,
        platform,
        registries,
    })
}
