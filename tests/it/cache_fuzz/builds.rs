//! Builds of a project: fresh checkouts, with a cache and without, and what can happen to a cache meanwhile.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::dockerfile;
use super::image::Image;
use super::project::Project;
use super::random::Random;
use crate::support::fake_registry::{FakeRegistry, Habits};
use crate::support::peers::peers;
use crate::support::program::crabwright;

/// What all files of a checkout have as their time, where they have one.
const EQUAL_TIME: u64 = 1_000_000;

/// Where a project's builds keep their layers.
enum Cache {
    Directory(PathBuf),
    Registry(FakeRegistry),
}

/// The place of one project.
pub(super) struct Builds {
    directory: TempDir,
    cache: Cache,
    builds: usize,
}

/// A build under way.
pub(super) struct Build {
    child: Child,
    place: PathBuf,
}

/// A build that ended.
pub(super) struct Built {
    /// Nothing if it failed.
    pub(super) image: Option<Image>,
    pub(super) said: String,
}

impl Built {
    /// How many steps were carried out, as the summary says.
    pub(super) fn executed(&self) -> usize {
        let line = self.said.lines().find_map(|line| line.strip_prefix("cache    "));
        let line = line.unwrap_or_else(|| panic!("no summary of the cache:\n{}", self.said));
        let numbers: Vec<usize> = line.split([' ', ';']).filter_map(|word| word.parse().ok()).collect();
        numbers[1] - numbers[0]
    }
}

impl Builds {
    /// `in_registry`: the cache is a repository.
    pub(super) async fn new(in_registry: bool) -> Self {
        // Where the build's own files are, on a disk whose inodes are used again.
        let directory = tempfile::Builder::new().prefix("cache-fuzz-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let cache = match in_registry {
            true => Cache::Registry(FakeRegistry::start(Habits::default()).await),
            false => Cache::Directory(directory.path().join("cache")),
        };
        Self { directory, cache, builds: 0 }
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self.cache, Cache::Directory(_))
    }

    /// Starts a build of a fresh checkout; `with_cache` and further `arguments`.
    pub(super) fn start(
        &mut self,
        project: &Project,
        with_cache: bool,
        arguments: &[&str],
        random: &mut Random,
    ) -> Build {
        self.builds += 1;
        let place = self.directory.path().join(format!("build{}", self.builds));
        std::fs::create_dir(&place).unwrap();
        let context = place.join("context");
        check_out(project, &context, random);
        std::fs::write(place.join("Dockerfile"), dockerfile::text(project, &peers().busybox())).unwrap();
        let mut command = crabwright();
        command
            .arg(format!("--context=dir://{}", context.display()))
            .arg(format!("--dockerfile={}", place.join("Dockerfile").display()))
            .arg(format!("--work-dir={}", self.directory.path().join("work").display()))
            .arg(format!("--oci-layout-path={}", place.join("image").display()))
            .arg(format!("--build-arg=A={}", project.flags.argument))
            .arg(format!("--build-arg=ftp_proxy=http://{}", random.token()))
            .args(["--no-push", "--insecure", "--insecure-pull", "--isolation=namespace"])
            .args(arguments);
        if let Some(parallel) = project.flags.parallel {
            command.arg(format!("--parallel={parallel}"));
        }
        if project.flags.reproducible {
            command.arg("--reproducible");
        }
        if with_cache {
            command.args(["--cache", "--cache-repo", &self.cache_name()]);
            if project.flags.copy_layers {
                command.arg("--cache-copy-layers");
            }
        }
        let said = std::fs::File::create(place.join("said")).unwrap();
        command.stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said);
        Build { child: command.spawn().unwrap(), place }
    }

    fn cache_name(&self) -> String {
        match &self.cache {
            Cache::Directory(directory) => format!("oci:{}", directory.display()),
            Cache::Registry(registry) => format!("{}/cache", registry.host()),
        }
    }

    /// Lets something happen to the cache that may cost steps and nothing else; told in a word.
    pub(super) fn disturb(&self, random: &mut Random) -> String {
        match (&self.cache, random.below(4)) {
            (_, 0) => {
                let keep = random.below(6);
                let mut command = crabwright();
                command.args(["cache", "prune", "--insecure", "--keep", &keep.to_string()]);
                let ended = command.arg(format!("--cache-repo={}", self.cache_name())).output().unwrap();
                assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
                format!("prune --keep {keep}")
            }
            (Cache::Directory(directory), kind) => {
                let mut blobs: Vec<PathBuf> = std::fs::read_dir(directory.join("blobs/sha256"))
                    .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
                    .unwrap_or_default();
                blobs.sort();
                // Several, so that one of them matters.
                for _ in 0..blobs.len().min(6) {
                    let blob = random.pick(&blobs).clone();
                    damage(&blob, kind == 1, random);
                }
                if kind == 1 { "truncated blobs".to_owned() } else { "flipped bits in blobs".to_owned() }
            }
            (Cache::Registry(registry), _) => {
                let mut digests: Vec<String> = registry.contents().into_iter().map(|(name, _)| name).collect();
                digests.retain(|name| name.starts_with("cache@"));
                digests.sort();
                for _ in 0..digests.len().min(3) {
                    let digest = random.pick(&digests).trim_start_matches("cache@").parse().unwrap();
                    registry.damage_blob("cache", &digest, None);
                }
                "lost blobs".to_owned()
            }
        }
    }
}

impl Build {
    /// Waits for its end. The checkout and the image's files go.
    pub(super) fn finish(mut self) -> Built {
        let succeeded = self.child.wait().unwrap().success();
        let said = String::from_utf8_lossy(&std::fs::read(self.place.join("said")).unwrap()).into_owned();
        let image = succeeded.then(|| Image::read(&self.place.join("image")));
        std::fs::remove_dir_all(&self.place).unwrap();
        Built { image, said }
    }
}

/// Damages a blob: the length is another one, or the same.
fn damage(blob: &Path, truncate: bool, random: &mut Random) {
    let mut content = std::fs::read(blob).unwrap();
    if content.is_empty() {
        return;
    }
    let place = random.below(content.len());
    if truncate {
        content.truncate(place);
    } else {
        content[place] ^= 1 << random.below(8);
    }
    std::fs::write(blob, content).unwrap();
}

/// Writes the files of a project as another machine would: in any order, at any time.
fn check_out(project: &Project, context: &Path, random: &mut Random) {
    std::fs::create_dir(context).unwrap();
    let mode = *random.pick(&[0o700, 0o755]);
    let mut files: Vec<_> = project.files.iter().collect();
    random.shuffle(&mut files);
    for (path, file) in files {
        let path = context.join(std::ffi::OsStr::from_bytes(path));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &file.content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(file.mode)).unwrap();
        let time = if project.equal_times { EQUAL_TIME } else { EQUAL_TIME + random.below(1 << 30) as u64 };
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(time);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    }
    std::fs::write(context.join(".dockerignore"), ".dockerignore\nignored*\n").unwrap();
    std::fs::write(context.join(format!("ignored{}", random.token())), random.token()).unwrap();
    for directory in ["d/sub", "d"].map(|below| context.join(below)) {
        if directory.exists() {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(EQUAL_TIME);
            std::fs::File::open(directory).unwrap().set_modified(time).unwrap();
        }
    }
    std::fs::set_permissions(context, std::fs::Permissions::from_mode(mode)).unwrap();
}
