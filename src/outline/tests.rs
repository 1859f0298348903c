//! Outlines and targets of a small Dockerfile.

use super::*;
use crate::dockerfile::ast::Source;
use crate::dockerfile::{Dockerfile, parse};
use crate::plan::Options;

const TEXT: &str = r#"# GO sets the version of the compiler
ARG GO=1.22
ARG BASE=golang:$GO
ARG UNUSED=1

# build-cli builds the program
FROM --platform=linux/amd64 $BASE AS Build-Cli
# VERSION is
# what the program says
ARG VERSION=$GO
ARG TARGETARCH
RUN --mount=type=secret,id=token,required --mount=type=cache,target=/cache --mount=type=ssh make

FROM scratch
RUN nothing

# not a description
FROM scratch AS last
ARG GO
ARG LATE=a$GO
COPY --from=build-cli /x /x
RUN --mount=type=secret,target=/a/b --mount=type=secret,id=token --mount=from=build-cli,target=/y true
"#;

fn parsed() -> Dockerfile {
    parse(Source { name: "Dockerfile".into(), text: TEXT.into() }).expect("it parses")
}

fn options(target: Option<&str>) -> Options {
    Options {
        build_args: vec![("VERSION".into(), "7".into())],
        target: target.map(str::to_owned),
        ..Options::of_platform("linux/arm64")
    }
}

fn outlined(target: Option<&str>) -> Outline {
    let (dockerfile, options) = (parsed(), options(target));
    let stages = Stages::new(&dockerfile, &options);
    outline(&stages, stages.target().expect("a target"))
}

#[test]
fn an_outline_has_the_inputs_of_the_target_and_its_sources() {
    insta::assert_snapshot!(outline_text(&outlined(None)), @r"
    TARGET:      last

    BUILD ARG     VALUE          DESCRIPTION
    GO            1.22           sets the version of the compiler
    BASE          golang:1.22
    VERSION       7              is
    TARGETARCH    arm64
    LATE          a1.22

    SECRET    REQUIRED
    token     true
    b         false

    SSH        REQUIRED
    default    false

    CACHE
    /cache
    ");
    let build = outlined(Some("BUILD-cli"));
    assert_eq!((build.name.as_str(), build.description.as_str()), ("build-cli", "builds the program"));
    let names: Vec<&str> = build.args.iter().map(|argument| argument.name.as_str()).collect();
    assert_eq!(names, ["GO", "BASE", "VERSION", "TARGETARCH"]);
}

#[test]
fn targets_are_the_stages_with_a_name() {
    let (dockerfile, options) = (parsed(), options(None));
    let targets = targets(&Stages::new(&dockerfile, &options));
    insta::assert_snapshot!(targets_text(&targets), @r"
    TARGET            DESCRIPTION
    build-cli         builds the program
    last (default)
    ");
    assert_eq!(
        (targets.targets[0].base.as_str(), targets.targets[0].platform.as_str()),
        ("golang:1.22", "linux/amd64")
    );
}

#[test]
fn a_last_stage_without_a_name_is_the_default() {
    let dockerfile =
        parse(Source { name: "Dockerfile".into(), text: "FROM a AS b\nFROM b\n".into() }).expect("it parses");
    let options = options(None);
    let stages = Stages::new(&dockerfile, &options);
    let targets = targets(&stages).targets;
    assert_eq!(targets.len(), 2);
    assert_eq!((targets[1].name.as_str(), targets[1].default, targets[1].base.as_str()), ("default", true, "b"));
    assert_eq!(outline(&stages, 1).name, "");
}

#[test]
fn json_has_the_documented_keys() {
    let json = serde_json::to_value(outlined(None)).expect("JSON");
    let keys = |value: &serde_json::Value| value.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>());
    let expected = |keys: &[&str]| Some(keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>());
    assert_eq!(keys(&json), expected(&["args", "cache", "name", "secrets", "sources", "ssh"]));
    assert_eq!(keys(&json["args"][0]), expected(&["description", "location", "name", "value"]));
    assert_eq!(keys(&json["cache"][0]), expected(&["ID", "location"]));
    assert_eq!(json["secrets"][0]["required"], true);
    assert_eq!(json["args"][0]["location"]["ranges"][0]["start"]["line"], 2);
}

#[test]
fn a_plan_lists_executed_and_skipped_stages() {
    struct NoImages;
    impl crate::plan::Images for NoImages {
        fn resolve(
            &mut self,
            requests: &[crate::plan::ImageRequest],
        ) -> Vec<Result<crate::image::BaseImage, crate::plan::ImageError>> {
            requests.iter().map(|_| Err("there is none".into())).collect()
        }
    }
    let text = "FROM scratch AS one\nCOPY a /a\nFROM scratch AS unused\nRUN x\nFROM one\nENV A=b\nCOPY --from=one /a /b\n\
                FROM scratch as Last\n";
    let file = parse(Source { name: "Dockerfile".into(), text: text.into() }).expect("it parses");
    let options = Options { target: Some("one".into()), also_built: vec!["last".into()], ..options(None) };
    let plan = crate::plan::plan(&file, &options, &mut NoImages).expect("planned");
    insta::assert_snapshot!(plan_text(&plan, &file), @r"
    build   stage one, which becomes the image
            FROM scratch AS one    from nothing
            COPY a /a              layer
    build   stage last
            FROM scratch as Last    from nothing
    skip    stage unused, which nothing needs
    skip    stage stage-2, which nothing needs
    ");
    let options = Options { target: None, also_built: vec!["missing".into()], ..options };
    let errors = crate::plan::plan(&file, &options, &mut NoImages).expect_err("there is no such stage");
    assert_eq!(errors[0].to_string(), "target stage \"missing\" could not be found");
}
