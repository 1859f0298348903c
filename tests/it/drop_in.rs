//! The surroundings that pipelines run kaniko's image in: what a kubelet mounts, and an image with a shell for the systems
//! that start jobs with one.

use crate::support::images;
use crate::support::peers::peers;
use crate::support::pod::{Pod, debug_image};
use crate::support::program::{Workspace, run};

const EPOCH: &str = "SOURCE_DATE_EPOCH=1700000000";

fn built_by(pod: &Pod, workspace_arguments: &[&str], destination: &str) -> String {
    let arguments = [
        "--context=dir:///workspace",
        "--insecure",
        "--insecure-pull",
        "--build-arg",
        EPOCH,
        "--destination",
        destination,
    ];
    let ended = pod.run(&[&arguments, workspace_arguments].concat()).success();
    assert!(ended.said.contains("own-root"), "{}", ended.said);
    images::digest(destination)
}

/// Every pod has /var/run/secrets mounted, and in most images /var/run is a link; a termination log, hosts and volumes lie
/// where images have files of their own. None of it may show in the image, nor hinder the build.
#[test]
fn what_a_kubelet_mounts_leaves_no_trace() {
    let workspace = Workspace::new(&format!(
        "FROM {}\nRUN test -L /var/run && echo built > /built && touch -d @1700000000 /built\n",
        peers().debian()
    ));
    std::fs::write(workspace.out().join("token"), "secret").unwrap();
    let log = workspace.out().join("termination-log");
    std::fs::write(&log, "").unwrap();
    let repository = peers().repository("kubelet");
    let bare = built_by(&Pod::for_workspace(&workspace), &[], &format!("{repository}:bare"));
    let mounted = Pod::for_workspace(&workspace)
        .mount(&workspace.out(), "/var/run/secrets/kubernetes.io/serviceaccount:ro")
        .mount(&log, "/dev/termination-log")
        .mount(&workspace.out(), "/opt/volume")
        .option("--tmpfs=/usr/share/cache");
    let mounted = built_by(&mounted, &[], &format!("{repository}:mounted"));
    assert_eq!(bare, mounted, "the pod's mounts changed the image");
}

/// GitLab and Jenkins run the executor from a shell; the job goes on after the build.
#[test]
fn image_with_a_shell_goes_on_after_the_build() {
    let workspace = Workspace::new(&format!("FROM {}\nRUN echo built > /bin/built\n", peers().busybox()));
    let destination = format!("{}:1", peers().repository("job"));
    let script = format!(
        "echo before && /kaniko/executor --context dir:///builds --destination {destination} --insecure --insecure-pull \
         && ls /bin && test ! -e /bin/built && echo after"
    );
    let ended = run(peers()
        .docker()
        .args(["run", "--rm", "--network=host"])
        .arg(format!("--volume={}:/builds", workspace.context().display()))
        .args(["--entrypoint=", debug_image(), "sh", "-c", &script]))
    .success();
    assert!(ended.said.contains("after"), "{}", ended.said);
    assert!(images::exists(&destination));
}
