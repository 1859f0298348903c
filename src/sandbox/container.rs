//! Detects whether this program runs in a container, where replacing the files of `/` is safe.
//!
//! The signs are those that kaniko looks for. They can mislead: a virtual machine whose disk was made from an image
//! also has `/.dockerenv`. So a process in the namespaces that the kernel booted with counts as being on a host,
//! whatever the other signs say.

use std::path::Path;

use super::mountinfo::{self, MountEntry};

/// The result of [`container_check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerCheck {
    /// True in a container.
    pub is_container: bool,
    /// The sign that decided, for messages.
    pub evidence: String,
}

/// Files that container runtimes create.
const MARKERS: [&str; 5] = [
    "/run/.containerenv",
    "/.dockerenv",
    "/var/run/secrets/kubernetes.io/serviceaccount",
    "/__runsc_containers__",
    "/run/systemd/container",
];

/// Names of container runtimes, looked for in the cgroup path and in the command line of process 1.
const RUNTIMES: [&str; 12] = [
    "docker",
    "rkt",
    "systemd-nspawn",
    "lxc",
    "openvz",
    "kube",
    "garden",
    "podman",
    "gvisor",
    "firejail",
    "wsl",
    "containerd",
];

/// Inode numbers of the namespaces that are created at boot; they never change (include/linux/proc_ns.h).
const BOOT_NAMESPACES: [(&str, &str); 3] =
    [("pid", "pid:[4026531836]"), ("ipc", "ipc:[4026531839]"), ("uts", "uts:[4026531838]")];
/// Since Linux 6.18 the first mount namespace has a fixed number, which older kernels give to no namespace.
const BOOT_MOUNT_NAMESPACE: &str = "mnt:[4026531832]";

/// The facts that the decision is based on.
#[derive(Debug, Default)]
struct Signs {
    markers: Vec<&'static str>,
    cgroup: String,
    first_command: String,
    openvz: bool,
    microsoft: bool,
    container_variable: bool,
    overlay_root: bool,
    boot_namespaces: bool,
    boot_mount_namespace: bool,
}

impl Signs {
    fn gather() -> Self {
        let exists = |path: &str| Path::new(path).symlink_metadata().is_ok();
        let text = |path: &str| {
            std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
        };
        let namespace_is = |name: &str, link: &str| {
            std::fs::read_link(format!("/proc/self/ns/{name}")).is_ok_and(|target| target == Path::new(link))
        };
        let mounts = mountinfo::parse(text("/proc/self/mountinfo").as_bytes());
        Self {
            markers: MARKERS.into_iter().filter(|marker| exists(marker)).collect(),
            cgroup: text("/proc/self/cgroup"),
            first_command: text("/proc/1/cmdline"),
            openvz: exists("/proc/vz") && !exists("/proc/bc"),
            microsoft: text("/proc/version_signature").contains("Microsoft"),
            container_variable: std::env::var_os("container").is_some_and(|value| !value.is_empty()),
            overlay_root: root_is_overlay(&mounts),
            boot_namespaces: BOOT_NAMESPACES.iter().all(|(name, link)| namespace_is(name, link)),
            boot_mount_namespace: namespace_is("mnt", BOOT_MOUNT_NAMESPACE),
        }
    }

    fn decide(&self) -> ContainerCheck {
        let sign = self.first_sign();
        // A pod with hostPID, hostIPC and hostNetwork has the host's namespaces, but its root is still an overlay and
        // it has its own mount namespace.
        let host = self.boot_mount_namespace || (self.boot_namespaces && !self.overlay_root);
        match (sign, host) {
            (Some(sign), false) => ContainerCheck { is_container: true, evidence: sign },
            (Some(sign), true) => ContainerCheck {
                is_container: false,
                evidence: format!("{sign}, but this process is in the namespaces the machine booted with"),
            },
            (None, _) => ContainerCheck { is_container: false, evidence: "no sign of a container was found".into() },
        }
    }

    fn first_sign(&self) -> Option<String> {
        let word_in = |text: &str| RUNTIMES.into_iter().find(|word| text.contains(word));
        if let Some(marker) = self.markers.first() {
            return Some(format!("{marker} exists"));
        }
        if let Some(word) = word_in(&self.cgroup) {
            return Some(format!("/proc/self/cgroup names {word}"));
        }
        if let Some(word) = word_in(&self.first_command) {
            return Some(format!("/proc/1/cmdline names {word}"));
        }
        let rest = [
            (self.openvz, "/proc/vz exists"),
            (self.microsoft, "/proc/version_signature names Microsoft"),
            (self.container_variable, "the environment variable container is set"),
            (self.overlay_root, "/ is an overlay"),
        ];
        rest.into_iter().find(|(holds, _)| *holds).map(|(_, sign)| sign.to_owned())
    }
}

fn root_is_overlay(mounts: &[MountEntry]) -> bool {
    mountinfo::mount_of(mounts, Path::new("/")).is_some_and(|root| root.file_system.ends_with("overlay"))
}

/// Looks for signs of a container, and checks them against the boot namespaces.
#[must_use]
pub fn container_check() -> ContainerCheck {
    Signs::gather().decide()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_signs_this_is_not_a_container() {
        assert!(!Signs::default().decide().is_container);
    }

    #[test]
    fn each_sign_is_enough() {
        let signs = [
            Signs { markers: vec!["/.dockerenv"], ..Signs::default() },
            Signs { cgroup: "0::/kubepods/besteffort/x".into(), ..Signs::default() },
            Signs { openvz: true, ..Signs::default() },
            Signs { container_variable: true, ..Signs::default() },
            Signs { overlay_root: true, ..Signs::default() },
        ];
        for sign in signs {
            assert!(sign.decide().is_container, "{sign:?}");
        }
    }

    #[test]
    fn a_host_with_a_leftover_marker_is_not_a_container() {
        let machine = Signs { markers: vec!["/.dockerenv"], boot_namespaces: true, ..Signs::default() };
        let check = machine.decide();
        assert!(!check.is_container);
        assert!(check.evidence.contains("booted"));
        let live_disk = Signs { overlay_root: true, boot_mount_namespace: true, ..Signs::default() };
        assert!(!live_disk.decide().is_container);
    }

    #[test]
    fn a_pod_with_the_hosts_namespaces_is_still_a_container() {
        let pod = Signs { markers: vec!["/.dockerenv"], boot_namespaces: true, overlay_root: true, ..Signs::default() };
        assert!(pod.decide().is_container);
    }
}
