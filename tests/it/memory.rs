//! Memory is bounded by a constant, not by what is built.

use std::time::{Duration, Instant};

use crate::support::images;
use crate::support::peers::peers;
use crate::support::pod::{Pod, RunningPod};
use crate::support::program::Workspace;

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
