//! Computes the key inputs of every step of a plan.
//!
//! The inputs of a definition key are known before anything runs: the previous step (or the stage's base), the
//! instruction's words after expansion, the variables of a `RUN`, the files of a build context, and the keys of steps
//! from whose stages files are copied. The inputs of a content key are known when the step can run: the layers it
//! starts from and the files it reads, whichever steps made them. Neither contains a time, an owner that the build sets
//! anyway, a proxy, a secret's value, a credential, or any property of the machine.
//!
//! Steps that only configure have no key. Their settings are part of the steps that they affect: `ENV` of every
//! following `RUN`, `LABEL` of none.

use std::collections::BTreeMap;

use crate::dockerfile::mount::{MountOwner, Sharing};
use crate::image::{Digest, Platform};
use crate::location::{FileTimes, GitLocation, HttpLocation};
use crate::plan::{Action, Base, Copy, CopyFrom, Mount, MountSource, Plan, RemoteSource, Run, Stage, StepId, TextFile};

use super::key::{Encoder, Key, KeyInputs, KeyKind};

/// Files that a step reads from one of its origins: names, and digests of everything that the image records of them.
pub type Files = Vec<(String, Digest)>;

/// The version of a remote source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceVersion {
    /// The content's digest.
    Content(Digest),
    /// The server's version identifier (`ETag`).
    Tag(String),
    /// The server's modification time (`Last-Modified`).
    Modified(String),
    /// A commit.
    Commit(String),
}

/// Inputs of a definition key that are not in the plan.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// For each origin of the step ([`Action::origins`]) that is a build context, the files that the step reads.
    pub files: Vec<Option<Files>>,
    /// The version of each remote source, by position.
    pub versions: BTreeMap<usize, SourceVersion>,
}

/// Settings that affect the bytes of all layers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerFormat {
    /// The name of the compression.
    pub compression: String,
    /// The compression level, if it is not the default.
    pub level: Option<u8>,
    /// The paths that no layer contains.
    pub left_out: Vec<Vec<u8>>,
    /// The upper bound of file times, in seconds since 1970.
    pub clamp_mtime: Option<i64>,
}

/// The inputs of all definition keys by stage and step; `None` for a step without a layer, and for one whose inputs are
/// unknown.
pub type Definitions = Vec<Vec<Option<KeyInputs>>>;

/// Returns the inputs of the definition keys of a plan's steps. `inputs` returns the inputs of a step that are not in
/// the plan, or `None` if they are unknown: then the steps that build on it have no definition key, either.
pub fn definition_inputs(
    plan: &Plan,
    format: &LayerFormat,
    inputs: &mut dyn FnMut(StepId) -> Option<Inputs>,
) -> Definitions {
    let mut definitions = Definitions::new();
    // The key at the end of each stage.
    let mut end_keys: Vec<Option<Key>> = Vec::new();
    for (stage_number, stage) in plan.stages.iter().enumerate() {
        let mut state = start(plan, stage, &end_keys);
        let mut of_stage = Vec::new();
        for (number, step) in stage.steps.iter().enumerate() {
            if !step.action.makes_layer() {
                of_stage.push(None);
                continue;
            }
            let key_inputs = inputs(StepId { stage: stage_number, step: number }).and_then(|inputs| {
                let mut key_inputs = KeyInputs::new(KeyKind::Definition);
                describe(&mut key_inputs, &step.action, &inputs.versions, format);
                let mut files = inputs.files.into_iter();
                for (origin, from) in step.action.origins().into_iter().enumerate() {
                    let read = files.next().flatten();
                    match from {
                        CopyFrom::Context | CopyFrom::Directory(_) => {
                            add_files(&mut key_inputs, plan, origin, from, read?);
                        }
                        CopyFrom::Image(image) => add_image(&mut key_inputs, plan, origin, image),
                        CopyFrom::Stage(source) => {
                            let key = end_keys[source].as_ref()?;
                            let name = format!("stage {}{}", plan.stages[source].name, suffix(origin));
                            key_inputs.add(name, &Encoder::new().text(key.as_str()));
                        }
                    }
                }
                if !is_base_independent(&step.action) {
                    key_inputs.add("an earlier step", &Encoder::new().text(state.as_ref()?.as_str()));
                    add_base(&mut key_inputs, plan, stage);
                }
                Some(key_inputs)
            });
            // An independent step is still part of the following steps' keys.
            state = match (&key_inputs, state) {
                (Some(key_inputs), Some(before)) if is_base_independent(&step.action) => {
                    Some(chained(&before, &key_inputs.key()))
                }
                (Some(key_inputs), Some(_)) => Some(key_inputs.key()),
                _ => None,
            };
            of_stage.push(key_inputs);
        }
        end_keys.push(state);
        definitions.push(of_stage);
    }
    definitions
}

/// Returns the inputs of the step's content key. `layers` are the diffIDs below; `sources` has, for each origin that is
/// a build context or a stage, the files that the step reads.
pub fn content_inputs(
    plan: &Plan,
    id: StepId,
    format: &LayerFormat,
    layers: &[Digest],
    sources: Vec<Option<Files>>,
    versions: &BTreeMap<usize, SourceVersion>,
) -> Option<KeyInputs> {
    let stage = &plan.stages[id.stage];
    let action = &plan.step(id).action;
    let mut key_inputs = KeyInputs::new(KeyKind::Content);
    describe(&mut key_inputs, action, versions, format);
    let mut sources = sources.into_iter();
    for (origin, from) in action.origins().into_iter().enumerate() {
        let read = sources.next().flatten();
        match from {
            CopyFrom::Image(image) => add_image(&mut key_inputs, plan, origin, image),
            _ => add_files(&mut key_inputs, plan, origin, from, read?),
        }
    }
    if !is_base_independent(action) {
        key_inputs.add("layers", &Encoder::new().texts(layers.iter().map(ToString::to_string)));
        add_base(&mut key_inputs, plan, stage);
    }
    Some(key_inputs)
}

/// Reports whether a step makes the same layer on any base.
pub fn is_base_independent(action: &Action) -> bool {
    matches!(action, Action::Copy(copy) if copy.link)
}

/// Returns the key of a stage's base.
fn start(plan: &Plan, stage: &Stage, end_keys: &[Option<Key>]) -> Option<Key> {
    match stage.base {
        Base::Stage(parent) => end_keys[parent].clone(),
        Base::Scratch | Base::Image(_) => {
            let mut key_inputs = KeyInputs::new(KeyKind::Definition);
            add_base(&mut key_inputs, plan, stage);
            Some(key_inputs.key())
        }
    }
}

/// Adds the base of a stage and its platform. An image counts by its files: its configuration is in the words of the
/// steps that it affects. It counts by its blobs and by their diffIDs: only where commands run is it verified that a
/// blob matches the diffID of the configuration, and an image that claims the diffIDs of a different one must not get
/// its keys.
fn add_base(key_inputs: &mut KeyInputs, plan: &Plan, stage: &Stage) {
    let mut base = stage.base;
    while let Base::Stage(parent) = base {
        base = plan.stages[parent].base;
    }
    key_inputs.add("the platform", &encode_platform(Encoder::new(), &stage.config.platform()));
    let layers = match base {
        Base::Image(image) => plan.images[image].layers.as_slice(),
        _ => &[],
    };
    let digests = layers.iter().map(|layer| format!("{} {}", layer.descriptor.digest, layer.diff_id));
    key_inputs.add("the base image", &Encoder::new().texts(digests));
}

fn chained(before: &Key, step: &Key) -> Key {
    let mut key_inputs = KeyInputs::new(KeyKind::Definition);
    key_inputs.add("before", &Encoder::new().text(before.as_str()));
    key_inputs.add("step", &Encoder::new().text(step.as_str()));
    key_inputs.key()
}

fn encode_platform(encoder: Encoder, platform: &Platform) -> Encoder {
    encoder
        .text(&platform.os)
        .text(&platform.architecture)
        .optional(platform.variant.as_deref())
        .optional(platform.os_version.as_deref())
        .texts(platform.os_features.iter())
}

fn add_image(key_inputs: &mut KeyInputs, plan: &Plan, origin: usize, image: usize) {
    let image = &plan.images[image];
    let diff_ids = image.layers.iter().map(|layer| layer.diff_id.to_string());
    key_inputs.add(format!("image {}{}", image.reference, suffix(origin)), &Encoder::new().texts(diff_ids));
}

fn add_files(key_inputs: &mut KeyInputs, plan: &Plan, origin: usize, from: CopyFrom, files: Files) {
    let place = match from {
        // The flags may come in any order, and with others.
        CopyFrom::Directory(number) => format!("build context {} file", plan.directories[number]),
        CopyFrom::Stage(_) => "stage file".to_owned(),
        CopyFrom::Context | CopyFrom::Image(_) => "context file".to_owned(),
    };
    // The number distinguishes an origin without files from no origin.
    key_inputs.add(format!("files{}", suffix(origin)), &Encoder::new().number(files.len() as u64));
    for (name, digest) in files {
        key_inputs.add_digest(format!("{place} {name}{}", suffix(origin)), digest);
    }
}

/// Distinguishes the mounts of a step after the first.
fn suffix(origin: usize) -> String {
    if origin == 0 { String::new() } else { format!(" (mount {})", origin + 1) }
}

/// Adds the instruction's words and its variables.
fn describe(
    key_inputs: &mut KeyInputs,
    action: &Action,
    versions: &BTreeMap<usize, SourceVersion>,
    format: &LayerFormat,
) {
    let clamp = format.clamp_mtime.map(|time| time.to_string());
    key_inputs.add(
        "the form of layers",
        &Encoder::new()
            .text(&format.compression)
            .number(format.level.map_or(0, |level| u64::from(level) + 1))
            .number(format.left_out.len() as u64)
            .all_bytes(&format.left_out)
            .optional(clamp.as_deref()),
    );
    match action {
        Action::Configure => {}
        Action::Workdir(workdir) => {
            key_inputs.add("the instruction", &Encoder::new().text("workdir").text(&workdir.path).text(&workdir.user));
        }
        Action::Copy(copy) => describe_copy(key_inputs, copy, versions),
        Action::Run(run) => describe_run(key_inputs, run),
    }
}

fn describe_run(key_inputs: &mut KeyInputs, run: &Run) {
    let Run { arguments, environment, proxies, working_directory, user, script, offline, host_name, mounts } = run;
    let words = Encoder::new().text("run").texts(arguments.iter()).text(working_directory).text(user).flag(*offline);
    let words = script.iter().fold(words.flag(script.is_some()), encode_text_file);
    key_inputs.add("the instruction", &mounts.iter().fold(words.number(mounts.len() as u64), encode_mount));
    if let Some(name) = host_name {
        key_inputs.add("the host name", &Encoder::new().text(name));
    }
    for (name, value) in environment.iter().filter(|(name, _)| !proxies.contains(&name.as_str())) {
        key_inputs.add(format!("variable {name}"), &Encoder::new().text(value));
    }
}

fn describe_copy(key_inputs: &mut KeyInputs, copy: &Copy, versions: &BTreeMap<usize, SourceVersion>) {
    let Copy { add, from: _, sources, remotes, texts, destination, working_directory, chown, chmod, unpack, .. } = copy;
    let words = Encoder::new().text("copy").flag(*add).flag(*unpack).flag(copy.parents).flag(copy.link);
    let words = words.text(destination).text(working_directory).optional(chown.as_deref()).optional(chmod.as_deref());
    let words = words.texts(copy.excludes.iter()).number(sources.len() as u64);
    let words = sources.iter().enumerate().fold(words, |words, (position, source)| match remotes.get(&position) {
        None => words.flag(false).text(source),
        // The URL as written may contain a password.
        Some(remote) => encode_remote(words.flag(true), remote),
    });
    let words = words.number(texts.len() as u64);
    key_inputs.add("the instruction", &texts.iter().fold(words, encode_text_file));
    for (position, remote) in remotes {
        let name = format!("{remote}{}", if *position == 0 { String::new() } else { format!(" ({})", position + 1) });
        let version = match versions.get(position) {
            None => Encoder::new(),
            Some(SourceVersion::Content(digest)) => Encoder::new().text("content").text(&digest.to_string()),
            Some(SourceVersion::Tag(tag)) => Encoder::new().text("tag").text(tag),
            Some(SourceVersion::Modified(time)) => Encoder::new().text("modified").text(time),
            Some(SourceVersion::Commit(commit)) => Encoder::new().text("commit").text(commit),
        };
        key_inputs.add(name, &version);
    }
}

fn encode_text_file(words: Encoder, file: &TextFile) -> Encoder {
    words.text(&file.name).text(&file.content)
}

fn encode_remote(words: Encoder, remote: &RemoteSource) -> Encoder {
    match remote {
        RemoteSource::File { location, checksum: _, unpack } => {
            words.text("file").text(&without_login(location)).flag(*unpack)
        }
        // The commit identifies the content.
        RemoteSource::Repository(GitLocation { subdir, keep_git_dir, submodules, times, .. }) => words
            .text("repository")
            .text(subdir)
            .flag(*keep_git_dir == Some(true))
            .flag(*submodules)
            .flag(*times == FileTimes::Commit),
    }
}

/// Returns the URL with its query, which may select the file, but without user and password, which do not.
fn without_login(location: &HttpLocation) -> String {
    let mut url = location.url().clone();
    // Only URLs without a host cannot have them.
    let cleared = url.set_username("").is_ok() && url.set_password(None).is_ok();
    if cleared { url.to_string() } else { location.to_string() }
}

fn encode_mount(words: Encoder, mount: &Mount) -> Encoder {
    let Mount { target, read_only, source, span: _ } = mount;
    let words = words.optional(target.as_deref()).flag(*read_only);
    let owner = |words: Encoder, owner: &MountOwner| {
        words.number(owner.mode.into()).number(owner.uid.into()).number(owner.gid.into())
    };
    match source {
        MountSource::Bind { from: _, path } => words.text("bind").text(path),
        // The content of a cache mount never counts, so its id does not, either.
        MountSource::Cache { id: _, sharing, content, owner: whose } => {
            let sharing = match sharing {
                Sharing::Shared => "shared",
                Sharing::Private => "private",
                Sharing::Locked => "locked",
            };
            let words = words.text("cache").text(sharing);
            owner(words.optional(content.as_ref().map(|(_, path)| path.as_str())), whose)
        }
        MountSource::Memory { size } => words.text("tmpfs").flag(size.is_some()).number(size.unwrap_or_default()),
        MountSource::Secret { id, variable, required, owner: whose } => {
            owner(words.text("secret").text(id).optional(variable.as_deref()).flag(*required), whose)
        }
        MountSource::Agent { id, required, owner: whose } => owner(words.text("ssh").text(id).flag(*required), whose),
    }
}

#[cfg(test)]
mod tests;
