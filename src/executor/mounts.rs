//! The mounts of a `RUN`: what the sandbox is to show, made ready before the command and cleared away after it.
//!
//! Files of a stage or an image are shown where they are, if the sandbox can keep the command from changing them;
//! otherwise, and for files of a build context (of which the build sees only a part, as root's), the command gets a copy
//! of its own that is thrown away. Caches live beside the builds; secrets go from memory to the sandbox.

use std::path::{Path, PathBuf};

use crate::diag::{Phase, Step as StepLine};
use crate::fs::FileKind;
use crate::plan::{Copy, CopyFrom, Mount, MountSource, Run};
use crate::rootfs::{Attributes, Tree};
use crate::sandbox::{self, MountContent};

use super::StepError;
use super::cache_mounts::{self, CacheDirectory, Origin, SharedCacheMounts};
use super::stage::copy_into;
use super::stages::Execution;
use super::trees::{FinishedTree, OwnedTree};

/// Tells programs where an SSH agent listens.
const AGENT_VARIABLE: &str = "SSH_AUTH_SOCK";
/// What a copy is called in the directory made for it.
const COPY: &str = "files";

/// The mounts of a command while it runs.
#[derive(Default)]
pub(super) struct Prepared<'a> {
    /// For the sandbox.
    pub(super) mounts: Vec<sandbox::Mount>,
    /// Variables beyond those of the plan: secrets, and where an SSH agent listens.
    pub(super) environment: Vec<(String, String)>,
    /// The command's own copies, which end with it.
    copies: Vec<OwnedTree<'a>>,
    /// In use until the command has ended.
    caches: Vec<CacheDirectory>,
}

impl Prepared<'_> {
    /// Throws the command's copies away, and tells what became of its caches.
    pub(super) fn clear(self, shared: Option<&dyn SharedCacheMounts>, succeeded: bool) {
        if let Some(shared) = shared {
            self.caches.iter().for_each(|cache| shared.closed(&cache.path, succeeded));
        }
    }
}

/// Makes the mounts of `command` ready. `sources` are the trees of those that take files from a stage or an image, in the
/// order of [`crate::plan::Action::origins`]; `enforced`: the sandbox keeps read-only mounts from being changed.
///
/// # Errors
/// A source is missing or cannot be copied, or a secret or an agent that is required is not there.
pub(super) fn prepare<'a>(
    execution: &Execution<'a>,
    command: &Run,
    sources: &[Option<&FinishedTree<'_>>],
    enforced: bool,
    line: &StepLine,
) -> Result<Prepared<'a>, StepError> {
    let mut sources = sources.iter();
    let mut prepared = Prepared::default();
    for mount in &command.mounts {
        let tree = mount.origin().and_then(|_| sources.next()).copied().flatten().map(|tree| -> &Tree { tree });
        if let Some(content) = content(execution, mount, tree, enforced, line, &mut prepared)?
            && let Some(target) = &mount.target
        {
            prepared.mounts.push(sandbox::Mount { target: target.clone(), content, read_only: mount.read_only });
        }
    }
    if let Some(shared) = execution.resources.shared_caches {
        prepared.caches.iter().for_each(|cache| shared.opened(&cache.id, &cache.path));
    }
    Ok(prepared)
}

/// What a mount shows; `None` if there is nothing to show.
fn content<'a>(
    execution: &Execution<'a>,
    mount: &Mount,
    tree: Option<&Tree>,
    enforced: bool,
    line: &StepLine,
    prepared: &mut Prepared<'a>,
) -> Result<Option<MountContent>, StepError> {
    let resources = execution.resources;
    let content = match &mount.source {
        MountSource::Memory { size } => MountContent::Memory { size: *size },
        MountSource::Bind { from, path } => {
            let in_place = mount.read_only && enforced;
            let source = match tree {
                Some(tree) if in_place => find(tree, path)?,
                _ => prepared.copy(execution, *from, tree, path)?,
            };
            MountContent::Bind { source }
        }
        MountSource::Cache { id, sharing, content, owner } => {
            let waiting = || resources.progress.line(format_args!("the cache {id} is in use: waiting for it"));
            line.working();
            let mut fill = |staging: &Path| match content {
                Some((from, path)) => {
                    let copied = copy(execution, *from, tree, path, &staging.join(COPY))?.path().join(COPY);
                    match crate::fs::gated::is_dir(&copied) {
                        true => Ok(copied),
                        false => Err(StepError::CacheContent { path: path.clone() }),
                    }
                }
                None => {
                    let path = staging.join(COPY);
                    crate::fs::create_dir_all(&path).map_err(StepError::Cache)?;
                    Ok(path)
                }
            };
            let origin = Origin { shared: resources.shared_caches, fill: &mut fill };
            let cache = cache_mounts::open(&resources.caches, id, *sharing, *owner, &waiting, origin)?;
            let source = match mount.read_only && !enforced {
                true => {
                    let opened = Tree::open(&cache.path).map_err(StepError::Rootfs)?;
                    prepared.copy_of(execution, &opened)?
                }
                false => cache.path.clone(),
            };
            prepared.caches.push(cache);
            MountContent::Bind { source }
        }
        MountSource::Secret { id, variable, required, owner } => {
            let Some(secret) = resources.secrets.get(id).map_err(StepError::Secret)? else {
                // An optional variable is there all the same, and empty.
                prepared.environment.extend(variable.iter().map(|variable| (variable.clone(), String::new())));
                return if *required { Err(StepError::NoSecret { id: id.clone() }) } else { Ok(None) };
            };
            if let Some(variable) = variable {
                let text = String::from_utf8(secret.reveal().clone());
                let text = text.map_err(|_| StepError::SecretNotText { id: id.clone() })?;
                prepared.environment.push((variable.clone(), text));
            }
            MountContent::File { content: secret, mode: owner.mode, uid: owner.uid, gid: owner.gid }
        }
        MountSource::Agent { id, required, owner } => {
            let socket = resources.ssh_agents.socket(id);
            let Some(source) = socket.map_err(|cause| StepError::Agent { id: id.clone(), cause })? else {
                return if *required { Err(StepError::NoAgent { id: id.clone() }) } else { Ok(None) };
            };
            cache_mounts::set_owner(&source, *owner)?;
            if let Some(target) = &mount.target
                && !prepared.environment.iter().any(|(name, _)| name == AGENT_VARIABLE)
            {
                prepared.environment.push((AGENT_VARIABLE.to_owned(), target.clone()));
            }
            MountContent::Bind { source }
        }
    };
    Ok(Some(content))
}

impl<'a> Prepared<'a> {
    fn copy(
        &mut self,
        execution: &Execution<'a>,
        from: CopyFrom,
        tree: Option<&Tree>,
        path: &str,
    ) -> Result<PathBuf, StepError> {
        let copied = execution.own(copy(execution, from, tree, path, &execution.tree_path())?);
        let source = copied.path().join(COPY);
        self.copies.push(copied);
        Ok(source)
    }

    fn copy_of(&mut self, execution: &Execution<'a>, tree: &Tree) -> Result<PathBuf, StepError> {
        let _phase = execution.resources.progress.phase(Phase::Copy);
        let copied = execution.own(tree.copy_to(execution.tree_path()).map_err(StepError::Rootfs)?);
        let source = copied.path().to_owned();
        self.copies.push(copied);
        Ok(source)
    }
}

/// Where a path of a stage or an image lies outside, symbolic links followed inside.
fn find(tree: &Tree, path: &str) -> Result<PathBuf, StepError> {
    let resolved = tree.resolve(relative(path), true).map_err(StepError::Rootfs)?;
    match tree.node(&resolved).map_err(StepError::Rootfs)? {
        Some(_) => Ok(tree.path().join(resolved)),
        None => Err(StepError::NoMountSource { path: path.to_owned() }),
    }
}

/// Copies a file or a directory as COPY would. The copy, called [`COPY`], is alone in the new tree at `directory`.
fn copy(
    execution: &Execution<'_>,
    from: CopyFrom,
    tree: Option<&Tree>,
    path: &str,
    directory: &Path,
) -> Result<Tree, StepError> {
    let _phase = execution.resources.progress.phase(Phase::Copy);
    let mut apart = Tree::create(directory).map_err(StepError::Rootfs)?;
    let attributes = directory_attributes(execution, from, tree, path)?;
    if let Some(attributes) = &attributes {
        apart.create_directory(Path::new(COPY), attributes).map_err(StepError::Rootfs)?;
    }
    let slash = if attributes.is_some() { "/" } else { "" };
    let step = Copy {
        from,
        sources: vec![if path.is_empty() { "." } else { path }.to_owned()],
        destination: format!("/{COPY}{slash}"),
        working_directory: "/".to_owned(),
        ..Copy::default()
    };
    copy_into(execution, &step, tree, &mut apart)?;
    Ok(apart)
}

/// Those of the source if it is a directory; root's where it is one of a build context.
fn directory_attributes(
    execution: &Execution<'_>,
    from: CopyFrom,
    tree: Option<&Tree>,
    path: &str,
) -> Result<Option<Attributes>, StepError> {
    let of = |tree: &Tree| -> Result<Option<Attributes>, StepError> {
        let resolved = tree.resolve(relative(path), true).map_err(StepError::Rootfs)?;
        let node = tree.node(&resolved).map_err(StepError::Rootfs)?;
        Ok(node.map(|node| node.attributes).filter(|attributes| attributes.kind == FileKind::Directory))
    };
    if let Some(tree) = tree {
        return of(tree);
    }
    let context = execution.context(from);
    let found = of(&Tree::open(&context.root).map_err(StepError::Rootfs)?)?;
    Ok(found.map(|attributes| Attributes { uid: 0, gid: 0, xattrs: Default::default(), ..attributes }))
}

fn relative(path: &str) -> &Path {
    Path::new(path.trim_start_matches('/'))
}
