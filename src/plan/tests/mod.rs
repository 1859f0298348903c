//! Plans of small Dockerfiles: history, environment and the stages of a plan.

use super::*;
use crate::dockerfile::ast::Source;
use crate::dockerfile::parse;
use crate::image::{Descriptor, Digest, ImageConfig, LayerDescriptor, Manifest};

mod errors;
mod mounts;
mod sources;

/// Images by their canonical reference; all others do not exist.
struct Known(Vec<(&'static str, ImageConfig)>);

impl Images for Known {
    fn resolve(&mut self, requests: &[ImageRequest]) -> Vec<Result<BaseImage, ImageError>> {
        requests
            .iter()
            .map(|request| {
                let name = request.reference.to_string();
                let (_, config) = self
                    .0
                    .iter()
                    .find(|(known, _)| name.contains(known))
                    .ok_or_else(|| format!("{name}: not found"))?;
                Ok(BaseImage {
                    reference: request.reference.clone(),
                    digest: Digest::sha256_of(name.as_bytes()),
                    manifest: Manifest::oci(
                        Descriptor::of("application/vnd.oci.image.config.v1+json", b"{}"),
                        Vec::new(),
                    ),
                    config: config.clone(),
                    config_bytes: Vec::new(),
                    layers: Vec::<LayerDescriptor>::new(),
                })
            })
            .collect()
    }
}

fn base() -> ImageConfig {
    let mut config = ImageConfig { architecture: "amd64".into(), os: "linux".into(), ..ImageConfig::default() };
    config.config.env = vec!["PATH=/bin".into()];
    config.config.cmd = Some(vec!["/bin/sh".into()]);
    config
}

fn options() -> Options {
    Options::of_platform("linux/amd64")
}

fn plan_with(text: &str, options: &Options) -> Result<Plan, PlanError> {
    let dockerfile = parse(Source { name: "Dockerfile".into(), text: text.into() }).expect("it parses");
    let mut triggering = base();
    triggering.config.on_build = Some(vec!["COPY --from=tools /t /t".into(), "LABEL fired=yes".into()]);
    plan(&dockerfile, options, &mut Known(vec![("base", base()), ("triggering", triggering)])).map_err(|mut errors| {
        assert_eq!(errors.len(), 1, "{errors:?}");
        errors.remove(0)
    })
}

/// Returns the messages of all errors, each with its line.
fn all_refused(text: &str) -> Vec<String> {
    let dockerfile = parse(Source { name: "Dockerfile".into(), text: text.into() });
    let errors = match dockerfile {
        Ok(dockerfile) => plan(&dockerfile, &options(), &mut Known(vec![("base", base())])).expect_err("it is refused"),
        Err(invalid) => check_rest(&invalid.rest.expect("stages"), &options()),
    };
    let line = |error: &PlanError| error.place.as_ref().map_or(0, |(source, span)| source.location(span.start).0);
    errors.iter().map(|error| format!("{}: {}", line(error), error.message)).collect()
}

fn planned(text: &str) -> Plan {
    plan_with(text, &options()).expect("it can be planned")
}

fn refused(text: &str) -> String {
    plan_with(text, &options()).expect_err("it is refused").to_string()
}

fn target(plan: &Plan) -> &Stage {
    &plan.stages[plan.target]
}

/// Returns the copies of the target.
fn copies(plan: &Plan) -> Vec<&Copy> {
    target(plan)
        .steps
        .iter()
        .filter_map(|step| match &step.action {
            Action::Copy(copy) => Some(copy),
            _ => None,
        })
        .collect()
}

fn history(plan: &Plan) -> Vec<String> {
    let entries = &target(plan).config.history;
    entries
        .iter()
        .map(|entry| {
            let empty = if entry.empty_layer { " (empty)" } else { "" };
            format!("{}{empty}", entry.created_by.as_deref().unwrap_or_default())
        })
        .collect()
}

#[test]
fn history_is_what_buildkit_writes() {
    let plan = planned(
        "FROM base\nARG A=1 B\nENV C=$A\nRUN echo $C\nRUN [\"/bin/true\", \"x\"]\nCOPY --chown=1:2 a b /d/\n\
         WORKDIR /w\nWORKDIR /\nCMD echo \"x\"\nENTRYPOINT [\"e\"]\nEXPOSE 90/udp 80\nVOLUME /v /u\nUSER me\n\
         HEALTHCHECK --interval=90s CMD true\nSHELL [\"/bin/ash\", \"-c\"]\nRUN x\nONBUILD RUN y\nMAINTAINER someone",
    );
    assert_eq!(
        history(&plan),
        [
            "ARG A=1 B (empty)",
            "ENV C=1 (empty)",
            "RUN |2 A=1 B= /bin/sh -c echo $C # buildkit",
            "RUN |2 A=1 B= /bin/true x # buildkit",
            "COPY --chown=1:2 a b /d/ # buildkit",
            "WORKDIR /w",
            "WORKDIR / (empty)",
            "CMD [\"/bin/sh\" \"-c\" \"echo \\\"x\\\"\"] (empty)",
            "ENTRYPOINT [\"e\"] (empty)",
            "EXPOSE [80/tcp 90/udp] (empty)",
            "VOLUME [/v /u] (empty)",
            "USER me (empty)",
            "HEALTHCHECK {Test:[CMD-SHELL true] Interval:1m30s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0} (empty)",
            "SHELL [/bin/ash -c] (empty)",
            "RUN |2 A=1 B= /bin/ash -c x # buildkit",
            "MAINTAINER someone (empty)",
        ]
    );
    assert_eq!(target(&plan).config.config.on_build.as_deref(), Some(&["RUN y".to_owned()][..]));
}

#[test]
fn a_single_snapshot_has_one_entry_with_a_layer_for_each_stage() {
    let text = "FROM base AS one\nRUN a\nENV b=c\nRUN b\nFROM one\nWORKDIR /w\nCOPY d /\nUSER e\n";
    let plan = plan_with(text, &Options { single_snapshot: true, ..options() }).expect("it can be planned");
    assert_eq!(
        history(&plan),
        [
            "RUN /bin/sh -c a # buildkit (empty)",
            "ENV b=c (empty)",
            "RUN /bin/sh -c b # buildkit",
            "WORKDIR /w (empty)",
            "COPY d / # buildkit",
            "USER e (empty)",
        ]
    );
}

#[test]
fn only_what_the_target_needs_is_planned() {
    let text = "FROM base AS one\nRUN a\nFROM base AS unused\nRUN b\nFROM base\nCOPY --from=one /x /x\n";
    let plan = planned(text);
    let names: Vec<&str> = plan.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["one", "stage-2"]);
    let Action::Copy(copy) = &target(&plan).steps[0].action else { panic!("a copy") };
    assert_eq!(copy.from, CopyFrom::Stage(0));
    let options = Options { target: Some("UNUSED".into()), ..options() };
    assert_eq!(plan_with(text, &options).expect("a plan").stages.len(), 1);
}

#[test]
fn triggers_run_first_and_may_need_a_stage() {
    let plan = planned("FROM base AS tools\nRUN make\nFROM triggering\nLABEL own=yes\n");
    assert_eq!(plan.stages.len(), 2);
    assert_eq!(history(&plan), ["COPY /t /t # buildkit", "LABEL fired=yes (empty)", "LABEL own=yes (empty)"]);
    assert_eq!(target(&plan).config.config.on_build, None);
}

#[test]
fn arguments_reach_from_and_commands_but_not_the_image() {
    let mut options = options();
    options.build_args =
        vec![("TAG".into(), "base".into()), ("http_proxy".into(), "p".into()), ("TYPO".into(), "1".into())];
    let plan =
        plan_with("ARG TAG=none\nFROM $TAG\nARG TAG\nENV TAG=env\nARG TAG=again\nRUN x\n", &options).expect("a plan");
    let Action::Run(run) = &target(&plan).steps[3].action else { panic!("a run") };
    let environment: Vec<String> = run.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(environment, ["PATH=/bin", "TAG=base", "HTTP_PROXY=p", "http_proxy=p"]);
    assert_eq!(target(&plan).config.config.env, ["PATH=/bin", "TAG=env"]);
    assert_eq!(plan.warnings.len(), 1);
}

#[test]
fn scratch_has_a_path_and_a_directory() {
    let plan = planned("FROM scratch\nCOPY a /\n");
    let config = &target(&plan).config.config;
    assert_eq!(config.env, ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]);
    assert_eq!(config.working_dir, "/");
}

#[test]
fn an_entrypoint_drops_the_commands_of_others_only() {
    let kept = planned("FROM base\nCMD [\"c\"]\nENTRYPOINT [\"e\"]\n");
    assert_eq!(target(&kept).config.config.cmd.as_deref(), Some(&["c".to_owned()][..]));
    let dropped = planned("FROM base\nENTRYPOINT [\"e\"]\n");
    assert_eq!(target(&dropped).config.config.cmd, None);
}

#[test]
fn a_dockerfile_may_set_its_time() {
    let text = "ARG BUILT=17\nARG SOURCE_DATE_EPOCH=${BUILT}00\nFROM scratch\n";
    let epoch = |text: &str, given: Option<&str>| {
        let build_args = given.iter().map(|value| ("SOURCE_DATE_EPOCH".to_owned(), (*value).to_owned())).collect();
        plan_with(text, &Options { build_args, ..options() }).map(|plan| plan.source_date_epoch)
    };
    assert_eq!(epoch(text, None).expect("a number"), Some(1700));
    assert_eq!(epoch(text, Some("5")).expect("the argument decides"), None);
    assert_eq!(epoch(text, Some("")).expect("the argument decides"), None);
    assert_eq!(epoch("ARG SOURCE_DATE_EPOCH=\nFROM scratch\n", None).expect("none"), None);
    assert_eq!(epoch("ARG SOURCE_DATE_EPOCH\nFROM scratch\n", None).expect("none"), None);
    let error = epoch("ARG SOURCE_DATE_EPOCH=context\nFROM scratch\n", None).expect_err("no number");
    assert!(error.message.contains("\"context\": expected the seconds"), "{error}");
    assert!(error.place.is_some_and(|(source, span)| source.text[span] == *"context"));
}

#[test]
fn proxies_reach_commands_in_both_cases_and_stay_out_of_the_image() {
    let given = [("HTTPS_PROXY", "https"), ("no_proxy", "small"), ("NO_PROXY", "CAPITAL"), ("FTP_PROXY", "ftp")];
    let build_args = given.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let text = "FROM base\nENV ftp_proxy=own\nARG HTTPS_PROXY\nRUN x\n";
    let plan = plan_with(text, &Options { build_args, ..options() }).expect("a plan");
    let Action::Run(run) = &target(&plan).steps[2].action else { panic!("a run") };
    let mut environment: Vec<String> = run.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    environment.sort();
    let expected = [
        "FTP_PROXY=ftp",
        "HTTPS_PROXY=https",
        "NO_PROXY=CAPITAL",
        "PATH=/bin",
        "ftp_proxy=own",
        "https_proxy=https",
        "no_proxy=small",
    ];
    assert_eq!(environment, expected);
    let history = history(&plan);
    assert_eq!(history[2], "RUN |1 HTTPS_PROXY=https /bin/sh -c x # buildkit");
    assert!(!history.iter().any(|entry| entry.contains("CAPITAL") || entry.contains("small")), "{history:?}");
    assert_eq!(target(&plan).config.config.env, ["PATH=/bin", "ftp_proxy=own"]);
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
}
