//! One input, one digest: whatever the machine, the sandbox, the time of day or the state of the checkout.

use std::path::Path;
use std::process::Command;

use crate::support::images;
use crate::support::peers::peers;
use crate::support::pod::Pod;
use crate::support::program::{Workspace, run};

const DOCKERFILE: &str = r#"ARG SOURCE_DATE_EPOCH=1700000000
FROM {base} AS tools
WORKDIR /tools
RUN date > now && seq 20000 > numbers && mkdir -p deep/er && ln -s ../numbers deep/link && ln numbers hard
FROM {base}
COPY --from=tools /tools/numbers /tools/hard /tools/
COPY --chown=1000:1000 app /app
ADD app/one.txt /added/
COPY <<EOF /text
written here
EOF
RUN --mount=type=cache,target=/cache date > /cache/now && touch /made && mkdir /new && chmod 2750 /new
USER 1000
WORKDIR /home/app/work
ENTRYPOINT ["/app/one.txt"]
"#;

fn workspace() -> Workspace {
    let workspace = Workspace::new(&DOCKERFILE.replace("{base}", &peers().busybox()));
    for number in ["one", "two", "three"] {
        workspace.file(&format!("app/{number}.txt"), number);
    }
    workspace
}

/// The same files, made in another order and at another time, by somebody else.
fn other_checkout() -> Workspace {
    let workspace = Workspace::new(&DOCKERFILE.replace("{base}", &peers().busybox()));
    for number in ["three", "one", "two"] {
        workspace.file(&format!("app/{number}.txt"), number);
        let path = workspace.context().join(format!("app/{number}.txt"));
        std::os::unix::fs::chown(&path, Some(1234), Some(5678)).unwrap();
    }
    touch(&workspace.context(), "2031-02-03 04:05:06.789");
    workspace
}

fn touch(directory: &Path, time: &str) {
    run(Command::new("find").arg(directory).args(["-exec", "touch", "-d", time, "{}", "+"])).success();
}

#[test]
fn one_digest_everywhere() {
    let repository = peers().repository("reproducible");
    let tag = |name: &str| format!("{repository}:{name}");
    let (one, other) = (workspace(), other_checkout());
    run(one.build().args(["--reproducible", &format!("--destination={}", tag("here"))])).success();
    run(other.build().args(["--reproducible", "--parallel=1", &format!("--destination={}", tag("other"))])).success();
    let pods = [
        ("own-root", &one, Pod::for_workspace(&one).option("--cpuset-cpus=0").option("--env=TZ=Asia/Kathmandu")),
        ("namespace", &other, Pod::for_workspace(&other).without_seccomp().option("--hostname=elsewhere")),
    ];
    for (name, _workspace, pod) in pods {
        let destination = format!("--destination={}", tag(name));
        let common = ["--context=dir:///workspace", "--insecure", "--insecure-pull", "--reproducible", &destination];
        pod.run(&common).success();
    }
    let digest = images::digest(&tag("here"));
    for name in ["other", "own-root", "namespace"] {
        assert_eq!(images::digest(&tag(name)), digest, "{name} made another image");
    }
    assert_eq!(images::inspect(&tag("here"))["Created"], "2023-11-14T22:13:20Z");
}

/// Scripts of kaniko's users give the flag and nothing else.
#[test]
fn without_a_time_everything_is_from_1970() {
    let repository = peers().repository("from-1970");
    let built = |workspace: &Workspace, name: &str| {
        workspace.file("Dockerfile", &format!("FROM {}\nCOPY app /app\nLABEL of=nobody\n", peers().busybox()));
        let tag = format!("{repository}:{name}");
        let mut build = workspace.build();
        run(build.env_remove("SOURCE_DATE_EPOCH").args(["--reproducible", "--destination", &tag])).success();
        assert_eq!(images::inspect(&tag)["Created"], "1970-01-01T00:00:00Z");
        images::digest(&tag)
    };
    assert_eq!(built(&workspace(), "one"), built(&other_checkout(), "other"));
}

/// The variable is a build argument, as with `docker build`: what a stage sees is the time that the image has.
#[test]
fn the_environment_goes_before_the_dockerfile_and_an_argument_before_both() {
    let workspace = Workspace::new(&format!(
        "ARG SOURCE_DATE_EPOCH=1\nFROM {}\nARG SOURCE_DATE_EPOCH\nLABEL time=\"$SOURCE_DATE_EPOCH\"\n",
        peers().busybox()
    ));
    let repository = peers().repository("times");
    for (name, variable, argument, seconds, created) in [
        ("none", "", None, "1", "1970-01-01T00:00:01Z"),
        ("variable", "86400", None, "86400", "1970-01-02T00:00:00Z"),
        ("argument", "86400", Some("172800"), "172800", "1970-01-03T00:00:00Z"),
    ] {
        let tag = format!("{repository}:{name}");
        let mut build = workspace.build();
        build.env("SOURCE_DATE_EPOCH", variable).args(["--destination", &tag]);
        build.args(argument.map(|argument| format!("--build-arg=SOURCE_DATE_EPOCH={argument}")));
        run(&mut build).success();
        let image = images::inspect(&tag);
        assert_eq!(
            (image["Created"].as_str(), image["Labels"]["time"].as_str()),
            (Some(created), Some(seconds)),
            "{name}"
        );
    }
}
