//! A directory of base images: filled by `warmer`, read by builds.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::images;
use crate::support::peers::peers;
use crate::support::pod::{Pod, executor_image};
use crate::support::program::{Ended, Workspace, crabwright, run};

fn warmer(directory: &Path, arguments: &[&str]) -> Ended {
    run(crabwright().arg("warmer").arg(format!("--cache-dir={}", directory.display())).args(arguments))
}

/// The directory's images.
fn layouts(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut layouts: Vec<PathBuf> =
        entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("sha256:")).collect();
    layouts.sort();
    layouts
}

fn only_layout(directory: &Path) -> PathBuf {
    let found = layouts(directory);
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_iter().next().unwrap()
}

fn blobs(layout: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(layout.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// A reader that is not ours, which takes what is behind a colon for a tag.
fn skopeo_reads(layout: &Path) {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("layout");
    std::os::unix::fs::symlink(layout, &link).unwrap();
    run(Command::new("skopeo").arg("inspect").arg(format!("oci:{}", link.display()))).success();
}

#[test]
fn images_are_written_once_as_the_registry_has_them() {
    let directory = tempfile::tempdir().unwrap();
    let busybox = peers().busybox();
    let said = warmer(directory.path(), &["--image", &busybox]).success().said;
    assert!(said.contains(&format!("Retrieving image {busybox} from registry {}", peers().registry())), "{said}");
    let layout = only_layout(directory.path());
    assert_eq!(layout.file_name().unwrap().to_str().unwrap(), images::digest(&busybox));
    skopeo_reads(&layout);
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&path.metadata().unwrap());
    let before = inode(&layout);
    let said = warmer(directory.path(), &["-i", &busybox]).success().said;
    assert!(said.contains(&format!("Image already in cache: {busybox}")), "{said}");
    assert_eq!(inode(&layout), before);
    warmer(directory.path(), &["-i", &busybox, "--force"]).success();
    assert_ne!(inode(&layout), before);
    let before = inode(&layout);
    // as old as it gets
    warmer(directory.path(), &["-i", &busybox, "--cache-ttl=0s"]).success();
    assert_ne!(inode(&layout), before);
    // what is not whole is fetched again
    std::fs::remove_file(blobs(&layout).pop().unwrap()).unwrap();
    warmer(directory.path(), &["-i", &busybox]).success();
    assert_eq!(blobs(&layout).len(), 3);
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_dockerfile_names_the_base_images_of_all_its_stages() {
    let directory = tempfile::tempdir().unwrap();
    let workspace = Workspace::new(&format!(
        "ARG TAG\nFROM {}/conformance/base:$TAG AS one\nFROM one\nFROM scratch\nFROM {}/conformance/base-config:1\n",
        peers().registry(),
        peers().registry()
    ));
    let dockerfile = workspace.context().join("Dockerfile").display().to_string();
    warmer(directory.path(), &["--dockerfile", &dockerfile, "--build-arg=TAG=1"]).success();
    assert_eq!(layouts(directory.path()).len(), 2);
}

/// As with kaniko: only a warmer that has nothing at all fails.
#[test]
fn what_cannot_be_fetched_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let (busybox, missing) = (peers().busybox(), format!("{}/no/such:1", peers().registry()));
    let said = warmer(directory.path(), &["-i", &missing, "-i", &busybox]).success().said;
    assert!(said.contains(&format!("Error while warming {missing}")), "{said}");
    assert_eq!(layouts(directory.path()).len(), 1);
    warmer(directory.path(), &["-i", &missing]).refused(1, &["no/such", "404"]);
    warmer(directory.path(), &[]).refused(1, &["--image", "--dockerfile"]);
    warmer(directory.path(), &["-i", "UPPER"]).refused(1, &["--image \"UPPER\""]);
}

/// The base is gone from its registry: by its digest it is still to be had.
#[test]
fn builds_read_warm_images_without_their_registry() {
    let directory = tempfile::tempdir().unwrap();
    let base = format!("{}:1", peers().repository("warm-base"));
    let made = Workspace::new(&format!("FROM {}\nCOPY <<E /warm\nonly here\nE\n", peers().busybox()));
    run(made.build().arg(format!("--destination={base}"))).success();
    let digest = images::digest(&base);
    warmer(directory.path(), &["-i", &base]).success();
    run(Command::new("skopeo").args(["delete", "--tls-verify=false"]).arg(format!("docker://{base}"))).success();

    let workspace = Workspace::new(&format!("FROM {base}@{digest}\nRUN test \"$(cat /warm)\" = 'only here'\n"));
    let cache = format!("--cache-repo=oci:{}", workspace.out().join("layers").display());
    let warm = format!("--cache-dir={}", directory.path().display());
    run(workspace.build().arg("--no-push").args(["--cache=false", &cache, &warm])).refused(1, &["404"]);
    run(workspace.build().arg("--no-push").args(["--cache=true", &cache, &warm])).success();

    // in a pod that may not write there
    let pod = Pod::for_workspace(&workspace).mount(directory.path(), "/cache:ro");
    let arguments =
        ["--context=/workspace", "--no-push", "--insecure-pull", "--cache=true", "--cache-repo=oci:/out/pod"];
    pod.run(&arguments).success();

    // what has been changed is not used
    let layout = only_layout(directory.path());
    let layer = blobs(&layout).into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut content = std::fs::read(&layer).unwrap();
    content[100] ^= 1;
    std::fs::write(&layer, content).unwrap();
    let other = Workspace::new(&format!("FROM {base}@{digest}\nRUN echo another\n"));
    let cache = format!("--cache-repo=oci:{}", other.out().join("layers").display());
    let said = run(other.build().arg("--no-push").args(["--cache=true", &cache, &warm])).success().said;
    assert!(said.contains("fetched again"), "{said}");
}

/// kaniko's second program has a name in the image.
#[test]
fn the_image_has_the_warmer_by_its_name() {
    let directory = tempfile::tempdir().unwrap();
    run(peers()
        .docker()
        .args(["run", "--rm", "--network=host", "--entrypoint=/kaniko/warmer"])
        .arg(format!("--volume={}:/cache", directory.path().display()))
        .args([executor_image(), "--image", &peers().busybox()]))
    .success();
    only_layout(directory.path());
}

#[test]
fn several_fill_one_directory() {
    let directory = tempfile::tempdir().unwrap();
    let busybox = peers().busybox();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| warmer(directory.path(), &["-i", &busybox, "--force"]).success());
        }
    });
    let layout = only_layout(directory.path());
    skopeo_reads(&layout);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
}
