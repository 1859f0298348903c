//! The flags of the image's names and outputs: kaniko's, and those of `docker buildx build`.

use std::path::PathBuf;

use clap::ArgAction;

use super::output_field::{self, OutputError};
use super::report::ReportFlags;
use crate::cli::env::{Env, EnvError};
use crate::cli::values::{non_empty, path};
use crate::image::{Reference, ReferenceError};
use crate::push::{Output, OutputKind, Target};

/// What is written, and under which names.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct OutputFlags {
    /// A name for the image, such as registry:5000/team/app:1.0. Repeatable.
    ///
    /// The image is pushed under each of them. Required unless --no-push is given.
    #[arg(short, long, value_name = "IMAGE", action = ArgAction::Append)]
    pub destination: Vec<String>,

    /// Do not push; the other outputs are still written.
    #[arg(long, action = ArgAction::Set)]
    pub no_push: Option<bool>,

    /// A further name for the image, as for docker build: it is pushed only with --push. Repeatable.
    #[arg(short, long, value_name = "IMAGE", action = ArgAction::Append)]
    pub tag: Vec<String>,

    /// Push the image under every --tag. Every --destination is pushed unless --no-push is given.
    #[arg(long, action = ArgAction::Set, default_value_t = false)]
    pub push: bool,

    /// Also write a docker archive, for docker load.
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub tar_path: Option<PathBuf>,

    /// Also write an OCI image layout: a new directory, or one more image in an existing one.
    #[arg(long, value_name = "DIRECTORY", value_parser = path())]
    pub oci_layout_path: Option<PathBuf>,

    /// An output as in docker buildx build: type=KIND[,dest=PATH][,name=IMAGE][,push=true]. Repeatable.
    ///
    /// KIND is image (pushed), registry, oci or docker (archives; with tar=false a directory), tar or local (the
    /// image's files). A path alone is a directory for the image's files; - is standard output.
    #[arg(short, long, value_name = "FIELDS", action = ArgAction::Append)]
    pub output: Vec<String>,

    /// Refused: there is no engine to load into. --output type=docker,dest=FILE writes what docker load reads.
    #[arg(long, action = ArgAction::Set, default_value_t = false, hide = true)]
    pub load: bool,

    /// Files that report on the image.
    #[command(flatten)]
    pub reports: ReportFlags,
}

/// Flags of names and outputs that do not go together, or a value that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutputFlagError {
    /// Nowhere to push to.
    #[error("you must provide --destination, or use --no-push")]
    NoDestination,
    /// A push without a name.
    #[error("{flag} has no name to push under: give it with --tag or --destination")]
    NoName {
        /// What asks for the push.
        flag: &'static str,
    },
    /// The build would have no result.
    #[error("--tag alone keeps nothing: --push pushes the image, --output writes it, --no-push only builds it")]
    NotStored,
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
    /// A name that is not a reference.
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
    /// An `--output`.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// Two outputs on one stream.
    #[error("only one output can go to standard output: give the others dest=FILE")]
    TwoOnStandardOutput,
    /// A variable of the environment.
    #[error(transparent)]
    Environment(#[from] EnvError),
}

/// Where the image goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ImageOutputs {
    /// The image's names.
    pub(crate) names: Vec<Reference>,
    /// The image is pushed under its names.
    pub(crate) push: bool,
    /// What is written of it.
    pub(crate) outputs: Vec<Output>,
    /// File times are at most `SOURCE_DATE_EPOCH`.
    pub(crate) rewrite_timestamp: bool,
}

impl OutputFlags {
    /// Returns where the image goes. `tar_path` is the value of kaniko's old spelling of `--tar-path`. The answer to a
    /// question needs no destination.
    ///
    /// # Errors
    /// Flags do not go together, or a value is not valid.
    pub(crate) fn outputs(
        &self,
        tar_path: Option<PathBuf>,
        is_question: bool,
        env: Env<'_>,
    ) -> Result<ImageOutputs, OutputFlagError> {
        let no_push = match self.no_push {
            Some(typed) => typed,
            None => env.boolean("KANIKO_NO_PUSH")?.unwrap_or(false),
        };
        if self.load {
            return Err(OutputFlagError::Load);
        }
        let mut asks_for_push = self.push.then_some("--push");
        // An image with a --destination is pushed, unless that is forbidden.
        let mut image = ImageOutputs { push: !self.destination.is_empty() && !no_push, ..ImageOutputs::default() };
        image.add_names("--destination", &self.destination)?;
        image.add_names("--tag", &self.tag)?;
        for (kind, path) in [
            (OutputKind::OciLayout, self.oci_layout_path.clone()),
            (OutputKind::DockerArchive, tar_path.or_else(|| self.tar_path.clone())),
        ] {
            let target = non_empty(path).map(Target::Path);
            image.outputs.extend(target.map(|target| Output { kind, target, names: None }));
        }
        for text in self.output.iter().filter(|text| !text.is_empty()) {
            let asked = output_field::parse(text)?;
            if asked.push {
                asks_for_push = Some("--output with a push");
            }
            for name in asked.names {
                image.add_name("--output", name)?;
            }
            image.rewrite_timestamp |= asked.rewrite_timestamp;
            image.outputs.extend(asked.output);
        }
        if image.outputs.iter().filter(|output| output.target == Target::Stdout).count() > 1 {
            return Err(OutputFlagError::TwoOnStandardOutput);
        }
        match asks_for_push {
            // With the variable alone the push is left out: it may be that of the whole pipeline.
            Some(flag) if self.no_push == Some(true) => return Err(OutputFlagError::PushAndNot { flag }),
            Some(flag) if image.names.is_empty() => return Err(OutputFlagError::NoName { flag }),
            Some(_) => image.push = !no_push,
            None => {}
        }
        if is_question {
            return Ok(image);
        }
        if !image.push && !no_push && self.output.is_empty() {
            return Err(match image.names.is_empty() {
                true => OutputFlagError::NoDestination,
                false => OutputFlagError::NotStored,
            });
        }
        for (flag, file) in [
            ("--image-name-with-digest-file", &self.reports.image_name_with_digest_file),
            ("--image-name-tag-with-digest-file", &self.reports.image_name_tag_with_digest_file),
        ] {
            if non_empty(file.as_ref()).is_some() && image.names.is_empty() {
                return Err(OutputFlagError::NamesWithoutDestination { flag });
            }
        }
        Ok(image)
    }
}

impl ImageOutputs {
    /// Adds the values of a flag.
    fn add_names(&mut self, flag: &'static str, texts: &[String]) -> Result<(), OutputFlagError> {
        for text in texts {
            let name = Reference::parse(text);
            self.add_name(flag, name.map_err(|source| OutputFlagError::Name { flag, text: text.clone(), source })?)?;
        }
        Ok(())
    }

    /// Adds a name that has no digest, once.
    fn add_name(&mut self, flag: &'static str, name: Reference) -> Result<(), OutputFlagError> {
        if name.digest.is_some() {
            return Err(OutputFlagError::NameDigest { flag, text: name.to_string() });
        }
        if !self.names.contains(&name) {
            self.names.push(name);
        }
        Ok(())
    }
}

/// Returns the names of `--destination`, each once.
///
/// # Errors
/// One is not a reference, or has a digest.
pub(crate) fn destinations(texts: &[String]) -> Result<Vec<Reference>, OutputFlagError> {
    let mut image = ImageOutputs::default();
    image.add_names("--destination", texts)?;
    Ok(image.names)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use crate::cli::typed::asked;
    use crate::push::Reports;

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
