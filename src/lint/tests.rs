//! Tests of snippets of Dockerfiles and their warnings.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::dockerfile::ast::Source;
use crate::dockerfile::parse;
use crate::image::{BaseImage, Descriptor, Digest, Manifest};
use crate::plan::ImageError;

/// `base` has a variable, `shelly` a shell, `foreign` a different architecture; other images do not exist.
struct Known;

impl Images for Known {
    fn resolve(&mut self, requests: &[ImageRequest]) -> Vec<Result<BaseImage, ImageError>> {
        requests
            .iter()
            .map(|request| {
                let mut config = ImageConfig::default();
                config.set_platform(&request.platform);
                config.config.env = vec!["PATH=/bin".into(), "FROM_BASE=1".into()];
                match request.reference.repository.as_str() {
                    "library/base" => {}
                    "library/shelly" => config.config.shell = Some(vec!["/bin/bash".into(), "-c".into()]),
                    "library/foreign" => config.architecture = "s390x".into(),
                    _ => return Err("not found".into()),
                }
                Ok(BaseImage {
                    reference: request.reference.clone(),
                    digest: Digest::sha256_of(b""),
                    manifest: Manifest::oci(Descriptor::of("application/json", b"{}"), Vec::new()),
                    config,
                    config_bytes: Vec::new(),
                    layers: Vec::new(),
                })
            })
            .collect()
    }
}

fn options() -> Options {
    Options::of_platform("linux/amd64")
}

fn parsed(text: &str) -> Dockerfile {
    parse(Source { name: "Dockerfile".into(), text: text.into() }).expect(text)
}

fn report_with(text: &str, options: &Options, extent: Extent, ignore: &str) -> Report {
    let ignore = IgnoreMatcher::parse(ignore.as_bytes(), Path::new(".dockerignore")).expect(ignore);
    check(&parsed(text), options, extent, Some(&ignore), Some(&mut Known)).expect(text)
}

fn report(text: &str) -> Report {
    report_with(text, &options(), Extent::File, "")
}

/// Returns `line rule: detail` for each warning.
fn warnings_of(text: &str, report: &Report) -> Vec<String> {
    let source = parsed(text).source;
    let line = |warning: &Warning| source.location(warning.span.start).0;
    report
        .warnings
        .iter()
        .map(|warning| format!("{} {}: {}", line(warning), warning.rule.name(), warning.detail))
        .collect()
}

/// A file and its only warning; an empty string for none.
const CASES: &[(&str, &str)] = &[
    ("FROM base AS Build", "1 StageNameCasing: Stage name 'Build' should be lowercase"),
    ("FROM base AS build", ""),
    ("FROM base as b", "1 FromAsCasing: 'as' and 'FROM' keywords' casing do not match"),
    ("FROM base As b", "1 FromAsCasing: 'As' and 'FROM' keywords' casing do not match"),
    ("from base AS b\nuser me", "1 FromAsCasing: 'AS' and 'from' keywords' casing do not match"),
    ("from base as b", ""),
    ("FROM base\nRUN a \\\n\n  b", "3 NoEmptyContinuation: Empty continuation line"),
    ("FROM base\nRUN a \\\n# comment\n  b", ""),
    ("FROM \\\n\n base", "2 NoEmptyContinuation: Empty continuation line"),
    (
        "FROM base\nRUN a\nrun b",
        "3 ConsistentInstructionCasing: Command 'run' should match the case of the command majority (uppercase)",
    ),
    (
        "from base\nRun a\nrun b",
        "2 ConsistentInstructionCasing: Command 'Run' should match the case of the command majority (lowercase)",
    ),
    (
        "FROM base\nrun b",
        "2 ConsistentInstructionCasing: Command 'run' should match the case of the command majority (uppercase)",
    ),
    ("from base\nrun a\ncopy a b", ""),
    (
        "FROM base AS a\nFROM base AS a",
        "2 DuplicateStageName: Duplicate stage name \"a\", stage names should be unique",
    ),
    ("FROM base AS a\nFROM base AS b", ""),
    (
        "FROM base AS scratch",
        "1 ReservedStageName: Stage name should not use the same name as reserved stage \"scratch\"",
    ),
    (
        "FROM base AS context",
        "1 ReservedStageName: Stage name should not use the same name as reserved stage \"context\"",
    ),
    ("FROM scratch AS contexts", ""),
    (
        "FROM base\nCMD x",
        "2 JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
    ),
    (
        "FROM base\nENTRYPOINT ['x']",
        "2 JSONArgsRecommended: JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS signals",
    ),
    ("FROM base\nCMD [\"x\"]\nHEALTHCHECK CMD y\nRUN z", ""),
    ("FROM base\nSHELL [\"/bin/ash\", \"-c\"]\nCMD x", ""),
    ("FROM base AS a\nSHELL [\"/bin/ash\", \"-c\"]\nFROM a\nCMD x", ""),
    ("FROM shelly\nCMD x", ""),
    (
        "FROM base\nMAINTAINER me",
        "2 MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label",
    ),
    ("FROM base\nLABEL org.opencontainers.image.authors=me", ""),
    (
        "ARG VERSION=1\nFROM base:1$VERSIN",
        "2 UndefinedArgInFrom: FROM argument 'VERSIN' is not declared (did you mean VERSION?)",
    ),
    ("ARG VARIANT\nFROM base:1$VARIANT", ""),
    ("FROM --platform=$BUILDPLATFORM base", ""),
    ("FROM base:${TAG:-1}", ""),
    (
        "FROM base\nWORKDIR app/src",
        "2 WorkdirRelativePath: Relative workdir \"app/src\" can have unexpected results if the base image changes",
    ),
    ("FROM base\nWORKDIR /app\nWORKDIR src", ""),
    ("FROM base AS a\nWORKDIR /app\nFROM a\nWORKDIR src", ""),
    ("FROM base\nARG D=/x\nWORKDIR $D/y", ""),
    ("FROM base\nCOPY $foo .", "2 UndefinedVar: Usage of undefined variable '$foo'"),
    ("FROM base\nENV PATH=$PAHT:/x", "2 UndefinedVar: Usage of undefined variable '$PAHT' (did you mean $PATH?)"),
    ("FROM base\nARG VERSION=$foo", "2 UndefinedVar: Usage of undefined variable '$foo'"),
    ("FROM base\nRUN --mount=type=cache,target=/$foo true", "2 UndefinedVar: Usage of undefined variable '$foo'"),
    ("FROM base\nCOPY <<EOF /f\n$foo $foo\nEOF", "2 UndefinedVar: Usage of undefined variable '$foo'"),
    ("FROM base\nCOPY <<'EOF' /f\n$foo\nEOF", ""),
    ("FROM base\nARG foo\nCOPY $foo .", ""),
    ("FROM base\nARG a=1 b=$a\nLABEL x=$FROM_BASE y=$PATH z=${none:-1} $b=${b%1}", ""),
    ("ARG G=1\nFROM base\nLABEL x=$G", "3 UndefinedVar: Usage of undefined variable '$G'"),
    ("FROM base AS a\nARG V\nENV W=1\nFROM a\nLABEL v=$V w=$W", ""),
    ("FROM base\nENV A=1 B=$A", "2 UndefinedVar: Usage of undefined variable '$A'"),
    ("FROM base\nRUN echo $foo\nCMD [\"$foo\"]", ""),
    ("FROM scratch\nUSER $FROM_BASE", "2 UndefinedVar: Usage of undefined variable '$FROM_BASE'"),
    ("FROM missing\nUSER $ANY", ""),
    (
        "FROM base\nCMD [\"a\"]\nRUN x\nCMD [\"b\"]",
        "2 MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used",
    ),
    (
        "FROM base\nHEALTHCHECK NONE\nHEALTHCHECK CMD a",
        "2 MultipleInstructionsDisallowed: Multiple HEALTHCHECK instructions should not be used in the same stage because only the last one will be used",
    ),
    ("FROM base AS a\nCMD [\"a\"]\nENTRYPOINT [\"b\"]\nFROM a\nCMD [\"b\"]", ""),
    (
        "FROM base\nENV name a value",
        "2 LegacyKeyValueFormat: \"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
    ),
    (
        "FROM base\nLABEL key value",
        "2 LegacyKeyValueFormat: \"LABEL key=value\" should be used instead of legacy \"LABEL key value\" format",
    ),
    ("FROM base\nENV name=value b=c", ""),
    (
        "FROM foreign",
        "1 InvalidBaseImagePlatform: Base image foreign was pulled with platform \"linux/s390x\", expected \"linux/amd64\" for current build",
    ),
    ("FROM base", ""),
    (
        "FROM --platform=$TARGETPLATFORM base",
        "1 RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    ),
    ("FROM --platform=$TARGETOS/$BUILDARCH base", ""),
    (
        "FROM base\nARG FOO_TOKEN",
        "2 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG \"FOO_TOKEN\")",
    ),
    (
        "FROM base\nENV a=1 Password=2",
        "2 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV \"Password\")",
    ),
    (
        "ARG AWS_SECRET_ACCESS_KEY=\nFROM base",
        "1 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG \"AWS_SECRET_ACCESS_KEY\")",
    ),
    ("FROM base\nARG MONKEY KEY_FILE PUBLIC_KEY TOKEN_VERSION TOKENS AUTHOR", ""),
    (
        "ARG TAG\nFROM base:$TAG",
        "2 InvalidDefaultArgInFrom: Default value for ARG base:$TAG results in empty or invalid base image name",
    ),
    (
        "ARG IMAGE=\nFROM ${IMAGE}",
        "2 InvalidDefaultArgInFrom: Default value for ARG ${IMAGE} results in empty or invalid base image name",
    ),
    ("ARG TAG=1\nFROM base:$TAG", ""),
    ("ARG TAG\nFROM base:${TAG:-3.14}", ""),
    (
        "FROM --platform=linux/amd64 base AS b",
        "1 FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value \"linux/amd64\"",
    ),
    ("FROM --platform=linux/amd64 base AS build_amd64", ""),
    ("FROM --platform=linux/amd64 base AS linux", ""),
    ("# one says\nARG two\n# three says\nFROM base AS four", ""),
    (
        "FROM base\nEXPOSE 80/TcP",
        "2 ExposeProtoCasing: Defined protocol '80/TcP' in EXPOSE instruction should be lowercase",
    ),
    (
        "FROM base\nARG P=81/UDP\nEXPOSE 80/tcp $P",
        "3 ExposeProtoCasing: Defined protocol '81/UDP' in EXPOSE instruction should be lowercase",
    ),
    (
        "FROM base\nEXPOSE 127.0.0.1:80:80",
        "2 ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'",
    ),
    ("FROM base\nEXPOSE 80 443/tcp 5000-5010/udp", ""),
];

#[test]
fn each_rule_fires_where_it_should_and_nowhere_else() {
    for (text, expected) in CASES {
        let expected: Vec<&str> = if expected.is_empty() { Vec::new() } else { vec![expected] };
        assert_eq!(warnings_of(text, &report(text)), expected, "{text}");
    }
}

#[test]
fn every_rule_has_a_snippet_that_fires() {
    let elsewhere = [Rule::CopyIgnoredFile, Rule::InvalidDefinitionDescription];
    for rule in Rule::ALL.iter().filter(|rule| !elsewhere.contains(rule)) {
        let fires = |(_, expected): &&(&str, &str)| expected.contains(&format!(" {}:", rule.name()));
        assert!(CASES.iter().any(|case| fires(&case)), "{}", rule.name());
    }
}

#[test]
fn pages_are_named_after_rules() {
    for rule in Rule::ALL {
        let Some(url) = rule.url() else {
            assert_eq!(rule, Rule::InvalidBaseImagePlatform);
            continue;
        };
        let page =
            url.strip_prefix("https://docs.docker.com/go/dockerfile/rule/").and_then(|url| url.strip_suffix('/'));
        assert_eq!(page.map(|page| page.replace('-', "")), Some(rule.name().to_lowercase()));
    }
}

#[test]
fn ignored_sources_are_reported() {
    let detail = |line: usize, source: &str| {
        format!("{line} CopyIgnoredFile: Attempting to Copy file \"{source}\" that is excluded by .dockerignore")
    };
    for (ignore, text, expected) in [
        ("*/tmp/*", "FROM base\nCOPY ./a/tmp/x /x", vec![detail(2, "./a/tmp/x")]),
        ("secret", "FROM base\nADD one secret/inner /x/", vec![detail(2, "secret/inner")]),
        ("secret", "FROM base\nARG S=secret\nCOPY $S /x", vec![detail(3, "secret")]),
        ("secret", "FROM base\nCOPY public /x", vec![]),
        ("secret\n!other", "FROM base\nCOPY secret /x", vec![]),
        ("secret", "FROM base AS a\nFROM base\nCOPY --from=a secret /x", vec![]),
        ("https:", "FROM base\nADD https://example.test/secret /x", vec![]),
        ("secret", "FROM base\nCOPY <<secret /x\nsecret\n", vec![]),
        ("*", "FROM base\nCOPY . /x", vec![detail(2, ".")]),
        ("**/*", "FROM base\nCOPY / /x", vec![detail(2, "/")]),
        ("*.md", "FROM base\nCOPY . /x", vec![]),
    ] {
        assert_eq!(
            warnings_of(text, &report_with(text, &options(), Extent::File, ignore)),
            expected,
            "{ignore}: {text}"
        );
    }
}

#[test]
fn descriptions_start_with_the_name_if_required() {
    let detail = |place: &str, name: &str| {
        format!(
            "{place} InvalidDefinitionDescription: Comment for {} should follow the format: `# {name} <description>`. If \
             this is not intended to be a description comment, add an empty line or comment between the instruction and \
             the comment.",
            if place == "4" { "ARG" } else { "FROM" }
        )
    };
    for (text, expected) in [
        ("# what it is\nFROM base AS b", vec![detail("3", "b")]),
        (
            "# b is what it is\nFROM base AS b\n# version\nARG VERSION",
            vec![detail("5", "VERSION").replace("FROM", "ARG")],
        ),
        ("# other\n# b what it is\nFROM base AS b", vec![]),
        ("# what it is\n\nFROM base AS b", vec![]),
        ("# what it is\n#\nFROM base AS b", vec![]),
        ("# what it is\nFROM base", vec![]),
        ("# b is it\n# check=skip=StageNameCasing\nFROM base AS b", vec![]),
        ("FROM base\n# A and\n# B too\nARG A B", vec![]),
    ] {
        let text = format!("# check=experimental=all\n{text}");
        assert_eq!(warnings_of(&text, &report(&text)), expected, "{text}");
    }
}

#[test]
fn settings_of_the_file_the_command_line_and_an_instruction() {
    let text = "# check=skip=StageNameCasing;error=true\nFROM base AS B\nMAINTAINER me\n";
    let rules = |report: &Report| report.warnings.iter().map(|warning| warning.rule).collect::<Vec<_>>();
    let found = report(text);
    assert_eq!(rules(&found), [Rule::MaintainerDeprecated]);
    let violation = found.verdict().expect_err("error=true");
    assert_eq!(violation.to_string(), "lint violation found for rules: MaintainerDeprecated");
    let overridden =
        Options { build_args: vec![(BUILD_ARGUMENT.into(), "skip=MaintainerDeprecated".into())], ..options() };
    let found = report_with(text, &overridden, Extent::File, "");
    assert_eq!(rules(&found), [Rule::StageNameCasing]);
    assert_eq!(found.verdict(), Ok(()));
    let found = report("FROM base\n# check=skip=MaintainerDeprecated\nMAINTAINER me\nMAINTAINER you\n");
    assert_eq!(found.warnings.len(), 1);
    assert_eq!(report("# check=skip=Maintainer\nFROM base\n").remarks.len(), 1);
    let error =
        check(&parsed("# check=skip\nFROM base\n"), &options(), Extent::File, None, None).expect_err("no value");
    assert_eq!(error.message, "invalid check option \"skip\"");
    assert!(error.place.is_some());
}

#[test]
fn a_violation_names_each_rule_once() {
    let text = "# check=error=true\nFROM base AS A\nCMD x\nFROM base AS B\nCMD y\n";
    let violation = report(text).verdict().expect_err("error=true");
    assert_eq!(violation.rules, [Rule::StageNameCasing, Rule::JsonArgsRecommended]);
}

#[test]
fn a_build_checks_the_stages_it_needs() {
    let text = "FROM base AS unused\nCMD x\nFROM base AS one\nWORKDIR a\nFROM base AS two\nUSER $U\nFROM base\n\
                COPY --from=one /a /\nRUN --mount=from=two,target=/x true\nEXPOSE 1:1\n";
    let lines = |options: &Options, extent| -> Vec<usize> {
        let report = report_with(text, options, extent, "");
        let source = parsed(text).source;
        report.warnings.iter().map(|warning| source.location(warning.span.start).0).collect()
    };
    assert_eq!(lines(&options(), Extent::File), [2, 4, 6, 10]);
    assert_eq!(lines(&options(), Extent::Build), [4, 6, 10]);
    let target = |name: &str| Options { target: Some(name.into()), ..options() };
    assert_eq!(lines(&target("UNUSED"), Extent::File), [2]);
    assert_eq!(lines(&target("unused"), Extent::Build), [2]);
    assert_eq!(lines(&target("none"), Extent::File), [0; 0]);
}

#[test]
fn unavailable_images_are_reported() {
    let text = "FROM missing AS a\nUSER $U\nFROM base\nFROM missing\nFROM a\nUSER $V\n";
    let found = report(text);
    assert_eq!(found.warnings, []);
    let names: Vec<String> = found.unchecked.iter().map(|image| image.request.reference.to_string()).collect();
    assert_eq!(names, ["docker.io/library/missing"]);
    assert!(found.unchecked[0].cause.is_some());
    let offline = check(&parsed(text), &options(), Extent::File, None, None).expect("it can be checked");
    assert_eq!(offline.unchecked.len(), 2);
    assert!(offline.unchecked.iter().all(|image| image.cause.is_none()));
}

const SEVERAL: &str = "# check=skip=StageNameCasing\nFROM foreign as B\n\nRUN a \\\n\n  b\nCMD x\u{1b}[2J\n";

#[test]
fn text_shows_each_location() {
    let text = report::text(&report(SEVERAL), &[], &parsed(SEVERAL).source);
    insta::assert_snapshot!("text", text);
    assert_eq!(report::text(&Report::default(), &[], &parsed("FROM a").source), "Check complete, no warnings found.\n");
}

#[test]
fn json_has_the_documented_keys() {
    let source = parsed(SEVERAL).source;
    insta::assert_snapshot!("json", report::json(&report(SEVERAL), &[], &source).expect("JSON"));
}

#[test]
fn errors_that_prevent_a_build_are_reported_too() {
    let text = "FROM base\nSTOPSIGNAL NOPE\nEXPOSE 99999\n";
    let dockerfile = parsed(text);
    let errors = crate::plan::plan(&dockerfile, &options(), &mut Known).expect_err("it cannot be built");
    insta::assert_snapshot!("error_text", report::text(&report(text), &errors, &dockerfile.source));
    let json = report::json(&report(text), &errors, &dockerfile.source).expect("JSON");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let lines: Vec<u64> = json["buildError"]["location"]["ranges"]
        .as_array()
        .expect("ranges")
        .iter()
        .filter_map(|range| range["start"]["line"].as_u64())
        .collect();
    assert_eq!(lines, [2, 3]);
    assert!(json["buildError"]["message"].as_str().is_some_and(|message| message.contains("NOPE")));
}

fn line() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "FROM base AS B",
        "from $X as scratch",
        "FROM --platform=linux/amd64 b",
        "ARG A=1 B=${A",
        "ARG TOKEN",
        "ENV é $é",
        "ENV a=${b#c} d=$1",
        "RUN a \\",
        "",
        "   \\",
        "# é says",
        "# check=skip=all",
        "COPY <<é /x",
        "é",
        "EXPOSE $A 80:80/TCP",
        "WORKDIR ${A:?}",
        "CMD x",
        "RUN --mount=from=b,type=cache y",
        "MAINTAINER \u{1b}",
    ]);
    prop_oneof![4 => fixed.prop_map(str::to_owned), 1 => ".{0,12}"]
}

proptest! {
    #[test]
    fn any_parsed_file_can_be_checked(lines in prop::collection::vec(line(), 0..14), end in "(\r?\n)?") {
        let text = lines.join("\n") + &end;
        let Ok(dockerfile) = parse(Source { name: "Dockerfile".into(), text: text.clone() }) else { return Ok(()) };
        let Ok(found) = check(&dockerfile, &options(), Extent::File, None, Some(&mut Known)) else { return Ok(()) };
        for warning in &found.warnings {
            prop_assert!(warning.span.end <= text.len() && text.get(warning.span.clone()).is_some(), "{warning:?}");
        }
        let lines = text.split('\n').count();
        let json: serde_json::Value =
            serde_json::from_str(&report::json(&found, &[], &dockerfile.source).expect("JSON")).expect("JSON");
        for warning in json["warnings"].as_array().expect("warnings") {
            let range = &warning["location"]["ranges"][0];
            let line = |end: &str| range[end]["line"].as_u64().and_then(|line| usize::try_from(line).ok());
            prop_assert!(line("start") >= Some(1) && line("start") <= line("end") && line("end") <= Some(lines));
        }
        let escapes = report::text(&found, &[], &dockerfile.source).contains('\u{1b}');
        prop_assert!(!escapes);
    }
}
