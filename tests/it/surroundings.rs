//! The executor in containers that lack what one takes for granted, and several builds in one container.

use std::time::Duration;

use crate::support::images;
use crate::support::peers::peers;
use crate::support::pod::{Pod, RunningPod, debug_image};
use crate::support::program::{Ended, Workspace, run};

/// How long a pod may take that waits for nothing but the machine.
const LIMIT: Duration = Duration::from_secs(180);

const COMMON: [&str; 6] = [
    "--context=dir:///workspace",
    "--insecure",
    "--insecure-pull",
    "--reproducible",
    "--build-arg",
    "SOURCE_DATE_EPOCH=1",
];

/// A base with a directory that nobody may write to and a file that nobody may read, as Fedora has them.
fn closed_base(name: &str) -> String {
    let workspace = Workspace::new(&format!(
        "FROM {}\nRUN mkdir /closed /closed/below && echo x > /closed/below/f && chmod 0555 /closed/below /closed \
         && : > /secret && chmod 0 /secret\n",
        peers().busybox()
    ));
    let base = format!("{}:1", peers().repository(name));
    Pod::for_workspace(&workspace).run(&[&COMMON[..], &["-d", &base]].concat()).success();
    base
}

/// Files come and go where permissions bind; every file belongs to root.
fn with_a_command(base: &str) -> Workspace {
    let workspace = Workspace::new(&format!(
        "FROM {base} AS one\nRUN echo hello > /hello && test \"$(cat /closed/below/f)\" = x && mkdir /new && chmod 0555 /new\n\
         FROM one\nCOPY f /closed/below/g\nRUN test -f /closed/below/g && echo again >> /hello\nCOPY --from=one /new /copied\n"
    ));
    workspace.file("f", "content\n");
    workspace
}

/// The same without commands, and with owners.
fn with_copies_alone(base: &str) -> Workspace {
    let workspace = Workspace::new(&format!(
        "FROM {base} AS one\nCOPY --chown=5:6 f /closed/below/g\nFROM one\nCOPY --from=one /closed /copied\n"
    ));
    workspace.file("f", "content\n");
    workspace
}

struct Builds<'w> {
    workspace: &'w Workspace,
    repository: String,
}

impl<'w> Builds<'w> {
    fn of(workspace: &'w Workspace, name: &str) -> Self {
        Self { workspace, repository: peers().repository(name) }
    }

    fn pod(&self) -> Pod {
        Pod::new().mount(&self.workspace.context(), "/workspace:ro")
    }

    fn run(&self, pod: &Pod, tag: &str, arguments: &[&str]) -> Ended {
        pod.run(&[&COMMON[..], arguments, &["-d", &format!("{}:{tag}", self.repository)]].concat())
    }

    /// The digest that a pod with everything gives.
    fn expected(&self) -> String {
        self.run(&self.pod(), "expected", &[]).success();
        images::digest(&format!("{}:expected", self.repository))
    }

    #[track_caller]
    fn gives(&self, expected: &str, pod: &Pod, tag: &str, arguments: &[&str]) -> Ended {
        let ended = self.run(pod, tag, arguments).success();
        assert_eq!(images::digest(&format!("{}:{tag}", self.repository)), expected, "{tag} made another image");
        ended
    }
}

#[test]
fn nothing_of_the_environment_is_needed() {
    let workspace = with_a_command(&closed_base("bare"));
    let builds = Builds::of(&workspace, "bare-build");
    let expected = builds.expected();
    let empty = ["HOME", "USER", "PATH", "SSL_CERT_DIR", "DOCKER_CONFIG"].map(|name| format!("--env={name}="));
    let pod = empty.iter().fold(builds.pod(), |pod, option| pod.option(option));
    assert!(builds.gives(&expected, &pod, "own-root", &[]).said.contains("own-root"));
    assert!(builds.gives(&expected, &pod.without_seccomp(), "namespace", &[]).said.contains("namespace"));
    let lost = builds.pod().option("--env=HOME=/nonexistent").option("--env=SSL_CERT_DIR=/nonexistent");
    builds.gives(&expected, &lost, "lost", &[]);
}

/// What belongs to root can be built by a root that may nothing else; what cannot is told.
#[test]
fn root_without_capabilities_builds() {
    let base = closed_base("dropped");
    let workspace = with_a_command(&base);
    let builds = Builds::of(&workspace, "dropped-build");
    let expected = builds.expected();
    let said = builds.gives(&expected, &builds.pod().option("--cap-drop=ALL"), "dropped", &[]).said;
    assert!(said.contains("own-root") && said.contains("the pod drops CHOWN, DAC_OVERRIDE, FOWNER"), "{said}");
    let strict = builds.pod().option("--cap-drop=ALL").option("--security-opt=no-new-privileges");
    builds.gives(&expected, &strict, "strict", &[]);

    let copies = with_copies_alone(&base);
    let builds = Builds::of(&copies, "dropped-copies");
    builds.gives(&builds.expected(), &builds.pod().option("--cap-drop=ALL"), "dropped", &[]);

    let other_user = Workspace::new(&format!("FROM {base}\nUSER 1000\nRUN id\n"));
    let builds = Builds::of(&other_user, "dropped-user");
    builds
        .run(&builds.pod().option("--cap-drop=ALL"), "user", &[])
        .refused(1, &["cannot run as user 1000", "capabilities SETUID and SETGID", "capabilities.add"]);
}

/// OpenShift gives a container a user of its own, in the group root.
#[test]
fn an_arbitrary_user_builds() {
    let base = closed_base("arbitrary");
    let copies = with_copies_alone(&base);
    let builds = Builds::of(&copies, "arbitrary-copies");
    let expected = builds.expected();
    let user = || builds.pod().option("--user=1000650000:0").option("--cap-drop=ALL");
    builds.gives(&expected, &user(), "copies", &[]);

    let workspace = with_a_command(&base);
    let builds = Builds::of(&workspace, "arbitrary-build");
    let expected = builds.expected();
    let user = || builds.pod().option("--user=1000650000:0");
    builds.run(&user(), "default", &[]).refused(1, &["no way to isolate RUN", "seccompProfile: Unconfined"]);
    let said = builds.gives(&expected, &user().without_seccomp(), "unconfined", &[]).said;
    assert!(said.contains("namespace"), "{said}");
}

#[test]
fn a_root_that_is_read_only_needs_a_volume_to_work_in() {
    let base = closed_base("read-only");
    let workspace = with_a_command(&base);
    let builds = Builds::of(&workspace, "read-only-build");
    let expected = builds.expected();
    let pod = || builds.pod().option("--read-only");
    let work = ["--work-dir=/work"];
    builds
        .run(&pod(), "nowhere", &[])
        .refused(1, &["prepare the work directory", "read-only file system", "--work-dir"]);
    let with_volume = || pod().option("--volume=/work");
    builds.run(&with_volume(), "volume", &work).refused(1, &["own-root", "readOnlyRootFilesystem", "seccompProfile"]);
    builds.gives(&expected, &with_volume().without_seccomp(), "namespace", &work);
    builds.gives(&expected, &pod().option("--tmpfs=/work:exec").without_seccomp(), "memory", &work);

    let copies = with_copies_alone(&base);
    let builds = Builds::of(&copies, "read-only-copies");
    builds.gives(&builds.expected(), &builds.pod().option("--read-only").option("--volume=/work"), "volume", &work);
}

/// A device plugin lays a driver's files over the container's, read-only; a kubelet does so with tokens and a log.
#[test]
fn files_bound_over_the_images_are_not_in_it_and_not_touched() {
    let workspace = Workspace::new(&format!(
        "FROM {}\nRUN echo built > /built && touch /usr/bin/new /usr/lib/x86_64-linux-gnu/new && apt-get --version\n\
         FROM {}\nRUN rm -rf /usr/bin/nvidia-smi /usr/lib/x86_64-linux-gnu/libcuda.so.1 || true\n\
         COPY --from=0 /usr/bin/new /usr/bin/new\nRUN ls /usr/bin/new && chmod 0700 /usr/lib\n",
        peers().debian(),
        peers().debian()
    ));
    let builds = Builds::of(&workspace, "driver");
    let expected = builds.expected();
    let host = workspace.out();
    let bound = ["libcuda.so.1", "nvidia-smi", "termination-log"].map(|name| {
        std::fs::write(host.join(name), name).unwrap();
        host.join(name)
    });
    let pod = || {
        builds
            .pod()
            .mount(&bound[0], "/usr/lib/x86_64-linux-gnu/libcuda.so.1:ro")
            .mount(&bound[1], "/usr/bin/nvidia-smi:ro")
            .mount(&bound[2], "/dev/termination-log")
            .option("--tmpfs=/run/secrets/kubernetes.io/serviceaccount:ro")
    };
    assert!(builds.gives(&expected, &pod(), "own-root", &[]).said.contains("own-root"));
    assert!(builds.gives(&expected, &pod().without_seccomp(), "namespace", &[]).said.contains("namespace"));
    for path in &bound {
        assert_eq!(path.file_name().unwrap().to_str().unwrap(), std::fs::read_to_string(path).unwrap());
    }
}

/// The same below directories that are links in the image, as a driver's firmware below /lib.
#[test]
fn files_bound_below_links_of_the_image_hide_nothing() {
    let workspace = Workspace::new(&format!(
        "FROM {}\nRUN test -x /bin/ls && test -e /lib/x86_64-linux-gnu/libc.so.6 && echo new > /bin/new && rm /bin/chgrp \\\n\
         && mv /lib/os-release /lib/moved && chmod 0700 /lib/systemd\nRUN cat /usr/bin/new && test -e /usr/lib/moved\n",
        peers().debian()
    ));
    let builds = Builds::of(&workspace, "firmware");
    let expected = builds.expected();
    let file = workspace.out().join("bound");
    std::fs::write(&file, "bound").unwrap();
    let pod = || {
        builds
            .pod()
            .mount(&file, "/lib/firmware/nvidia/gsp.bin:ro")
            .mount(&file, "/lib/x86_64-linux-gnu/libcuda.so.1:ro")
            .mount(&file, "/bin/nvidia-smi:ro")
    };
    assert!(builds.gives(&expected, &pod(), "own-root", &[]).said.contains("own-root"));
    builds.gives(&expected, &pod().without_seccomp(), "namespace", &[]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "bound");
}

/// A command whose cache is in the work directory, and a second stage that copies and mounts.
fn with_a_cache() -> Workspace {
    let workspace = Workspace::new(&format!(
        "FROM {} AS one\nRUN --mount=type=cache,target=/c echo x >> /c/f && echo $(wc -l < /c/f) lines && mkdir /new\n\
         FROM one\nCOPY f /f\nRUN --mount=type=bind,from=one,target=/m test -d /m/new && cat /f > /g\n",
        peers().busybox()
    ));
    workspace.file("f", "content\n");
    workspace
}

/// What is large is on the volume, and stages, which own-root renames onto `/`, are beside the executor.
#[test]
fn a_work_directory_on_a_volume_is_enough() {
    let workspace = with_a_cache();
    let builds = Builds::of(&workspace, "volume");
    let expected = builds.expected();
    let work = tempfile::tempdir().unwrap();
    let pod = || builds.pod().mount(work.path(), "/work");
    let first = builds.gives(&expected, &pod(), "own-root", &["--work-dir=/work"]).said;
    assert!(first.contains("1 lines") && first.contains("the stages' files are in /kaniko"), "{first}");
    let again = builds.gives(&expected, &pod().option("--env=KANIKO_DIR=/work"), "again", &[]).said;
    assert!(again.contains("2 lines"), "the cache is not on the volume: {again}");
    let memory = builds.pod().option("--tmpfs=/work:exec");
    builds.gives(&expected, &memory, "memory", &["--kaniko-dir=/work"]);
    let namespace = builds.gives(&expected, &pod().without_seccomp(), "namespace", &["--work-dir=/work"]).said;
    assert!(!namespace.contains("the stages' files are in"), "{namespace}");
    let left: Vec<_> = std::fs::read_dir(work.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["caches"]);

    // A volume of the engine's begins with what the image has there.
    let nowhere = builds.pod().option("--volume=/work").option("--volume=/kaniko");
    builds
        .run(&nowhere, "nowhere", &["--work-dir=/work"])
        .refused(1, &["/work is on the mount /work", "own-root", "--work-dir"]);
}

/// The context is on another mount than everything else: a volume, or memory.
#[test]
fn a_workspace_may_be_a_volume() {
    let workspace = with_a_cache();
    let builds = Builds::of(&workspace, "context-volume");
    let expected = builds.expected();
    let build = "/kaniko/executor --insecure --insecure-pull --reproducible --build-arg SOURCE_DATE_EPOCH=1 --digest-file \
                 /workspace/digest";
    for option in ["--volume=/workspace", "--tmpfs=/workspace"] {
        let ended = run(peers()
            .docker()
            .args(["run", "--rm", "--network=host", option, "--entrypoint="])
            .arg(format!("--volume={}:/from:ro", workspace.context().display()))
            .args([debug_image(), "sh", "-c"])
            .arg(format!("cp /from/* /workspace && {build} -d {}:made && cat /workspace/digest", builds.repository)))
        .success();
        assert!(ended.said.contains(&expected), "{option}: {}", ended.said);
    }
}

/// A shell in the image that has one, with a context.
fn in_a_shell(workspace: &Workspace, script: &str) -> Ended {
    run(peers()
        .docker()
        .args(["run", "--rm", "--network=host", "--env=SOURCE_DATE_EPOCH=1"])
        .arg(format!("--volume={}:/workspace:ro", workspace.context().display()))
        .args(["--entrypoint=", debug_image(), "sh", "-c", script]))
}

#[test]
fn builds_in_a_row_find_the_container_as_it_was() {
    let workspace = Workspace::new(&format!(
        "FROM {}\nRUN test ! -e /left && echo x > /left && rm -rf /etc /usr\n",
        peers().busybox()
    ));
    let build = "/kaniko/executor --insecure --insecure-pull --reproducible --no-push --digest-file";
    let ended = in_a_shell(
        &workspace,
        &format!(
            "{build} /one && {build} /two && test ! -e /left && ls /kaniko && test \"$(echo $(ls /etc))\" && \
                  read one < /one; read two < /two; test \"$one\" = \"$two\" && echo the same"
        ),
    );
    assert!(ended.said.contains("the same"), "{}", ended.said);
    assert!(!ended.said.contains("build-"), "a build left its directory: {}", ended.said);
}

/// `/dev/null` is what a command reads from: one that is not there is made.
#[test]
fn a_missing_null_device_is_no_hindrance() {
    let workspace =
        Workspace::new(&format!("FROM {}\nRUN echo x > /dev/null && cat && echo read\n", peers().busybox()));
    let build = "/kaniko/executor --insecure --insecure-pull --no-push";
    let ended = in_a_shell(&workspace, &format!("rm /dev/null && {build} && echo built")).success();
    for said in ["/dev/null: created", "read\n", "built\n"] {
        assert!(ended.said.contains(said), "{said:?}: {}", ended.said);
    }
}

const IN_A_POD: [&str; 3] = ["--insecure", "--insecure-pull", "--no-push"];

/// Another build in a container where one runs, as a sidecar's `exec` starts it.
fn beside(first: &RunningPod, dockerfile: &str) -> Ended {
    first.exec(&[&["/kaniko/executor"], &IN_A_POD[..], &["--dockerfile", dockerfile]].concat())
}

/// While one build's command is in place of the container's files, another build that needs no command goes its way, and one
/// that does is told who is in the way.
#[test]
fn builds_at_once_do_not_disturb_each_other() {
    let workspace = Workspace::new(&format!(
        "FROM {}\nRUN echo first is running && until test -e /out/go; do sleep 0.1; done && test ! -e /other\n",
        peers().busybox()
    ));
    workspace.file("Dockerfile.copy", "FROM scratch\nCOPY Dockerfile /f\n");
    workspace.file("Dockerfile.run", &format!("FROM {}\nRUN echo x > /other\n", peers().busybox()));
    let first = Pod::for_workspace(&workspace).start(&IN_A_POD);
    first.wait_for("first is running", LIMIT);
    beside(&first, "Dockerfile.copy").success();
    beside(&first, "Dockerfile.run").refused(1, &["another build in this container", "only one build at a time"]);
    std::fs::write(workspace.out().join("go"), "").unwrap();
    first.wait(LIMIT).success();
}

/// The first command ends only because the second runs meanwhile.
#[test]
fn builds_at_once_run_commands_where_namespaces_are_allowed() {
    let cache = "--mount=type=cache,id=both,target=/c";
    let workspace = Workspace::new(&format!(
        "FROM {}\nRUN {cache} echo first is running && until test -e /c/go; do sleep 0.1; done\n",
        peers().busybox()
    ));
    workspace.file("Dockerfile.run", &format!("FROM {}\nRUN {cache} echo x > /c/go\n", peers().busybox()));
    let first = Pod::for_workspace(&workspace).without_seccomp().start(&IN_A_POD);
    first.wait_for("first is running", LIMIT);
    beside(&first, "Dockerfile.run").success();
    first.wait(LIMIT).success();
}
