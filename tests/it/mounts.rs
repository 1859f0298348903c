//! What `RUN --mount` shows a command in each kind of pod, that nothing of it comes into a layer, and what becomes of caches
//! and secrets when a build is killed. Single mounts are compared with BuildKit's in the conformance cases.

use std::time::Duration;

use crate::support::images;
use crate::support::peers::peers;
use crate::support::pod::Pod;
use crate::support::probe::add_probe;
use crate::support::program::Workspace;

/// A pod option or several, on top of the default pod.
type Change = fn(Pod) -> Pod;

const OWN_ROOT: Change = |pod| pod;
const NAMESPACE: Change = Pod::without_seccomp;
/// A user namespace with a single id.
const ONE_ID: Change = |pod| pod.without_seccomp().user(1000);

const ARGUMENTS: [&str; 4] =
    ["--context=dir:///workspace", "--insecure", "--insecure-pull", "--secret=id=token,src=/out/token"];

fn workspace(instructions: &str) -> Workspace {
    let workspace = Workspace::new(&format!("FROM {}\n{instructions}", peers().busybox()));
    std::fs::write(workspace.out().join("token"), "hush-hush").unwrap();
    workspace
}

/// Whether a pod may show this path changed afterwards: the work directory, and the mount point of a volume.
fn is_own(path: &str) -> bool {
    path.starts_with("/kaniko") || path == "/out"
}

/// Builds without pushing; each command checks for itself what it sees.
#[track_caller]
fn holds_in(pods: &[Change], workspace: &Workspace) {
    for change in pods {
        change(Pod::for_workspace(workspace)).run(&[&ARGUMENTS[..], &["--no-push"]].concat()).success();
    }
}

#[test]
fn mounts_are_laid_in_their_order() {
    let workspace = workspace(
        "RUN mkdir -p /real/inside && echo image > /real/inside/image && ln -s /real /way && echo image > /file\n\
         RUN --mount=type=cache,target=/way --mount=target=/way/inside/context,rw \\\n\
             --mount=source=text,target=/way/text --mount=source=text,target=/file \\\n\
             --mount=type=tmpfs,target=/way/inside/context/memory \\\n\
             ! test -e /real/inside/image && test \"$(cat /real/text)\" = context && \\\n\
             test \"$(cat /file)\" = context && test \"$(cat /way/inside/context/text)\" = context && \\\n\
             test \"$(stat -c %a /real/inside/context/memory)\" = 1777 && echo kept > /real/kept && \\\n\
             echo lost > /real/inside/context/lost\n\
         RUN test \"$(cat /file /real/inside/image)\" = \"$(echo image; echo image)\" && test -L /way && test ! -e /real/kept\n\
         RUN --mount=type=cache,target=/way test -e /real/kept && ! test -s /real/text && ! test -e /real/lost\n",
    );
    workspace.file("text", "context\n");
    holds_in(&[OWN_ROOT, NAMESPACE, ONE_ID], &workspace);
}

#[test]
fn a_secret_has_its_mode_and_owner() {
    let workspace = workspace(
        "RUN --mount=type=secret,id=token test \"$(stat -c %a:%u:%g /run/secrets/token)\" = 400:0:0\n\
         USER 12:34\n\
         RUN --mount=type=secret,id=token,uid=12,gid=34,mode=0440,target=/new/token \\\n\
             test \"$(stat -c %a:%u:%g /new/token)\" = 440:12:34 && test \"$(cat /new/token)\" = hush-hush\n\
         RUN --mount=type=secret,id=token ! cat /run/secrets/token\n\
         RUN test ! -e /new && test ! -e /run/secrets/token\n",
    );
    holds_in(&[OWN_ROOT, NAMESPACE], &workspace);
}

/// No file can be another user's there, so root, the only user, must be able to read it.
#[test]
fn a_secret_of_another_user_is_readable_where_only_one_id_is_mapped() {
    let workspace =
        workspace("RUN --mount=type=secret,id=token,uid=12,mode=0400 test \"$(cat /run/secrets/token)\" = hush-hush\n");
    holds_in(&[ONE_ID], &workspace);
}

#[test]
fn a_secret_is_on_no_disk_and_memory_has_a_limit_in_a_namespace() {
    let workspace = workspace(
        "RUN --mount=type=secret,id=token grep -q ' /run/secrets/token tmpfs ro,nosuid,nodev,noexec' /proc/mounts\n\
         RUN --mount=type=tmpfs,target=/memory,size=1m ! head -c 2m /dev/zero > /memory/file\n\
         RUN --mount=target=/context ! touch /context/new && ! touch /context/text\n",
    );
    workspace.file("text", "context\n");
    holds_in(&[NAMESPACE, ONE_ID], &workspace);
}

#[test]
fn only_what_a_command_changed_elsewhere_is_in_the_layer() {
    let workspace = workspace(
        "RUN mkdir /full /used && echo image > /full/image && echo image > /file\n\
         RUN --mount=type=cache,target=/full --mount=target=/context,rw --mount=type=secret,id=token,target=/file \\\n\
             --mount=type=secret,id=token --mount=type=tmpfs,target=/used/memory \\\n\
             --mount=type=tmpfs,target=/used/made/memory \\\n\
             touch /full/x /context/x /used/memory/x /used/made/memory/x /used/made/x\n",
    );
    for (number, change) in [OWN_ROOT, NAMESPACE, ONE_ID].into_iter().enumerate() {
        let destination = format!("{}:{number}", peers().repository("mounts-layer"));
        let arguments = [&ARGUMENTS[..], &["--destination", &destination]].concat();
        change(Pod::for_workspace(&workspace)).run(&arguments).success();
        let names = images::last_layer(&destination);
        assert_eq!(names, ["used/", "used/made/", "used/made/x"], "pod {number}");
    }
}

#[test]
fn a_failing_command_gives_everything_back() {
    let workspace = workspace(
        "RUN --mount=type=cache,target=/cache --mount=type=secret,id=token,target=/token \\\n\
             echo kept > /cache/kept && exit 7\n",
    );
    let pod = OWN_ROOT(Pod::for_workspace(&workspace)).start(&[&ARGUMENTS[..], &["--no-push"]].concat());
    let ended = pod.wait(Duration::from_secs(60));
    assert_ne!(ended.code, 0);
    let changed = pod.changed_files();
    assert!(changed.iter().any(|path| path.starts_with("/kaniko/") && path.ends_with("/kept")), "{changed:?}");
    assert!(changed.iter().all(|path| is_own(path)), "{changed:?}");
    assert!(!changed.iter().any(|path| path.contains("token") || path.contains("crabwright")), "{changed:?}");
}

/// A command can remove a mount point where it is none; the cache must be there for the next one all the same.
#[test]
fn a_removed_cache_directory_comes_back_in_own_root() {
    let workspace = workspace(
        "RUN --mount=type=cache,target=/cache touch /cache/x && rm -rf /cache && ln -s /tmp /cache && touch /tmp/kept\n\
         RUN test -e /tmp/kept && test ! -e /cache\n\
         RUN --mount=type=cache,target=/cache test -d /cache && test -z \"$(ls /cache)\"\n",
    );
    holds_in(&[OWN_ROOT], &workspace);
}

/// Own-root puts the mounts of a killed build back at the next start: the cache still has what was written to it, and the
/// secret's file is gone.
#[test]
fn a_killed_build_loses_no_cache_and_leaves_no_secret() {
    let workspace = workspace(
        // The words must not be in the line itself, which is shown before it runs.
        "RUN --mount=type=cache,target=/opt/cache --mount=type=secret,id=token,target=/opt/token \\\n\
             if test -e /opt/cache/kept; then echo found-'again'; exit 0; fi; \\\n\
             echo kept > /opt/cache/kept; echo now-'sleeping'; sleep 1000\n",
    );
    for signal in ["KILL", "TERM"] {
        let pod = OWN_ROOT(Pod::for_workspace(&workspace)).start(&[&ARGUMENTS[..], &["--no-push"]].concat());
        pod.wait_for("now-sleeping", Duration::from_secs(60));
        pod.signal(signal);
        pod.wait(Duration::from_secs(20));
        pod.start_again();
        let ended = pod.wait(Duration::from_secs(60)).success();
        assert!(ended.said.contains("found-again"), "{}", ended.said);
        let changed = pod.changed_files();
        assert!(changed.iter().all(|path| is_own(path)), "{signal} left {changed:?}");
        let traces = ["token", "crabwright"];
        assert!(!changed.iter().any(|path| traces.iter().any(|trace| path.contains(trace))), "{changed:?}");
    }
}

#[test]
fn a_mount_point_of_the_pod_cannot_be_mounted_over_in_own_root() {
    for (mount, reason) in [
        ("type=tmpfs,target=/out", "the container has a mount there"),
        ("type=cache,target=/dev/shm", "the container has a mount there"),
        ("type=tmpfs,target=/dev", "the container has mounts below it"),
    ] {
        let workspace = workspace(&format!("RUN echo has-'run'\nRUN --mount={mount} true\n"));
        let ended = OWN_ROOT(Pod::for_workspace(&workspace)).run(&[&ARGUMENTS[..], &["--no-push"]].concat());
        let ended = ended.refused(1, &["Dockerfile:3", "cannot mount over", reason, "mount it elsewhere"]);
        assert!(!ended.said.contains("has-run"), "{}", ended.said);
    }
}

/// CVE-2024-23651's class: a command exchanges a directory of a cache for a link to what only the executor sees, while another
/// one, which has the cache too, gets mounts in that directory.
#[test]
fn a_cache_that_another_command_changes_leads_no_mount_outside() {
    const MOUNTS: usize = 60;
    let base = peers().busybox();
    let mount =
        |number| format!("RUN --mount=type=cache,id=race,target=/c --mount=type=tmpfs,target=/c/a/n{number} true\n");
    // A build ends with the first mount point that is not there at that moment, as it should; hence several.
    let workspace = Workspace::new(&format!(
        "FROM {base} AS exchanges\n\
         COPY probe /\n\
         RUN --mount=type=cache,id=race,target=/c mkdir -p /c/a && ln -sfn /out/outside /c/b && /probe exchange /c/a /c/b 9000\n\
         FROM {base} AS mounts\n\
         RUN --mount=type=cache,id=race,target=/c while ! test -L /c/b && ! test -L /c/a; do sleep 0.05; done\n\
         {}\
         FROM scratch\n\
         COPY --from=exchanges /probe /\n\
         COPY --from=mounts /bin/busybox /\n",
        (0..MOUNTS).map(mount).collect::<String>(),
    ));
    add_probe(&workspace);
    let outside = workspace.out().join("outside");
    std::fs::create_dir(&outside).unwrap();
    for _ in 0..4 {
        let ended = NAMESPACE(Pod::for_workspace(&workspace)).run(&[
            "--context=dir:///workspace",
            "--insecure-pull",
            "--no-push",
            "--parallel=2",
        ]);
        ended.says("isolation: namespace").says("target=/c/a/n0");
        let made: Vec<_> = std::fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(made.is_empty(), "{made:?} came to be outside:\n{}", ended.said);
    }
}

/// The first command's end must not take away what another one's mount stands on.
#[test]
fn a_mount_in_a_shared_cache_outlives_another_commands_end() {
    let base = peers().busybox();
    let mounts = "--mount=type=cache,id=outer,target=/c --mount=type=cache,id=inner,target=/c/inner";
    let workspace = Workspace::new(&format!(
        "FROM {base} AS first\n\
         RUN {mounts} touch /c/begun && while ! test -e /c/second; do sleep 0.05; done\n\
         RUN --mount=type=cache,id=outer,target=/c touch /c/first-ended\n\
         FROM {base} AS second\n\
         RUN --mount=type=cache,id=outer,target=/c while ! test -e /c/begun; do sleep 0.05; done\n\
         RUN {mounts} touch /c/second /c/inner/kept && while ! test -e /c/first-ended; do sleep 0.05; done; \\\n\
             test -e /c/inner/kept\n\
         FROM scratch\n\
         COPY --from=first /bin/busybox /one\n\
         COPY --from=second /bin/busybox /two\n",
    ));
    NAMESPACE(Pod::for_workspace(&workspace))
        .run(&["--context=dir:///workspace", "--insecure-pull", "--no-push", "--parallel=2"])
        .success();
}

#[test]
fn memory_over_the_pods_own_is_empty_and_gone_again_in_own_root() {
    let workspace = workspace(
        "RUN echo first > /dev/shm/first && mkdir /dev/shm/directory && chmod 700 /dev/shm\n\
         RUN --mount=type=tmpfs,target=/dev/shm test -z \"$(ls /dev/shm)\" && test \"$(stat -c %a /dev/shm)\" = 1777 && \\\n\
             echo second > /dev/shm/first && mkdir -p /dev/shm/a/b /dev/shm/directory\n\
         RUN test \"$(cat /dev/shm/first)\" = first && test \"$(ls -A /dev/shm)\" = \"$(printf 'directory\\nfirst')\" && \\\n\
             test \"$(stat -c %a /dev/shm)\" = 700 && rm -r /dev/shm/*\n\
         RUN --mount=type=tmpfs,target=/dev/shm test -z \"$(ls -A /dev/shm)\" && touch /dev/shm/third /dev/shm/.hidden\n\
         RUN --mount=type=tmpfs,target=/dev/shm test -z \"$(ls -A /dev/shm)\" && touch /dev/shm/third && exit 7\n",
    );
    let pod = OWN_ROOT(Pod::for_workspace(&workspace)).start(&[&ARGUMENTS[..], &["--no-push"]].concat());
    pod.wait(Duration::from_secs(60)).refused(7, &["exit code: 7", "Dockerfile:8"]);
}

/// In a namespace the same commands see the image's files alone.
#[test]
fn a_mount_point_of_the_pod_that_a_command_removes_is_named_in_own_root() {
    let workspace = workspace("RUN mkdir -p /out /tmp/x && rm -rf /tmp\nRUN rm -rf /out && rm /bin/busybox\n");
    holds_in(&[NAMESPACE], &workspace);
    let ended = OWN_ROOT(Pod::for_workspace(&workspace)).run(&[&ARGUMENTS[..], &["--no-push"]].concat());
    ended.refused(1, &["the pod has a mount at /out", "mount it elsewhere", "Dockerfile:3"]);
}

#[test]
fn a_mount_point_that_a_command_could_not_remove_is_told_where_it_does_not_mind() {
    let workspace = workspace("RUN rm -rf /out/none /out || true\n");
    let ended = OWN_ROOT(Pod::for_workspace(&workspace)).run(&[&ARGUMENTS[..], &["--no-push"]].concat());
    ended.success().says("could not remove or rename /out");
}
