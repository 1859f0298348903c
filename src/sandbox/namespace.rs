//! The `namespace` sandbox: prepares the files that the second process mounts, and cleans up after the command.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::message::{NamespaceSpec, RunSpec};
use super::mount_points::MountPoints;
use super::stubs::Stubs;
use super::{
    Chosen, Features, HOSTNAME, Mechanism, Outcome, Process, Sandbox, SandboxError, Stream, launch, standard_files,
};

/// A sandbox that runs each command in its own namespaces.
#[derive(Debug)]
pub(super) struct NamespaceSandbox {
    processes: bool,
    single_id: bool,
    /// This sandbox's directory for generated files.
    files: PathBuf,
    container_hosts: String,
    container_resolv_conf: Vec<u8>,
}

impl NamespaceSandbox {
    /// Creates a sandbox, with a subdirectory for generated files in `directory`, which belongs to this build.
    pub(super) fn new(chosen: &Chosen, directory: &Path) -> Result<Self, SandboxError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let files = directory.join(format!("sandbox-{number}"));
        std::fs::create_dir_all(&files).map_err(SandboxError::io("create", files.as_path()))?;
        // The second process, which mounts them, has a different working directory.
        let files = std::fs::canonicalize(&files).map_err(SandboxError::io("resolve", files))?;
        let own = |path: &str| match std::fs::read(path) {
            Ok(bytes) => Ok(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(SandboxError::io("read", path)(error)),
        };
        Ok(Self {
            processes: chosen.has_own_processes(),
            single_id: chosen.id_mapping().is_some_and(super::IdMapping::is_single),
            files,
            container_hosts: String::from_utf8_lossy(&own("/etc/hosts")?).into_owned(),
            container_resolv_conf: own("/etc/resolv.conf")?,
        })
    }

    fn generate(&self, name: &str, content: &[u8]) -> Result<PathBuf, SandboxError> {
        use std::os::unix::fs::PermissionsExt;

        let path = self.files.join(name);
        std::fs::write(&path, content)
            .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)))
            .map_err(SandboxError::io("write", path.as_path()))?;
        Ok(path)
    }
}

impl Drop for NamespaceSandbox {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.files) {
            tracing::debug!("cannot remove {}: {error}", self.files.display());
        }
    }
}

impl Sandbox for NamespaceSandbox {
    fn run(
        &mut self,
        root: &Path,
        process: &Process,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Outcome, SandboxError> {
        let root = std::fs::canonicalize(root).map_err(SandboxError::io("resolve", root))?;
        let hostname = if process.hostname.is_empty() { HOSTNAME } else { &process.hostname };
        let [dev_target, proc_target, sys_target] = standard_files::create_lasting_directories(&root)?;
        let hosts = standard_files::hosts(&self.container_hosts, hostname);
        let generated = [
            ("/etc/hosts", self.generate("hosts", hosts.as_bytes())?),
            ("/etc/resolv.conf", self.generate("resolv.conf", &self.container_resolv_conf)?),
        ];
        let mut stubs = Stubs::default();
        let mut read_only_files = Vec::new();
        for (path, source) in generated {
            if let Some(target) = standard_files::file(&root, path, &mut stubs)? {
                read_only_files.push((source, target));
            }
        }
        let occupied = [dev_target.clone(), proc_target.clone(), sys_target.clone()];
        let mut mount_points = MountPoints::new(&root, occupied)?;
        let mounts: Result<Vec<_>, _> =
            process.mounts.iter().map(|mount| mount_points.prepare(mount, &mut stubs)).collect();
        let mounts = mounts?;
        let scratch = self.files.join("scratch");
        std::fs::create_dir_all(&scratch).map_err(SandboxError::io("create", scratch.as_path()))?;
        let spec = RunSpec {
            arguments: process.arguments.clone(),
            environment: process.environment.clone(),
            working_directory: process.working_directory.clone(),
            user: process.user.clone(),
            network: process.network,
            namespace: Some(NamespaceSpec {
                root: root.clone(),
                processes: self.processes,
                hostname: hostname.to_owned(),
                proc_target,
                dev_target,
                sys_target,
                read_only_files,
                script: process.script.clone(),
                scratch,
                mounts,
            }),
        };
        let result = launch::run(spec, process.stop.as_ref(), output);
        let removed = stubs.remove();
        let status = result.map_err(|error| self.name_mode(error))?;
        removed?;
        Ok(Outcome { status, restamped: Vec::new(), busy: Vec::new() })
    }

    fn name(&self) -> &'static str {
        Mechanism::Namespace.as_str()
    }

    fn features(&self) -> Features {
        Features::ALL
    }
}

impl NamespaceSandbox {
    fn name_mode(&self, error: SandboxError) -> SandboxError {
        match error {
            SandboxError::Ids { uid, gid, reason, .. } => {
                let isolation = if self.single_id { "namespace (single id)" } else { "namespace" };
                SandboxError::Ids { uid, gid, isolation, reason }
            }
            other => other,
        }
    }
}
