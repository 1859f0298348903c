//! Plans of small Dockerfiles: history, environment, stage resolution and refusals.

use super::*;
use crate::diag::Hint;
use crate::dockerfile::ast::Source;
use crate::dockerfile::parse;
use crate::image::{Descriptor, Digest, ImageConfig, LayerDescriptor, Manifest, Reference};

/// Images by their canonical reference; every other one does not exist.
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

/// The messages of all errors, each with the line it points at.
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

/// The copies of the target.
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
fn wrong_references_between_stages_are_errors() {
    for (text, message) in [
        ("FROM base AS a\nCOPY --from=b /x /x\nFROM base AS b\n", None),
        ("FROM base AS a\nCOPY --from=a /x /x\n", Some("circular dependency detected on stage: a")),
        ("FROM base\nCOPY --from=3 /x /x\n", Some("invalid stage index 3")),
        ("FROM $NONE\n", Some("base name ($NONE) should not be blank")),
        ("FROM --platform=a/b/c/d base\n", Some("failed to parse platform")),
        ("FROM missing\n", Some("failed to resolve the image")),
    ] {
        match message {
            Some(message) => assert!(refused(text).contains(message), "{text}: {}", refused(text)),
            None => assert_eq!(planned(text).stages.len(), 1, "an unreachable stage is not looked at"),
        }
    }
    let text = "FROM base AS a\nCOPY --from=b /x /x\nFROM a AS b\nFROM a\n";
    assert!(refused(text).contains("circular dependency detected on stage: b"));
    let text = "FROM base AS a\nCOPY --from=b /x /x\nFROM base AS b\nFROM a\n";
    assert!(refused(text).contains("cannot copy from stage \"b\""));
}

#[test]
fn a_here_document_is_text_for_the_shell_or_a_program() {
    let plan = planned(
        "FROM base\nSHELL [\"/bin/ash\", \"-ec\"]\nRUN <<EOF\necho $A\nEOF\nRUN <<-'X Y' cat >/o; cat 3<<B\n\t$A\n\tX Y\nb\nB\n\
         RUN <<-PY\n\t#!/bin/py\n\t\tx\nPY\nRUN <<A\nA\n",
    );
    let runs: Vec<&Run> = target(&plan)
        .steps
        .iter()
        .filter_map(|step| match &step.action {
            Action::Run(run) => Some(run),
            _ => None,
        })
        .collect();
    let commands: Vec<&str> = runs.iter().map(|run| run.arguments[2].as_str()).collect();
    assert_eq!(commands, ["echo $A\n", "<<-'X Y' cat >/o; cat 3<<B\n\t$A\nX Y\nb\nB", "/dev/pipes/PY", ""]);
    let scripts: Vec<Option<&str>> =
        runs.iter().map(|run| run.script.as_ref().map(|script| script.content.as_str())).collect();
    assert_eq!(scripts, [None, None, Some("#!/bin/py\nx\n"), None]);
    assert_eq!(history(&plan)[3], "RUN /bin/ash -ec /dev/pipes/PY # buildkit");
    assert!(refused("FROM base\nRUN <<a/b\n#!/bin/sh\na/b\n").contains("a file called \"a/b\""));
}

#[test]
fn a_here_document_is_a_source_with_variables() {
    let plan =
        planned("FROM base\nENV A=1\nCOPY --chmod=700 <<one <<'two' file /d/\n$A \\$A ${B:-\"q\"}\none\n$A\ntwo\n");
    let Action::Copy(copy) = &target(&plan).steps[1].action else { panic!("a copy") };
    let texts: Vec<(&str, &str)> = copy.texts.iter().map(|text| (text.name.as_str(), text.content.as_str())).collect();
    assert_eq!(texts, [("one", "1 $A \"q\"\n"), ("two", "$A\n")]);
    assert_eq!(history(&plan)[1], "COPY --chmod=700 file <<one <<two /d/ # buildkit");
    assert!(refused("FROM base\nCOPY <<../x /\n../x\n").contains("a file called \"../x\""));
}

#[test]
fn an_error_in_a_here_document_points_at_its_line() {
    let text = "FROM base\nCOPY <<-EOF /f\n\tgood\n\t\tbad ${X:?no}\n\tEOF\n";
    let error = plan_with(text, &options()).expect_err("X is not set");
    assert_eq!(error.message, "failed to process the here-document EOF: X: no");
    let (source, span) = error.place.expect("a place");
    assert_eq!(&source.text[span], "bad ${X:?no}");
}

#[test]
fn named_contexts_go_before_stages_and_images() {
    let named = |name: &str, source| NamedContext { name: name.to_owned(), source };
    let image = NamedSource::Image(Reference::parse("registry.test/base:1").expect("a reference"));
    let options = Options {
        contexts: vec![
            named("files", NamedSource::Directory(0)),
            named("Src", NamedSource::Directory(1)),
            named("alpine", image),
        ],
        ..options()
    };
    let plan = plan_with(
        "FROM missing AS src\nRUN exit 1\nFROM alpine:latest\nCOPY --from=files a /\nCOPY --from=SRC b /\n\
         COPY --from=0 b /\nCOPY --from=docker.io/library/alpine c /\n",
        &options,
    )
    .expect("a plan");
    assert_eq!((plan.stages.len(), plan.images.len()), (1, 1));
    assert_eq!(target(&plan).base, Base::Image(0));
    let from: Vec<CopyFrom> = copies(&plan).iter().map(|copy| copy.from).collect();
    let directory = CopyFrom::Directory;
    assert_eq!(from, [directory(0), directory(1), directory(1), CopyFrom::Image(0)]);
    let plan = plan_with("FROM missing AS alpine\nRUN exit 1\nFROM alpine\nRUN b\n", &options).expect("a plan");
    assert_eq!(history(&plan), ["RUN /bin/sh -c b # buildkit"]);
}

#[test]
fn a_directory_can_be_what_a_stage_starts_from() {
    let named = |name: &str, number| NamedContext { name: name.to_owned(), source: NamedSource::Directory(number) };
    let options = Options { contexts: vec![named("files", 0), named("src", 1)], ..options() };
    for (text, number, entries) in [
        ("FROM files\nUSER 1\n", 0, &["FROM files", "USER 1 (empty)"][..]),
        ("FROM base AS src\nRUN a\n", 1, &["FROM base AS src"]),
        ("FROM base AS src\nRUN a\nFROM src\nUSER 2\n", 1, &["FROM src", "USER 2 (empty)"]),
    ] {
        let plan = plan_with(text, &options).expect(text);
        assert!(plan.images.is_empty(), "{text}");
        assert_eq!(history(&plan), entries, "{text}");
        let Action::Copy(copy) = &plan.stages[0].steps[0].action else { panic!("{text}: no copy") };
        assert_eq!((plan.stages[0].base, copy.from), (Base::Scratch, CopyFrom::Directory(number)), "{text}");
        assert_eq!((copy.sources.as_slice(), copy.destination.as_str()), (&[".".to_owned()][..], "/"), "{text}");
    }
}

#[test]
fn sources_on_the_network_keep_their_place_among_the_others() {
    let plan = planned(
        "FROM base\nARG V=1\nADD a http://h/$V.tar git@h:x.git#v$V b /d/\n\
         ADD --unpack --checksum=sha256:0000000000000000000000000000000000000000000000000000000000000000 http://h/x /\n\
         ADD --keep-git-dir --checksum=abcd https://h/x.git /\n",
    );
    let copies = copies(&plan);
    assert_eq!(copies[0].sources, ["a", "http://h/1.tar", "git@h:x.git#v1", "b"]);
    assert_eq!(copies[0].remotes.keys().copied().collect::<Vec<_>>(), [1, 2]);
    assert!(matches!(&copies[0].remotes[&1], RemoteSource::File { unpack: false, checksum: None, .. }));
    assert!(matches!(&copies[0].remotes[&2], RemoteSource::Repository(git) if git.reference.as_deref() == Some("v1")));
    assert!(matches!(&copies[1].remotes[&0], RemoteSource::File { unpack: true, checksum: Some(_), .. }));
    let RemoteSource::Repository(git) = &copies[2].remotes[&0] else { panic!("no repository") };
    assert_eq!((git.keep_git_dir, git.checksum.as_deref()), (Some(true), Some("abcd")));
    assert_eq!(history(&plan)[1], "ADD a http://h/1.tar git@h:x.git#v1 b /d/ # buildkit");
}

#[test]
fn sources_on_the_network_that_make_no_sense_are_refused() {
    for (line, message) in [
        ("COPY http://h/a /", "source can't be a URL for COPY"),
        ("ADD --keep-git-dir http://h/a /", "--keep-git-dir requires a git source"),
        ("ADD --keep-git-dir a /", "--keep-git-dir requires a git source"),
        ("ADD --keep-git-dir=false https://h/x.git?keep-git-dir=1 /", "--keep-git-dir contradicts"),
        ("ADD --checksum=abcd http://h/a /", "invalid checksum"),
        ("ADD --checksum=sha256:00 https://h/x.git /", "is not the start of a commit's hash"),
        ("ADD --checksum=abcd http://h/a http://h/b /", "checksum can't be specified for multiple"),
        ("ADD https://h/x.git?nonsense=1 /", "unexpected query"),
        ("ADD http:// /", "is not a URL"),
    ] {
        assert!(refused(&format!("FROM base\n{line}\n")).contains(message), "{line}");
    }
    // To COPY it is a file with an odd name.
    planned("FROM base\nCOPY git@h:x.git /\n");
}

#[test]
fn flags_of_a_copy() {
    let plan = planned(
        "FROM base\nARG M\nCOPY --link --exclude=$M --chown=1 --parents a /\nCOPY --link --chmod=600 a /\n\
         COPY --link --chmod=$M a /\nADD --unpack=false a /\nADD --link=false --unpack a /\nADD --checksum=$M a /\n",
    );
    let copies = copies(&plan);
    assert_eq!(copies.iter().map(|copy| copy.link).collect::<Vec<_>>(), [true, false, true, false, false, false]);
    assert_eq!(copies.iter().map(|copy| copy.unpack).collect::<Vec<_>>(), [false, false, false, false, true, true]);
    assert_eq!((copies[0].excludes.as_slice(), copies[0].parents), (&["$M".to_owned()][..], true));
    assert_eq!(history(&plan)[1], "COPY --parents --chown=1 a / # buildkit");
    for (sources, message) in [("a", "checksum requires HTTP(S)"), ("a b", "checksum can't be specified for multiple")]
    {
        let text = format!("FROM base\nADD --checksum=sha256:00 {sources} /\n");
        assert!(refused(&text).starts_with(message));
    }
}

#[test]
fn what_an_unprivileged_container_cannot_do_is_refused_with_its_place() {
    for text in ["RUN --security=insecure true", "RUN --network=host true", "RUN --device=x true"] {
        let error = plan_with(&format!("FROM base\n{text}\n"), &options()).expect_err(text);
        assert!(error.message.contains("not allowed") || error.message.contains("not possible"), "{text}: {error}");
        let (_, span) = error.place.expect("a place");
        assert!(span.start >= "FROM base\n".len(), "{text}");
    }
    let plan = planned("FROM base\nRUN --network=default --security=sandbox true\nRUN --network=none true\n");
    let offline = |step: &Step| matches!(&step.action, Action::Run(run) if run.offline);
    assert_eq!(target(&plan).steps.iter().map(offline).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn every_independent_error_is_told() {
    let text = "FROM gone AS one\nENV A=${A:?none}\nSTOPSIGNAL SIGNOPE\nCOPY --from=two /a /a\n\
                FROM base AS two\nENV B=${B\nENV C=${B:?}\nRUN --security=insecure x\nEXPOSE 99999\n\
                FROM also-gone\nCOPY --from=one / /one\nCOPY --from=two / /two\nCOPY --from=gone / /gone\n";
    assert_eq!(
        all_refused(text),
        [
            "1: failed to resolve the image docker.io/library/gone",
            "3: invalid signal: SIGNOPE",
            "4: cannot copy from stage \"two\", it needs to be defined before current stage \"one\"",
            "6: failed to process \"${B\": syntax error: missing '}'",
            "8: entitlement security.insecure is not allowed",
            "9: invalid containerPort: 99999",
            "10: failed to resolve the image docker.io/library/also-gone",
        ]
    );
}

#[test]
fn what_follows_from_a_wrong_instruction_is_no_error() {
    let text = "ARG BASE=${\nFROM $BASE AS one\nENV X=${\nWORKDIR ${X:?}\nFROM one\nWORKDIR ${X:?}\nLABEL $X=1\n";
    assert_eq!(
        all_refused(text),
        [
            "1: failed to process \"${\": syntax error: missing '}'",
            "3: failed to process \"${\": syntax error: missing '}'",
        ]
    );
}

#[test]
fn the_rest_of_a_file_with_errors_is_looked_at() {
    let text = "FROM base AS one\nRUNN x\nENV A=1\nUSER ${A:?}\nUSER ${\nFROM gone\nCOPY --from=one / /\n\
                COPY --from=three / /\nFROM base AS three\nCOPY --from=1 / /\nSTOPSIGNAL SIGNOPE\n";
    assert_eq!(
        all_refused(text),
        [
            "5: failed to process \"${\": syntax error: missing '}'",
            "8: circular dependency detected on stage: three",
            "11: invalid signal: SIGNOPE",
        ]
    );
}

fn mounts(plan: &Plan) -> Vec<Mount> {
    let steps = target(plan).steps.iter();
    steps.flat_map(|step| if let Action::Run(run) = &step.action { run.mounts.clone() } else { Vec::new() }).collect()
}

#[test]
fn mounts_have_their_final_words() {
    let text = "FROM base AS tools\nFROM base\nARG WHERE=data\nWORKDIR /srv\n\
                RUN --mount=target=$WHERE --mount=from=tools,src=/t,dst=/t/,rw --mount=from=base,target=/b true\n\
                RUN --mount=type=cache,target=../c/./x --mount=type=cache,id=i,target=/i,from=tools,mode=0700 true\n\
                RUN --mount=type=secret,id=a/b --mount=type=secret,id=t,env=T --mount=type=tmpfs,target=/m,size=1k true\n\
                RUN --mount=type=ssh --mount=type=ssh,id=two true\n";
    let options = Options { build_args: vec![("BUILDKIT_CACHE_MOUNT_NS".into(), "ns".into())], ..options() };
    let plan = plan_with(text, &options).expect("it can be planned");
    let mounts = mounts(&plan);
    let targets: Vec<&str> = mounts.iter().map(|mount| mount.target.as_deref().unwrap_or("-")).collect();
    let expected = [
        "/srv/data",
        "/t",
        "/b",
        "/c/x",
        "/i",
        "/run/secrets/b",
        "-",
        "/m",
        "/run/buildkit/ssh_agent.0",
        "/run/buildkit/ssh_agent.1",
    ];
    assert_eq!(targets, expected);
    let origins: Vec<Option<CopyFrom>> = mounts.iter().take(5).map(Mount::origin).collect();
    let (context, tools) = (CopyFrom::Context, CopyFrom::Stage(0));
    assert_eq!(origins, [Some(context), Some(tools), Some(CopyFrom::Image(0)), None, Some(tools)]);
    let caches: Vec<&str> = mounts
        .iter()
        .filter_map(|mount| if let MountSource::Cache { id, .. } = &mount.source { Some(id.as_str()) } else { None })
        .collect();
    assert_eq!(caches[0], "ns/c/x");
    assert!(caches[1].starts_with("ns/i (mode=0700,from=tools@"), "{}", caches[1]);
    assert_eq!(
        mounts.iter().map(|mount| mount.read_only).collect::<Vec<_>>(),
        [true, false, true, false, false, true, true, false, true, true]
    );
    assert!(history(&plan).iter().all(|entry| !entry.contains("mount")), "{:?}", history(&plan));
    let missing = plan.missing(&|_| false, &|_| false);
    assert!(missing.is_empty(), "neither is required: {missing:?}");
}

/// The names of the caches of a plan, in order.
fn caches(text: &str) -> Vec<String> {
    let plan = planned(text);
    let actions = plan.stages.iter().flat_map(|stage| &stage.steps).map(|step| &step.action);
    let runs = actions.filter_map(|action| if let Action::Run(run) = action { Some(run) } else { None });
    let sources = runs.flat_map(|run| &run.mounts).map(|mount| &mount.source);
    sources
        .filter_map(|source| if let MountSource::Cache { id, .. } = source { Some(id.clone()) } else { None })
        .collect()
}

#[test]
fn caches_of_one_id_are_told_apart_by_owner_mode_and_origin() {
    let mounts = |words: &[&str]| {
        let run = |words: &&str| format!("RUN --mount=type=cache,id=c,target=/c{words} true\n");
        let runs: String = words.iter().map(run).collect();
        caches(&format!("FROM base AS seed\nRUN make seed\nFROM base AS other\nFROM base\n{runs}"))
    };
    // What is said and would be so anyway makes no difference, nor who may use it at a time.
    let same = mounts(&["", ",uid=0,gid=0,mode=0755", ",ro", ",sharing=locked", ",mode=755"]);
    assert_eq!(same, ["c"; 5]);
    let owners = mounts(&[",uid=1000", ",gid=1000", ",uid=1000,gid=1000", ",mode=0700"]);
    assert_eq!(owners, ["c (uid=1000)", "c (gid=1000)", "c (uid=1000,gid=1000)", "c (mode=0700)"]);
    let words = [",from=seed", ",from=seed,source=/a", ",from=other", ",from=base", ",from=seed,uid=1"];
    let origins = mounts(&words);
    let distinct: std::collections::BTreeSet<&String> = origins.iter().chain(&same).chain(&owners).collect();
    assert_eq!(distinct.len(), words.len() + 5, "{origins:?}");
    assert_eq!(origins, mounts(&words));
}

/// A build without a layer cache makes another layer of the same instruction each time: its caches stay what they are.
#[test]
fn a_stage_that_fills_a_cache_is_known_by_its_instructions() {
    let filled = |seed: &str| {
        let text = format!(
            "FROM base AS lower\n{seed}\nFROM lower AS seed\nRUN make\nFROM base\nRUN --mount=type=cache,from=seed,target=/c true\n"
        );
        caches(&text).remove(0)
    };
    let one = filled("ARG V=1\nRUN echo $V");
    assert_eq!(one, filled("ARG V=1\nRUN echo $V"));
    for other in
        ["ARG V=2\nRUN echo $V", "ARG V=1\nRUN echo  $V", "COPY a b", "RUN --mount=from=triggering,target=/t true"]
    {
        assert_ne!(filled(other), one, "{other}");
    }
}

#[test]
fn a_stage_that_is_mounted_is_needed() {
    let plan =
        planned("FROM base AS one\nFROM base AS unused\nFROM base AS two\nRUN --mount=from=one,target=/m true\n");
    let names: Vec<&str> = plan.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["one", "two"]);
    assert_eq!(plan.stages[1].stage_dependencies().collect::<Vec<_>>(), [0]);
}

#[test]
fn mounts_that_mean_nothing_point_at_their_words() {
    let later = "cannot mount from stage \"later\", it needs to be defined before current stage \"first\"";
    for (mount, message) in [
        ("from=later,target=/m", later),
        ("from=0,target=/m", "failed to resolve the image docker.io/library/0"),
        ("target=${X:?gone}", "failed to process \"${X:?gone}\": X: gone"),
        ("type=$T,target=/m", "unsupported mount type \"disk\""),
    ] {
        let text = format!("FROM base AS first\nARG T=disk\nRUN --mount={mount} true\nFROM base AS later\n");
        let options = Options { target: Some("first".into()), ..options() };
        let error = plan_with(&text, &options).expect_err(mount);
        assert_eq!(error.message, message);
        let (source, span) = error.place.expect("a place");
        assert_eq!(source.location(span.start).0, 3, "{mount}");
    }
}

#[test]
fn a_required_secret_that_is_not_given_is_told() {
    let plan =
        planned("FROM base\nRUN --mount=type=secret,id=gone,required true\nRUN --mount=type=ssh,id=a,required true\n");
    let missing = plan.missing(&|_| false, &|_| false);
    let messages: Vec<&str> = missing.iter().map(|error| error.message.as_str()).collect();
    assert_eq!(messages, ["secret gone: not found", "SSH agent a: not found"]);
    assert!(missing[0].place.as_ref().is_some_and(|(source, span)| source.text[span.clone()].contains("id=gone")));
}

#[test]
fn a_dockerfile_may_say_its_time() {
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
fn proxies_reach_commands_in_capitals_and_small_letters_and_stay_out_of_the_image() {
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

#[test]
fn an_error_has_its_own_hint_or_that_of_its_cause() {
    let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
    let error = PlanError { cause: Some(full().into()), ..PlanError::new("no image") };
    assert_eq!(Hint::hint(&error), Hint::hint(&full()));
    assert_eq!(Hint::hint(&error.with_hint("another")).as_deref(), Some("another"));
}
