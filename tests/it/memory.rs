//! Memory has a limit that neither what is built nor what somebody sends can move.

use std::time::{Duration, Instant};

use crate::support::archive::{Archive, record};
use crate::support::images;
use crate::support::peers::peers;
use crate::support::pod::{Pod, RunningPod};
use crate::support::program::Workspace;
use crate::support::scripted_registry::ScriptedImage;

/// What the executor may use at its peak, in kibibytes.
const LIMIT: u64 = 150 * 1024;

/// One RUN makes a file of 1 GB that does not compress; the layer is packed and pushed in a pod of 256 MB.
#[test]
fn layer_of_a_gigabyte_in_a_pod_of_256_megabytes() {
    let workspace = Workspace::new(&format!(
        "FROM {}\nRUN dd if=/dev/urandom of=/large bs=1048576 count=1024\n",
        peers().busybox()
    ));
    let destination = format!("{}:1", peers().repository("large"));
    let pod = Pod::for_workspace(&workspace).memory("256m").start(&[
        "--context=dir:///workspace",
        "--insecure",
        "--insecure-pull",
        "--destination",
        &destination,
    ]);
    let peak = watch(&pod, Duration::from_secs(600));
    pod.wait(Duration::from_secs(10)).success();
    let size = images::manifest(&destination)["layers"][1]["size"].as_u64().unwrap();
    assert!(size > 1 << 30, "the layer has {size} bytes");
    assert!(peak > 0 && peak < LIMIT, "peak resident memory {peak} KiB");
}

/// Layers that are small where they are stored, and whose names and attributes would take gigabytes. In a pod of 200 MB each ends
/// in an error that names the layer and the limit.
#[test]
fn hostile_layers_end_in_an_error_and_not_in_the_pods_end() {
    let attributes = |count: usize, size: usize| -> Vec<u8> {
        (0..count).flat_map(|number| record(&format!("SCHILY.xattr.user.a{number}"), &"v".repeat(size))).collect()
    };
    let deep = "d".repeat(200) + "/";
    let long = |number: usize| deep.repeat(18) + &format!("{number:0>250}");
    let mut bombs: Vec<(&str, Archive, &[&str])> = vec![
        (
            "one global header of 4 MB for 3000 files",
            (0..3000).fold(Archive::default().member(b'g', "g", "", &attributes(100, 40_000)), |archive, number| {
                archive.file(&format!("f{number}"), "")
            }),
            &["bytes of extended header, the limit is 1048576"],
        ),
        (
            "the same for links, as small as a header may be",
            (0..3000).fold(Archive::default().member(b'g', "g", "", &attributes(100, 10_000)), |archive, number| {
                archive.symlink(&format!("f{number}"), "x")
            }),
            &["is a hard link to \"nothing\""],
        ),
        (
            "many extended headers before one file",
            (0..150).fold(Archive::default(), |archive, number| {
                archive.pax(&record(&format!("SCHILY.xattr.user.a{number}"), &"v".repeat(1_000_000)))
            }),
            &["bytes of extended attributes, the limit is 65536"],
        ),
        (
            "as many attributes as a file may have on every file",
            (0..2500).fold(Archive::default(), |archive, number| {
                archive.pax(&attributes(1, 60_000)).file(&format!("f{number}"), "")
            }),
            &["take more than", "bytes of memory", "give it more"],
        ),
        (
            "one file with such attributes under many names",
            (0..3000).fold(Archive::default().pax(&attributes(1, 60_000)).file("f", ""), |archive, number| {
                archive.hard_link(&format!("f{number}"), "f")
            }),
            &["take more than", "bytes of memory", "give it more"],
        ),
        (
            "names as long as the kernel takes them",
            (0..30_000)
                .fold(Archive::default(), |archive, number| archive.pax(&record("path", &long(number))).file("x", "")),
            &["take more than", "bytes of memory", "give it more"],
        ),
    ];
    for (name, archive, words) in &mut bombs {
        let whole = std::mem::take(archive).file("x", "").hard_link("y", "nothing");
        let base = ScriptedImage { layers: vec![whole.bytes()], ..ScriptedImage::default() }.serve();
        drop(whole);
        let workspace = Workspace::new(&format!("FROM {base}\nCOPY Dockerfile /\n"));
        let pod = Pod::for_workspace(&workspace).memory("200m").start(&[
            "--context=dir:///workspace",
            "--insecure-pull",
            "--no-push",
            "--work-dir=/out/work",
        ]);
        let peak = watch(&pod, Duration::from_secs(120));
        println!("{name}: peak resident memory {peak} KiB");
        let ended = pod.wait(Duration::from_secs(10)).refused(1, &["sha256:"]);
        for word in *words {
            assert!(ended.said.contains(word), "{name}: {word:?} is not in {}", ended.said);
        }
        assert!(peak < LIMIT, "{name}: peak resident memory {peak} KiB");
    }
}

/// The highest VmHWM seen of the pod's first process (kibibytes) until it ended.
fn watch(pod: &RunningPod, limit: Duration) -> u64 {
    let Some(process) = pod.process() else { return 0 };
    let start = Instant::now();
    let mut peak = 0;
    // VmHWM only grows: the last reading before the end is the peak
    while let Ok(status) = std::fs::read_to_string(format!("/proc/{process}/status")) {
        assert!(start.elapsed() < limit, "still running after {limit:?}:\n{}", pod.said());
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let Some(line) = line else { break };
        peak = peak.max(line.trim().trim_end_matches(" kB").parse().unwrap());
        std::thread::sleep(Duration::from_millis(20));
    }
    peak
}
