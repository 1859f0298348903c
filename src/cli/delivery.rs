//! Under which names the image is pushed, and what else is written of it.

use std::ffi::OsString;
use std::path::PathBuf;

use super::output::{self, OutputError};
use super::output_flags::OutputFlags;
use super::request::{RequestError, boolean, given};
use crate::image::{Reference, ReferenceError};
use crate::push::{DigestFiles, Output, OutputKind, Reports, Target};

/// Flags about names and outputs that do not fit together, or mean nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// Nowhere to push to.
    #[error("you must provide --destination, or use --no-push")]
    NoDestination,
    /// A push without a name.
    #[error("{flag} has no name to push under: give it with --tag or --destination")]
    NoName {
        /// What asks for the push.
        flag: &'static str,
    },
    /// Nothing would come of the build.
    #[error("--tag alone keeps nothing: --push pushes the image, --output writes it, --no-push only builds it")]
    Unkept,
    /// Two contrary flags.
    #[error("--no-push and {flag} cannot both be given")]
    PushAndNot {
        /// What asks for the push.
        flag: &'static str,
    },
    /// There is no engine.
    #[error(
        "--load is not possible, there is no Docker engine here: --output type=docker,dest=FILE writes what docker load reads"
    )]
    Load,
    /// A file of image names without an image name.
    #[error("you must provide --destination to use {flag}")]
    NamesWithoutDestination {
        /// The flag that asks for the file.
        flag: &'static str,
    },
    /// A name is no reference.
    #[error("{flag} {text:?} cannot be used")]
    Name {
        /// The flag.
        flag: &'static str,
        /// As given.
        text: String,
        /// What is wrong with it.
        #[source]
        source: ReferenceError,
    },
    /// A name has a digest.
    #[error("{flag} {text:?} has a digest: an image is pushed under a tag, its digest follows from its content")]
    NameDigest {
        /// The flag.
        flag: &'static str,
        /// As given.
        text: String,
    },
    /// An output cannot be had.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// Two outputs on one stream.
    #[error("only one output can go to standard output: give the others dest=FILE")]
    Outputs,
}

/// Where the image goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) names: Vec<Reference>,
    pub(super) push: bool,
    pub(super) outputs: Vec<Output>,
    pub(super) files: DigestFiles,
    pub(super) reports: Reports,
    pub(super) rewrite_timestamp: bool,
}

/// What the flags ask for. A question needs no destination.
pub(super) fn delivery(
    destinations: Vec<String>,
    flags: OutputFlags,
    tar_path: Option<PathBuf>,
    is_question: bool,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Delivery, RequestError> {
    let no_push = match flags.no_push {
        Some(typed) => typed,
        None => boolean("KANIKO_NO_PUSH", environment)?.unwrap_or(false),
    };
    if flags.load {
        return Err(DeliveryError::Load.into());
    }
    let mut delivery = Delivery {
        files: DigestFiles {
            digest: given(flags.digest_file),
            name_with_digest: given(flags.image_name_with_digest_file),
            name_tag_with_digest: given(flags.image_name_tag_with_digest_file),
        },
        reports: Reports {
            metadata: given(flags.metadata_file),
            image_id: given(flags.iidfile),
            builder_output: given(environment("BUILDER_OUTPUT").map(PathBuf::from)),
        },
        ..Delivery::default()
    };
    for (kind, path) in
        [(OutputKind::OciLayout, flags.oci_layout_path), (OutputKind::DockerArchive, tar_path.or(flags.tar_path))]
    {
        if let Some(path) = given(path) {
            delivery.outputs.push(Output { kind, target: Target::Path(path), names: None });
        }
    }
    let mut asks_for_push = flags.push.then_some("--push");
    let mut names = Vec::new();
    for (flag, texts) in [("--destination", destinations), ("--tag", flags.tag)] {
        if flag == "--destination" && !texts.is_empty() {
            // What is named in kaniko's word is pushed, unless that is forbidden.
            delivery.push = !no_push;
        }
        for text in texts {
            names.push(name(flag, text)?);
        }
    }
    for text in flags.output.iter().filter(|text| !text.is_empty()) {
        let asked = output::parse(text).map_err(DeliveryError::from)?;
        if asked.push {
            asks_for_push = Some("--output with a push");
        }
        for reference in asked.names {
            names.push(without_digest("--output", reference)?);
        }
        delivery.rewrite_timestamp |= asked.rewrite_timestamp;
        delivery.outputs.extend(asked.output);
    }
    for name in names {
        if !delivery.names.contains(&name) {
            delivery.names.push(name);
        }
    }
    if delivery.outputs.iter().filter(|output| output.target == Target::Stdout).count() > 1 {
        return Err(DeliveryError::Outputs.into());
    }
    if let Some(flag) = asks_for_push {
        match () {
            // The variable may be the whole pipeline's.
            () if flags.no_push == Some(true) => return Err(DeliveryError::PushAndNot { flag }.into()),
            () if delivery.names.is_empty() => return Err(DeliveryError::NoName { flag }.into()),
            () => delivery.push = !no_push,
        }
    }
    if !is_question {
        delivery.check(no_push, !flags.output.is_empty())?;
    }
    Ok(delivery)
}

impl Delivery {
    /// Whether the image goes anywhere, and has the names that its files need.
    fn check(&self, no_push: bool, has_output: bool) -> Result<(), DeliveryError> {
        if !self.push && !no_push && !has_output {
            return Err(match self.names.is_empty() {
                true => DeliveryError::NoDestination,
                false => DeliveryError::Unkept,
            });
        }
        for (flag, file) in [
            ("--image-name-with-digest-file", &self.files.name_with_digest),
            ("--image-name-tag-with-digest-file", &self.files.name_tag_with_digest),
        ] {
            if file.is_some() && self.names.is_empty() {
                return Err(DeliveryError::NamesWithoutDestination { flag });
            }
        }
        Ok(())
    }
}

fn name(flag: &'static str, text: String) -> Result<Reference, DeliveryError> {
    match Reference::parse(&text) {
        Ok(reference) => without_digest(flag, reference),
        Err(source) => Err(DeliveryError::Name { flag, text, source }),
    }
}

fn without_digest(flag: &'static str, reference: Reference) -> Result<Reference, DeliveryError> {
    if reference.digest.is_some() {
        return Err(DeliveryError::NameDigest { flag, text: reference.to_string() });
    }
    Ok(reference)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::typed::asked;

    fn names(line: &str) -> (Vec<String>, bool) {
        let request = asked(line, &[]).unwrap();
        (request.outputs.destinations.iter().map(ToString::to_string).collect(), request.outputs.push)
    }

    #[test]
    fn names_are_pushed_where_that_is_asked_for() {
        let app = |names: &[&str]| names.iter().map(|name| format!("r.example/{name}")).collect::<Vec<_>>();
        for (line, expected, push) in [
            ("-d r.example/a:1 -d r.example/a:1", app(&["a:1"]), true),
            ("-d r.example/a:1 -t r.example/b:1", app(&["a:1", "b:1"]), true),
            ("-d r.example/a:1 --no-push", app(&["a:1"]), false),
            ("-t r.example/a:1 --push", app(&["a:1"]), true),
            ("-t r.example/a:1 --no-push", app(&["a:1"]), false),
            ("-t r.example/a:1 -o type=oci,dest=x", app(&["a:1"]), false),
            ("-t r.example/a:1 -o type=image,push=true", app(&["a:1"]), true),
            ("-o type=registry,name=r.example/a:1", app(&["a:1"]), true),
            ("-d r.example/a:1 -o type=oci,dest=x", app(&["a:1"]), true),
            ("-o type=oci,dest=x", app(&[]), false),
            ("-o out", app(&[]), false),
        ] {
            assert_eq!(names(line), (expected, push), "{line}");
        }
        assert!(!asked("-t a --push", &[("KANIKO_NO_PUSH", "true")]).unwrap().outputs.push);
    }

    #[test]
    fn outputs_of_both_families_are_written() {
        let request = asked("--no-push --oci-layout-path l --tarPath old.tar -o type=tar -o d", &[]).unwrap();
        let shown: Vec<String> = request.outputs.outputs.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["oci:l", "docker-archive:old.tar", "tar:-", "files:d"]);
        let request = asked("--no-push -o type=oci,dest=x,rewrite-timestamp=true", &[]).unwrap();
        assert!(request.layers.reproducible);
        let request = asked("--no-push", &[("BUILDER_OUTPUT", "/out")]).unwrap();
        assert_eq!(request.outputs.reports.builder_output, Some(PathBuf::from("/out")));
        assert_eq!(asked("--no-push", &[("BUILDER_OUTPUT", "")]).unwrap().outputs.reports, Reports::default());
    }

    #[test]
    fn what_would_keep_nothing_is_refused() {
        let pinned = format!("-t app@sha256:{}", "a".repeat(64));
        for (line, message) in [
            ("-t a", "--tag alone keeps nothing: --push pushes the image"),
            ("--push", "--push has no name to push under"),
            ("-o type=image,push=true", "--output with a push has no name to push under"),
            ("--push --no-push -t a", "--no-push and --push cannot both be given"),
            ("-t a --load", "there is no Docker engine here: --output type=docker,dest=FILE"),
            ("-t A --push", "--tag \"A\" cannot be used: invalid image reference"),
            (&pinned, "has a digest"),
            ("--no-push -o type=tar -o type=oci", "only one output can go to standard output"),
            ("--no-push -o type=x", "expected image, registry, oci"),
            ("-o d --image-name-with-digest-file f", "you must provide --destination to use"),
        ] {
            let error = asked(line, &[]).unwrap_err();
            assert!(error.contains(message), "{line}: {error}");
        }
    }
}
