//! Stages beside each other: whatever runs at the same time as what, in which sandbox, with a cache or without, a Dockerfile
//! has one image. Random Dockerfiles are built one stage at a time and eight at a time, without a cache, with an empty one,
//! and after an edit with one that knows a part (`testdata/graphs/build-all`).
//!
//! `make graphs GRAPHS=300` builds more of them than the usual few.

mod generator;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use crate::support::peers::peers;
use crate::support::pod::debug_image;
use crate::support::program::{Ended, Workspace, run, source_directory};

/// Two stages start at once from one that has no steps, and one of them is read by what starts from the other.
const RACE: &str = "\
FROM {base} AS first
FROM first AS second
FROM first AS third
RUN touch -d @1000000 /test
FROM second AS fourth
COPY --from=third test test
";

/// Builds of one graph without a cache, and those that must be like each of them.
const ALIKE: [(&str, &[&str]); 2] = [("one", &["eight", "cold", "known", "back-one"]), ("edited", &["edited-eight"])];

/// How many graphs are built, and the Dockerfile above how often; `usually` unless `CRABWRIGHT_GRAPHS` says otherwise.
fn count(usually: usize) -> usize {
    match std::env::var("CRABWRIGHT_GRAPHS") {
        Ok(count) => count.parse().expect("CRABWRIGHT_GRAPHS is a number"),
        Err(_) => usually,
    }
}

/// Contexts, one for each graph, and a place for what becomes of them.
struct Graphs {
    workspace: Workspace,
    dockerfiles: BTreeMap<String, String>,
}

impl Graphs {
    fn random(count: usize) -> Self {
        let mut graphs = Self { workspace: Workspace::new("FROM scratch\n"), dockerfiles: BTreeMap::new() };
        std::fs::remove_file(graphs.workspace.context().join("Dockerfile")).unwrap();
        let mut runner = TestRunner::default();
        let strategy = generator::graph(peers().busybox());
        for number in 0..count {
            let graph = strategy.new_tree(&mut runner).unwrap().current();
            let name = format!("graph-{number:03}");
            graphs.workspace.file(&format!("{name}/Dockerfile.edited"), &graph.edited);
            for file in ["0", "1", "2"] {
                graphs.workspace.file(&format!("{name}/{file}"), file);
            }
            graphs.add(name, graph.dockerfile);
        }
        graphs
    }

    /// One Dockerfile several times.
    fn same(dockerfile: &str, count: usize) -> Self {
        let mut graphs = Self { workspace: Workspace::new("FROM scratch\n"), dockerfiles: BTreeMap::new() };
        std::fs::remove_file(graphs.workspace.context().join("Dockerfile")).unwrap();
        for number in 0..count {
            graphs.add(format!("round-{number:03}"), dockerfile.replace("{base}", &peers().busybox()));
        }
        graphs
    }

    fn add(&mut self, name: String, dockerfile: String) {
        self.workspace.file(&format!("{name}/Dockerfile"), &dockerfile);
        self.dockerfiles.insert(name, dockerfile);
    }

    fn build_here(&self) -> Ended {
        run(Command::new(source_directory().join("testdata/graphs/build-all"))
            .arg(env!("CARGO_BIN_EXE_crabwright"))
            .args([self.workspace.context(), self.workspace.out()])
            .args([
                "--isolation=namespace".to_owned(),
                format!("--work-dir={}", self.workspace.out().join("work").display()),
            ]))
    }

    /// All of them in one container, which has the root directory of each stage in turn.
    fn build_in_container(&self) -> Ended {
        run(peers()
            .docker()
            .args(["run", "--rm", "--network=host"])
            .arg(format!("--volume={}:/graphs:ro", self.workspace.context().display()))
            .arg(format!("--volume={}:/out", self.workspace.out().display()))
            .arg(format!("--volume={}:/script:ro", source_directory().join("testdata/graphs").display()))
            .args(["--entrypoint=", debug_image(), "sh", "/script/build-all"])
            .args(["/kaniko/executor", "/graphs", "/out", "--isolation=own-root"]))
    }

    /// Every build succeeded, and all of a graph that must be alike have one digest.
    #[track_caller]
    fn assert_alike(&self, ended: &Ended) {
        let out = self.workspace.out();
        let results = std::fs::read_to_string(out.join("results")).unwrap_or_default();
        assert!(results.ends_with("done\n"), "exit code {}, {results}:\n{}", ended.code, ended.said);
        let words = results.lines().filter_map(|line| line.split_once(' '));
        let mut digests: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
        for (graph, (build, digest)) in words.filter_map(|(graph, rest)| Some((graph, rest.split_once(' ')?))) {
            digests.entry(graph).or_default().insert(build, digest);
        }
        assert_eq!(digests.len(), self.dockerfiles.len());
        let mut wrong = Vec::new();
        for (graph, digests) in &digests {
            let is_wrong = |build: &&str, wanted| digests.get(build).is_some_and(|digest| *digest != wanted);
            for (wanted, builds) in ALIKE.iter().filter_map(|(build, builds)| Some((*digests.get(build)?, builds))) {
                let other: Vec<_> = builds.iter().filter(|build| is_wrong(build, wanted)).collect();
                if wanted == "failed" || !other.is_empty() {
                    wrong.push(self.report(&out, graph, &format!("{digests:#?}\n{other:?} are not as they should be")));
                }
            }
        }
        assert!(wrong.is_empty(), "{} of {} graphs:\n{}", wrong.len(), digests.len(), wrong.join("\n"));
        println!("{} graphs, {} builds", digests.len(), results.lines().count() - 1);
    }

    fn report(&self, out: &Path, graph: &str, problem: &str) -> String {
        let edited = std::fs::read_to_string(self.workspace.context().join(graph).join("Dockerfile.edited"));
        let mut report =
            format!("{graph}:\n{}\nedited:\n{}\n{problem}\n", self.dockerfiles[graph], edited.unwrap_or_default());
        for build in ALIKE.iter().flat_map(|(build, others)| std::iter::once(build).chain(*others)) {
            if let Ok(said) = std::fs::read_to_string(out.join(format!("{graph}.{build}.log"))) {
                report.push_str(&format!("{build}:\n{said}\n"));
            }
        }
        report
    }
}

#[test]
fn random_graphs_have_one_image_with_namespaces() {
    let graphs = Graphs::random(count(8));
    graphs.assert_alike(&graphs.build_here());
}

#[test]
fn random_graphs_have_one_image_with_own_root() {
    let graphs = Graphs::random(count(6));
    graphs.assert_alike(&graphs.build_in_container());
}

#[test]
fn stages_that_start_from_one_without_steps_at_the_same_time_with_namespaces() {
    let graphs = Graphs::same(RACE, count(10));
    graphs.assert_alike(&graphs.build_here());
}

#[test]
fn stages_that_start_from_one_without_steps_at_the_same_time_with_own_root() {
    let graphs = Graphs::same(RACE, count(10));
    graphs.assert_alike(&graphs.build_in_container());
}
