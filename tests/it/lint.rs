//! `crabwright lint`, `--call` and the warnings of a build, as a person and a pipeline see them.

use std::process::{Command, Output};

use crate::support::program::{Workspace, crabwright, run};
use crate::support::scripted_registry::ScriptedImage;

const MAINTAINER: &str = "FROM scratch\nMAINTAINER me\n";

/// `crabwright lint` of a context, with more flags.
fn lint(workspace: &Workspace) -> Command {
    let mut command = crabwright();
    command.args(["lint", "--insecure-pull"]).arg(format!("--context={}", workspace.context().display()));
    command.arg(format!("--dockerfile={}", workspace.context().join("Dockerfile").display()));
    command
}

fn streams(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

#[test]
fn lint_tells_on_standard_output_and_by_its_exit_code() {
    let (code, stdout, stderr) = streams(&mut lint(&Workspace::new("FROM scratch\nCMD [\"a\"]\n")));
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "Check complete, no warnings found.\n", ""));
    let (code, stdout, stderr) = streams(&mut lint(&Workspace::new(MAINTAINER)));
    assert_eq!((code, stderr.as_str()), (1, ""));
    for words in [
        "Check complete, 1 warning has been found!\n",
        "\nWARNING: MaintainerDeprecated - https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/\n",
        "\nMaintainer instruction is deprecated in favor of using label\n",
        "/Dockerfile:2\n",
        "\n   2 | >>> MAINTAINER me\n",
    ] {
        assert!(stdout.contains(words), "{words:?} not in:\n{stdout}");
    }
}

#[test]
fn what_does_not_parse_is_an_error_of_the_build() {
    let workspace = Workspace::new("FROM scratch\nCPOY a /a\n");
    let (code, stdout, _) = streams(&mut lint(&workspace));
    assert_eq!(code, 1, "{stdout}");
    assert!(stdout.contains("ERROR: unknown instruction: CPOY\ndid you mean COPY?\n"), "{stdout}");
    let (code, stdout, _) = streams(lint(&workspace).args(["--format", "json"]));
    let answer: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(code, 1);
    assert_eq!(answer["warnings"].as_array().map(Vec::len), Some(0));
    assert_eq!(answer["buildError"]["message"], "unknown instruction: CPOY");
    assert_eq!(answer["buildError"]["location"]["ranges"][0]["start"]["line"], 2);
}

#[test]
fn json_is_the_same_by_either_way_of_asking() {
    let workspace = Workspace::new(MAINTAINER);
    let (code, stdout, _) = streams(lint(&workspace).args(["--format=json", "--offline"]));
    assert_eq!(code, 1);
    let answer: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let warning = &answer["warnings"][0];
    assert_eq!(warning["ruleName"], "MaintainerDeprecated");
    assert_eq!(warning["location"]["sourceIndex"], 0);
    assert_eq!(warning["location"]["ranges"][0]["start"]["line"], 2);
    assert!(answer["sources"][0]["filename"].as_str().is_some_and(|name| name.ends_with("/Dockerfile")));
    assert_eq!(answer.get("buildError"), None);
    let (code, called, _) = streams(workspace.build().arg("--call=check,format=json"));
    assert_eq!((code, called), (1, stdout));
}

#[test]
fn a_build_prints_each_warning_once_and_goes_on() {
    let text = "FROM scratch AS Base\nFROM base\nMAINTAINER me\nFROM base AS unused\nMAINTAINER you\nCMD x\n";
    let workspace = Workspace::new(text);
    let ended = run(workspace.build().args(["--no-push", "--target=base"])).success();
    // The text of the whole file is looked at, and what the instructions do where they are built.
    for (words, times) in
        [("WARNING: StageNameCasing", 1), ("WARNING: MaintainerDeprecated", 2), ("WARNING: JSONArgs", 0)]
    {
        assert_eq!(ended.said.matches(words).count(), times, "{words}\n{}", ended.said);
    }
    assert!(ended.said.contains("/Dockerfile:3\n"), "{}", ended.said);
}

#[test]
fn a_log_collector_gets_one_object_for_a_warning() {
    let workspace = Workspace::new(MAINTAINER);
    let (code, _, stderr) = streams(workspace.build().args(["--no-push", "--log-format=json"]));
    assert_eq!(code, 0, "{stderr}");
    let objects = stderr.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let warnings: Vec<_> = objects.filter(|object| object["rule"] == "MaintainerDeprecated").collect();
    assert_eq!(warnings.len(), 1, "{stderr}");
    assert!(warnings[0]["location"].as_str().is_some_and(|place| place.ends_with("/Dockerfile:2:1")), "{stderr}");
    let (_, _, stderr) = streams(workspace.build().args(["--no-push", "--verbosity=error"]));
    assert_eq!(stderr, "");
}

#[test]
fn warnings_fail_the_build_where_the_file_says_so() {
    let layout = |workspace: &Workspace| workspace.out().join("layout");
    let workspace = Workspace::new(&format!("# check=error=true\n{MAINTAINER}"));
    let build = |more: &[&str]| {
        let output = format!("--oci-layout-path={}", layout(&workspace).display());
        run(workspace.build().args(["--no-push", &output]).args(more))
    };
    build(&[]).refused(1, &["WARNING: MaintainerDeprecated", "lint violation found for rules: MaintainerDeprecated"]);
    assert!(!layout(&workspace).exists());
    build(&["--build-arg=BUILDKIT_DOCKERFILE_CHECK=skip=MaintainerDeprecated"]).success();
    assert!(layout(&workspace).exists());
    build(&["--build-arg=BUILDKIT_DOCKERFILE_CHECK=error"])
        .refused(1, &["invalid check option \"error\"", "BUILDKIT_DOCKERFILE_CHECK", "skip=RULE"]);
    let wrong = Workspace::new(&format!("# check=skipp=all\n{MAINTAINER}"));
    run(wrong.build().arg("--no-push")).refused(1, &["Dockerfile:1", "invalid check option", "skip=RULE"]);
    let unknown = Workspace::new(&format!("# check=skip=MaintainerDepricated\n{MAINTAINER}"));
    let ended = run(unknown.build().arg("--no-push")).success();
    assert!(ended.said.contains("did you mean MaintainerDeprecated?"), "{}", ended.said);
}

#[test]
fn warnings_are_told_before_the_error_that_ends_a_build() {
    let workspace = Workspace::new("FROM scratch\nMAINTAINER me\nSTOPSIGNAL NOPE\n");
    run(workspace.build().arg("--no-push")).refused(1, &["WARNING: MaintainerDeprecated", "invalid signal", "NOPE"]);
}

#[test]
fn base_images_are_asked_for_their_environment() {
    let base = ScriptedImage::default().serve();
    let workspace = Workspace::new(&format!("FROM {base}\nUSER $PATH$NOBODY\n"));
    let (code, stdout, stderr) = streams(&mut lint(&workspace));
    assert_eq!((code, stderr.as_str()), (1, ""), "{stdout}");
    assert!(
        stdout.contains("1 warning has been found!") && stdout.contains("undefined variable '$NOBODY'"),
        "{stdout}"
    );
    let (code, stdout, stderr) = streams(lint(&workspace).arg("--offline"));
    assert_eq!((code, stdout.as_str()), (0, "Check complete, no warnings found.\n"));
    assert!(stderr.contains("not checked in stages from") && stderr.contains("--offline"), "{stderr}");
}

#[test]
fn an_image_that_cannot_be_had_is_told_once() {
    let text = "FROM 127.0.0.1:1/no/such\nUSER $A\nFROM 127.0.0.1:1/no/such\nUSER $B\n";
    let (code, stdout, stderr) = streams(&mut lint(&Workspace::new(text)));
    assert_eq!((code, stdout.as_str()), (0, "Check complete, no warnings found.\n"), "{stderr}");
    assert_eq!(stderr.matches("not checked in stages from 127.0.0.1:1/no/such").count(), 1, "{stderr}");
}

#[test]
fn outline_and_targets_are_tables_or_json() {
    let workspace = Workspace::new(
        "# V is the version\nARG V=3\nFROM scratch AS base\n# last is the image\nFROM base AS last\nARG V\n",
    );
    let (code, stdout, _) = streams(workspace.build().arg("--call=outline"));
    let table = "TARGET:      last\nDESCRIPTION: is the image\n\nBUILD ARG    VALUE    DESCRIPTION\nV            3\n";
    assert_eq!((code, stdout.as_str()), (0, table));
    let (code, stdout, _) = streams(workspace.build().arg("--call=targets"));
    assert_eq!((code, stdout.as_str()), (0, "TARGET            DESCRIPTION\nbase\nlast (default)    is the image\n"));
    let (_, stdout, _) = streams(workspace.build().arg("--call=targets,format=json"));
    let answer: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(answer["targets"][1]["name"], "last");
    assert_eq!(answer["targets"][1]["base"], "base");
    run(workspace.build().args(["--call=outline", "--target=lsat"])).refused(1, &["could not be found", "last"]);
}
