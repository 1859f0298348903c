//! The summary of a build, with the time of each phase.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::units::{Bytes, Seconds};

/// A phase of work whose time is added up over the whole build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Resolving references at registries.
    Resolve,
    /// Looking steps up in the cache, and waiting until it is written.
    Cache,
    /// Fetching blobs.
    Pull,
    /// Unpacking base layers and copying stages.
    Unpack,
    /// COPY and ADD.
    Copy,
    /// The commands of RUN.
    Run,
    /// Finding what a step changed.
    Snapshot,
    /// Writing, compressing and hashing layers.
    Layer,
    /// Sending blobs and manifests, and writing the other outputs.
    Push,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolve",
            Self::Cache => "cache",
            Self::Pull => "pull",
            Self::Unpack => "unpack",
            Self::Copy => "copy",
            Self::Run => "run",
            Self::Snapshot => "snapshot",
            Self::Layer => "layer",
            Self::Push => "push",
        })
    }
}

/// Time spent so far, by phase. Parallel work counts for each of its threads.
#[derive(Debug)]
pub(super) struct Clock {
    started: Instant,
    spent: Mutex<BTreeMap<Phase, Duration>>,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { started: Instant::now(), spent: Mutex::new(BTreeMap::new()) }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn add(&self, phase: Phase, time: Duration) {
        *self.spent.lock().entry(phase).or_default() += time;
    }

    pub(super) fn spent(&self) -> Vec<(Phase, Duration)> {
        let spent = self.spent.lock();
        spent.iter().map(|(phase, time)| (*phase, *time)).collect()
    }
}

/// The result of a build in a few lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// The locations of the image: references pushed, archives and layouts written. Empty if it was not exported.
    pub images: Vec<String>,
    /// The digest of the manifest, `sha256:…`.
    pub digest: String,
    /// Bytes of the compressed layers, the configuration and the manifest.
    pub size: u64,
    /// Number of layers, those of the base included.
    pub layers: usize,
    /// The most bytes that base layers, trees and new layers had on the disk at once.
    pub disk: u64,
    /// The use of the layer cache, if there was one.
    pub cache: Option<CacheSummary>,
    /// The exchange of cache mounts, if they are shared.
    pub cache_mounts: Option<CacheMountsSummary>,
    /// Wall time of the build.
    pub elapsed: Duration,
    /// The time of each phase; added up over parallel work, so the sum may exceed `elapsed`.
    pub phases: Vec<(Phase, Duration)>,
}

/// The use of a layer cache, and the traffic with registries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheSummary {
    /// Steps that make a layer.
    pub steps: usize,
    /// The executed ones among them.
    pub executed: usize,
    /// Requests to registries.
    pub requests: u64,
    /// Bytes received from registries.
    pub received: u64,
    /// Bytes sent to registries.
    pub sent: u64,
}

/// The exchange of cache mounts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheMountsSummary {
    /// Caches that were imported.
    pub imported: usize,
    /// Bytes of the files in them.
    pub imported_size: u64,
    /// Caches that were exported.
    pub exported: usize,
    /// Bytes of the files in them.
    pub exported_size: u64,
    /// Caches that were used but not changed.
    pub unchanged: usize,
}

impl fmt::Display for CacheMountsSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { imported, imported_size, exported, exported_size, unchanged } = *self;
        write!(f, "{imported} imported ({})", Bytes(imported_size))?;
        write!(f, ", {exported} exported ({}), {unchanged} unchanged", Bytes(exported_size))
    }
}

impl fmt::Display for CacheSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { steps, executed, requests, received, sent } = *self;
        write!(f, "{} of {steps} steps; {requests} requests", steps.saturating_sub(executed))?;
        write!(f, ", {} received, {} sent", Bytes(received), Bytes(sent))
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.images.is_empty() {
            writeln!(f, "image    not exported")?;
        }
        for (index, image) in self.images.iter().enumerate() {
            writeln!(f, "{:9}{image}", if index == 0 { "image" } else { "" })?;
        }
        writeln!(f, "digest   {}", self.digest)?;
        let plural = if self.layers == 1 { "" } else { "s" };
        writeln!(f, "size     {} in {} layer{plural}", Bytes(self.size), self.layers)?;
        if self.disk > 0 {
            writeln!(f, "disk     {} peak", Bytes(self.disk))?;
        }
        if let Some(cache) = &self.cache {
            writeln!(f, "cache    {cache}")?;
        }
        if let Some(mounts) = &self.cache_mounts {
            writeln!(f, "mounts   {mounts}")?;
        }
        write!(f, "time     {}", Seconds(self.elapsed))?;
        // Phases that round to zero are left out.
        let shown = self.phases.iter().filter(|(_, time)| time.as_millis() >= 100);
        for (index, (phase, time)) in shown.enumerate() {
            write!(f, "{}{phase} {}", if index == 0 { ": " } else { ", " }, Seconds(*time))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_has_the_image_and_the_time_of_each_phase() {
        let summary = Summary {
            images: vec!["reg:5000/app:1".to_owned(), "reg:5000/app:latest".to_owned()],
            digest: "sha256:ab".to_owned(),
            size: 12_345_678,
            layers: 4,
            disk: 23_456_789,
            cache: Some(CacheSummary { steps: 7, executed: 2, requests: 24, received: 2_000, sent: 10 }),
            cache_mounts: Some(CacheMountsSummary {
                imported: 2,
                imported_size: 3_000_000,
                exported: 1,
                exported_size: 1_500,
                unchanged: 1,
            }),
            elapsed: Duration::from_millis(9_870),
            phases: vec![
                (Phase::Resolve, Duration::from_millis(20)),
                (Phase::Pull, Duration::from_millis(3_100)),
                (Phase::Run, Duration::from_millis(6_000)),
            ],
        };
        assert_eq!(
            summary.to_string(),
            "image    reg:5000/app:1\n         reg:5000/app:latest\ndigest   sha256:ab\n\
             size     12.3 MB in 4 layers\ndisk     23.4 MB peak\n\
             cache    5 of 7 steps; 24 requests, 2.0 kB received, 10 B sent\n\
             mounts   2 imported (3.0 MB), 1 exported (1.5 kB), 1 unchanged\ntime     9.8s: pull 3.1s, run 6.0s"
        );
    }

    #[test]
    fn an_image_that_was_not_exported_is_reported() {
        let summary = Summary { digest: "sha256:ab".to_owned(), layers: 1, ..Summary::default() };
        assert_eq!(
            summary.to_string(),
            "image    not exported\ndigest   sha256:ab\nsize     0 B in 1 layer\ntime     0.0s"
        );
    }

    #[test]
    fn phases_add_up_in_the_order_of_a_build() {
        let clock = Clock::start();
        clock.add(Phase::Run, Duration::from_secs(2));
        clock.add(Phase::Pull, Duration::from_secs(1));
        clock.add(Phase::Run, Duration::from_secs(3));
        assert_eq!(clock.spent(), [(Phase::Pull, Duration::from_secs(1)), (Phase::Run, Duration::from_secs(5))]);
    }
}
