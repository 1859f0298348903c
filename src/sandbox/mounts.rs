//! Makes the mounts that a command sees, in the child's own mount namespace.
//!
//! They are those that runc gives a container: `/proc`, `/dev` with the usual nodes, `/sys` read-only, and the two
//! files that a resolver needs. Where the kernel refuses a fresh procfs or sysfs, because the container's is masked,
//! the container's own is bind mounted.

use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change, mount_move,
    unmount,
};

use super::message::{Failure, NamespaceSpec};
use super::mount_flags::{remount, restrict};
use super::{Script, run_mounts, script};

const HARMLESS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Parts of `/proc` that a container must not see: files, then directories (maskedPaths of containerd and Docker).
const MASKED_FILES: [&str; 7] =
    ["interrupts", "kcore", "keys", "latency_stats", "timer_list", "timer_stats", "sched_debug"];
const MASKED_DIRECTORIES: [&str; 3] = ["acpi", "asound", "scsi"];
/// The same of `/sys`.
const MASKED_IN_SYS: [&str; 2] = ["firmware", "devices/virtual/powercap"];
/// Parts of a fresh `/proc` that a container must not change (readonlyPaths).
const READ_ONLY: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Mounts everything and makes the stage's root directory `/`.
pub(super) fn set_up(spec: &NamespaceSpec, note: &mut dyn FnMut(String)) -> Result<(), Failure> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(Failure::step("make the mounts private"))?;
    // pivot_root takes a mount point only.
    mount_bind_recursive(&spec.root, &spec.root)
        .map_err(Failure::step(format!("bind mount {}", spec.root.display())))?;
    // Without a user namespace a command may create device nodes, and the image may contain some. Using them would give
    // access to the machine. The nodes of `/dev` are separate mounts.
    restrict(&spec.root, MountFlags::NODEV).map_err(Failure::step("disable device nodes in the root directory"))?;
    mount_proc(spec, note)?;
    mount_dev(&spec.dev_target, note)?;
    if let Some(script) = &spec.script {
        place_script(&spec.dev_target, script, note)?;
    }
    mount_sys(&spec.sys_target, note)?;
    for (source, target) in &spec.read_only_files {
        bind_read_only(source, target).map_err(Failure::step(format!("bind mount {}", target.display())))?;
    }
    run_mounts::mount_all(&spec.mounts, &spec.root, &spec.scratch, note)?;
    change_root(&spec.root, note)
}

fn mount_proc(spec: &NamespaceSpec, note: &mut dyn FnMut(String)) -> Result<(), Failure> {
    let target = &spec.proc_target;
    if spec.processes {
        mount("proc", target, "proc", HARMLESS, None).map_err(Failure::step("mount a fresh /proc"))?;
        for name in READ_ONLY {
            let path = target.join(name);
            let bound = mount_bind_recursive(&path, &path).and_then(|()| remount(&path, MountFlags::RDONLY));
            note_failure(&path, bound, note);
        }
    } else {
        mount_bind_recursive("/proc", target).map_err(Failure::step("bind mount /proc"))?;
    }
    for name in MASKED_FILES {
        let path = target.join(name);
        note_failure(&path, mount_bind("/dev/null", &path), note);
    }
    mask_directories(target, &MASKED_DIRECTORIES, note);
    Ok(())
}

fn mask_directories(above: &Path, names: &[&str], note: &mut dyn FnMut(String)) {
    for name in names {
        let path = above.join(name);
        note_failure(&path, mount("tmpfs", &path, "tmpfs", HARMLESS | MountFlags::RDONLY, None), note);
    }
}

fn note_failure(path: &Path, result: rustix::io::Result<()>, note: &mut dyn FnMut(String)) {
    match result {
        // Which of them exist depends on the kernel.
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => note(format!("{} is left unchanged: {errno}", path.display())),
    }
}

fn mount_dev(target: &Path, note: &mut dyn FnMut(String)) -> Result<(), Failure> {
    // Device nodes that a command creates here do not work either: the nodes below are mounts of their own.
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::STRICTATIME;
    mount("tmpfs", target, "tmpfs", flags, Some(c"mode=755,size=65536k")).map_err(Failure::step("mount /dev"))?;
    // Nodes are bind mounted: in a user namespace mknod is refused.
    for name in DEVICES {
        let (source, node) = (Path::new("/dev").join(name), target.join(name));
        std::fs::write(&node, b"").map_err(Failure::io(format!("create /dev/{name}")))?;
        if let Err(errno) = mount_bind(&source, &node) {
            note(format!("the container's /dev/{name} cannot be bound: {errno}"));
            std::fs::remove_file(&node).map_err(Failure::io(format!("remove /dev/{name}")))?;
        }
    }
    for (name, to) in LINKS {
        std::os::unix::fs::symlink(to, target.join(name)).map_err(Failure::io(format!("create /dev/{name}")))?;
    }
    let mut directory = |name: &str, kind: &str, flags: MountFlags, attempts: &[&std::ffi::CStr]| {
        let path = target.join(name);
        std::fs::create_dir(&path).map_err(Failure::io(format!("create /dev/{name}")))?;
        let mut result = Err(Errno::INVAL);
        for data in attempts {
            result = mount(kind, &path, kind, flags, Some(*data));
            if result.is_ok() {
                break;
            }
        }
        if let Err(errno) = result {
            note(format!("/dev/{name} stays an empty directory: {errno}"));
        }
        Ok(())
    };
    let no_exec = MountFlags::NOSUID | MountFlags::NOEXEC;
    // Not every user namespace maps the group tty.
    let pts = [c"newinstance,ptmxmode=0666,mode=0620,gid=5", c"newinstance,ptmxmode=0666,mode=0620"];
    directory("pts", "devpts", no_exec, &pts)?;
    directory("shm", "tmpfs", HARMLESS, &[c"mode=1777,size=65536k"])?;
    directory("mqueue", "mqueue", HARMLESS, &[c""])
}

/// Places the script, read-only as in BuildKit. Where that is refused, changes to it are lost with the mount anyway.
fn place_script(dev: &Path, script: &Script, note: &mut dyn FnMut(String)) -> Result<(), Failure> {
    let name = format!("/dev/pipes/{}", script.name);
    let directory = script::place(dev, script).map_err(Failure::io(format!("create {name}")))?;
    if let Err(errno) = bind_read_only(&directory, &directory) {
        note(format!("{name} is not read-only: {errno}"));
    }
    Ok(())
}

fn mount_sys(target: &Path, note: &mut dyn FnMut(String)) -> Result<(), Failure> {
    let flags = HARMLESS | MountFlags::RDONLY;
    let Err(errno) = mount("sysfs", target, "sysfs", flags, None) else {
        // In a fresh sysfs the cgroup directory is empty.
        let control_groups = target.join("fs/cgroup");
        let bound = mount_bind_recursive("/sys/fs/cgroup", &control_groups)
            .and_then(|()| restrict(&control_groups, MountFlags::RDONLY));
        if let Err(errno) = bound {
            note(format!("/sys/fs/cgroup is left empty: {errno}"));
        }
        mask_directories(target, &MASKED_IN_SYS, note);
        return Ok(());
    };
    if let Err(bind_errno) = mount_bind_recursive("/sys", target) {
        note(format!("/sys is empty: a fresh one gives {errno}, a bind of the container's {bind_errno}"));
        return mount("tmpfs", target, "tmpfs", flags, None).map_err(Failure::step("mount an empty /sys"));
    }
    if let Err(errno) = restrict(target, MountFlags::RDONLY) {
        note(format!("/sys cannot be made read-only: {errno}"));
    }
    mask_directories(target, &MASKED_IN_SYS, note);
    Ok(())
}

fn bind_read_only(source: &Path, target: &Path) -> rustix::io::Result<()> {
    mount_bind(source, target)?;
    restrict(target, MountFlags::RDONLY)
}

fn change_root(root: &Path, note: &mut dyn FnMut(String)) -> Result<(), Failure> {
    let cannot = |errno| Failure::step(format!("make {} the root directory", root.display()))(errno);
    rustix::process::chdir(root).map_err(cannot)?;
    match rustix::process::pivot_root(".", ".") {
        // The old root is now mounted on top of the new one.
        Ok(()) => unmount(".", UnmountFlags::DETACH).map_err(Failure::step("unmount the old root directory"))?,
        Err(errno @ (Errno::PERM | Errno::NOSYS | Errno::INVAL)) => {
            note(format!("pivot_root gives {errno}; chroot is used"));
            // The new root is moved over the old one, so that a second chroot does not lead out.
            if let Err(errno) = mount_move(".", "/") {
                note(format!("the new root cannot be moved over the old one: {errno}"));
            }
            rustix::process::chroot(".").map_err(cannot)?;
        }
        Err(errno) => return Err(cannot(errno)),
    }
    rustix::process::chdir("/").map_err(cannot)
}

/// Checks that mounts work here, for the probe.
///
/// Called in a process that is about to end, in its own mount namespace.
pub(super) fn try_mounts() -> Result<(), Failure> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(Failure::step("make the mounts private"))?;
    // /sys serves as the scratch directory: it exists everywhere, and only this process sees the mount.
    mount("tmpfs", PROBE, "tmpfs", HARMLESS, None).map_err(Failure::step("mount a tmpfs"))?;
    let (source, target) = (Path::new(PROBE).join("a"), Path::new(PROBE).join("b"));
    for directory in [&source, &target] {
        std::fs::create_dir(directory).map_err(Failure::io("create a directory in a tmpfs"))?;
    }
    mount_bind(&source, &target).map_err(Failure::step("bind mount a directory"))?;
    restrict(&target, MountFlags::NODEV).map_err(Failure::step("disable device nodes in a mount"))
}

/// Checks that procfs can be mounted. Called in a new process namespace after [`try_mounts`].
pub(super) fn try_proc() -> io::Result<()> {
    Ok(mount("proc", Path::new(PROBE).join("a"), "proc", HARMLESS, None)?)
}

const PROBE: &str = "/sys";
