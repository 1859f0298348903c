//! A cache in a directory whose disk fills up, whose files rot, and whose builds are killed.

use std::path::Path;

use super::*;
use crate::support::fake_registry::Fault;

const SMALL: &str = "FROM {base}\nRUN echo one > /one\nCOPY main.txt /main\nRUN cat /one /main > /all\n";

/// The names below a directory.
fn names(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        found.push(entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            found.extend(names(&entry.path()));
        }
    }
    found
}

/// Wherever the disk is full: the build succeeds, and nothing half written is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_leaves_nothing_behind() {
    let bench = Bench::with(Store::Directory, SMALL, Habits::default()).await;
    std::fs::create_dir(bench.place.directory()).unwrap();
    // Pages of which one may be taken already; the names are listed before the disk is gone.
    let script = "mount -t tmpfs -o size=$1k cache \"$2\" && head -c \"$3\" /dev/zero > \"$2/taken\" && shift 3 && \
                  \"$@\"; code=$?; find \"$CACHE\" -mindepth 1 -printf 'left %P\\n'; exit $code";
    let mut failed = 0;
    for (kilobytes, taken) in [(4, 4096), (4, 0), (8, 0), (12, 0), (16, 0), (24, 0), (32, 0), (1024, 0)] {
        let build = bench.command();
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh", &kilobytes.to_string()]).arg(bench.place.directory());
        command.arg(taken.to_string()).arg(build.get_program()).args(build.get_args());
        command.env("CACHE", bench.place.directory()).env("HOME", "/nonexistent").env_remove("DOCKER_CONFIG");
        let built = tokio::task::block_in_place(|| run(&mut command)).success();
        failed += usize::from(built.said.contains("No space left on device"));
        let left: Vec<&str> = built.said.lines().filter(|line| line.starts_with("left ")).collect();
        assert!(left.iter().all(|name| !name.contains("partial")), "{kilobytes} kB, {taken} taken:\n{}", built.said);
        assert!(left.contains(&"left taken"), "{}", built.said);
    }
    assert!((5..8).contains(&failed), "{failed} of 8 builds had too little space");
}

/// A build that is killed while it writes cannot remove what it wrote; the next one does.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_build_left_is_removed_by_the_next() {
    let bench = Bench::with(Store::Directory, SMALL, Habits::default()).await;
    bench.build();
    let directory = bench.place.directory();
    for name in ["oci-layout.partial.7.0.1", "index.json.partial.7.1.2", "blobs/sha256/0123.partial.7.2.3"] {
        std::fs::write(directory.join(name), "half").unwrap();
    }
    // A build that only reads leaves everything as it is.
    bench.build_with(&["--no-push-cache"]);
    assert_eq!(names(directory).iter().filter(|name| name.contains("partial")).count(), 3);
    bench.build();
    assert!(!names(directory).iter().any(|name| name.contains("partial")), "{:?}", names(directory));
    bench.assert_entries_whole();
}

/// The step whose layer was damaged makes the very same bytes again, which then have to take the place of the damaged ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_layer_is_written_anew() {
    let bench = Bench::with(Store::Directory, SMALL, Habits::default()).await;
    let build = || bench.build_with(&["--reproducible"]);
    build();
    for digest in bench.layers() {
        let content = bench.place.blob(&digest).iter().map(|byte| byte ^ 1).collect();
        bench.place.damage_blob(&digest, Some(content));
    }
    // The layers are needed below what is made of this.
    bench.workspace.file("main.txt", "edited\n");
    build().says("cannot be used");
    bench.workspace.file("main.txt", "once more\n");
    let built = build();
    assert!(!built.said().contains("cannot be used"), "{}", built.said());
    assert_eq!(built.cached(), ["RUN echo one > /one"], "{}", built.said());
}

/// So it is where an image goes.
#[tokio::test(flavor = "multi_thread")]
async fn an_output_with_a_damaged_layer_is_whole_after_the_next_build() {
    let bench = Bench::with(Store::Directory, SMALL, Habits::default()).await;
    let output = bench.workspace.out().join("image");
    let argument = format!("--oci-layout-path={}", output.display());
    bench.build_with(&[&argument]);
    let layout = crabwright::image::layout::LayoutReader::open(&output).unwrap();
    let manifest = layout.manifest(&layout.manifests().unwrap()[0]).unwrap();
    for layer in &manifest.layers {
        let path = layout.blob_path(&layer.digest);
        let content: Vec<u8> = std::fs::read(&path).unwrap().iter().map(|byte| byte ^ 1).collect();
        std::fs::write(&path, content).unwrap();
    }
    bench.build_with(&[&argument]);
    for layer in &manifest.layers {
        layout.verified_blob(layer).unwrap();
    }
}

/// A registry may say that it has a blob while another upload of it is only being completed, and miss it a moment later.
#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_is_not_there_after_all_is_brought_once_more() {
    let bench = Bench::with(Store::Registry, SMALL, Habits::default()).await;
    for repository in ["cache", "app"] {
        bench.registry.fail("HEAD", format!("/v2/{repository}/blobs/"), 0, 2, Fault::status(200));
    }
    let built = bench.build();
    assert!(!built.said().contains("cannot be"), "{}", built.said());
    bench.assert_entries_whole();
    assert_eq!(bench.image_layers().len(), 4);
    assert_eq!(bench.build().executed(), 0);
}

/// Commands that change nothing all make the same layer: it is uploaded once, and by nobody while another does.
#[tokio::test(flavor = "multi_thread")]
async fn equal_layers_are_uploaded_once() {
    let dockerfile = "FROM {base}\nRUN : 1\nRUN : 2\nRUN : 3\nRUN : 4\nRUN : 5\n";
    // All entries wait for the image, and are written together then.
    let bench = Bench::with(Store::Registry, dockerfile, Habits { no_mount: true, ..Habits::default() }).await;
    bench.build();
    let [layer]: [Digest; 1] = bench.layers().try_into().unwrap();
    let is_upload = |path: &str, query: &str| {
        path.starts_with("/v2/cache/blobs/uploads/") && query.replace("%3A", ":").contains(&layer.to_string())
    };
    let seen = bench.registry.seen();
    let uploads = seen.iter().filter(|seen| seen.method == "PUT" && is_upload(&seen.path, &seen.query));
    assert_eq!(uploads.count(), 1);
}
