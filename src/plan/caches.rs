//! Distinguishes the caches of `RUN --mount=type=cache` by more than their ids: as in BuildKit, by owner and mode of
//! the directory and the source of its initial content. Two commands with the same id that differ in those do not share
//! a cache.
//!
//! BuildKit identifies the initial content by its snapshot. Here a stage is identified by its base image and its
//! instructions with their variables, not by the files of the build context, so that its caches stay valid in a build
//! without a layer cache. An image is identified by its digest.

use crate::dockerfile::mount::CACHE_MODE;
use crate::image::{BaseImage, Digest, Hasher};

use super::{Action, Base, CopyFrom, MountSource, Stage};

/// The hexadecimal digits of a digest in a cache's name.
const DIGITS: usize = 16;

/// Adds the distinguishing properties to the id of every cache. A cache without any keeps its id.
pub(super) fn distinguish(stages: &mut [Stage], images: &[BaseImage]) {
    let names: Vec<String> = stages.iter().map(|stage| stage.name.clone()).collect();
    let digests = digests(stages, images);
    let origin = |from: &CopyFrom| match *from {
        CopyFrom::Context => "context".to_owned(),
        CopyFrom::Directory(number) => format!("context {}", number + 1),
        CopyFrom::Stage(stage) => format!("{}@{}", names[stage], short(&digests[stage])),
        CopyFrom::Image(image) => format!("{}@{}", images[image].reference.name(), short(&images[image].digest)),
    };
    for step in stages.iter_mut().flat_map(|stage| &mut stage.steps) {
        let Action::Run(run) = &mut step.action else { continue };
        for mount in &mut run.mounts {
            let MountSource::Cache { id, content, owner, .. } = &mut mount.source else { continue };
            let mut traits = Vec::new();
            traits.extend((owner.uid != 0).then(|| format!("uid={}", owner.uid)));
            traits.extend((owner.gid != 0).then(|| format!("gid={}", owner.gid)));
            traits.extend((owner.mode != CACHE_MODE).then(|| format!("mode={:04o}", owner.mode)));
            let content = content.as_ref();
            traits.extend(content.map(|(from, path)| format!("from={}:/{}", origin(from), path.trim_matches('/'))));
            if !traits.is_empty() {
                *id = format!("{id} ({})", traits.join(","));
            }
        }
    }
}

/// Returns a digest of each stage's inputs.
fn digests(stages: &[Stage], images: &[BaseImage]) -> Vec<Digest> {
    let mut digests: Vec<Digest> = Vec::new();
    for stage in stages {
        let mut words = Words(Hasher::new());
        match stage.base {
            Base::Scratch => words.put("scratch"),
            Base::Image(image) => words.put(images[image].digest.hex()),
            Base::Stage(parent) => words.put(digests[parent].hex()),
        }
        for step in &stage.steps {
            words.put(&step.text);
            match &step.action {
                Action::Configure | Action::Workdir(_) => {}
                Action::Run(run) => {
                    run.arguments.iter().for_each(|argument| words.put(argument));
                    run.script.iter().for_each(|script| words.put(&script.content));
                    let set = run.environment.iter().filter(|(name, _)| !run.proxies.contains(&name.as_str()));
                    set.for_each(|(name, value)| {
                        words.put(name);
                        words.put(value);
                    });
                }
                Action::Copy(copy) => {
                    copy.sources.iter().for_each(|source| words.put(source));
                    copy.texts.iter().for_each(|text| words.put(&text.content));
                    words.put(&copy.destination);
                }
            }
            for from in step.action.origins() {
                match from {
                    CopyFrom::Context | CopyFrom::Directory(_) => words.put("context"),
                    CopyFrom::Stage(source) => words.put(digests[source].hex()),
                    CopyFrom::Image(image) => words.put(images[image].digest.hex()),
                }
            }
        }
        digests.push(words.0.finish());
    }
    digests
}

/// Texts that are hashed to a digest.
struct Words(Hasher);

impl Words {
    fn put(&mut self, text: &str) {
        self.0.update(&(text.len() as u64).to_be_bytes());
        self.0.update(text.as_bytes());
    }
}

fn short(digest: &Digest) -> &str {
    digest.hex().get(..DIGITS).unwrap_or(digest.hex())
}
