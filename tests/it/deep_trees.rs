//! Trees of directories that are deeper than a process may have open files: `ulimit -n` is 1024 in many pods, and less where
//! somebody means to be careful. An image can bring such a tree, and a command can make one.

use crate::support::archive::{Archive, record};
use crate::support::caches::{CachePlace, Store};
use crate::support::fake_registry::{FakeRegistry, Habits};
use crate::support::images;
use crate::support::peers::peers;
use crate::support::pod::Pod;
use crate::support::program::{Ended, Workspace, run};
use crate::support::scripted_registry::ScriptedImage;

/// Directories in each other: more than there are descriptors, and with names of one letter less than a path may be long.
const DEPTH: usize = 1200;

/// Every way in which a tree is walked: stages that start from one (the first gets a copy, for the other stages need it,
/// too), COPY of it and into it, the cache of a command, and the snapshots after all of them.
const DOCKERFILE: &str = "\
FROM {base} AS deep
RUN mkdir /t && cd /t && {make}
FROM deep AS copy
RUN --mount=type=cache,target=/c,id=packages <<END
set -e
cd /t
{enter}
echo changed >> file
cd /c
if test -d d; then
    {enter}
    echo the cache was imported
else
    {make}
fi
END
FROM deep AS other
RUN mv /t/d /t/moved
FROM {base}
COPY --from=copy /t /t
COPY --from=deep /t /untouched
COPY --from=other /t /t/other
RUN cd /t && {enter} && test \"$(tr '\\n' ' ' < file)\" = 'deep changed ' && cd /untouched && {enter} && test \"$(cat file)\" = deep
COPY --from=copy /t/{path}/file /s/{path}/
";

fn dockerfile() -> String {
    let path = "d/".repeat(DEPTH);
    DOCKERFILE
        .replace("{base}", &peers().busybox())
        .replace(
            "{make}",
            &format!("i=0 && while test $i -lt {DEPTH}; do mkdir d && cd d && i=$((i+1)); done && echo deep > file"),
        )
        .replace("{enter}", &format!("i=0 && while test $i -lt {DEPTH}; do cd d && i=$((i+1)); done"))
        .replace("{path}/", &path)
}

/// Options of a pod, on top of the default ones.
type Change = fn(Pod) -> Pod;

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_deeper_than_there_are_descriptors_is_built_and_exported() {
    let registry = FakeRegistry::start(Habits::default()).await;
    // The isolation that is possible in the pod, and the limit there.
    let pods: [(&str, &str, Change); 3] = [
        ("own-root", "1024:1024", |pod| pod),
        ("namespace", "1024:1024", Pod::without_seccomp),
        ("namespace", "256:256", Pod::without_seccomp),
    ];
    let mut digests = Vec::new();
    for (turn, (isolation, limit, change)) in pods.into_iter().enumerate() {
        let workspace = Workspace::new(&dockerfile());
        let place = CachePlace::new(Store::Registry, &registry, &workspace, "deep");
        let destination = format!("{}:{turn}", peers().repository("deep"));
        let pod = change(Pod::for_workspace(&workspace)).option(&format!("--ulimit=nofile={limit}"));
        let (mounts, into) = (format!("--cache-mounts-repo={place}"), format!("--destination={destination}"));
        let arguments =
            ["--context=dir:///workspace", "--insecure", "--insecure-pull", "--reproducible", &mounts, &into];
        let ended = tokio::task::block_in_place(|| pod.run(&arguments)).success();
        ended.says(&format!("isolation: {isolation}"));
        assert_no_warning(&ended);
        if turn == 0 {
            ended.says("mounts   0 imported").says("1 exported");
        } else {
            ended.says("the cache was imported").says("mounts   1 imported");
        }
        // Directories on the way are in the layer, and nothing else is.
        let expected: Vec<String> = (0..=DEPTH)
            .map(|depth| format!("s/{}", "d/".repeat(depth)))
            .chain([format!("s/{}file", "d/".repeat(DEPTH))])
            .collect();
        assert_eq!(images::last_layer(&destination), expected);
        digests.push(images::digest(&destination));
    }
    assert!(digests.windows(2).all(|two| two[0] == two[1]), "one image, wherever it is built: {digests:?}");
}

/// Nothing was left out or left behind in silence.
#[track_caller]
fn assert_no_warning(ended: &Ended) {
    assert!(!ended.said.lines().any(|line| line.to_lowercase().starts_with("warning")), "{}", ended.said);
}

/// As an image brings it: the layer is unpacked because a stage copies from it, and stages start from it.
#[test]
fn a_deep_base_image_is_copied() {
    let deep = (0..=DEPTH).fold(Archive::default(), |archive, depth| {
        archive.pax(&record("path", &format!("t/{}", "d/".repeat(depth)))).directory("t/", 0o755)
    });
    let deep = deep.pax(&record("path", &format!("t/{}file", "d/".repeat(DEPTH)))).file("file", "deep\n");
    let base = ScriptedImage { layers: vec![deep.bytes()], ..ScriptedImage::default() }.serve();
    let path = "d/".repeat(DEPTH);
    let workspace = Workspace::new(&format!(
        "FROM {base} AS deep\nCOPY Dockerfile /t/{path}\nFROM deep AS one\nCOPY Dockerfile /one\nFROM deep AS two\nCOPY Dockerfile /two\n\
         FROM scratch\nCOPY --from=deep / /deep\nCOPY --from=one / /one\nCOPY --from=two /t/{path} /\n"
    ));
    let destination = format!("{}:base", peers().repository("deep"));
    let mut command = workspace.build();
    command.arg(format!("--destination={destination}"));
    let mut limited = std::process::Command::new("prlimit");
    limited.arg("--nofile=256:256").arg(command.get_program()).args(command.get_args());
    assert_no_warning(&run(&mut limited).success());
    assert_eq!(images::last_layer(&destination), ["Dockerfile", "file"]);
}
