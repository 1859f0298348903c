//! Refuses features of the language that are not supported, with name and location; none is ignored.

use std::sync::Arc;

use crate::dockerfile::ast::{Copy, Dockerfile, Instruction, Kind, Run, Source, Span};

use super::PlanError;

/// Refuses other frontends.
pub(super) fn directives(dockerfile: &Dockerfile) -> Result<(), PlanError> {
    if let Some(syntax) = &dockerfile.syntax {
        let image = syntax.text.trim_start_matches("docker.io/");
        if !image.starts_with("docker/dockerfile:")
            && !image.starts_with("docker/dockerfile-upstream:")
            && image != "docker/dockerfile"
            && image != "docker/dockerfile-upstream"
        {
            return Err(PlanError::new(format!("the frontend `{}` cannot be used", syntax.text))
                .at(&dockerfile.source, &syntax.span)
                .with_hint(
                    "crabwright reads the Dockerfile language itself; only `docker/dockerfile:*` is accepted here",
                ));
        }
    }
    Ok(())
}

/// Refuses unsupported parts of an instruction.
pub(super) fn instruction(instruction: &Instruction) -> Result<(), PlanError> {
    match &instruction.kind {
        Kind::Run(command) => run(command, instruction),
        _ => Ok(()),
    }
}

fn run(run: &Run, instruction: &Instruction) -> Result<(), PlanError> {
    let source = &instruction.source;
    if let Some(device) = run.devices.first() {
        return Err(PlanError::new("RUN --device is not possible").at(source, &device.span).with_hint(
            "an unprivileged container has no devices to give; a stable BuildKit frontend refuses it, too",
        ));
    }
    if let Some(network) = &run.network {
        match network.text.as_str() {
            "default" | "none" => {}
            "host" => {
                return Err(PlanError::new("entitlement network.host is not allowed")
                    .at(source, &network.span)
                    .with_hint("a RUN has the network of the container it is built in; remove --network=host"));
            }
            other => {
                return Err(PlanError::new(format!("invalid network mode \"{other}\""))
                    .at(source, &network.span)
                    .with_hint("the modes are default, none and host"));
            }
        }
    }
    if let Some(security) = &run.security {
        match security.text.as_str() {
            "sandbox" => {}
            "insecure" => {
                return Err(PlanError::new("entitlement security.insecure is not allowed")
                    .at(source, &security.span)
                    .with_hint("an unprivileged container has no privileges to give"));
            }
            other => {
                return Err(PlanError::new(format!("invalid security mode \"{other}\""))
                    .at(source, &security.span)
                    .with_hint("the modes are sandbox and insecure"));
            }
        }
    }
    Ok(())
}

/// Refuses `--keep-git-dir` for sources that are not repositories.
pub(super) fn keep_git_dir(source: &Arc<Source>, span: &Span) -> PlanError {
    PlanError::new("--keep-git-dir requires a git source").at(source, span)
}

/// Refuses `--checksum` for sources that are not downloads: their content is part of the build already.
pub(super) fn checksum(step: &Copy, source: &Arc<Source>, span: &Span) -> PlanError {
    match step.sources.len() {
        0 | 1 => PlanError::new("checksum requires HTTP(S) or git sources")
            .at(source, span)
            .with_hint("files of the build context are not checked; remove --checksum"),
        _ => PlanError::new("checksum can't be specified for multiple sources").at(source, span),
    }
}
