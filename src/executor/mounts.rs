//! Prepares the mounts of a `RUN` before the command and removes them after it.
//!
//! Files of a stage or an image are mounted in place if the sandbox can keep the command from changing them. Otherwise
//! the command gets a copy, which is deleted afterwards. Files of a build context are always copied: the build sees
//! only some of them, and as root's. Cache mounts are stored outside of the build; secrets go from memory to the
//! sandbox.

use std::path::{Path, PathBuf};

use crate::diag::{Phase, Step as StepLine};
use crate::dockerfile::mount::{MountOwner, Sharing};
use crate::fs::FileKind;
use crate::plan::{Copy, CopyFrom, Mount, MountSource, Run};
use crate::rootfs::{Attributes, Tree};
use crate::sandbox::{self, MountContent};

use super::StepError;
use super::cache_mounts::{self, CacheDirectory, InitialContent, SharedCacheMounts};
use super::copy_step::copy_into;
use super::execution::Execution;
use super::trees::{FinishedTree, OwnedTree};

/// The variable in which programs look for an SSH agent's socket.
const AGENT_VARIABLE: &str = "SSH_AUTH_SOCK";
/// The name of a copy in its directory.
const COPY: &str = "files";

/// The mounts of a command while it runs.
#[derive(Default)]
pub(super) struct Prepared<'a> {
    /// The mounts for the sandbox.
    pub(super) mounts: Vec<sandbox::Mount>,
    /// Variables in addition to those of the plan: secrets, and the socket of an SSH agent.
    pub(super) environment: Vec<(String, String)>,
    /// The command's copies, which are removed after it.
    copies: Vec<OwnedTree<'a>>,
    /// Locked until the command has ended.
    caches: Vec<CacheDirectory>,
}

impl Prepared<'_> {
    /// Removes the copies, and reports to `shared` that the command has ended.
    pub(super) fn clear(self, shared: Option<&dyn SharedCacheMounts>, succeeded: bool) {
        if let Some(shared) = shared {
            self.caches.iter().for_each(|cache| shared.closed(&cache.path, succeeded));
        }
    }
}

/// Prepares the mounts of `command`. `sources` are the trees of mounts that take files from a stage or an image, in the
/// order of [`crate::plan::Action::origins`]. `enforces_read_only` says whether the sandbox keeps commands from
/// changing read-only mounts.
///
/// # Errors
/// A source is missing or cannot be copied, or a required secret or agent is missing.
pub(super) fn prepare<'a>(
    execution: &Execution<'a>,
    command: &Run,
    sources: &[Option<&FinishedTree<'_>>],
    enforces_read_only: bool,
    line: &StepLine,
) -> Result<Prepared<'a>, StepError> {
    let mut sources = sources.iter();
    let mut preparation = Preparation { execution, enforces_read_only, line, prepared: Prepared::default() };
    for mount in &command.mounts {
        let tree = mount.origin().and_then(|_| sources.next()).copied().flatten().map(|tree| -> &Tree { tree });
        if let Some(content) = preparation.content(mount, tree)?
            && let Some(target) = &mount.target
        {
            let mount = sandbox::Mount { target: target.clone(), content, read_only: mount.read_only };
            preparation.prepared.mounts.push(mount);
        }
    }
    let prepared = preparation.prepared;
    if let Some(shared) = execution.resources.shared_cache_mounts {
        prepared.caches.iter().for_each(|cache| shared.opened(&cache.id, &cache.path));
    }
    Ok(prepared)
}

/// The preparation of a command's mounts.
struct Preparation<'a, 'p> {
    execution: &'p Execution<'a>,
    enforces_read_only: bool,
    line: &'p StepLine,
    prepared: Prepared<'a>,
}

impl<'a> Preparation<'a, '_> {
    /// Returns the content of a mount; `None` for an optional one whose source is missing.
    fn content(&mut self, mount: &Mount, tree: Option<&Tree>) -> Result<Option<MountContent>, StepError> {
        match &mount.source {
            MountSource::Memory { size } => Ok(Some(MountContent::Memory { size: *size })),
            MountSource::Bind { from, path } => self.bind(*from, path, mount.read_only, tree).map(Some),
            MountSource::Cache { id, sharing, content, owner } => {
                let execution = self.execution;
                let mut fill = |staging: &Path| fill_cache(execution, content.as_ref(), tree, staging);
                let cache = self.open_cache(id, *sharing, *owner, &mut fill)?;
                self.cache(cache, mount.read_only).map(Some)
            }
            MountSource::Secret { id, variable, required, owner } => {
                self.secret(id, variable.as_ref(), *required, *owner)
            }
            MountSource::Agent { id, required, owner } => self.agent(id, mount.target.as_ref(), *required, *owner),
        }
    }

    /// Mounts files in place if the command cannot change them, otherwise a copy.
    fn bind(
        &mut self,
        from: CopyFrom,
        path: &str,
        read_only: bool,
        tree: Option<&Tree>,
    ) -> Result<MountContent, StepError> {
        let source = match tree {
            Some(tree) if read_only && self.enforces_read_only => find(tree, path)?,
            _ => self.prepared.copy(self.execution, from, tree, path)?,
        };
        Ok(MountContent::Bind { source })
    }

    fn open_cache(
        &self,
        id: &str,
        sharing: Sharing,
        owner: MountOwner,
        fill: &mut dyn FnMut(&Path) -> Result<PathBuf, StepError>,
    ) -> Result<CacheDirectory, StepError> {
        let resources = self.execution.resources;
        let waiting = || resources.progress.line(format_args!("cache mount {id}: waiting for the build that uses it"));
        self.line.working();
        let initial = InitialContent { shared: resources.shared_cache_mounts, fill };
        cache_mounts::open(&resources.cache_mounts_directory, id, sharing, owner, &waiting, initial)
    }

    fn cache(&mut self, cache: CacheDirectory, read_only: bool) -> Result<MountContent, StepError> {
        let source = match read_only && !self.enforces_read_only {
            true => {
                let opened = Tree::open(&cache.path).map_err(StepError::Rootfs)?;
                self.prepared.copy_of(self.execution, &opened)?
            }
            false => cache.path.clone(),
        };
        self.prepared.caches.push(cache);
        Ok(MountContent::Bind { source })
    }

    fn secret(
        &mut self,
        id: &str,
        variable: Option<&String>,
        required: bool,
        owner: MountOwner,
    ) -> Result<Option<MountContent>, StepError> {
        let secrets = self.execution.resources.secrets;
        let environment = &mut self.prepared.environment;
        let Some(secret) = secrets.get(id).map_err(StepError::Secret)? else {
            // The variable of an optional secret is set nevertheless, and empty.
            environment.extend(variable.map(|variable| (variable.clone(), String::new())));
            return if required { Err(StepError::NoSecret { id: id.to_owned() }) } else { Ok(None) };
        };
        if let Some(variable) = variable {
            let text = String::from_utf8(secret.reveal().clone());
            let text = text.map_err(|_| StepError::SecretNotText { id: id.to_owned() })?;
            environment.push((variable.clone(), text));
        }
        Ok(Some(MountContent::File { content: secret, mode: owner.mode, uid: owner.uid, gid: owner.gid }))
    }

    /// Mounts the socket of an SSH agent. The first one of a command is also in its environment.
    fn agent(
        &mut self,
        id: &str,
        target: Option<&String>,
        required: bool,
        owner: MountOwner,
    ) -> Result<Option<MountContent>, StepError> {
        let socket = self.execution.resources.ssh_agents.socket(id);
        let Some(source) = socket.map_err(|cause| StepError::Agent { id: id.to_owned(), cause })? else {
            return if required { Err(StepError::NoAgent { id: id.to_owned() }) } else { Ok(None) };
        };
        cache_mounts::set_owner(&source, owner)?;
        let environment = &mut self.prepared.environment;
        if let Some(target) = target
            && !environment.iter().any(|(name, _)| name == AGENT_VARIABLE)
        {
            environment.push((AGENT_VARIABLE.to_owned(), target.clone()));
        }
        Ok(Some(MountContent::Bind { source }))
    }
}

/// Makes the initial content of a cache mount: a copy of `content`, or an empty directory.
fn fill_cache(
    execution: &Execution<'_>,
    content: Option<&(CopyFrom, String)>,
    tree: Option<&Tree>,
    staging: &Path,
) -> Result<PathBuf, StepError> {
    let Some((from, path)) = content else {
        let path = staging.join(COPY);
        crate::fs::create_dir_all(&path).map_err(StepError::Cache)?;
        return Ok(path);
    };
    let copied = copy(execution, *from, tree, path, &staging.join(COPY))?.path().join(COPY);
    match crate::fs::gated::is_dir(&copied) {
        true => Ok(copied),
        false => Err(StepError::CacheContent { path: path.clone() }),
    }
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

/// Returns the path in this file system of a path of a stage or an image. Symbolic links are followed inside the tree.
fn find(tree: &Tree, path: &str) -> Result<PathBuf, StepError> {
    let resolved = tree.resolve(relative(path), true).map_err(StepError::Rootfs)?;
    match tree.node(&resolved).map_err(StepError::Rootfs)? {
        Some(_) => Ok(tree.path().join(resolved)),
        None => Err(StepError::NoMountSource { path: path.to_owned() }),
    }
}

/// Copies a file or directory as `COPY` would. The copy, called [`COPY`], is the only entry of the new tree at
/// `directory`.
fn copy(
    execution: &Execution<'_>,
    from: CopyFrom,
    tree: Option<&Tree>,
    path: &str,
    directory: &Path,
) -> Result<Tree, StepError> {
    let _phase = execution.resources.progress.phase(Phase::Copy);
    let mut new_tree = Tree::create(directory).map_err(StepError::Rootfs)?;
    let attributes = directory_attributes(execution, from, tree, path)?;
    if let Some(attributes) = &attributes {
        new_tree.create_directory(Path::new(COPY), attributes).map_err(StepError::Rootfs)?;
    }
    let slash = if attributes.is_some() { "/" } else { "" };
    let step = Copy {
        from,
        sources: vec![if path.is_empty() { "." } else { path }.to_owned()],
        destination: format!("/{COPY}{slash}"),
        working_directory: "/".to_owned(),
        ..Copy::default()
    };
    copy_into(execution, &step, tree, &mut new_tree)?;
    Ok(new_tree)
}

/// Returns the attributes of the source if it is a directory. Directories of a build context belong to root.
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
