//! The flags that say which Dockerfile is read, and with which arguments: those of a build and of `lint`.

use clap::ArgAction;

use crate::cli::env::{Env, EnvError};
use crate::cli::values::non_empty;
use crate::image::{EpochError, Platform, PlatformError, parse_epoch};

/// The Dockerfile if the command line does not name one.
const DEFAULT_DOCKERFILE: &str = "Dockerfile";

/// The build argument, and the variable of the environment, with the time of the image.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// The Dockerfile and its arguments.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Input")]
pub struct DockerfileFlags {
    /// The Dockerfile: a path as given, else below the context; "-" for standard input; or a URL [default: Dockerfile].
    ///
    /// A relative path is tried from the current directory first. Without this flag only the context is searched. A
    /// symbolic link in the context leads only to files of the context. PATH.dockerignore is used instead of
    /// .dockerignore if it exists.
    #[arg(short = 'f', long, value_name = "PATH")]
    pub dockerfile: Option<String>,

    /// A value for ARG; a NAME alone takes its value from the environment. Repeatable.
    ///
    /// A NAME that is not in the environment stays unset, so that the default in the Dockerfile applies.
    #[arg(long, value_name = "NAME[=VALUE]", allow_hyphen_values = true, action = ArgAction::Append)]
    pub build_arg: Vec<String>,

    /// The platform of the image, such as linux/arm64; that of this machine if not given.
    ///
    /// A RUN for a foreign platform needs an emulator in the kernel (binfmt).
    #[arg(long, visible_alias = "platform", value_name = "OS/ARCHITECTURE[/VARIANT]")]
    pub custom_platform: Option<String>,
}

/// A value of one of these flags that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DockerfileFlagError {
    /// A build argument without a name.
    #[error("--build-arg {text:?} has no name: it is NAME=VALUE, or NAME to take the value from the environment")]
    BuildArgument {
        /// As given.
        text: String,
    },
    /// A platform.
    #[error("--custom-platform {text:?} cannot be used")]
    Platform {
        /// As given.
        text: String,
        /// What is wrong with it.
        #[source]
        source: PlatformError,
    },
    /// A time.
    #[error("SOURCE_DATE_EPOCH cannot be {value:?}: {problem}")]
    Epoch {
        /// Its value.
        value: String,
        /// What is wrong with it.
        problem: EpochError,
    },
    /// A variable of the environment.
    #[error(transparent)]
    Environment(#[from] EnvError),
}

impl DockerfileFlags {
    /// Returns the Dockerfile, and whether the command line names it.
    pub(crate) fn dockerfile(self) -> (String, bool) {
        let is_named = self.dockerfile.is_some();
        (self.dockerfile.unwrap_or_else(|| DEFAULT_DOCKERFILE.to_owned()), is_named)
    }
}

/// Returns the platform of a flag's value; `None` for an empty one.
///
/// # Errors
/// It is not a platform.
pub(crate) fn platform(text: Option<String>) -> Result<Option<Platform>, DockerfileFlagError> {
    let Some(text) = non_empty(text) else { return Ok(None) };
    match text.parse() {
        Ok(platform) => Ok(Some(platform)),
        Err(source) => Err(DockerfileFlagError::Platform { text, source }),
    }
}

/// Returns the build arguments: `NAME=VALUE`, or `NAME` with its value in the environment. A name that is not there
/// stays without a value, as with BuildKit (kaniko: empty).
///
/// `SOURCE_DATE_EPOCH` of the environment is one of them, as with `docker build`, unless it is empty or there is a
/// build argument of that name: `ARG SOURCE_DATE_EPOCH` in a stage is the time that the image gets.
///
/// # Errors
/// One has no name, or a variable is not text.
pub(crate) fn build_arguments(
    arguments: &[String],
    env: Env<'_>,
) -> Result<Vec<(String, Option<String>)>, DockerfileFlagError> {
    let argument = |text: &String| match text.split_once('=') {
        Some(("", _)) => Err(DockerfileFlagError::BuildArgument { text: text.clone() }),
        Some((name, value)) => Ok((name.to_owned(), Some(value.to_owned()))),
        None if text.is_empty() => Err(DockerfileFlagError::BuildArgument { text: text.clone() }),
        None => Ok((text.clone(), env.text(text)?)),
    };
    let mut build_args: Vec<_> = arguments.iter().map(argument).collect::<Result<_, _>>()?;
    if !build_args.iter().any(|(name, _)| name == EPOCH)
        && let Some(value) = env.non_empty_text(EPOCH)?
    {
        build_args.push((EPOCH.to_owned(), Some(value)));
    }
    Ok(build_args)
}

/// Returns the time in the build argument of that name, in seconds since 1970. Empty counts as unset: it is how a shell
/// unsets a variable for one command.
///
/// # Errors
/// It is not a time that an image can have.
pub(crate) fn source_date_epoch(build_args: &[(String, Option<String>)]) -> Result<Option<i64>, DockerfileFlagError> {
    let given = build_args.iter().rev().find(|(name, _)| name == EPOCH).and_then(|(_, value)| value.clone());
    let Some(value) = non_empty(given) else { return Ok(None) };
    parse_epoch(&value).map(Some).map_err(|problem| DockerfileFlagError::Epoch { value, problem })
}

#[cfg(test)]
mod tests {
    use crate::cli::typed::asked;

    #[test]
    fn build_arguments_without_a_value_take_it_from_the_environment() {
        let line = "--no-push --build-arg A=1=2 --build-arg B --build-arg C --build-arg D=";
        let pair = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
        assert_eq!(
            asked(line, &[("B", "from outside"), ("A", "unused")]).unwrap().target.build_args,
            [pair("A", Some("1=2")), pair("B", Some("from outside")), pair("C", None), pair("D", Some(""))]
        );
    }

    #[test]
    fn source_date_epoch_is_a_time_an_image_can_have_and_a_build_argument() {
        let epoch = |line, value| {
            let request = asked(line, &[("SOURCE_DATE_EPOCH", value)])?;
            let arguments: Vec<String> = request.target.build_args.into_iter().filter_map(|(_, value)| value).collect();
            Ok::<_, String>((request.target.source_date_epoch, arguments))
        };
        let both = |seconds: i64| Ok((Some(seconds), vec![seconds.to_string()]));
        assert_eq!(epoch("--no-push", "1700000000"), both(1_700_000_000));
        assert_eq!(epoch("--no-push", "0"), both(0));
        assert_eq!(epoch("--no-push", ""), Ok((None, Vec::new())));
        assert_eq!(epoch("--no-push --build-arg SOURCE_DATE_EPOCH=5", "7"), both(5));
        assert_eq!(epoch("--no-push --build-arg SOURCE_DATE_EPOCH=", "7"), Ok((None, vec![String::new()])));
        assert_eq!(epoch("--no-push --build-arg SOURCE_DATE_EPOCH", "7"), both(7));
        assert!(epoch("--no-push", "yesterday").unwrap_err().contains("cannot be \"yesterday\": expected the seconds"));
        assert!(epoch("--no-push", "253402300800").unwrap_err().contains("within the years 1 to 9999"));
    }
}
