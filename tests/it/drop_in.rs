//! The surroundings that pipelines run kaniko's image in: what a kubelet mounts, and an image with a shell for the systems
//! that start jobs with one.

use crate::support::git::Repository;
use crate::support::images;
use crate::support::peers::peers;
use crate::support::pod::{Pod, debug_image};
use crate::support::program::{Workspace, run};
use crate::support::web::Web;

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

/// Command lines as pipelines have them for kaniko, word for word but for the names of hosts.
#[test]
fn a_pod_that_builds_a_repository_with_a_cache() {
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::new(&directory.path().join("company"), "myapp");
    repository.file("Dockerfile", &format!("FROM {}\nCOPY app /app\nRUN cat /app > /built\n", peers().busybox()));
    repository.file("app", "1").commit("main");
    let git = Web::serve_git(directory.path().to_owned(), |_asked| None);
    let registry = peers().repository("company");
    let line = "--dockerfile=Dockerfile --context=git://HOST/company/myapp.git#refs/heads/main --destination=REG/myapp:v1.2.3 \
                --cache=true --cache-repo=REG/myapp/cache --cache-ttl=168h --snapshot-mode=redo --compressed-caching=false \
                --use-new-run";
    let line = line.replace("HOST", &git.host()).replace("REG", &registry);
    let arguments: Vec<&str> = line.split_ascii_whitespace().collect();
    let build = || Pod::new().option("--env=GIT_PULL_METHOD=http").run(&arguments).success();
    build();
    assert!(images::exists(&format!("{registry}/myapp:v1.2.3")));
    let again = build();
    assert!(again.said.contains("CACHED"), "{}", again.said);
    assert!(!again.said.contains("isolation:"), "a build that runs nothing needs no sandbox: {}", again.said);
}

#[test]
fn a_pod_that_builds_a_workspace_for_two_destinations() {
    let workspace =
        Workspace::new(&format!("FROM {}\nARG BUILD_DATE\nRUN echo $BUILD_DATE > /built\n", peers().busybox()));
    let registry = peers().repository("team");
    let line = "--context=dir:///workspace --dockerfile=/workspace/Dockerfile --destination=REG/app:1 --destination=REG/app:latest \
                --cache=true --cache-repo=REG/cache --cache-ttl=168h --snapshotMode=redo --use-new-run --compressed-caching=true \
                --build-arg=BUILD_DATE=2026-01-02T03:04:05Z --label=org.opencontainers.image.created=2026-01-02T03:04:05Z \
                --verbosity=info --digest-file=/workspace/image-digest --push-retry=3";
    let line = line.replace("REG", &registry);
    let arguments: Vec<&str> = line.split_ascii_whitespace().collect();
    Pod::new().mount(&workspace.context(), "/workspace").run(&arguments).success();
    let digest = std::fs::read_to_string(workspace.context().join("image-digest")).unwrap();
    for tag in ["1", "latest"] {
        assert_eq!(images::digest(&format!("{registry}/app:{tag}")), digest);
    }
}
