//! The program copied into an image with tools of its own, as agents of build systems have it.

use crate::support::images;
use crate::support::peers::peers;
use crate::support::pod::executor_image;
use crate::support::program::{Ended, Workspace, run, stdout};

/// Containers of Debian with the executor's binary at /usr/local/bin/crabwright, and a context.
struct Agent {
    workspace: Workspace,
    binary: tempfile::TempDir,
}

impl Agent {
    fn new() -> Self {
        let workspace = Workspace::new(&format!(
            "FROM {}\nRUN test ! -e /usr/bin/apt-get && test ! -e /home/agent && echo x > /usr/built && echo y > /etc/built\n\
             RUN cat /usr/built /etc/built\n",
            peers().busybox()
        ));
        // Out of the image, for that one is static.
        let binary = tempfile::tempdir().unwrap();
        let container = stdout(peers().docker().args(["create", executor_image()]));
        let copied = run(peers().docker().arg("cp").arg(format!("{container}:/kaniko/executor")).arg(binary.path()));
        run(peers().docker().args(["rm", &container])).success();
        copied.success();
        Self { workspace, binary }
    }

    /// `seccomp`: with the engine's profile, which forbids namespaces.
    fn run(&self, seccomp: bool, script: &str) -> Ended {
        let program = self.binary.path().join("executor");
        let mut docker = peers().docker();
        docker.args(["run", "--rm", "--network=host", "--pull=always", "--quiet"]);
        if !seccomp {
            docker.arg("--security-opt=seccomp=unconfined");
        }
        docker.arg(format!("--volume={}:/crabwright:ro", program.display()));
        docker.arg(format!("--volume={}:/workspace:ro", self.workspace.context().display()));
        docker.args([peers().debian(), "sh", "-c"]);
        let copied = "set -e; cp /crabwright /usr/local/bin/crabwright; mkdir /home/agent; cd /tmp";
        run(docker.arg(format!("{copied}; {script}")))
    }
}

const BUILD: &str = "crabwright --insecure --insecure-pull --reproducible --build-arg SOURCE_DATE_EPOCH=1";

#[test]
fn namespaces_work_in_any_image() {
    let agent = Agent::new();
    let destination = format!("{}:1", peers().repository("agent"));
    let said =
        agent.run(false, &format!("{BUILD} -d {destination}; git --version || apt-get --version")).success().said;
    assert!(said.contains("isolation: namespace"), "{said}");
    assert!(images::exists(&destination));
}

#[test]
fn own_root_moves_a_systems_files_only_if_it_may() {
    let agent = Agent::new();
    for flags in ["", "--force", "--pre-cleanup", "--force --pre-cleanup=false", "--isolation=own-root"] {
        agent
            .run(true, &format!("{BUILD} --no-push {flags}"))
            .refused(1, &["own-root", "the files of this image (Debian GNU/Linux 12", "--force --pre-cleanup"]);
    }
    let repository = peers().repository("agent-own-root");
    // Files and directories with their owners and modes, but for what is the build's or changes by itself.
    let listing = "find / -xdev -path /kaniko -prune -o -path /tmp -prune -o -printf '%p %U %G %m %y %l\\n' | sort";
    let script = format!(
        "{listing} > /tmp/before; {BUILD} -d {repository}:1 --force --pre-cleanup; {listing} > /tmp/after; \
         diff /tmp/before /tmp/after; apt-get --version; ls /kaniko; \
         KANIKO_PRE_CLEANUP=1 {BUILD} -d {repository}:2 --force --work-dir=/var/build"
    );
    let said = agent.run(true, &script).success().said;
    let told = "the files of this image (Debian GNU/Linux 12 (bookworm)) are moved away while a RUN runs, and moved back after it";
    assert!(said.contains(told) && said.contains(" /bin, /boot, "), "{said}");
    assert!(!said.contains("build-1"), "the build's directory is left: {said}");
    assert_eq!(images::digest(&format!("{repository}:1")), images::digest(&format!("{repository}:2")));
    for file in ["usr/built", "etc/built"] {
        let there = images::run_with_docker(&format!("{repository}:1"), &["cat", &format!("/{file}")]);
        there.success();
    }
}

/// Instructions that run nothing need no sandbox.
#[test]
fn copies_need_no_permission() {
    let agent = Agent::new();
    agent.workspace.file("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    agent.run(true, &format!("{BUILD} --no-push")).success();
}
