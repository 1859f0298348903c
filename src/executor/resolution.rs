//! Decides what a build does with each stage and step, from the plan and the cache hits, before anything runs.
//!
//! [`resolve`] is the only place that decides which steps execute. The executor, the prefetch of base layers and
//! sources, and the sandboxes all read the same [`Resolution`]. If a cached layer turns out to be unusable, its hit is
//! removed and the plan is resolved again.

use std::collections::{BTreeMap, BTreeSet};

use crate::cache::Retention;
use crate::image::Digest;
use crate::plan::{Base, CopyFrom, Plan, StepId};

use super::BuiltLayer;
use super::rootfs_need::{RootfsNeed, rootfs_needs};

/// The layers of earlier builds for the steps of a plan.
#[derive(Debug, Clone, Default)]
pub struct CacheHits {
    /// The layers that were found by the steps' definitions.
    pub layers: BTreeMap<StepId, BuiltLayer>,
    /// For other steps, the reason for the miss if it is known: a phrase for the progress line.
    pub misses: BTreeMap<StepId, String>,
}

/// Options that affect a resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResolveOptions {
    /// Whether a stage makes one layer instead of one for each step.
    pub single_snapshot: bool,
    /// How long the outputs need the blobs of base layers.
    pub base_layers: Retention,
}

/// The decisions for all stages, steps and base layers.
#[derive(Debug, Clone)]
pub struct Resolution {
    /// In the order of [`Plan::stages`].
    pub stages: Vec<StageResolution>,
    /// The images whose files are needed, by their number in [`Plan::images`], in order of use. An image that is
    /// unpacked twice is listed twice.
    pub unpacked: Vec<usize>,
    /// How long the blobs of those images' layers are stored.
    pub retention: BTreeMap<Digest, Retention>,
}

/// The decisions for a stage.
#[derive(Debug, Clone)]
pub struct StageResolution {
    /// Whether the image, a target or a different stage needs its layers or files. If not, every step is skipped.
    pub needed: bool,
    /// How much of its root file system its own steps and those of other stages need.
    pub rootfs: RootfsNeed,
    /// In the order of [`crate::plan::Stage::steps`].
    pub steps: Vec<Disposition>,
}

/// The decision for a step.
#[derive(Debug, Clone)]
pub enum Disposition {
    /// Its stage is not needed.
    Skip,
    /// The cache has its layer.
    Cached(Box<BuiltLayer>),
    /// It executes, unless its layer is found by content once its inputs are complete.
    Execute {
        /// Why the cache has no layer for it, if known.
        miss: Option<String>,
    },
}

impl Disposition {
    /// Reports whether the step executes.
    pub fn is_execute(&self) -> bool {
        matches!(self, Self::Execute { .. })
    }
}

impl Resolution {
    /// Returns the steps that execute.
    pub fn executed(&self) -> impl Iterator<Item = StepId> {
        self.stages.iter().enumerate().flat_map(|(stage, resolved)| {
            let steps = resolved.steps.iter().enumerate().filter(|(_, step)| step.is_execute());
            steps.map(move |(step, _)| StepId { stage, step })
        })
    }
}

/// Resolves a plan.
pub fn resolve(plan: &Plan, hits: &CacheHits, options: ResolveOptions) -> Resolution {
    let needed = needed_stages(plan, hits);
    let mut steps: Vec<Vec<Disposition>> = plan.stages.iter().map(|_| Vec::new()).collect();
    for (id, _) in plan.steps() {
        steps[id.stage].push(match (needed[id.stage], hits.layers.get(&id)) {
            (false, _) => Disposition::Skip,
            (true, Some(layer)) => Disposition::Cached(Box::new(layer.clone())),
            (true, None) => Disposition::Execute { miss: hits.misses.get(&id).cloned() },
        });
    }
    let executes: Vec<Vec<bool>> =
        steps.iter().map(|steps| steps.iter().map(Disposition::is_execute).collect()).collect();
    let rootfs = rootfs_needs(plan, &executes, options.single_snapshot);
    let resolved = needed.into_iter().zip(rootfs).zip(steps);
    let stages: Vec<_> = resolved.map(|((needed, rootfs), steps)| StageResolution { needed, rootfs, steps }).collect();
    let unpacked = unpacked_images(plan, &stages);
    let retention = retention(plan, &unpacked, options.base_layers);
    Resolution { stages, unpacked, retention }
}

/// Returns the needed stages: the targets, the stages they start from, and those that their executed steps read.
fn needed_stages(plan: &Plan, hits: &CacheHits) -> Vec<bool> {
    let mut needed = vec![false; plan.stages.len()];
    // A stage without dependents is in the plan because it is a target.
    let mut open: Vec<usize> = (0..plan.stages.len()).filter(|stage| !has_dependents(plan, *stage)).collect();
    open.push(plan.target);
    while let Some(stage) = open.pop() {
        if std::mem::replace(&mut needed[stage], true) {
            continue;
        }
        open.extend(plan.stages[stage].parent());
        for (step, planned) in plan.stages[stage].steps.iter().enumerate() {
            if !hits.layers.contains_key(&StepId { stage, step }) {
                open.extend(planned.action.stage_dependencies());
            }
        }
    }
    needed
}

fn has_dependents(plan: &Plan, stage: usize) -> bool {
    plan.stages.iter().any(|other| other.stage_dependencies().any(|dependency| dependency == stage))
}

fn unpacked_images(plan: &Plan, stages: &[StageResolution]) -> Vec<usize> {
    let mut images = Vec::new();
    let mut read_by_steps = BTreeSet::new();
    for (stage, resolved) in plan.stages.iter().zip(stages) {
        if resolved.rootfs > RootfsNeed::None
            && let Base::Image(image) = stage.base
        {
            images.push(image);
        }
        let executed = stage.steps.iter().zip(&resolved.steps).filter(|(_, disposition)| disposition.is_execute());
        for from in executed.flat_map(|(step, _)| step.action.origins()) {
            if let CopyFrom::Image(image) = from
                && read_by_steps.insert(image)
            {
                images.push(image);
            }
        }
    }
    images
}

/// A blob that is unpacked once is kept as long as the outputs need it, any other one until the build ends.
fn retention(plan: &Plan, unpacked: &[usize], outputs: Retention) -> BTreeMap<Digest, Retention> {
    let mut retention = BTreeMap::new();
    for image in unpacked {
        for layer in &plan.images[*image].layers {
            let digest = layer.descriptor.digest.clone();
            retention.entry(digest).and_modify(|kept| *kept = Retention::Keep).or_insert(outputs);
        }
    }
    retention
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::ast::Source;
    use crate::image::{BaseImage, Blob, BlobSource, Descriptor, ImageConfig, LayerDescriptor, Manifest, media_type};
    use crate::plan::{ImageError, ImageRequest, Images, Options, plan};

    /// `base` and `tools` share their first layer.
    struct TwoImages;

    impl Images for TwoImages {
        fn resolve(&mut self, requests: &[ImageRequest]) -> Vec<Result<BaseImage, ImageError>> {
            let image = |request: &ImageRequest| {
                let name = request.reference.to_string();
                let layers = [layer("shared"), layer(if name.contains("tools") { "tools" } else { "base" })];
                let config = ImageConfig { architecture: "amd64".into(), os: "linux".into(), ..ImageConfig::default() };
                Ok(BaseImage {
                    reference: request.reference.clone(),
                    digest: Digest::sha256_of(name.as_bytes()),
                    manifest: Manifest::oci(Descriptor::of(media_type::OCI_CONFIG, b"{}"), Vec::new()),
                    config,
                    config_bytes: Vec::new(),
                    layers: layers.to_vec(),
                })
            };
            requests.iter().map(image).collect()
        }
    }

    fn layer(name: &str) -> LayerDescriptor {
        LayerDescriptor {
            descriptor: Descriptor::of(media_type::OCI_LAYER, name.as_bytes()),
            diff_id: Digest::sha256_of(name.as_bytes()),
        }
    }

    fn planned(dockerfile: &str) -> Plan {
        let source = Source { name: "Dockerfile".into(), text: dockerfile.into() };
        let parsed = crate::dockerfile::parse(source).expect("it parses");
        plan(&parsed, &Options::of_platform("linux/amd64"), &mut TwoImages).expect("it can be planned")
    }

    /// Returns hits for steps, given by stage name and step number, all with the same layer.
    fn hits(plan: &Plan, found: &[(&str, usize)]) -> CacheHits {
        let id = |(name, step): &(&str, usize)| {
            let stage = plan.stages.iter().position(|stage| stage.name == *name).expect("a stage of that name");
            StepId { stage, step: *step }
        };
        let LayerDescriptor { descriptor, diff_id } = layer("cached");
        let layer = BuiltLayer { blob: Blob { descriptor, source: BlobSource::Bytes(Vec::new()) }, diff_id };
        CacheHits { layers: found.iter().map(|found| (id(found), layer.clone())).collect(), ..CacheHits::default() }
    }

    /// Returns a line for each stage: its name, its rootfs need, and s, c or x for each step.
    fn table(plan: &Plan, resolution: &Resolution) -> String {
        let mut lines = String::new();
        for (stage, resolved) in plan.stages.iter().zip(&resolution.stages) {
            let steps = resolved.steps.iter().map(|step| match step {
                Disposition::Skip => 's',
                Disposition::Cached(_) => 'c',
                Disposition::Execute { .. } => 'x',
            });
            let steps: String = steps.collect();
            let needed = if resolved.needed { "" } else { " not needed" };
            lines.push_str(&format!("{} {:?} {steps}{needed}\n", stage.name, resolved.rootfs));
        }
        lines
    }

    fn resolved(plan: &Plan, found: &[(&str, usize)]) -> Resolution {
        let options = ResolveOptions { single_snapshot: false, base_layers: Retention::Ephemeral };
        resolve(plan, &hits(plan, found), options)
    }

    const BUILD: &str =
        "FROM base AS build\nCOPY src /src\nRUN make\nFROM base AS final\nENV A=b\nCOPY --from=build /bin /bin\n";

    #[test]
    fn steps_without_a_hit_execute_and_stages_they_read_are_needed() {
        let plan = planned(BUILD);
        for (found, expected) in [
            (&[][..], "build Full xx\nfinal MetadataOnly xx\n"),
            (&[("build", 0)], "build Full cx\nfinal MetadataOnly xx\n"),
            // The files of a stage whose steps are all cached are still read.
            (&[("build", 0), ("build", 1)], "build Full cc\nfinal MetadataOnly xx\n"),
            (&[("final", 1)], "build None ss not needed\nfinal None xc\n"),
            (&[("build", 0), ("build", 1), ("final", 1)], "build None ss not needed\nfinal None xc\n"),
        ] {
            assert_eq!(table(&plan, &resolved(&plan, found)), expected, "{found:?}");
        }
    }

    #[test]
    fn targets_are_built_even_without_dependents() {
        let plan = planned("FROM base AS target\nENV A=b\n");
        assert_eq!(table(&plan, &resolved(&plan, &[])), "target None x\n");
        let source =
            Source { name: "Dockerfile".into(), text: "FROM base AS a\nRUN a\nFROM base AS b\nRUN b\n".into() };
        let options =
            Options { target: Some("a".into()), also_built: vec!["b".into()], ..Options::of_platform("linux/amd64") };
        let parsed = crate::dockerfile::parse(source).expect("it parses");
        let plan = crate::plan::plan(&parsed, &options, &mut TwoImages).expect("it can be planned");
        assert_eq!(table(&plan, &resolved(&plan, &[])), "a Full x\nb Full x\n");
        assert_eq!(table(&plan, &resolved(&plan, &[("a", 0)])), "a None c\nb Full x\n");
    }

    #[test]
    fn a_miss_keeps_its_reason() {
        let plan = planned("FROM base AS a\nRUN a\nRUN b\n");
        let id = StepId { stage: 0, step: 1 };
        let hits =
            CacheHits { misses: BTreeMap::from([(id, "the command differs".to_owned())]), ..hits(&plan, &[("a", 0)]) };
        let options = ResolveOptions { single_snapshot: false, base_layers: Retention::Keep };
        let resolution = resolve(&plan, &hits, options);
        assert!(
            matches!(&resolution.stages[0].steps[1], Disposition::Execute { miss: Some(miss) } if miss == "the command differs")
        );
        assert_eq!(resolution.executed().collect::<Vec<_>>(), [id]);
    }

    #[test]
    fn blobs_that_are_read_once_are_kept_as_long_as_outputs_need_them() {
        let digest = |name| layer(name).descriptor.digest;
        let both = "FROM base AS build\nRUN make\nFROM tools AS final\nRUN use\n";
        let copied = "FROM base AS final\nRUN make\nCOPY --from=tools /a /a\nCOPY --from=tools /b /b\n";
        for (dockerfile, found, unpacked, kept) in [
            (
                "FROM base AS final\nRUN make\n",
                &[][..],
                vec![0],
                vec![("base", Retention::Ephemeral), ("shared", Retention::Ephemeral)],
            ),
            ("FROM base AS final\nRUN make\n", &[("final", 0)], vec![], vec![]),
            ("FROM base AS final\nENV A=b\n", &[], vec![], vec![]),
            (both, &[], vec![0], vec![("tools", Retention::Ephemeral), ("shared", Retention::Ephemeral)]),
            (
                copied,
                &[],
                vec![0, 1],
                vec![("base", Retention::Ephemeral), ("tools", Retention::Ephemeral), ("shared", Retention::Keep)],
            ),
            (
                copied,
                &[("final", 1), ("final", 2)],
                vec![0],
                vec![("base", Retention::Ephemeral), ("shared", Retention::Ephemeral)],
            ),
        ] {
            let plan = planned(dockerfile);
            let resolution = resolved(&plan, found);
            assert_eq!(resolution.unpacked, unpacked, "{dockerfile} {found:?}");
            let expected = kept.into_iter().map(|(name, kept)| (digest(name), kept)).collect();
            assert_eq!(resolution.retention, expected, "{dockerfile} {found:?}");
        }
        let plan = planned(BUILD);
        for outputs in [Retention::Ephemeral, Retention::UntilUploaded, Retention::Keep] {
            let options = ResolveOptions { single_snapshot: false, base_layers: outputs };
            let resolution = resolve(&plan, &CacheHits::default(), options);
            // Unpacked for both stages; for one of them without content.
            assert_eq!(resolution.unpacked, [0, 0]);
            assert!(resolution.retention.values().all(|kept| *kept == Retention::Keep), "{:?}", resolution.retention);
        }
    }
}
