//! A project's Dockerfile: the numbers of its instructions become stages and files that there are, so that every one can be built.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::project::{Base, Project, Step, TARGETS};

/// What is known of a stage that has been written.
#[derive(Debug, Clone, Default)]
struct Written {
    has_shell: bool,
    files: BTreeSet<String>,
}

/// The text, for a `base` image with a shell.
pub(super) fn text(project: &Project, base: &str) -> String {
    let mut text = String::new();
    for number in 0..project.remarks {
        writeln!(text, "# remark {number}\n").unwrap();
    }
    let mut before: Vec<Written> = Vec::new();
    for stage in &project.stages {
        let (from, mut state) = match stage.base {
            Base::Stage(_) if before.is_empty() => ("scratch", Written::default()),
            Base::Stage(number) => {
                let parent = number % before.len();
                (project.stages[parent].name.as_str(), before[parent].clone())
            }
            Base::Scratch => ("scratch", Written::default()),
            Base::Busybox => (base, Written { has_shell: true, files: BTreeSet::new() }),
        };
        writeln!(text, "FROM {from} AS {}", stage.name).unwrap();
        for step in &stage.steps {
            instruction(&mut text, project, step, &before, &mut state);
        }
        before.push(state);
    }
    text
}

fn instruction(text: &mut String, project: &Project, step: &Step, before: &[Written], state: &mut Written) {
    let stage_of = |number: usize| match number {
        // So far before this one.
        far if far > usize::MAX / 2 => before.len().checked_sub(1 + (usize::MAX - far)),
        number => (!before.is_empty()).then(|| number % before.len()),
    };
    // A file of another stage, with that stage's name.
    let file_of = |stage: usize, source: usize| {
        let stage = stage_of(stage)?;
        let files = &before[stage].files;
        let file = files.iter().nth(source % files.len().max(1))?;
        Some((project.stages[stage].name.as_str(), file.as_str()))
    };
    let has_directory = project.files.keys().any(|path| path.starts_with(b"d/"));
    let target = |number: &usize| TARGETS[*number];
    let line = match step {
        Step::Copy { source, target: at, flags } => {
            // What is not UTF-8 cannot be written here, and comes with its directory.
            let names: Vec<&str> = project.files.keys().filter_map(|path| std::str::from_utf8(path).ok()).collect();
            match names.get(source % names.len().max(1)) {
                Some(name) => {
                    state.files.insert(target(at).to_owned());
                    format!("COPY {}{name} {}", copy_flags(*flags), target(at))
                }
                None => "LABEL nothing=copied".to_owned(),
            }
        }
        Step::CopyDirectory if has_directory => "COPY d /dd/".to_owned(),
        Step::CopyDirectory => "LABEL nothing=there".to_owned(),
        Step::CopyFrom { stage, source, target: at, flags } => match file_of(*stage, *source) {
            Some((stage, file)) => {
                state.files.insert(target(at).to_owned());
                format!("COPY {}--from={stage} {file} {}", copy_flags(*flags), target(at))
            }
            None => "LABEL nothing=made".to_owned(),
        },
        Step::Document { target: at, text } => {
            state.files.insert(target(at).to_owned());
            format!("COPY <<E {}\n{text}\nE", target(at))
        }
        Step::Variable { is_argument, text } => {
            let (keyword, name) = if *is_argument { ("ARG", "A") } else { ("ENV", "E") };
            format!("{keyword} {name}={text}")
        }
        Step::Bind { all: false, .. } if !has_directory => "LABEL nothing=there".to_owned(),
        Step::Proxy { text, is_declared: true } => format!("ARG HTTP_PROXY=http://{text}"),
        Step::Proxy { text, is_declared: false } => format!("LABEL proxy={text}"),
        Step::WorkingDirectory(name) => format!("WORKDIR /work/{name}"),
        Step::Label(value) => format!("LABEL label={value}"),
        command if state.has_shell => run(command, state, &file_of),
        // Where nothing can run, a file is copied instead.
        _ => {
            let copy = Step::Copy { source: state.files.len(), target: state.files.len() % TARGETS.len(), flags: 9 };
            return instruction(text, project, &copy, before, state);
        }
    };
    writeln!(text, "{line}").unwrap();
}

/// A command, where there is a shell.
fn run<'s>(step: &Step, state: &mut Written, file_of: &impl Fn(usize, usize) -> Option<(&'s str, &'s str)>) -> String {
    let mut made = |number: &usize| {
        state.files.insert(TARGETS[*number].to_owned());
        TARGETS[*number]
    };
    match step {
        Step::Write { target, text } => format!("RUN mkdir -p /dir && echo {text} > {}", made(target)),
        Step::Concatenate { source, target } => {
            let known: Vec<String> = state.files.iter().cloned().collect();
            let source = known.get(source % known.len().max(1)).map_or("/etc/passwd", String::as_str);
            state.files.insert(TARGETS[*target].to_owned());
            format!("RUN mkdir -p /dir && (cat {source}; echo .) > /tmp.new && mv /tmp.new {}", TARGETS[*target])
        }
        Step::Nothing(text) => format!("RUN : {text}"),
        Step::Remove { target } => {
            state.files.remove(TARGETS[*target]);
            format!("RUN rm -f {}", TARGETS[*target])
        }
        Step::Bind { all, target } => {
            let source = if *all { "" } else { ",source=d" };
            let files = "find . -type f | grep -v -e ignored -e Dockerfile | sort";
            let each = "while read -r file; do echo \"$file\"; cat \"$file\"; done";
            let target = made(target);
            format!("RUN --mount=type=bind{source},target=/m mkdir -p /dir && (cd /m; {files} | {each}) > {target}")
        }
        Step::BindFrom { stage, source, target } => match file_of(*stage, *source) {
            Some((stage, file)) => {
                format!("RUN --mount=type=bind,from={stage},target=/m mkdir -p /dir && cat /m{file} > {}", made(target))
            }
            None => "LABEL nothing=made".to_owned(),
        },
        Step::CacheMount(text) => format!("RUN --mount=type=cache,target=/c,id={text} echo {text} > /c/{text}"),
        Step::WriteVariables { target } => format!("RUN mkdir -p /dir && echo $A $E $HTTP_PROXY > {}", made(target)),
        _ => "LABEL no=command".to_owned(),
    }
}

fn copy_flags(number: usize) -> &'static str {
    match number {
        0 => "--link ",
        1 => "--chmod=600 ",
        2 => "--chown=7:8 ",
        _ => "",
    }
}
