//! Layers of earlier builds: found where they may be, and nowhere else.

mod base_configurations;
mod damage;
mod disk;
mod faults;
mod hits;
mod leaks;
mod order;
mod prune;
mod remote;
mod secrets;
mod strangers;
mod together;

use std::path::PathBuf;
use std::process::Command;

use crabwright::image::{Digest, Manifest};

use crate::support::caches::{CachePlace, STORES, Store};
use crate::support::fake_registry::{FakeRegistry, Habits};
use crate::support::peers::peers;
use crate::support::program::{Ended, Workspace, run};

/// A build of two stages whose commands give another result each time they run.
const DOCKERFILE: &str = "\
FROM {base} AS build
WORKDIR /src
COPY req.txt .
RUN cat req.txt /proc/sys/kernel/random/uuid > /deps
COPY . .
RUN cat main.txt > /out && cat /deps >> /out
FROM {base}
ARG VERSION=1
RUN echo $VERSION > /version
COPY --from=build /out /result
CMD [\"cat\", \"/result\"]
";

/// A context, a cache, and a registry that notes what is asked of it.
struct Bench {
    workspace: Workspace,
    registry: FakeRegistry,
    place: CachePlace,
}

impl Bench {
    async fn new(store: Store) -> Self {
        Self::with(store, DOCKERFILE, Habits::default()).await
    }

    async fn with(store: Store, dockerfile: &str, habits: Habits) -> Self {
        Self::at(store, FakeRegistry::start(habits).await, dockerfile)
    }

    fn at(store: Store, registry: FakeRegistry, dockerfile: &str) -> Self {
        let workspace = Workspace::new(&dockerfile.replace("{base}", &peers().busybox()));
        workspace
            .file(".dockerignore", "Dockerfile\n.dockerignore\n")
            .file("req.txt", "1\n")
            .file("main.txt", "main\n")
            .file("lib/a.txt", "a\n");
        let place = CachePlace::new(store, &registry, &workspace, "cache");
        Self { workspace, registry, place }
    }

    /// The command line of a build of a context with this bench's cache.
    fn command_of(&self, workspace: &Workspace) -> Command {
        let mut command = workspace.build();
        command.args(["--cache", "--cache-repo", &self.place.to_string(), "--isolation=namespace"]);
        command.arg(format!("--destination={}/app:1", self.registry.host()));
        command
    }

    fn command(&self) -> Command {
        self.command_of(&self.workspace)
    }

    /// Builds; the requests before are forgotten.
    #[track_caller]
    fn build(&self) -> Built {
        self.build_with(&[])
    }

    #[track_caller]
    fn build_with(&self, arguments: &[&str]) -> Built {
        self.registry.forget_requests();
        // The registry runs on the threads of the test.
        Built(tokio::task::block_in_place(|| run(self.command().args(arguments))).success())
    }

    /// The keys of all entries, in order.
    fn keys(&self) -> Vec<String> {
        self.place.tags().into_iter().filter(|name| name.len() == 64).collect()
    }

    /// The layers of all entries.
    fn layers(&self) -> Vec<Digest> {
        let mut layers: Vec<Digest> =
            self.keys().iter().map(|key| self.place.manifest(key).layers[0].digest.clone()).collect();
        layers.sort();
        layers.dedup();
        layers
    }

    /// Every entry's parts are there, and its layer is what its digest says.
    #[track_caller]
    fn assert_entries_whole(&self) {
        self.place.assert_whole(&self.keys());
    }

    /// The manifest of the image that was pushed.
    fn image(&self) -> Manifest {
        serde_json::from_slice(&self.registry.manifest("app", "1").unwrap()).unwrap()
    }

    fn image_layers(&self) -> Vec<Digest> {
        self.image().layers.into_iter().map(|layer| layer.digest).collect()
    }
}

/// A build that succeeded.
struct Built(Ended);

impl Built {
    fn said(&self) -> &str {
        &self.0.said
    }

    /// The instructions that came from the cache.
    fn cached(&self) -> Vec<&str> {
        let lines = self.said().lines().filter_map(|line| line.strip_suffix(" CACHED"));
        let mut cached: Vec<&str> = lines.filter_map(|line| line.split_once("] ").map(|(_, text)| text)).collect();
        cached.sort_unstable();
        cached
    }

    /// How many steps were carried out, as the summary says.
    #[track_caller]
    fn executed(&self) -> usize {
        let line = self.said().lines().find_map(|line| line.strip_prefix("cache    ")).expect("a summary of the cache");
        let numbers: Vec<usize> = line.split([' ', ';']).filter_map(|word| word.parse().ok()).collect();
        numbers[1] - numbers[0]
    }

    #[track_caller]
    fn says(&self, text: &str) -> &Self {
        self.0.says(text);
        self
    }
}
