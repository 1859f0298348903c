//! Mounts of `RUN`, and the identity of caches.

use super::*;

fn mounts(plan: &Plan) -> Vec<Mount> {
    let steps = target(plan).steps.iter();
    steps.flat_map(|step| if let Action::Run(run) = &step.action { run.mounts.clone() } else { Vec::new() }).collect()
}

#[test]
fn mounts_have_expanded_values() {
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

/// Returns the names of the caches of a plan, in order.
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
fn caches_with_the_same_id_are_distinguished_by_owner_mode_and_source() {
    let mounts = |words: &[&str]| {
        let run = |words: &&str| format!("RUN --mount=type=cache,id=c,target=/c{words} true\n");
        let runs: String = words.iter().map(run).collect();
        caches(&format!("FROM base AS seed\nRUN make seed\nFROM base AS other\nFROM base\n{runs}"))
    };
    // Explicit default values make no difference, nor does the sharing mode.
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

/// A build without a layer cache makes a different layer of the same instruction each time: its caches stay the same.
#[test]
fn a_stage_that_fills_a_cache_is_identified_by_its_instructions() {
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
fn invalid_mounts_point_at_their_words() {
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
fn a_missing_required_secret_is_reported() {
    let plan =
        planned("FROM base\nRUN --mount=type=secret,id=gone,required true\nRUN --mount=type=ssh,id=a,required true\n");
    let missing = plan.missing(&|_| false, &|_| false);
    let messages: Vec<&str> = missing.iter().map(|error| error.message.as_str()).collect();
    assert_eq!(messages, ["secret gone: not found", "SSH agent a: not found"]);
    assert!(missing[0].place.as_ref().is_some_and(|(source, span)| source.text[span.clone()].contains("id=gone")));
}
