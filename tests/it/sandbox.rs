//! What a RUN sees and what it leaves, in each kind of pod: the default one (own-root), one that allows user namespaces,
//! and one of an ordinary user; and what own-root must never do to the container it runs in.

use std::time::Duration;

use crate::support::images;
use crate::support::peers::peers;
use crate::support::pod::Pod;
use crate::support::probe::add_probe;
use crate::support::program::{Workspace, run};

/// A pod option or several, on top of the default pod.
type Change = fn(Pod) -> Pod;

/// The kinds of pods with the isolation each one gives.
const PODS: [(&str, Change); 3] = [
    ("own-root", |pod| pod),
    ("namespace", Pod::without_seccomp),
    ("namespace", |pod| pod.without_seccomp().user(1000)),
];

/// What lets a pod mount without a user namespace.
const PRIVILEGED: Change = |pod| pod.without_seccomp().option("--cap-add=SYS_ADMIN");

const ARGUMENTS: [&str; 3] = ["--context=dir:///workspace", "--insecure", "--insecure-pull"];

fn workspace(instructions: &str) -> Workspace {
    Workspace::new(&format!("FROM {}\n{instructions}", peers().busybox()))
}

/// Builds without pushing in every kind of pod; each command checks for itself what it sees.
#[track_caller]
fn holds_in_every_pod(instructions: &str) {
    let workspace = workspace(instructions);
    for (isolation, change) in PODS {
        let ended = change(Pod::for_workspace(&workspace)).run(&[&ARGUMENTS[..], &["--no-push"]].concat());
        assert!(ended.said.contains(isolation), "not {isolation}:\n{}", ended.said);
        ended.success();
    }
}

#[test]
fn the_environment_is_the_images_alone() {
    holds_in_every_pod(
        r#"ENV A=1
ARG B=2
RUN test "$A$B" = 12 && test "$(pwd)" = / && test "$(umask)" = 0022 && test "$(id -u)" = 0
RUN test -z "$DOCKER_CONFIG$SSL_CERT_DIR$USER"
RUN test "$(cat | wc -c)" = 0 && ! test -t 1
RUN echo out > /dev/stdout && echo error > /dev/stderr
"#,
    );
}

#[test]
fn the_limits_are_the_pods() {
    let workspace = workspace("RUN test \"$(ulimit -n)\" = 4321 && test \"$(ulimit -c)\" = 7\n");
    for (_, change) in PODS {
        let pod = Pod::for_workspace(&workspace).option("--ulimit=nofile=4321:4321").option("--ulimit=core=3584:3584");
        change(pod).run(&[&ARGUMENTS[..], &["--no-push"]].concat()).success();
    }
}

#[test]
fn a_script_lies_in_dev_while_it_runs() {
    holds_in_every_pod(
        "RUN <<EOF\n#!/bin/sh -e\ntest \"$0\" = /dev/pipes/EOF && test -r \"$0\"\nEOF\nRUN test ! -e /dev/pipes\n",
    );
}

#[test]
fn a_script_runs_as_another_user_where_there_is_one() {
    for change in [(|pod| pod) as Change, Pod::without_seccomp] {
        let workspace = workspace("USER 1\nRUN <<EOF\n#!/bin/sh\nexec test \"$(id -u)\" = 1\nEOF\n");
        change(Pod::for_workspace(&workspace)).run(&[&ARGUMENTS[..], &["--no-push"]].concat()).success();
    }
}

#[test]
fn standard_devices_and_file_systems_are_there() {
    holds_in_every_pod(
        "RUN echo x > /dev/null && head -c 1 /dev/zero > /dev/null && head -c 1 /dev/urandom > /dev/null\n\
         RUN test -r /proc/self/status && test -d /sys/class && test -d /dev/shm && echo x > /dev/shm/x\n\
         RUN test -s /etc/resolv.conf && grep -q localhost /etc/hosts\n",
    );
}

#[test]
fn no_process_outlives_its_run() {
    holds_in_every_pod(
        "RUN setsid sleep 31337004 & (sleep 31337005 &) ; nohup sleep 31337006 > /dev/null & echo started\n\
         RUN for line in /proc/[0-9]*/cmdline; do if tr '\\0' ' ' < $line | grep 'sleep 3133700[456]'; then exit 1; fi; done\n\
         RUN for command in /proc/[0-9]*/comm; do if grep -qx sleep $command; then exit 1; fi; done\n",
    );
}

#[test]
fn capabilities_are_a_containers_and_gone_with_another_user() {
    for change in [(|pod| pod) as Change, Pod::without_seccomp] {
        let workspace = workspace(
            "RUN grep -q 'CapBnd:.*a80425fb' /proc/self/status && grep -q 'CapEff:.*a80425fb' /proc/self/status\n\
             USER 1000:50\n\
             RUN grep -q 'CapEff:.*0000000000000000' /proc/self/status && test \"$(id -u):$(id -g)\" = 1000:50\n\
             RUN echo opened > /dev/stdout && ! touch /not-allowed\n",
        );
        change(Pod::for_workspace(&workspace)).run(&[&ARGUMENTS[..], &["--no-push"]].concat()).success();
    }
}

#[test]
fn another_user_is_refused_where_only_one_id_is_mapped() {
    let workspace = workspace("USER 4321\nRUN true\n");
    Pod::for_workspace(&workspace)
        .without_seccomp()
        .user(1000)
        .run(&[&ARGUMENTS[..], &["--no-push"]].concat())
        .refused(1, &["cannot run as user 4321", "runAsUser: 0"]);
}

#[test]
fn a_pod_that_allows_nothing_is_told_what_to_change() {
    let workspace = workspace("RUN true\n");
    Pod::for_workspace(&workspace)
        .user(1000)
        .option("--cap-drop=ALL")
        .option("--security-opt=no-new-privileges")
        .run(&[&ARGUMENTS[..], &["--no-push"]].concat())
        .refused(1, &["unshare the user namespace", "own-root", "runAsUser: 0", "seccompProfile"]);
}

#[test]
fn own_root_is_refused_outside_of_a_container() {
    let workspace = Workspace::new("FROM scratch\nCOPY Dockerfile /\nRUN [\"/x\"]\n");
    let mut command = workspace.build();
    command.args(["--isolation=own-root", "--no-push"]);
    run(&mut command).refused(1, &["should only be run inside of a container", "--force"]);
}

/// The files of a pod's volumes stay in sight; what the image has at `/var/run`, a symbolic link, gets what is written
/// there. The service account's token is not where programs look for it; but it is in the pod, and a command that is root
/// finds it.
#[test]
fn own_root_leaves_mounts_alone() {
    let workspace = workspace(
        "COPY root /\n\
         RUN test -e /var/run/daemon/socket && echo made > /var/run/pid\n\
         RUN test \"$(cat /out/of-the-pod)\" = kept && echo changed >> /etc/hosts && chmod 0700 /etc\n\
         RUN ! test -e /var/run/secrets/kubernetes.io/serviceaccount/token\n\
         RUN test \"$(cat /.crabwright/stash/var/run/secrets/kubernetes.io/serviceaccount/token)\" = secret\n\
         RUN ! grep -q changed /etc/hosts && test -e /etc/made && ! test -e /workspace/kaniko\n",
    );
    workspace.file("root/run/image", "").file("root/etc/made", "").file("root/var/image", "");
    std::os::unix::fs::symlink("/run", workspace.context().join("root/var/run")).unwrap();
    let pods_files = workspace.out();
    std::fs::write(pods_files.join("of-the-pod"), "kept").unwrap();
    for directory in ["daemon", "account"] {
        std::fs::create_dir(pods_files.join(directory)).unwrap();
    }
    std::fs::write(pods_files.join("daemon/socket"), "").unwrap();
    std::fs::write(pods_files.join("account/token"), "secret").unwrap();
    let destination = format!("{}:1", peers().repository("own-root-mounts"));
    Pod::for_workspace(&workspace)
        .mount(&pods_files.join("daemon"), "/var/run/daemon")
        .mount(&pods_files.join("account"), "/var/run/secrets/kubernetes.io/serviceaccount:ro")
        .run(&[&ARGUMENTS[..], &["--destination", &destination]].concat())
        .success();
    let unpacked = tempfile::tempdir().unwrap();
    images::unpack(&destination, unpacked.path());
    let root = unpacked.path().join("rootfs");
    assert_eq!(std::fs::read_to_string(root.join("run/pid")).unwrap(), "made\n");
    assert!(root.join("var/run").is_symlink());
    assert!(
        !root.join("etc/hosts").exists()
            || !std::fs::read_to_string(root.join("etc/hosts")).unwrap().contains("changed")
    );
    for path in ["kaniko", "out", "workspace", "run/daemon", "run/secrets"] {
        assert!(!root.join(path).exists(), "/{path} of the pod is in the image");
    }
}

#[test]
fn own_root_is_undone_when_a_killed_container_starts_again() {
    let workspace = workspace(
        // The words must not be in the line itself, which is shown before it runs.
        "RUN echo made > /etc/made; if ! test -e /out/again; then touch /out/again; echo now-'sleeping'; sleep 1000; fi\n",
    );
    let pod = Pod::for_workspace(&workspace).start(&[&ARGUMENTS[..], &["--no-push"]].concat());
    pod.wait_for("now-sleeping", Duration::from_secs(60));
    pod.signal("KILL");
    pod.wait(Duration::from_secs(10));
    pod.start_again();
    let ended = pod.wait(Duration::from_secs(60)).success();
    assert!(ended.said.contains("root directory: restored"), "{}", ended.said);
}

#[test]
fn the_work_directory_may_be_a_relative_path() {
    let workspace = workspace("RUN test -s /etc/hosts\n");
    let mut command = workspace.build();
    command.current_dir(workspace.out()).args(["--work-dir=work", "--isolation=namespace", "--no-push"]);
    run(&mut command).success();
}

#[test]
fn a_missing_program_is_named() {
    for (_, change) in PODS {
        let workspace = workspace("RUN [\"/no/such/program\"]\n");
        let ended = change(Pod::for_workspace(&workspace)).run(&[&ARGUMENTS[..], &["--no-push"]].concat());
        assert_ne!(ended.code, 0);
        assert!(ended.said.contains("/no/such/program: no such file or directory"), "{}", ended.said);
    }
}

/// Neither those of the command nor the program's own are in sight after their end.
#[test]
fn a_process_whose_parent_has_ended_is_reaped_while_the_command_runs() {
    holds_in_every_pod(
        "RUN (sleep 0.1 & sleep 0.2 & true) && sleep 1 && grep -h -e ^Name -e ^State /proc/[0-9]*/status && \\\n\
             ! grep -q '^State:.*zombie' /proc/[0-9]*/status\n",
    );
}

const HOST_NAME: &str = "--build-arg=BUILDKIT_SANDBOX_HOSTNAME=builder.example";

#[test]
fn the_build_gives_commands_a_host_name() {
    let hosts = "RUN grep -qw builder.example /etc/hosts\n";
    let workspace = workspace(&format!("{hosts}RUN test \"$(hostname)\" = builder.example\n"));
    Pod::for_workspace(&workspace)
        .without_seccomp()
        .run(&[&ARGUMENTS[..], &["--no-push", HOST_NAME]].concat())
        .success();
}

#[test]
fn own_root_writes_the_host_name_to_the_pods_hosts_for_the_time_of_a_command() {
    let workspace = workspace(
        "RUN grep -qw builder.example /etc/hosts && ! grep -q buildkitsandbox /etc/hosts\n\
         RUN test \"$(grep -cw builder.example /etc/hosts)\" = 1 && grep -qw other.example /etc/hosts && touch /made\n",
    );
    let destination = format!("{}:1", peers().repository("host-name"));
    let pod = Pod::for_workspace(&workspace).option("--add-host=other.example:10.1.1.1");
    let pod = pod.start(&[&ARGUMENTS[..], &["--destination", &destination, HOST_NAME]].concat());
    let ended = pod.wait(Duration::from_secs(60)).success();
    assert_eq!(images::last_layer(&destination), ["made"]);
    let hosts = pod.hosts();
    assert!(hosts.contains("other.example") && !hosts.contains("builder.example"), "{hosts}");
    assert_eq!(ended.said.matches("WARNING: own-root isolation cannot set a host name").count(), 1, "{}", ended.said);
}

#[test]
fn what_can_be_no_host_name_is_refused() {
    let workspace = workspace("RUN true\n");
    for name in ["with space", "a\nb", &"x".repeat(65)] {
        let mut command = workspace.build();
        command.args(["--no-push", &format!("--build-arg=BUILDKIT_SANDBOX_HOSTNAME={name}")]);
        run(&mut command).refused(1, &["BUILDKIT_SANDBOX_HOSTNAME cannot be", "host name has letters"]);
    }
}

/// Without a user namespace a command may make device nodes: they come into the layer, and lead to no device of the node.
#[test]
fn a_privileged_pods_command_makes_device_nodes_and_opens_none_but_its_own() {
    let workspace = workspace(
        "COPY probe /\n\
         RUN --mount=type=cache,target=/cache mknod /zero c 1 5 && mknod /dev/zero-too c 1 5 && mknod /cache/zero c 1 5 && \\\n\
             test -c /zero && for path in /zero /dev/zero-too /cache/zero; do if /probe open $path; then exit 1; fi; done\n\
         RUN ls -l /zero | grep '^c.* 1, *5 ' && ! /probe open /zero\n\
         RUN for name in null zero full random urandom; do /probe open /dev/$name || exit 1; done; test -c /dev/ptmx\n",
    );
    add_probe(&workspace);
    let ended = PRIVILEGED(Pod::for_workspace(&workspace)).run(&[&ARGUMENTS[..], &["--no-push"]].concat());
    ended.success().says("root with CAP_SYS_ADMIN");
}

#[test]
fn what_a_container_runtime_hides_of_the_machine_is_hidden() {
    let workspace = workspace(
        "RUN test -z \"$(cat /proc/interrupts)\" && test -z \"$(ls /sys/firmware)\" && test -z \"$(cat /proc/keys)\"\n",
    );
    for change in [Pod::without_seccomp as Change, PRIVILEGED] {
        let ended = change(Pod::for_workspace(&workspace)).run(&[&ARGUMENTS[..], &["--no-push"]].concat());
        ended.success().says("isolation: namespace");
    }
}

/// What a container runtime's profile refuses, in pods without any.
#[test]
fn a_command_gets_no_user_namespace_and_no_keyring() {
    let workspace = workspace(
        "COPY probe /\n\
         RUN /probe namespace 2> /said || grep 'Operation not permitted' /said && ! /probe namespace\n\
         RUN /probe keyring 2> /said || grep 'Operation not permitted' /said && ! /probe keyring\n\
         USER 12\n\
         RUN ! /probe namespace && ! /probe keyring && /probe threads\n",
    );
    add_probe(&workspace);
    for change in [Pod::without_seccomp as Change, PRIVILEGED] {
        change(Pod::for_workspace(&workspace)).run(&[&ARGUMENTS[..], &["--no-push"]].concat()).success();
    }
}
