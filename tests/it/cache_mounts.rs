//! Caches of commands (`RUN --mount=type=cache`) that go from machine to machine: what comes back, what is refused, and that
//! nothing of it ever fails a build.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crabwright::cache::{CacheMountContent, cache_mount};
use crabwright::image::{Blob, BlobSource, Descriptor, Digest, Platform, media_type};

use crate::support::archive::Archive;
use crate::support::caches::{CachePlace, STORES, Store};
use crate::support::fake_registry::{FakeRegistry, Fault, Habits, Stage, each_fault};
use crate::support::peers::peers;
use crate::support::pod::Pod;
use crate::support::program::{Ended, Workspace, run};

/// The first build finds nothing, every other one what the first left; each leaves a file of its own.
const GROWING: &str = "\
FROM {base}
ARG TURN=0
RUN --mount=type=cache,target=/c,id=packages cat /c/* 2>/dev/null; echo content-of-$TURN > /c/turn-$TURN
";

/// A context, and a place for its caches that notes what is asked of it.
struct Bench {
    workspace: Workspace,
    registry: FakeRegistry,
    place: CachePlace,
}

impl Bench {
    async fn new(store: Store, dockerfile: &str) -> Self {
        let workspace = Workspace::new(&dockerfile.replace("{base}", &peers().busybox()));
        let registry = FakeRegistry::start(Habits::default()).await;
        let place = CachePlace::new(store, &registry, &workspace, "mounts");
        Self { workspace, registry, place }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.workspace.build();
        command
            .args(["--no-push", "--isolation=namespace", "--cache-mounts-repo", &self.place.to_string()])
            .args(arguments);
        command
    }

    /// Builds; the requests before are forgotten.
    #[track_caller]
    fn build(&self, arguments: &[&str]) -> Ended {
        self.registry.forget_requests();
        // The registry runs on the threads of the test.
        tokio::task::block_in_place(|| run(&mut self.command(arguments))).success()
    }

    /// Builds on another machine: where the caches are empty.
    #[track_caller]
    fn build_elsewhere(&self, arguments: &[&str]) -> Ended {
        std::fs::remove_dir_all(self.caches()).unwrap();
        self.build(arguments)
    }

    fn caches(&self) -> PathBuf {
        self.workspace.out().join("work/caches")
    }

    /// How many requests there were to the caches' repository.
    fn requests(&self) -> usize {
        self.registry.seen().iter().filter(|seen| seen.path.contains("/v2/mounts/")).count()
    }

    /// Whatever has a tag is there as a whole.
    #[track_caller]
    fn assert_whole(&self) {
        self.place.assert_whole(&self.place.tags());
    }

    /// Puts an archive into the registry, as if the cache `packages` were that; `change` lies about it.
    fn plant(&self, archive: &[u8], packed: Vec<u8>, change: impl FnOnce(&mut CacheMountContent)) {
        let layer = Descriptor::of(media_type::OCI_LAYER_ZSTD, &packed);
        self.registry.put_blob("mounts", packed.clone());
        let platform = Platform::host();
        let tag = cache_mount::tag("packages", &platform);
        let diff_id = Digest::sha256_of(archive);
        let mut cache = CacheMountContent { id: "packages".to_owned(), platform, layer, diff_id, created: 1, size: 1 };
        change(&mut cache);
        let image =
            cache.to_image(Blob { descriptor: cache.layer.clone(), source: BlobSource::Bytes(packed) }).unwrap();
        self.registry.put_blob("mounts", image.config_bytes);
        self.registry.put_manifest("mounts", &tag, media_type::OCI_MANIFEST, image.manifest_bytes);
    }
}

/// How many warnings there were, besides those of requests that are tried again.
fn warnings(ended: &Ended) -> usize {
    let lines = ended.said.lines().filter(|line| line.starts_with("warning:"));
    lines.filter(|line| !line.contains("; trying again ")).count()
}

/// A pod option or several, on top of the default pod.
type Change = fn(Pod) -> Pod;

/// Four pods after each other, none of which has anything of the others: owners come through one that cannot have them.
#[tokio::test(flavor = "multi_thread")]
async fn pods_of_every_kind_share_a_cache() {
    let dockerfile = "\
FROM {base}
ARG TURN
RUN --mount=type=cache,target=/var/cache/packages <<END
set -e
cd /var/cache/packages
if test $TURN = 0; then
    test -z \"$(ls -A)\"
    mkdir -p lists/deep
    echo content > lists/deep/file
    ln lists/deep/file linked
    ln -s lists/deep symbolic
    chown 12:34 linked
    chmod 4751 linked
    chmod 1770 lists
    touch -d '2001-02-03 04:05:06' linked lists
fi
test \"$(cat symbolic/file)\" = content
test \"$(stat -c %i linked)\" = \"$(stat -c %i lists/deep/file)\"
test \"$(readlink symbolic)\" = lists/deep
test \"$(stat -c '%a %Y' linked)\" = '4751 981173106'
test \"$(stat -c '%a %Y' lists)\" = '1770 981173106'
# A user namespace with one id shows every file as root's.
test $TURN = 2 || test \"$(stat -c %u:%g linked)\" = 12:34
touch turn-$TURN
test $(ls | grep -c turn) = $((TURN + 1))
END
";
    let bench = Bench::new(Store::Registry, dockerfile).await;
    let pods: [Change; 4] =
        [|pod| pod, Pod::without_seccomp, |pod| pod.without_seccomp().user(1000), |pod| pod.option("--memory=300m")];
    for (turn, change) in pods.into_iter().enumerate() {
        let pod = change(Pod::for_workspace(&bench.workspace));
        let (place, turn_argument) =
            (format!("--cache-mounts-repo={}", bench.place), format!("--build-arg=TURN={turn}"));
        let arguments =
            ["--context=dir:///workspace", "--insecure", "--insecure-pull", "--no-push", &place, &turn_argument];
        let ended = tokio::task::block_in_place(|| pod.run(&arguments)).success();
        let isolation = if turn % 3 == 0 { "isolation: own-root" } else { "isolation: namespace" };
        ended.says(isolation);
        assert_eq!((warnings(&ended), bench.place.tags().len()), (0, 1), "{}", ended.said);
        let imported = usize::from(turn > 0);
        ended.says(&format!("mounts   {imported} imported"));
        ended.says("1 exported");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_machine_goes_on_where_the_last_one_ended() {
    for store in STORES {
        let bench = Bench::new(store, GROWING).await;
        bench.build(&[]).says("mounts   0 imported (0 B), 1 exported (13 B), 0 unchanged");
        let first = bench.place.tags();
        assert!(first.len() == 1 && first[0].starts_with("mount-") && !first[0].contains("packages"), "{first:?}");
        let annotations = bench.place.manifest(&first[0]).annotations;
        assert_eq!(annotations["dev.crabwright.mount.id"], "packages");
        assert_eq!(annotations["dev.crabwright.mount.size"], "13");
        assert!(annotations.contains_key("org.opencontainers.image.created"));
        let second = bench.build_elsewhere(&["--build-arg=TURN=1"]);
        second.says("content-of-0");
        second.says("cache mount packages: imported 13 B from");
        second.says("mounts   1 imported (13 B), 1 exported (26 B), 0 unchanged");
        let third = bench.build_elsewhere(&["--build-arg=TURN=2"]);
        third.says("content-of-0\ncontent-of-1");
        assert_eq!((bench.place.tags(), warnings(&third)), (first, 0), "one tag, which names the newest");
        bench.assert_whole();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_changed_is_not_written_again() {
    let reading = "FROM {base}\nRUN --mount=type=cache,target=/c,id=packages test -e /c/file || echo x > /c/file\n\
                   RUN --mount=type=cache,target=/c,id=packages cat /c/file\n";
    for store in STORES {
        let bench = Bench::new(store, reading).await;
        bench.build(&[]);
        let manifest = bench.place.manifest(&bench.place.tags()[0]);
        // A machine that has the cache asks for nothing.
        bench.build(&[]).says("mounts   0 imported (0 B), 0 exported (0 B), 1 unchanged");
        assert_eq!(bench.requests(), 0);
        // Another one takes it, once for both commands.
        bench.build_elsewhere(&[]).says("mounts   1 imported (2 B), 0 exported (0 B), 1 unchanged");
        assert_eq!(bench.registry.count("PUT", "/v2/mounts/") + bench.registry.count("POST", "/v2/mounts/"), 0);
        if store == Store::Registry {
            assert_eq!(bench.registry.count("GET", "/v2/mounts/manifests/"), 1);
            assert_eq!(bench.registry.count("GET", "/v2/mounts/blobs/"), 1);
        }
        assert_eq!(bench.place.manifest(&bench.place.tags()[0]), manifest);
        // The directory is there, and nothing is in it.
        for entry in std::fs::read_dir(bench.caches()).unwrap() {
            let file = entry.unwrap().path().join("file");
            if file.exists() {
                std::fs::remove_file(file).unwrap();
            }
        }
        bench.build(&[]).says("mounts   1 imported (2 B), 0 exported (0 B), 1 unchanged");
    }
}

/// A file that is written anew as it was changes the directory, and not its archive.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_as_it_was_is_not_sent_again() {
    let rewriting = "FROM {base}\nRUN --mount=type=cache,target=/c \
                     echo same > /c/file && touch -d '2020-01-01 00:00:00' /c/file\n";
    let bench = Bench::new(Store::Registry, rewriting).await;
    bench.build(&[]);
    bench.build_elsewhere(&[]).says("mounts   1 imported (5 B), 0 exported (0 B), 1 unchanged");
    assert_eq!(bench.registry.count("PUT", "/v2/mounts/"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_cache_is_neither_written_nor_taken() {
    let large = "FROM {base}\nARG EMPTY=no\n\
                 RUN --mount=type=cache,target=/c test $EMPTY = no || test -z \"$(ls /c)\"; head -c 5000 /dev/zero > /c/file\n";
    for store in STORES {
        let bench = Bench::new(store, large).await;
        let refused = bench.build(&["--cache-mounts-limit=4k"]);
        refused.says("cache mount /c: not exported: it has 5.0 kB, more than --cache-mounts-limit (4.0 kB)");
        assert_eq!((warnings(&refused), bench.place.tags().len()), (1, 0), "{}", refused.said);
        bench.build_elsewhere(&[]).says("1 exported (5.0 kB)");
        let refused = bench.build_elsewhere(&["--cache-mounts-limit=4999", "--no-push-cache", "--build-arg=EMPTY=yes"]);
        refused.says("cache mount /c: not imported from");
        refused.says("it has 5.0 kB, more than --cache-mounts-limit (4.9 kB)");
        assert_eq!(warnings(&refused), 1, "{}", refused.said);
        assert_eq!(bench.registry.count("GET", "/v2/mounts/blobs/"), 0, "nothing is fetched for nothing");
        bench.build_elsewhere(&["--cache-mounts-limit=5000", "--no-push-cache"]).says("1 imported (5.0 kB)");
    }
}

/// What nobody with the same limit would fetch need not be sent: random bytes are more when they are packed.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_too_large_is_not_written() {
    let random = "FROM {base}\nRUN --mount=type=cache,target=/c head -c 5000 /dev/urandom > /c/file\n";
    let bench = Bench::new(Store::Registry, random).await;
    let refused = bench.build(&["--cache-mounts-limit=5000"]);
    refused.says("cache mount /c: not exported: it has 5.");
    assert_eq!((warnings(&refused), bench.place.tags().len()), (1, 0), "{}", refused.said);
}

/// Files of an image are a cache's first content, and not its second.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_imported_goes_before_files_of_an_image() {
    let seeded = "FROM {base} AS seed\nRUN mkdir /seeds && touch /seeds/seed\nFROM {base}\nARG TURN=0\n\
                  RUN --mount=type=cache,target=/c,from=seed,source=/seeds \
                  if test $TURN = 0; then mv /c/seed /c/grown; else test \"$(ls /c)\" = grown; fi\n";
    let bench = Bench::new(Store::Registry, seeded).await;
    bench.build(&[]);
    bench.build_elsewhere(&["--build-arg=TURN=1"]).says("mounts   1 imported");
}

/// Mounts that have nothing but their id in common, here and by way of the repository.
#[tokio::test(flavor = "multi_thread")]
async fn caches_of_one_id_are_kept_apart_by_owner_mode_and_origin() {
    let traits = ["", ",uid=1000", ",gid=1000", ",mode=0700", ",from=seed,source=/seeds", ",from=seed,source=/more"];
    let runs = traits.iter().enumerate().map(|(number, traits)| {
        format!(
            "RUN --mount=type=cache,id=one,target=/c{traits} \\
             if test $TURN = 0; then test -z \"$(ls /c | grep mine)\" && echo x > /c/mine-{number}; \\
             else test \"$(ls /c | grep mine)\" = mine-{number}; fi\n"
        )
    });
    let runs: String = runs.collect();
    let dockerfile = format!(
        "FROM {{base}} AS seed\nRUN mkdir /seeds /more && touch /seeds/seed\nFROM {{base}}\nARG TURN=0\n{runs}"
    );
    let bench = Bench::new(Store::Registry, &dockerfile).await;
    bench.build(&[]).says("6 exported");
    bench.build(&["--build-arg=TURN=1"]);
    bench.build_elsewhere(&["--build-arg=TURN=1"]).says("6 imported");
    assert_eq!(bench.place.tags().len(), traits.len());
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// Archives that somebody else has put into the repository, and lies about them: the cache begins empty, and whatever was
/// unpacked until then is gone.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_hostile_is_refused_as_a_whole() {
    type Members = fn(Archive) -> Archive;
    let archives: &[(&str, Members)] = &[
        ("leads out of the cache", |archive| archive.file("../../../../escaped", "x")),
        ("leads out of the cache", |archive| archive.file("/escaped", "x")),
        ("is not in a directory of the cache", |archive| archive.symlink("link", "/").file("link/escaped", "x")),
        ("is a hard link out of the cache", |archive| archive.hard_link("hard", "/etc/passwd")),
        ("is a device", |archive| archive.member(b'3', "device", "", b"")),
        ("unpacks to more than 1000000 bytes", |archive| archive.member(b'0', "bomb", "", &vec![0; 1_000_001])),
        ("no tar header", |mut archive| {
            archive.push_bytes(&[b'x'; 2048]);
            archive
        }),
    ];
    let dockerfile =
        "FROM {base}\nRUN --mount=type=cache,target=/c,id=packages test -z \"$(ls -A /c)\" && echo began-empty\n";
    let bench = Bench::new(Store::Registry, dockerfile).await;
    let check = |name: &str, problem: &str| {
        let ended = bench.build(&["--cache-mounts-limit=1000000", "--no-push-cache"]);
        ended.says("began-empty");
        ended.says(problem);
        assert_eq!(warnings(&ended), 1, "{name}: {}", ended.said);
        let left: Vec<_> = std::fs::read_dir(bench.caches()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left.len(), 2, "{name}: the cache and its lock: {left:?}");
        assert!(!Path::new("/escaped").exists() && !bench.workspace.out().join("escaped").exists(), "{name}");
        std::fs::remove_dir_all(bench.caches()).unwrap();
    };
    // There is something to be taken back.
    let begun = || Archive::default().directory("before/", 0o777).file("before/file", "x");
    for (problem, members) in archives {
        let archive = members(begun()).bytes();
        bench.plant(&archive, zstd(&archive), |_| {});
        check(problem, problem);
    }
    let archive = begun().bytes();
    bench.plant(&archive, zstd(&archive), |cache| cache.diff_id = Digest::sha256_of(b"other"));
    check("another archive", "config says");
    bench.plant(&archive, zstd(&archive)[..20].to_vec(), |_| {});
    check("cut off", "not imported from");
    bench.plant(&archive, b"no archive at all".to_vec(), |_| {});
    check("nothing packed", "not imported from");
    bench.plant(&archive, zstd(&archive), |cache| cache.id = "other".to_owned());
    check("another cache", "it is the content of a different cache mount");
    bench.plant(&archive, zstd(&archive), |cache| cache.size = 1_000_001);
    check("too large", "more than --cache-mounts-limit");
    // And it would have been taken.
    bench.plant(&archive, zstd(&archive), |_| {});
    let ended = tokio::task::block_in_place(|| run(&mut bench.command(&[])));
    assert_ne!(ended.code, 0);
    ended.says("cache mount packages: imported");
}

const READ: &[Stage] = &[
    Stage {
        method: "GET",
        path: "/v2/mounts/manifests/",
        damages: &[Fault::ResetMidBody, Fault::ShortBody, Fault::ShortChunkedBody, Fault::CorruptBody],
    },
    Stage {
        method: "GET",
        path: "/v2/mounts/blobs/",
        damages: &[Fault::ResetMidBody, Fault::ShortBody, Fault::ShortChunkedBody, Fault::CorruptBody],
    },
];

const WRITE: &[Stage] = &[
    Stage { method: "HEAD", path: "/v2/mounts/blobs/", damages: &[] },
    Stage { method: "POST", path: "/v2/mounts/blobs/uploads/", damages: &[Fault::Without("location")] },
    Stage { method: "PUT", path: "/v2/mounts/blobs/uploads/", damages: &[Fault::BreakUpload(20)] },
    Stage { method: "PUT", path: "/v2/mounts/manifests/", damages: &[] },
];

/// The whole cache or none of it.
const ALL_OR_NOTHING: &str = "\
FROM {base}
RUN --mount=type=cache,target=/c,id=packages \
    if test -e /c/one; then test -e /c/two; else test -z \"$(ls -A /c)\"; fi; touch /c/one /c/two; cat /proc/uptime > /c/new
";

#[tokio::test(flavor = "multi_thread", worker_threads = 16)]
async fn faults_of_reading() {
    each_fault(READ, |stage, fault, name| async move {
        let bench = Bench::new(Store::Registry, ALL_OR_NOTHING).await;
        bench.build(&[]);
        bench.registry.fail(stage.method, stage.path, 0, u32::MAX, fault);
        let built = bench.build_elsewhere(&["--no-push-cache"]);
        assert!(warnings(&built) <= 1 && !built.said.contains("panicked"), "{name}:\n{}", built.said);
        assert!(built.said.contains("mounts   0 imported"), "{name}:\n{}", built.said);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 16)]
async fn faults_of_writing() {
    each_fault(WRITE, |stage, fault, name| async move {
        let bench = Bench::new(Store::Registry, ALL_OR_NOTHING).await;
        bench.registry.fail(stage.method, stage.path, 0, u32::MAX, fault);
        let built = bench.build(&[]);
        assert!(warnings(&built) <= 1 && !built.said.contains("panicked"), "{name}:\n{}", built.said);
        let is_there = built.said.contains("1 exported");
        assert_eq!(
            (is_there, warnings(&built) == 0),
            (bench.place.tags().len() == 1, is_there),
            "{name}:\n{}",
            built.said
        );
        bench.assert_whole();
    })
    .await;
}

/// A registry that is not there costs one warning, however many caches there are.
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_down() {
    let two = "FROM {base}\nRUN --mount=type=cache,target=/a --mount=type=cache,target=/b touch /a/x /b/x\n";
    let bench = Bench::new(Store::Directory, two).await;
    let mut command = bench.workspace.build();
    command.args(["--no-push", "--isolation=namespace", "--cache-mounts-repo=127.0.0.1:1/mounts"]);
    let built = run(&mut command).success();
    built.says("the cache mounts in 127.0.0.1:1/mounts cannot be read: ");
    assert_eq!(warnings(&built), 1, "{}", built.said);
}

/// Both builds of two machines succeed, and the last one's cache is there as a whole.
#[tokio::test(flavor = "multi_thread")]
async fn two_machines_at_once() {
    for store in STORES {
        let bench = Bench::new(store, GROWING).await;
        let others = [1, 2].map(|_| Workspace::new(&GROWING.replace("{base}", &peers().busybox())));
        let started = others.iter().enumerate().map(|(number, workspace)| {
            let mut command = workspace.build();
            command.args(["--no-push", "--isolation=namespace", "--cache-mounts-repo", &bench.place.to_string()]);
            command.arg(format!("--build-arg=TURN={number}")).stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().unwrap()
        });
        for build in started.collect::<Vec<_>>() {
            let output = tokio::task::block_in_place(|| build.wait_with_output()).unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && !said.contains("warning:"), "{store:?}: {said}");
        }
        assert_eq!(bench.place.tags().len(), 1);
        bench.assert_whole();
        bench.build(&["--build-arg=TURN=2"]).says("content-of-");
    }
}

/// Builds that share a volume share its caches: nobody sees half of one, and nobody waits for ever.
#[tokio::test(flavor = "multi_thread")]
async fn builds_at_once_on_one_machine() {
    let bench = Bench::new(Store::Registry, ALL_OR_NOTHING).await;
    bench.build(&[]);
    std::fs::remove_dir_all(bench.caches()).unwrap();
    let builds: Vec<_> =
        (0..4).map(|_| bench.command(&[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()).collect();
    for build in builds {
        let output = tokio::task::block_in_place(|| build.wait_with_output()).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(said.lines().all(|line| !line.starts_with("warning:") || line.contains("another build")), "{said}");
    }
    let left: Vec<_> = std::fs::read_dir(bench.caches()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left.len(), 2, "the cache and its lock: {left:?}");
    bench.assert_whole();
}

/// Who is asked to stop writes nothing any more, and leaves nothing half made.
#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_is_asked_to_stop_exports_nothing() {
    let sleeping = "FROM {base}\nRUN --mount=type=cache,target=/a touch /a/x\n\
                    RUN --mount=type=cache,target=/b touch /b/begun && sleep 1000\n";
    let bench = Bench::new(Store::Registry, sleeping).await;
    let child = bench.command(&[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = || {
        let caches = std::fs::read_dir(bench.caches()).into_iter().flatten().flatten();
        caches.into_iter().any(|entry| entry.path().join("begun").exists())
    };
    let start = Instant::now();
    while !begun() {
        assert!(start.elapsed() < Duration::from_secs(60), "the command does not begin");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    run(Command::new("kill").args(["-s", "TERM", &child.id().to_string()])).success();
    let output = tokio::task::block_in_place(|| child.wait_with_output()).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && !said.contains("warning:"), "{said}");
    assert_eq!(bench.place.tags().len(), 0, "{said}");
    assert_eq!(std::fs::read_dir(bench.caches()).unwrap().count(), 4, "two caches and their locks");
}

/// Caches of commands that succeeded are kept although a later one fails; what a failed one may have spoiled is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_failing_command_exports_nothing_of_its_own() {
    let failing = "FROM {base}\nRUN --mount=type=cache,target=/good touch /good/x\n\
                   RUN --mount=type=cache,target=/spoiled touch /spoiled/x\n\
                   RUN --mount=type=cache,target=/spoiled touch /spoiled/y && exit 7\n";
    let bench = Bench::new(Store::Registry, failing).await;
    let ended = tokio::task::block_in_place(|| run(&mut bench.command(&[]))).refused(7, &["exit code: 7"]);
    ended.says("cache mount /good: exported");
    assert_eq!(bench.place.tags(), [cache_mount::tag("/good", &Platform::host())]);
}

/// What does not run uses no cache.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_is_known_imports_nothing() {
    let bench = Bench::new(Store::Registry, GROWING).await;
    let layers = format!("--cache-repo={}/layers", bench.registry.host());
    bench.build(&["--cache", &layers]);
    let hit = bench.build_elsewhere(&["--cache", &layers]);
    hit.says("cache    1 of 1 steps");
    hit.says("mounts   0 imported (0 B), 0 exported (0 B), 0 unchanged");
    assert_eq!(bench.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_say_what_is_read_and_written() {
    let bench = Bench::new(Store::Registry, GROWING).await;
    assert_eq!(bench.build(&["--no-push-cache"]).said.matches("exported 13 B").count(), 0);
    assert_eq!(bench.place.tags().len(), 0);
    bench.build_elsewhere(&[]);
    let cold = bench.build_elsewhere(&["--no-cache", "--build-arg=TURN=1"]);
    assert!(!cold.said.contains("content-of-0"), "{}", cold.said);
    assert_eq!(bench.registry.count("GET", "/v2/mounts/"), 0);
    cold.says("mounts   0 imported (0 B), 1 exported (13 B), 0 unchanged");
    // An empty value is none, and without the flag nobody is asked.
    for flag in [&["--cache-mounts-repo="][..], &[]] {
        bench.registry.forget_requests();
        let ended = run(bench.workspace.build().args(["--no-push", "--isolation=namespace"]).args(flag)).success();
        assert!(!ended.said.contains("cache mount") && !ended.said.contains("mounts  "), "{}", ended.said);
        assert_eq!(bench.registry.seen().len(), 0);
    }
    run(bench.workspace.build().args(["--no-push", "--cache-mounts-limit=1k"])).refused(1, &["--cache-mounts-repo"]);
}

/// The same path in two projects is not one cache.
#[tokio::test(flavor = "multi_thread")]
async fn namespaces_are_apart() {
    let bench =
        Bench::new(Store::Directory, &GROWING.replace("ARG TURN=0", "ARG TURN=0 BUILDKIT_CACHE_MOUNT_NS")).await;
    bench.build(&[]);
    bench.build_elsewhere(&["--build-arg=BUILDKIT_CACHE_MOUNT_NS=team"]);
    let host = Platform::host();
    let mut expected = [cache_mount::tag("packages", &host), cache_mount::tag("team/packages", &host)];
    let mut found = bench.place.tags();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}
