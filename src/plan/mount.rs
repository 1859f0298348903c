//! Mounts of a `RUN`: from the flag as written to what the executor prepares.

use std::sync::Arc;

use crate::dockerfile::ast::{Source, Span, Word};
use crate::dockerfile::mount::{MountFlag, MountKind, MountOwner, MountProblem, MountSpec, Sharing};

use super::paths::absolute;
use super::{CopyFrom, PlanError};

/// Where secrets lie that have no target.
const SECRETS: &str = "/run/secrets";
/// Where the sockets of SSH agents lie that have no target, before a number.
const AGENT: &str = "/run/buildkit/ssh_agent.";

/// A mount with its final words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it lies, absolute and clean; `None` for a secret that is only a variable.
    pub target: Option<String>,
    /// The command may not write to it.
    pub read_only: bool,
    /// What it shows.
    pub source: MountSource,
    /// The flag's value, in the source of its step.
    pub span: Span,
}

impl Mount {
    /// Where it takes files from.
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

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// Files; what the command writes to them is lost.
    Bind {
        /// Where they are.
        from: CopyFrom,
        /// The path there; empty for all of it.
        path: String,
    },
    /// A directory that outlives the build.
    Cache {
        /// What builds know it by: its name with the namespace, and what else tells it from other caches.
        id: String,
        /// Who may use it at the same time.
        sharing: Sharing,
        /// Its first content: where that is, and the path there.
        content: Option<(CopyFrom, String)>,
        /// Of the directory when it is new.
        owner: MountOwner,
    },
    /// Memory.
    Memory {
        /// Most bytes it may hold.
        size: Option<u64>,
    },
    /// A secret.
    Secret {
        /// Its name.
        id: String,
        /// The variable that holds it.
        variable: Option<String>,
        /// The build fails without it.
        required: bool,
        /// Of the file.
        owner: MountOwner,
    },
    /// The socket of an SSH agent.
    Agent {
        /// Its name.
        id: String,
        /// The build fails without it.
        required: bool,
        /// Of the socket.
        owner: MountOwner,
    },
}

/// What mounts are resolved with.
pub(super) struct Scope<'a> {
    /// What a relative target is relative to.
    pub(super) working_directory: &'a str,
    /// `BUILDKIT_CACHE_MOUNT_NS`: keeps the caches of projects apart.
    pub(super) cache_namespace: Option<&'a str>,
    /// Expands a value.
    pub(super) expand: &'a dyn Fn(&Word) -> Result<String, PlanError>,
    /// The source of the flags.
    pub(super) source: &'a Arc<Source>,
}

/// A value that cannot be expanded, or a mount that means nothing.
enum Wrong {
    Value(PlanError),
    Meaning(MountProblem),
}

impl From<MountProblem> for Wrong {
    fn from(problem: MountProblem) -> Self {
        Self::Meaning(problem)
    }
}

/// Resolves the mounts of one `RUN`; `origins` are where those with `from` take their files, in order.
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

/// The target as a name: without `.`, `..` and doubled slashes, a relative one still relative.
fn clean(target: &str) -> String {
    let cleaned = absolute("/", target);
    match target.starts_with('/') {
        true => cleaned,
        false => cleaned.trim_start_matches('/').to_owned(),
    }
}
