//! Whole plans in one process. Files and layers are real, commands are not: stages start from scratch, `RUN` writes the
//! file that its words name, and the cache is a map.

mod graphs;
mod trees;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::cache::{Files, Retention};
use crate::context::{Context, IgnoreMatcher};
use crate::diag::progress::Progress;
use crate::dockerfile::ast::Source;
use crate::fs::{GrowingFile, Removals};
use crate::image::{BaseImage, BlobSource, Digest};
use crate::layer::LayerOptions;
use crate::plan::{self, ImageError, ImageRequest, Images, Plan, RemoteSource, StepId};
use crate::sandbox::{Features, MountContent, Outcome, Process, Sandbox, SandboxError, Status, Stream};
use crate::secret::Secrets;
use crate::snapshot::IgnoredPaths;

use super::{
    AgentError, BaseLayers, BuiltLayer, CacheHits, CachedLayerError, ContentCache, ExecutorError, FetchError,
    FetchedFiles, RemoteSources, ResolveOptions, Resources, SshAgents, execute, resolve,
};

/// Builds Dockerfiles whose bases are other stages or scratch.
struct Bench {
    directory: tempfile::TempDir,
    context: Context,
    builds: Mutex<usize>,
}

/// A plan and the result of its build.
struct Build {
    plan: Plan,
    cache: Cache,
    result: Result<Vec<Digest>, ExecutorError>,
    /// Root directories that still exist after the build.
    remaining: Vec<String>,
}

/// The layers of earlier builds, and those that the next build may use.
#[derive(Default)]
struct Cache {
    /// The hits by definition.
    hits: CacheHits,
    /// The layers by instruction, layers below and files read.
    by_content: Mutex<HashMap<Content, BuiltLayer>>,
    contents: Mutex<BTreeMap<StepId, Content>>,
    texts: BTreeMap<StepId, String>,
    made: Mutex<BTreeMap<StepId, BuiltLayer>>,
    /// The layers that were unpacked, once for each time.
    unpacked: Mutex<Vec<Digest>>,
    /// The root directories that existed when a step had executed.
    roots: Mutex<BTreeMap<StepId, Vec<String>>>,
    trees: PathBuf,
}

type Content = (String, Vec<Digest>, Vec<Option<Files>>);

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("context");
        std::fs::create_dir(&root).unwrap();
        for name in ["a", "b", "c"] {
            std::fs::write(root.join(name), name).unwrap();
        }
        let context = Context { root, ignore: IgnoreMatcher::default(), description: "context".to_owned() };
        Self { directory, context, builds: Mutex::new(0) }
    }

    /// Builds without a cache.
    fn build(&self, dockerfile: &str, parallel: usize) -> Build {
        self.build_with(dockerfile, parallel, Cache::default())
    }

    /// Builds with a cache, which records the new layers.
    fn build_with(&self, dockerfile: &str, parallel: usize, cache: Cache) -> Build {
        let plan = planned(dockerfile);
        let number = {
            let mut builds = self.builds.lock();
            *builds += 1;
            *builds
        };
        let directory = self.directory.path().join(format!("build-{number}"));
        let trees = directory.join("trees");
        std::fs::create_dir_all(&trees).unwrap();
        let texts = plan.steps().map(|(id, step)| (id, step.text.clone())).collect();
        let cache = Cache { texts, trees: trees.clone(), ..cache };
        let removals = Removals::default();
        let nothing = NoOutside;
        let sandboxes = (0..parallel).map(|_| Mutex::new(Box::new(FakeSandbox) as Box<dyn Sandbox>)).collect();
        let resources = Resources {
            context: &self.context,
            named_contexts: &[],
            base_layers: &nothing,
            layer_observer: None,
            remote_sources: &nothing,
            secrets: &Secrets::default(),
            ssh_agents: &nothing,
            cache_mounts_directory: directory.join("caches"),
            shared_cache_mounts: None,
            sandboxes,
            parallel,
            directory: directory.clone(),
            trees: trees.clone(),
            ignored_paths: IgnoredPaths::default(),
            removals: &removals,
            layers: LayerOptions { clamp_mtime: Some(0), threads: 1, ..LayerOptions::default() },
            single_snapshot: false,
            progress: Progress::to(std::io::sink()),
        };
        let options = ResolveOptions { single_snapshot: false, base_layers: Retention::Keep };
        let result = execute(&plan, &resolve(&plan, &cache.hits, options), Some(&cache), &resources);
        let result = result.map(|layers| layers.into_iter().map(|layer| layer.diff_id).collect());
        drop(resources);
        drop(removals);
        Build { plan, cache, result, remaining: names(&trees) }
    }
}

impl Build {
    #[track_caller]
    fn layers(&self) -> &[Digest] {
        self.result.as_ref().expect("it succeeds")
    }

    fn position(&self, stage: &str, step: usize) -> StepId {
        let stage = self.plan.stages.iter().position(|planned| planned.name == stage).expect("a stage of that name");
        StepId { stage, step }
    }

    /// Returns the layer that a step made.
    fn made(&self, stage: &str, step: usize) -> BuiltLayer {
        self.cache.made.lock()[&self.position(stage, step)].clone()
    }

    /// Returns a cache with hits by definition for these steps.
    fn with_hits(&self, is_known: impl Fn(StepId, &str) -> bool) -> Cache {
        let made = self.cache.made.lock();
        let known = made.iter().filter(|(position, _)| is_known(**position, &self.plan.stages[position.stage].name));
        Cache {
            hits: CacheHits { layers: known.map(|(id, layer)| (*id, layer.clone())).collect(), ..CacheHits::default() },
            by_content: Mutex::new(self.cache.by_content.lock().clone()),
            ..Cache::default()
        }
    }

    /// Returns how often a layer was unpacked.
    fn unpacked(&self, layer: &BuiltLayer) -> usize {
        self.cache.unpacked.lock().iter().filter(|unpacked| **unpacked == layer.diff_id).count()
    }
}

fn planned(dockerfile: &str) -> Plan {
    let source = Source { name: "Dockerfile".into(), text: dockerfile.into() };
    let parsed = crate::dockerfile::parse(source).expect("it parses");
    plan::plan(&parsed, &plan::Options::of_platform("linux/amd64"), &mut NoOutside).expect("it can be planned")
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

impl ContentCache for Cache {
    fn lookup(&self, position: StepId, below: &[Digest], sources: Vec<Option<Files>>) -> Option<BuiltLayer> {
        let content = (self.texts[&position].clone(), below.to_vec(), sources);
        self.contents.lock().insert(position, content.clone());
        self.by_content.lock().get(&content).cloned()
    }

    fn record(&self, position: StepId, layer: &BuiltLayer) {
        let content = self.contents.lock()[&position].clone();
        self.by_content.lock().insert(content, layer.clone());
        self.made.lock().insert(position, layer.clone());
        self.roots.lock().insert(position, names(&self.trees));
    }

    fn file(&self, layer: &BuiltLayer) -> Result<PathBuf, CachedLayerError> {
        self.unpacked.lock().push(layer.diff_id.clone());
        match &layer.blob.source {
            BlobSource::File(path) => Ok(path.clone()),
            _ => Err("the layer is not a file".into()),
        }
    }
}

/// A build without images, network and agents.
struct NoOutside;

impl Images for NoOutside {
    fn resolve(&mut self, requests: &[ImageRequest]) -> Vec<Result<BaseImage, ImageError>> {
        requests.iter().map(|request| Err(format!("{}: not found", request.reference).into())).collect()
    }
}

impl BaseLayers for NoOutside {
    fn file(&self, _: &BaseImage, _: usize) -> Result<PathBuf, ImageError> {
        Err("there are no images".into())
    }

    fn growing(&self, _: &BaseImage, _: usize) -> Result<Arc<GrowingFile>, ImageError> {
        Err("there are no images".into())
    }

    fn source(&self, _: &BaseImage, _: usize) -> BlobSource {
        BlobSource::Bytes(Vec::new())
    }
}

impl RemoteSources for NoOutside {
    fn fetch(&self, _: &RemoteSource) -> Result<FetchedFiles, FetchError> {
        Err("there is no network".into())
    }
}

impl SshAgents for NoOutside {
    fn socket(&self, _: &str) -> Result<Option<PathBuf>, AgentError> {
        Ok(None)
    }
}

/// A sandbox with two commands. `write FILE TEXT` writes to a file in place and sets a fixed time. `list FILE` writes
/// to a file the names and contents of all files of the root and the mounts.
struct FakeSandbox;

impl Sandbox for FakeSandbox {
    fn run(
        &mut self,
        root: &Path,
        process: &Process,
        _: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Outcome, SandboxError> {
        let words: Vec<&str> = process.arguments.iter().map(String::as_str).collect();
        let (file, text) = match words.as_slice() {
            ["write", file, text] => (*file, (*text).to_owned()),
            ["list", file] => {
                let mut seen = String::new();
                list(root, &mut seen);
                for mount in &process.mounts {
                    let MountContent::Bind { source } = &mount.content else { panic!("no test has other mounts") };
                    seen.push_str("mounted\n");
                    list(source, &mut seen);
                }
                (*file, seen)
            }
            other => panic!("no such command: {other:?}"),
        };
        let path = root.join(file.trim_start_matches('/'));
        std::fs::write(&path, text).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        Ok(Outcome { status: Status::Exited(0), restamped: Vec::new(), busy: Vec::new() })
    }

    fn name(&self) -> &'static str {
        "writer"
    }

    fn features(&self) -> Features {
        Features::ALL
    }
}

fn list(directory: &Path, seen: &mut String) {
    for name in names(directory) {
        let path = directory.join(&name);
        seen.push_str(&name);
        seen.push('\n');
        match path.is_dir() {
            true => {
                list(&path, seen);
                seen.push_str("..\n");
            }
            false => seen.push_str(&std::fs::read_to_string(&path).unwrap()),
        }
    }
}
