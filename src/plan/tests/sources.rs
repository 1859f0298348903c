//! Sources of files: here-documents, named contexts, and downloads.

use super::*;
use crate::image::Reference;

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
fn named_contexts_take_precedence_over_stages_and_images() {
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
fn a_stage_can_start_from_a_directory() {
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
fn remote_sources_keep_their_position() {
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
