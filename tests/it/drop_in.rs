//! The surroundings that pipelines run kaniko's image in: what a kubelet mounts, and an image with a shell for the systems
//! that start jobs with one.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::support::images;
use crate::support::peers::peers;
use crate::support::pod::{Pod, executor_image};
use crate::support::program::{Workspace, run, stdout};

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

/// GitLab and Jenkins run the executor from a shell, in an image that adds one; the job goes on after the build.
#[test]
fn image_with_a_shell_goes_on_after_the_build() {
    let image = with_a_shell();
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
        .args([&image, "sh", "-c", &script]))
    .success();
    assert!(ended.said.contains("after"), "{}", ended.said);
    assert!(images::exists(&destination));
}

/// The executor's image and busybox, put together by the Docker engine as the README says.
fn with_a_shell() -> String {
    let workspace = Workspace::new(&format!(
        "FROM {}\nCOPY bin/ /bin/\nENV PATH=/usr/local/bin:/kaniko:/bin\nENTRYPOINT []\n",
        executor_image()
    ));
    let bin = workspace.context().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    std::fs::copy(busybox.unwrap(), bin.join("busybox")).unwrap();
    for applet in ["sh", "ls", "test", "echo"] {
        symlink("busybox", bin.join(applet)).unwrap();
    }
    let mut docker: Command = peers().docker();
    // the engine's own builder: buildx need not be installed
    docker.env("DOCKER_BUILDKIT", "0").args(["build", "--quiet"]).arg(workspace.context());
    let said = stdout(&mut docker);
    said.lines().last().unwrap().to_owned()
}
