//! Resolves the mounts of a `RUN`, from the parsed flag to the mount that the executor prepares.

use std::sync::Arc;

use crate::dockerfile::ast::{Source, Span, Word};
use crate::dockerfile::mount::{MountFlag, MountKind, MountOwner, MountProblem, MountSpec, Sharing};

use super::paths::absolute;
use super::{CopyFrom, PlanError};

/// The directory of secrets without a target.
const SECRETS: &str = "/run/secrets";
/// The path of SSH agents' sockets without a target, before a number.
const AGENT: &str = "/run/buildkit/ssh_agent.";

/// A mount with expanded values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The mount point, absolute and clean; `None` for a secret that is only a variable.
    pub target: Option<String>,
    /// True if the command may not write to it.
    pub read_only: bool,
    /// The content.
    pub source: MountSource,
    /// The flag's value, in the source of its step.
    pub span: Span,
}

impl Mount {
    /// Returns the source of its files.
    pub fn origin(&self) -> Option<CopyFrom> {
        match &self.source {
            MountSource::Bind { from, .. } | MountSource::Cache { content: Some((from, _)), .. } => Some(*from),
            _ => None,
        }
    }

    pub(super) fn origin_mut(&mut self) -> Option<&mut CopyFrom> {
        match &mut self.source {
            MountSource::Bind { from, .. } | MountSource::Cache { content: Some((from, _)), .. } => Some(from),
            _ => None,
        }
    }
}

/// The content of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// Files; changes of the command are lost.
    Bind {
        /// Their source.
        from: CopyFrom,
        /// The path in it; empty for all of it.
        path: String,
    },
    /// A directory that is kept between builds.
    Cache {
        /// Its identity: the name with the namespace, and its distinguishing properties.
        id: String,
        /// The sharing mode.
        sharing: Sharing,
        /// The source of its initial content, and the path in it.
        content: Option<(CopyFrom, String)>,
        /// Mode and owner of a new directory.
        owner: MountOwner,
    },
    /// A tmpfs.
    Memory {
        /// The most bytes that it may hold.
        size: Option<u64>,
    },
    /// A secret.
    Secret {
        /// Its name.
        id: String,
        /// The variable that is set to it.
        variable: Option<String>,
        /// True if the build fails without it.
        required: bool,
        /// Mode and owner of the file.
        owner: MountOwner,
    },
    /// The socket of an SSH agent.
    Agent {
        /// Its name.
        id: String,
        /// True if the build fails without it.
        required: bool,
        /// Mode and owner of the socket.
        owner: MountOwner,
    },
}

/// The context in which mounts are resolved.
pub(super) struct Scope<'a> {
    /// The directory for relative targets.
    pub(super) working_directory: &'a str,
    /// `BUILDKIT_CACHE_MOUNT_NS`: separates the caches of projects.
    pub(super) cache_namespace: Option<&'a str>,
    /// Expands a value.
    pub(super) expand: &'a dyn Fn(&Word) -> Result<String, PlanError>,
    /// The source of the flags.
    pub(super) source: &'a Arc<Source>,
}

/// The error of a value, or of the mount.
enum Wrong {
    Value(PlanError),
    Meaning(MountProblem),
}

impl From<MountProblem> for Wrong {
    fn from(problem: MountProblem) -> Self {
        Self::Meaning(problem)
    }
}

/// Resolves the mounts of one `RUN`; `origins` are the sources of those with `from`, in order.
pub(super) fn resolve(flags: &[MountFlag], origins: &[CopyFrom], scope: &Scope<'_>) -> Result<Vec<Mount>, PlanError> {
    let mut origins = origins.iter().copied();
    let (mut mounts, mut agents) = (Vec::new(), 0);
    for flag in flags {
        let from = flag.from().and_then(|_| origins.next());
        let spec =
            flag.resolve(&mut |word| (scope.expand)(word).map_err(Wrong::Value)).map_err(|wrong| match wrong {
                Wrong::Value(error) => error,
                Wrong::Meaning(problem) => {
                    let error = PlanError::new(problem.message).at(scope.source, &problem.span);
                    PlanError { hint: problem.hint, ..error }
                }
            })?;
        let number = agents;
        agents += usize::from(matches!(spec.kind, MountKind::Ssh { .. }));
        mounts.push(mount(spec, from, flag.span.clone(), number, scope));
    }
    Ok(mounts)
}

fn mount(spec: MountSpec, from: Option<CopyFrom>, span: Span, agents: usize, scope: &Scope<'_>) -> Mount {
    let MountSpec { target: written, read_only, kind } = spec;
    let place = |target: &str| absolute(scope.working_directory, target);
    let mut target = written.as_deref().map(place);
    let source = match kind {
        MountKind::Bind { source, .. } => MountSource::Bind { from: from.unwrap_or_default(), path: source },
        MountKind::Cache { id, sharing, source, owner, .. } => {
            let id = id.unwrap_or_else(|| clean(written.as_deref().unwrap_or_default()));
            let id = scope.cache_namespace.map_or_else(|| id.clone(), |namespace| format!("{namespace}/{id}"));
            MountSource::Cache { id, sharing, content: from.map(|from| (from, source)), owner }
        }
        MountKind::Tmpfs { size } => MountSource::Memory { size },
        MountKind::Secret { id, variable, required, owner } => {
            if target.is_none() && variable.is_none() {
                target = Some(absolute(SECRETS, id.rsplit('/').next().unwrap_or(&id)));
            }
            MountSource::Secret { id, variable, required, owner }
        }
        MountKind::Ssh { id, required, owner } => {
            target.get_or_insert_with(|| format!("{AGENT}{agents}"));
            MountSource::Agent { id, required, owner }
        }
    };
    Mount { target, read_only, source, span }
}

/// Cleans a target of `.`, `..` and doubled slashes; a relative one stays relative.
fn clean(target: &str) -> String {
    let cleaned = absolute("/", target);
    match target.starts_with('/') {
        true => cleaned,
        false => cleaned.trim_start_matches('/').to_owned(),
    }
}
