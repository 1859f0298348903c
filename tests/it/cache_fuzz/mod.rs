//! A fuzzer of the layer cache: whatever a project is and whatever is edited in it, the image of a build with the cache is that of
//! a build without one; the next build carries nothing out; and neither does one whose edit means nothing.
//!
//! `make cache-fuzz` runs it for as long as one likes, `CACHE_FUZZ_SEED` says which projects (each has the seed of the one
//! before, plus one, so that a finding is repeated with its own and `CACHE_FUZZ_DOCKERFILES=1`). The ordinary test run
//! has a short one: a project of each theme, with seeds that stay. Times, inodes and the order of stages are the machine's: a
//! finding that depends on those may want several runs.

mod builds;
mod dockerfile;
mod image;
mod project;
mod random;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use builds::{Build, Builds, Built};
use project::{Project, Theme};
use random::Random;

use crate::support::peers::peers;

/// Edits of one project.
const EDITS: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn cached_images_are_those_of_builds_without_a_cache() {
    let mut run = Run::default();
    // A project of each theme.
    for seed in 1..=5 {
        run.project(seed).await;
    }
    run.report();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "as long as one likes: make cache-fuzz"]
async fn for_as_long_as_one_likes() {
    let number = |name: &str| -> Option<u64> {
        let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
        Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
    };
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let first = number("CACHE_FUZZ_SEED").unwrap_or(clock.as_secs());
    let dockerfiles = number("CACHE_FUZZ_DOCKERFILES");
    let limit = Duration::from_secs(number("CACHE_FUZZ_SECONDS").unwrap_or(600));
    let begun = Instant::now();
    println!("CACHE_FUZZ_SEED={first}");
    let mut run = Run::default();
    for seed in first.. {
        let goes_on = match dockerfiles {
            Some(most) => seed - first < most,
            None => begun.elapsed() < limit,
        };
        if !goes_on {
            break;
        }
        run.project(seed).await;
    }
    run.report();
}

/// What was done and found.
#[derive(Default)]
struct Run {
    dockerfiles: usize,
    edits: usize,
    builds: usize,
    found: Vec<String>,
}

impl Run {
    /// Builds one project, edit after edit, until something is wrong.
    async fn project(&mut self, seed: u64) {
        let mut random = Random::new(seed);
        let theme = Theme::of(seed);
        let mut project = Project::new(theme, &mut random);
        let mut builds = Builds::new(theme != Theme::Rot && random.percent(40)).await;
        self.dockerfiles += 1;
        let mut versions = vec![project.clone()];
        let mut story = Vec::new();
        for number in 0..=EDITS {
            let edit = match number {
                0 => "the first build",
                // Back to what the cache may still know.
                _ if random.percent(10) => {
                    project = random.pick(&versions).clone();
                    "back to an earlier version"
                }
                _ => project.edit(&mut random),
            };
            story.push(edit.to_owned());
            self.edits += 1;
            // The registry runs on the threads of the test.
            let checked = tokio::task::block_in_place(|| {
                self.check(&mut builds, &project, versions.last(), &mut random, &mut story)
            });
            if let Err(wrong) = checked {
                let mut text = format!("CACHE_FUZZ_SEED={seed} CACHE_FUZZ_DOCKERFILES=1: {wrong}\n");
                writeln!(text, "edits: {}", story.join(", ")).unwrap();
                writeln!(text, "{theme:?}: {:?}, times equal: {}", project.flags, project.equal_times).unwrap();
                writeln!(text, "cache: {}", if builds.is_directory() { "oci:" } else { "repository" }).unwrap();
                write!(text, "{}", dockerfile::text(&project, &peers().busybox())).unwrap();
                println!("{text}");
                self.found.push(text);
                return;
            }
            versions.push(project.clone());
        }
    }

    /// The builds behind one edit. The error says what is wrong.
    fn check(
        &mut self,
        builds: &mut Builds,
        project: &Project,
        before: Option<&Project>,
        random: &mut Random,
        story: &mut Vec<String>,
    ) -> Result<(), String> {
        let mut arguments = Vec::new();
        let chance = if project.theme == Theme::Rot { 70 } else { 20 };
        if story.len() > 1 && random.percent(chance) {
            story.push(builds.disturb(random));
        } else if random.percent(5) {
            story.push("everything is too old".to_owned());
            arguments.push("--cache-ttl=1ms");
        }
        let beside = before.filter(|_| random.percent(15)).map(|other| (other, builds.start(other, true, &[], random)));
        let cached = builds.start(project, true, &arguments, random);
        let (cached, plain) = if project.flags.parallel == Some(1) {
            // Stage after stage, with nothing beside it that takes the inodes of trees that are gone.
            let cached = self.finished(cached);
            let plain = builds.start(project, false, &[], random);
            (cached, self.finished(plain))
        } else {
            let plain = builds.start(project, false, &[], random);
            (self.finished(cached), self.finished(plain))
        };
        let exact = project.flags.reproducible && project.equal_times;
        same("without a cache", &plain, "with it", &cached, exact)?;
        if let Some((other, beside)) = beside {
            story.push("two at once".to_owned());
            let beside = self.finished(beside);
            let alone = builds.start(other, false, &[], random);
            let alone = self.finished(alone);
            let exact = other.flags.reproducible && other.equal_times;
            same("without a cache", &alone, "with it, beside another", &beside, exact)?;
            // Each of the two may have had steps that the other made, too: one more build settles which.
            let settling = builds.start(project, true, &[], random);
            same("without a cache", &plain, "after two at once", &self.finished(settling), exact)?;
        }
        let mut again = project.clone();
        again.remarks += random.below(2);
        let again = builds.start(&again, true, &[], random);
        let again = self.finished(again);
        same("without a cache", &plain, "with it once more", &again, exact)?;
        match again.executed() {
            0 => Ok(()),
            count => Err(format!("{count} steps were carried out once more:\n{}", again.said)),
        }
    }

    fn finished(&mut self, build: Build) -> Built {
        self.builds += 1;
        build.finish()
    }

    /// Fails if anything was found.
    fn report(&self) {
        let Self { dockerfiles, edits, builds, found } = self;
        println!("{dockerfiles} Dockerfiles, {edits} edits, {builds} builds: {} findings", found.len());
        assert!(found.is_empty(), "{} findings, the first:\n{}", found.len(), found[0]);
    }
}

/// Two builds of one project made the same image.
fn same(one_is: &str, one: &Built, other_is: &str, other: &Built, exact: bool) -> Result<(), String> {
    match (&one.image, &other.image) {
        (Some(image), Some(found)) => match image.difference(found, exact) {
            Some(difference) => Err(format!(
                "the image built {other_is} is not that built {one_is}: {difference}\n-- {one_is}:\n{}\n-- {other_is}:\n{}",
                one.said, other.said
            )),
            None => Ok(()),
        },
        (None, _) => Err(format!("the build {one_is} failed:\n{}", one.said)),
        (_, None) => Err(format!("the build {other_is} failed:\n{}", other.said)),
    }
}
