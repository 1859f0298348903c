//! The container's own files while own-root has them out of the way: whatever else is built in the container, whatever a
//! command does to them, and however a build ends.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use crate::support::peers::peers;
use crate::support::pod::{Pod, RunningPod, debug_image};
use crate::support::program::{Ended, Workspace, run};

/// How long a pod may take that waits for nothing but the machine.
const LIMIT: Duration = Duration::from_secs(180);

const ARGUMENTS: [&str; 3] = ["--insecure", "--insecure-pull", "--no-push"];

/// Another build in a container where one runs.
fn beside(first: &RunningPod, arguments: &[&str]) -> Ended {
    first.exec(&[&["/kaniko/executor"], &ARGUMENTS[..], arguments].concat())
}

/// A command that runs until `/out/go` is there, in a pod with this work directory.
fn waiting(workspace: &Workspace, work_dir: &str) -> RunningPod {
    let pod = Pod::for_workspace(workspace).start(&[&ARGUMENTS[..], &["--work-dir", work_dir]].concat());
    pod.wait_for("first is running", LIMIT);
    pod
}

/// `/` is one, whatever directories builds work in: with a lock in the work directory, two of them took each other's files
/// away.
#[test]
fn builds_with_work_directories_of_their_own_do_not_take_each_others_files() {
    let base = peers().busybox();
    let workspace = Workspace::new(&format!(
        "FROM {base}\nRUN echo first is running && until test -e /out/go; do sleep 0.1; done && test ! -e /other && test ! -e /wb\n"
    ));
    workspace.file("Dockerfile.copy", "FROM scratch\nCOPY Dockerfile /f\n");
    workspace.file("Dockerfile.run", &format!("FROM {base}\nRUN echo x > /other\n"));
    let first = waiting(&workspace, "/wa");
    let other = ["--dockerfile=Dockerfile.run", "--work-dir=/wb"];
    beside(&first, &other).refused(1, &["another build in this container", "/wb", "/kaniko"]);
    let same = ["--dockerfile=Dockerfile.run", "--work-dir=/kaniko"];
    beside(&first, &same).refused(1, &["another build in this container", "only one build at a time"]);
    // What is copied needs no command, but a place that stays where it is.
    beside(&first, &["--dockerfile=Dockerfile.copy", "--work-dir=/wb"]).refused(1, &["hides", "/wb"]);
    for place in ["/kaniko", "/out/work"] {
        beside(&first, &["--dockerfile=Dockerfile.copy", "--work-dir", place]).success();
    }
    std::fs::write(workspace.out().join("go"), "").unwrap();
    first.wait(LIMIT).success();
    let changed = first.changed_files();
    let known = |path: &str| path.starts_with("/kaniko") || path.starts_with("/wa") || path == "/out";
    assert!(changed.iter().all(|path| known(path)), "{changed:?}");
}

/// A build that needs no command still reads its files by their paths: no other one may take them away before it has ended.
#[test]
fn a_build_without_commands_keeps_its_files_in_sight() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let workspace = Workspace::new(&format!(
        "FROM scratch\nCOPY Dockerfile /first\nADD http://{}/slow /slow\nCOPY Dockerfile /last\n",
        server.local_addr().unwrap()
    ));
    workspace.file("Dockerfile.run", &format!("FROM {}\nRUN echo x > /other\n", peers().busybox()));
    let first = Pod::for_workspace(&workspace).start(&[&ARGUMENTS[..], &["--work-dir=/wa"]].concat());
    let (mut connection, _) = server.accept().unwrap();
    assert!(connection.read(&mut [0; 4096]).unwrap() > 0);
    first.wait_for("ADD http://", LIMIT);
    beside(&first, &["--dockerfile=Dockerfile.run", "--work-dir=/kaniko"])
        .refused(1, &["another build in this container", "only one build at a time"]);
    connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nslow").unwrap();
    drop((connection, server));
    first.wait(LIMIT).success();
}

/// Shell functions for a job's script: `list` gives everything but what builds may leave, `build` builds.
pub(crate) const FUNCTIONS: &str = r#"
list() {
    find / -xdev -path /kaniko -prune -o -path '/w*' -prune -o -path /tmp -prune -o -path /etc/hosts -prune -o -type f -exec stat -c '%n %F %a %u %g %s %Y' {} + \
        -o -exec stat -c '%n %F %a %u %g' {} + | sort
    cat /etc/hosts /ctx/*
}
build() { /kaniko/executor --insecure --insecure-pull --no-push --context=dir:///ctx "$@"; }
mkdir -p /ctx /tmp && cp /workspace/* /ctx && list > /tmp/before
restored() { list > /tmp/after && diff /tmp/before /tmp/after && test ! -e /.crabwright && echo everything is-back; }
"#;

/// A script in a shell of the image that has one, with the context in the container's own files.
fn job(workspace: &Workspace, options: &[&str], script: &str) -> Ended {
    run(peers()
        .docker()
        .args(["run", "--rm", "--network=host"])
        .arg(format!("--volume={}:/workspace:ro", workspace.context().display()))
        .args(options)
        .args(["--entrypoint=", debug_image(), "sh", "-c", &format!("{FUNCTIONS}{script}")]))
}

/// The next start finds the journal whatever its work directory is, before it looks for the context, which is in the stash.
#[test]
fn a_command_that_kills_the_build_is_undone_by_the_next_start() {
    let base = peers().busybox();
    let workspace =
        Workspace::new(&format!("FROM {base}\nRUN echo changed > /etc/hosts; killall -9 executor; sleep 1000\n"));
    workspace.file("Dockerfile.next", &format!("FROM {base}\nRUN test ! -e /ctx && echo next-'ran'\n"));
    for (first, second) in [("/wa", "/wb"), ("/kaniko", "/wb"), ("/wa", "/kaniko")] {
        let script = format!(
            "build --work-dir={first}; echo ended with $?; test ! -e /ctx && echo files are-away; \
             build --work-dir={second} --dockerfile=Dockerfile.next && restored"
        );
        let ended = job(&workspace, &[], &script).success();
        for said in ["ended with 137", "files are-away", "root directory: restored", "next-ran", "everything is-back"] {
            ended.says(said);
        }
    }
}

/// Every start puts them back, were it for something else than a build.
#[test]
fn any_command_of_the_program_puts_the_files_back_first() {
    let workspace = Workspace::new(&format!("FROM {}\nRUN killall -9 executor; sleep 1000\n", peers().busybox()));
    let script = "build; /kaniko/executor push /ctx/no-archive -d localhost:1/x; restored";
    job(&workspace, &[], script).success().says("root directory: restored").says("everything is-back");
}

/// A pod's volume below `/data` makes that a merged directory. A link in its place must lead nobody to move the executor's own
/// files (the class of CVE-2024-23652: a mount point's directory replaced by a link during the command).
#[test]
fn a_directory_above_a_mount_that_a_command_replaces_is_put_back() {
    let base = peers().busybox();
    let replaced = "mv /data /data.moved && ln -s /kaniko /data";
    let workspace = Workspace::new(&format!("FROM {base}\nRUN {replaced}\n"));
    workspace.file("Dockerfile.killed", &format!("FROM {base}\nRUN {replaced}; killall -9 executor; sleep 1000\n"));
    // Moved into the stage with the volume in it, the volume's files went into the layer and were removed with the stage.
    workspace.file("Dockerfile.moved", &format!("FROM {base}\nRUN mv /data /data.moved\n"));
    workspace.file("Dockerfile.own", &format!("FROM {base}\nRUN mv /w0 /elsewhere && mkdir /w0\n"));
    workspace.file("Dockerfile.next", &format!("FROM {base}\nRUN true\n"));
    let volume = workspace.out().join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("kept"), "of the volume").unwrap();
    let option = format!("--volume={}:/data/ctx", volume.display());
    for (dockerfile, work_dir) in
        [("Dockerfile", "/kaniko"), ("Dockerfile.moved", "/kaniko"), ("Dockerfile.own", "/w0")]
    {
        let script = format!(
            "mkdir -p {work_dir} && echo secret > {work_dir}/config; build --dockerfile={dockerfile} --work-dir={work_dir}; \
             echo ended with $?; restored && cat {work_dir}/config && test -x /kaniko/executor && test ! -e {work_dir}/build-1 \
             && cat /data/ctx/kept"
        );
        let ended = job(&workspace, &[&option], &script).success();
        for said in [
            "moved, replaced or removed /",
            "own files are back in place",
            "ended with 1",
            "everything is-back",
            "of the volume",
        ] {
            ended.says(said);
        }
    }
    let script =
        "build --dockerfile=Dockerfile.killed; build --dockerfile=Dockerfile.next && restored && cat /data/ctx/kept";
    let ended = job(&workspace, &[&option], script).success();
    for said in ["root directory: restored", "everything is-back", "of the volume"] {
        ended.says(said);
    }
    assert_eq!(std::fs::read_to_string(volume.join("kept")).unwrap(), "of the volume");
    assert_eq!(std::fs::read_dir(&volume).unwrap().count(), 1);
}

/// The root of a container of its own in memory, which a command fills to the last byte: nothing that is written on the way back needs
/// space.
#[test]
fn a_full_disk_does_not_keep_the_files_from_being_put_back() {
    let workspace = Workspace::new(&format!(
        "FROM {}\nRUN dd if=/dev/zero of=/big bs=4k; echo changed > /etc/hosts; ! echo x > /more\n",
        peers().busybox()
    ));
    workspace.file("Dockerfile.next", "FROM scratch\nCOPY Dockerfile /\n");
    let script = r##"
        size=$(($(du -sm /kaniko/executor | cut -f1) + 12))
        mkdir /r && mount -t tmpfs -o size=${size}m none /r && cd /r && mkdir -p kaniko proc dev ctx etc own/deep
        cp /kaniko/executor kaniko && cp -a /busybox /bin . && cp /workspace/* ctx && cp /etc/resolv.conf etc && touch etc/hosts own/deep/file
        mount -t proc proc proc && mount --bind /dev dev && head -c 1100 /dev/zero | tr '\0' '#' > /hosts && mount --bind /hosts etc/hosts
        list() {
            chroot /r /busybox/find / -xdev -path /kaniko -prune -o -exec stat -c '%n %F %a %u %g' {} + | sort; md5sum etc/hosts
        }
        build() { chroot /r /kaniko/executor --isolation=own-root --force --insecure --no-push --context=dir:///ctx "$@"; }
        list > /before
        build; echo ended with $?
        list > /after && diff /before /after && echo back at-once
        build --dockerfile=Dockerfile.next && test ! -e .crabwright && ls kaniko
    "##;
    let ended = run(peers()
        .docker()
        .args(["run", "--rm", "--network=host", "--cap-add=SYS_ADMIN", "--security-opt=seccomp=unconfined"])
        .arg(format!("--volume={}:/workspace:ro", workspace.context().display()))
        .args(["--entrypoint=", debug_image(), "sh", "-c", script]))
    .success();
    for said in ["No space left on device", "ended with 1", "back at-once"] {
        ended.says(said);
    }
}
