//! Prepares a root directory for a command: mount points, and the files that a resolver reads.
//!
//! An image may lack the mount points. `/dev`, `/proc` and `/sys` are created permanently, as in BuildKit. Every other
//! one is a stub that is removed after the command ([`Stubs`]).

use std::fmt::Write;
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::stubs::{Lifetime, StubKind, Stubs};
use super::{SandboxError, in_root};
use crate::fs::Root;

/// Directories that every container has, and that stay in the image.
const LASTING: [&str; 3] = ["/dev", "/proc", "/sys"];

/// Creates `/dev`, `/proc` and `/sys` in `root` if they are missing, and returns their resolved paths in that order.
pub(super) fn create_lasting_directories(root: &Path) -> Result<[PathBuf; 3], SandboxError> {
    let mut places = [PathBuf::new(), PathBuf::new(), PathBuf::new()];
    for (place, name) in places.iter_mut().zip(LASTING) {
        *place = in_root::resolve(root, Path::new(name)).map_err(SandboxError::io("resolve", root.join(&name[1..])))?;
        create_directory(place).map_err(SandboxError::io("create", place.as_path()))?;
    }
    Ok(places)
}

/// Creates a directory and its parents with mode 0755, independent of the umask. Existing ones are left alone.
fn create_directory(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if let Some(parent) = path.parent() {
        create_directory(parent)?;
    }
    DirBuilder::new().mode(0o755).create(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o755))
}

/// Ensures that the file `path` of the image exists, and returns its resolved path.
///
/// `None` if it cannot be created because something that is not a directory is in the way. The command runs without it.
pub(super) fn file(root: &Path, path: &str, stubs: &mut Stubs) -> Result<Option<PathBuf>, SandboxError> {
    let place = match in_root::resolve(root, Path::new(path)) {
        Ok(place) => place,
        Err(error) => {
            tracing::debug!("{path} of the image cannot be resolved: {error}");
            return Ok(None);
        }
    };
    match place.symlink_metadata() {
        Ok(metadata) if metadata.is_file() => return Ok(Some(place)),
        Ok(_) => {
            tracing::debug!("{path} of the image is not a file and is left unchanged");
            return Ok(None);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(SandboxError::io("look at", place)(error)),
    }
    let inside = place.strip_prefix(root).unwrap_or(&place);
    stubs.create(&Root::open(root)?, inside, StubKind::File, Lifetime::Command)?;
    Ok(Some(place))
}

/// Returns the text of `/etc/hosts`: the loopback names with `hostname`, and the other entries of the container's own
/// file.
pub(super) fn hosts(own: &str, hostname: &str) -> String {
    let names = format!("localhost {hostname}");
    let mut text = format!("127.0.0.1\t{}\n::1\tlocalhost ip6-localhost ip6-loopback\n", names.trim_end());
    for line in own.lines() {
        let entry = line.split('#').next().unwrap_or_default();
        let mut words = entry.split_whitespace();
        let Some(address) = words.next() else { continue };
        let is_loopback = address == "::1" || address.starts_with("127.");
        let names_only_localhost =
            words.clone().all(|name| matches!(name, "localhost" | "ip6-localhost" | "ip6-loopback"));
        if words.next().is_some() && !(is_loopback && names_only_localhost) {
            // Writing to a string cannot fail.
            writeln!(text, "{}", entry.trim_end()).unwrap_or_default();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn hosts_keeps_what_the_pod_adds() {
        let own = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n# comment\n10.0.0.7\tregistry.local # why\n\
                   10.0.0.9 pod\n";
        let text = hosts(own, "buildkitsandbox");
        assert_eq!(
            text,
            "127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n\
             10.0.0.7\tregistry.local\n10.0.0.9 pod\n"
        );
    }

    #[test]
    fn stubs_are_removed_without_a_trace() {
        let root = tempfile::tempdir().unwrap();
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        let etc = root.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        symlink("../run/systemd/resolve/stub.conf", etc.join("resolv.conf")).unwrap();
        for directory in [&etc, root.path()] {
            std::fs::File::open(directory).unwrap().set_modified(old).unwrap();
        }
        let mut stubs = Stubs::default();
        assert_eq!(file(root.path(), "/etc/hosts", &mut stubs).unwrap().unwrap(), etc.join("hosts"));
        let real = file(root.path(), "/etc/resolv.conf", &mut stubs).unwrap().unwrap();
        assert_eq!(real, root.path().join("run/systemd/resolve/stub.conf"));
        assert!(real.exists());
        stubs.remove().unwrap();
        assert!(!etc.join("hosts").exists());
        assert!(!root.path().join("run").exists());
        assert_eq!(etc.metadata().unwrap().modified().unwrap(), old);
        assert_eq!(root.path().metadata().unwrap().modified().unwrap(), old);
    }

    #[test]
    fn a_stub_the_command_used_stays() {
        let root = tempfile::tempdir().unwrap();
        let mut stubs = Stubs::default();
        file(root.path(), "/etc/hosts", &mut stubs).unwrap();
        std::fs::write(root.path().join("etc/made"), "x").unwrap();
        stubs.remove().unwrap();
        assert!(root.path().join("etc/made").exists());
        assert!(!root.path().join("etc/hosts").exists());
    }

    #[test]
    fn lasting_directories_are_created_once() {
        let root = tempfile::tempdir().unwrap();
        let places = create_lasting_directories(root.path()).unwrap();
        assert_eq!(places[1], root.path().join("proc"));
        assert_eq!(places[0].metadata().unwrap().permissions().mode() & 0o7777, 0o755);
        create_lasting_directories(root.path()).unwrap();
    }
}
