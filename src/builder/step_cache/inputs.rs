//! Reads the inputs of steps that are known before anything runs: files of build contexts, and versions of remote
//! sources.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;

use crate::cache::{Inputs, SourceVersion};
use crate::diag::with_causes;
use crate::executor::copy::{CopySource, FileDigests};
use crate::executor::files_of;
use crate::plan::{Action, CopyFrom, RemoteSource, StepId};
use crate::rootfs::Tree;

use super::environment::Environment;

/// Reads the inputs of a plan's steps.
pub(super) struct InputReader<'a> {
    env: &'a Environment<'a>,
    /// Digests of files of the contexts, which do not change during the build.
    known: FileDigests,
    /// The versions of available sources.
    versions: Vec<(RemoteSource, SourceVersion)>,
}

impl<'a> InputReader<'a> {
    /// Requests the versions of all remote sources in parallel.
    pub(super) fn new(env: &'a Environment<'a>) -> Self {
        let mut sources: Vec<RemoteSource> = Vec::new();
        for (_, step) in env.plan.steps() {
            if let Action::Copy(copy) = &step.action {
                let new: Vec<_> = copy.remotes.values().filter(|source| !sources.contains(source)).cloned().collect();
                sources.extend(new);
            }
        }
        let answers = env.remotes.versions(&sources);
        let versions = sources.into_iter().zip(answers).filter_map(|(source, answer)| match answer {
            Ok(version) => Some((source, version)),
            Err(error) => {
                tracing::debug!("cache: the version of {source} is not known: {}", with_causes(&error));
                None
            }
        });
        Self { env, known: FileDigests::default(), versions: versions.collect() }
    }

    /// Returns the inputs of a step; `None` if they cannot be read, because then the step fails as well.
    pub(super) fn inputs(&self, id: StepId) -> Option<Inputs> {
        let Self { env, known, .. } = self;
        let step = env.plan.step(id);
        let unknown = |error: &(dyn std::error::Error + 'static)| {
            tracing::debug!("cache: {}: no key: {}", step.text, with_causes(error));
        };
        let excluded = crate::fs::gated::metadata(env.work_directory).ok();
        let excluded = excluded.map(|metadata| (metadata.dev(), metadata.ino()));
        let mut files = Vec::new();
        for (origin, from) in step.action.origins().into_iter().enumerate() {
            let context = match from {
                CopyFrom::Context => env.context,
                CopyFrom::Directory(number) => &env.named_contexts[number],
                CopyFrom::Stage(_) | CopyFrom::Image(_) => {
                    files.push(None);
                    continue;
                }
            };
            let tree = Tree::open(&context.root).map_err(|error| unknown(&error)).ok()?;
            let ignore = Some(&context.ignore);
            let source = CopySource { tree: &tree, ignore, reset_owner: true, describe: &context.description };
            files.push(files_of(&step.action, origin, &source, excluded, known).map_err(|error| unknown(&error)).ok()?);
        }
        let mut versions = BTreeMap::new();
        if let Action::Copy(copy) = &step.action {
            for (number, source) in &copy.remotes {
                let (_, version) = self.versions.iter().find(|(known, _)| known == source)?;
                versions.insert(*number, version.clone());
            }
        }
        Some(Inputs { files, versions })
    }
}
