//! What each step of a plan is made of.
//!
//! A definition says what can be known before anything runs: the step before (or what the stage starts from), the
//! instruction's final words, the variables a RUN sees, the files of a build context, the step that others' files come from.
//! The inputs of a content key say what is there when the step's turn comes: the layers it starts from and the files it reads,
//! whoever made them. Neither holds a time, an owner that the build sets anyway, a proxy, a secret's value, a credential, or
//! anything of the machine.
//!
//! Steps that only configure have no key. What they set is part of those that it can change: ENV of every RUN behind it,
//! LABEL of none.

use std::collections::BTreeMap;

use crate::dockerfile::mount::{MountOwner, Sharing};
use crate::image::{Digest, Platform};
use crate::location::{FileTimes, GitLocation, HttpLocation};
use crate::plan::{Action, Base, Copy, CopyFrom, Mount, MountSource, Plan, RemoteSource, Run, Stage, StepId, TextFile};

use super::key::{Encoder, Key, KeyInputs, Kind};

/// What is read of one origin of a step: files by name, each with the digest of all that the image would say of it.
pub type Files = Vec<(String, Digest)>;

/// Which version of a remote source there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// The content's digest.
    Content(Digest),
    /// The server's own name for the version (`ETag`).
    Tag(String),
    /// When the server says that it was changed (`Last-Modified`).
    Modified(String),
    /// A commit.
    Commit(String),
}

/// What a definition needs to know that is not in the plan.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// For each origin of the step ([`Action::origins`]) that is a build context, what is read there.
    pub files: Vec<Option<Files>>,
    /// Which version of each remote source there is, by its position.
    pub versions: BTreeMap<usize, Version>,
}

/// What makes the bytes of all layers other ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerFormat {
    /// The name of what layers are compressed with.
    pub compression: String,
    /// And the level, if it is not the usual one.
    pub level: Option<u8>,
    /// Which files no layer holds.
    pub left_out: Vec<Vec<u8>>,
    /// Upper bound of file times, in seconds since 1970.
    pub clamp_mtime: Option<i64>,
}

/// The definitions of all steps, by stage and step; none for a step that makes no layer, or that cannot be known beforehand.
pub type Definitions = Vec<Vec<Option<KeyInputs>>>;

/// Writes the definitions of a plan's steps. `inputs` gives what is read by a step, or nothing where that cannot be told: the
/// steps that build on it then have no definition either.
pub fn definition_keys(
    plan: &Plan,
    format: &LayerFormat,
    inputs: &mut dyn FnMut(StepId) -> Option<Inputs>,
) -> Definitions {
    let mut definitions = Definitions::new();
    // What each stage ends with.
    let mut ends: Vec<Option<Key>> = Vec::new();
    for (stage_number, stage) in plan.stages.iter().enumerate() {
        let mut state = start(plan, stage, &ends);
        let mut of_stage = Vec::new();
        for (number, step) in stage.steps.iter().enumerate() {
            if !step.action.makes_layer() {
                of_stage.push(None);
                continue;
            }
            let key_inputs = inputs(StepId { stage: stage_number, step: number }).and_then(|inputs| {
                let mut key_inputs = KeyInputs::new(Kind::Definition);
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
                            let key = ends[source].as_ref()?;
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
            // What a step does that stands alone still becomes part of what is behind it.
            state = match (&key_inputs, state) {
                (Some(key_inputs), Some(before)) if is_base_independent(&step.action) => {
                    Some(chained(&before, &key_inputs.key()))
                }
                (Some(key_inputs), Some(_)) => Some(key_inputs.key()),
                _ => None,
            };
            of_stage.push(key_inputs);
        }
        ends.push(state);
        definitions.push(of_stage);
    }
    definitions
}

/// The inputs of a step's content key, over these layers. `sources` holds, for each of the step's origins that is a build context or
/// a stage, what is read there.
pub fn content_key(
    plan: &Plan,
    id: StepId,
    format: &LayerFormat,
    layers: &[Digest],
    sources: Vec<Option<Files>>,
    versions: &BTreeMap<usize, Version>,
) -> Option<KeyInputs> {
    let stage = &plan.stages[id.stage];
    let action = &plan.step(id).action;
    let mut key_inputs = KeyInputs::new(Kind::Content);
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

/// Whether a step makes the same layer whatever it is laid over.
pub fn is_base_independent(action: &Action) -> bool {
    matches!(action, Action::Copy(copy) if copy.link)
}

/// What a stage starts from.
fn start(plan: &Plan, stage: &Stage, ends: &[Option<Key>]) -> Option<Key> {
    match stage.base {
        Base::Stage(parent) => ends[parent].clone(),
        Base::Scratch | Base::Image(_) => {
            let mut key_inputs = KeyInputs::new(Kind::Definition);
            add_base(&mut key_inputs, plan, stage);
            Some(key_inputs.key())
        }
    }
}

/// The image or the emptiness that a stage starts from, with its platform. An image counts by its files alone: what its
/// configuration says is in the words of the steps that it changes. It counts by its blobs as well as by their content: that a
/// blob holds what the configuration says is only checked where commands run on it, and an image with the diffIDs of another
/// must not get at the other's keys.
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
    let mut key_inputs = KeyInputs::new(Kind::Definition);
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
        // The flags may come in any order, and others beside them.
        CopyFrom::Directory(number) => format!("build context {} file", plan.directories[number]),
        CopyFrom::Stage(_) => "stage file".to_owned(),
        CopyFrom::Context | CopyFrom::Image(_) => "context file".to_owned(),
    };
    // The number keeps a file apart from nothing where an origin has no files at all.
    key_inputs.add(format!("files{}", suffix(origin)), &Encoder::new().number(files.len() as u64));
    for (name, digest) in files {
        key_inputs.add_digest(format!("{place} {name}{}", suffix(origin)), digest);
    }
}

/// Keeps the second and later mounts of a step apart.
fn suffix(origin: usize) -> String {
    if origin == 0 { String::new() } else { format!(" (mount {})", origin + 1) }
}

/// The instruction's own words, and the variables it sees.
fn describe(key_inputs: &mut KeyInputs, action: &Action, versions: &BTreeMap<usize, Version>, format: &LayerFormat) {
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

fn describe_copy(key_inputs: &mut KeyInputs, copy: &Copy, versions: &BTreeMap<usize, Version>) {
    let Copy { add, from: _, sources, remotes, texts, destination, working_directory, chown, chmod, unpack, .. } = copy;
    let words = Encoder::new().text("copy").flag(*add).flag(*unpack).flag(copy.parents).flag(copy.link);
    let words = words.text(destination).text(working_directory).optional(chown.as_deref()).optional(chmod.as_deref());
    let words = words.texts(copy.excludes.iter()).number(sources.len() as u64);
    let words = sources.iter().enumerate().fold(words, |words, (position, source)| match remotes.get(&position) {
        None => words.flag(false).text(source),
        // As it is written it may hold a password.
        Some(remote) => encode_remote(words.flag(true), remote),
    });
    let words = words.number(texts.len() as u64);
    key_inputs.add("the instruction", &texts.iter().fold(words, encode_text_file));
    for (position, remote) in remotes {
        let name = format!("{remote}{}", if *position == 0 { String::new() } else { format!(" ({})", position + 1) });
        let version = match versions.get(position) {
            None => Encoder::new(),
            Some(Version::Content(digest)) => Encoder::new().text("content").text(&digest.to_string()),
            Some(Version::Tag(tag)) => Encoder::new().text("tag").text(tag),
            Some(Version::Modified(time)) => Encoder::new().text("modified").text(time),
            Some(Version::Commit(commit)) => Encoder::new().text("commit").text(commit),
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
        // The commit says the rest.
        RemoteSource::Repository(GitLocation { subdir, keep_git_dir, submodules, times, .. }) => words
            .text("repository")
            .text(subdir)
            .flag(*keep_git_dir == Some(true))
            .flag(*submodules)
            .flag(*times == FileTimes::Commit),
    }
}

/// The URL with its query, which may name the file, and without user and password, which do not.
fn without_login(location: &HttpLocation) -> String {
    let mut url = location.url().clone();
    // Only URLs without a host have no place for them.
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
        // What a cache holds never counts, and so neither does which one it is.
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
