//! The flags of the build context and of named contexts: those of a build and of `lint`.

use clap::ArgAction;

use crate::cli::env::{Env, EnvError};
use crate::cli::values::{self, non_empty, size};
use crate::diag::redact::Secret;
use crate::executor::copy::UnpackLimits;
use crate::image::{Reference, ReferenceError};
use crate::location::{ContextLocation, GitContext, LocationError};
use crate::plan::{NamedContext, NamedSource};

/// Largest contexts are those with models and their weights; a pod's disk is mostly not much larger.
const DEFAULT_MAX_SIZE: &str = "8GiB";

/// The build context, how it is fetched, and named contexts.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Input")]
pub struct ContextFlags {
    /// The build context: a directory, an archive, a git repository, a bucket or a URL.
    ///
    /// PATH or dir://PATH is a directory; tar://FILE an archive, tar://stdin or - one on standard input;
    /// git://HOST/REPOSITORY[#REF[#COMMIT]][:DIRECTORY], HTTPS-URL.git and SSH-URL a repository; s3://BUCKET/OBJECT,
    /// gs://BUCKET/OBJECT and the URL of an Azure blob an archive in a bucket; any other https:// URL an archive.
    #[arg(short, long, value_name = "LOCATION", default_value = "/workspace/")]
    pub context: String,

    /// A directory inside the context to build from.
    #[arg(long, value_name = "PATH")]
    pub context_sub_path: Option<String>,

    /// A Google bucket with context.tar.gz, with --context=""; prefer --context=gs://BUCKET.
    #[arg(short, long, value_name = "BUCKET")]
    pub bucket: Option<String>,

    /// Options of a git context: branch=NAME, recurse-submodules=BOOL, insecure-skip-tls=BOOL, separated by commas.
    ///
    /// A branch in --context takes precedence. single-branch and depth have no effect: only the wanted commit is
    /// fetched.
    #[arg(long, value_name = "KEY=VALUE", action = ArgAction::Append)]
    pub git: Vec<String>,

    /// Bytes that a context from an archive or a repository may unpack to, such as 500MiB.
    #[arg(long, value_name = "SIZE", default_value = DEFAULT_MAX_SIZE, value_parser = size)]
    pub context_max_size: u64,

    /// Files and directories that a context from an archive or a repository may unpack to.
    #[arg(long, value_name = "COUNT", default_value_t = 2_000_000)]
    pub context_max_entries: u64,

    /// A directory, image, OCI layout or URL that FROM and COPY --from can name. Repeatable.
    ///
    /// LOCATION is a path, docker-image://IMAGE, oci-layout://DIRECTORY[:NAME][@DIGEST], the URL of a git repository,
    /// or an archive: tar://FILE, a URL, or an object in a bucket. NAME takes precedence over a stage or image of the
    /// same name.
    #[arg(long, value_name = "NAME=LOCATION", action = ArgAction::Append)]
    pub build_context: Vec<String>,
}

/// A value of one of these flags that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContextFlagError {
    /// A location.
    #[error("--context cannot be used")]
    Location(#[source] LocationError),
    /// Two contexts.
    #[error("--bucket is read only with --context=\"\": name the object with --context=gs://BUCKET/OBJECT")]
    BucketAndContext,
    /// An option of a repository.
    #[error("--git {text:?} cannot be used: {reason}")]
    Git {
        /// As given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The scheme of git URLs.
    #[error("environment variable GIT_PULL_METHOD cannot be {value:?}: https or http")]
    GitPullMethod {
        /// Its value.
        value: String,
    },
    /// A named context without a name or location, or with a name that is taken.
    #[error("--build-context {text:?} cannot be used: {reason}")]
    NamedContext {
        /// As given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The image of a named context.
    #[error("--build-context {text:?} cannot be used")]
    NamedImage {
        /// As given.
        text: String,
        /// What is wrong with it.
        #[source]
        source: ReferenceError,
    },
    /// A variable of the environment.
    #[error(transparent)]
    Environment(#[from] EnvError),
}

impl ContextFlags {
    /// Returns the limits of an archive that is unpacked.
    pub(crate) fn limits(&self) -> UnpackLimits {
        UnpackLimits { entries: self.context_max_entries, bytes: self.context_max_size }
    }

    /// Returns where the context is.
    ///
    /// # Errors
    /// There are two contexts, or a value is not valid.
    pub(crate) fn location(&self, env: Env<'_>) -> Result<ContextLocation, ContextFlagError> {
        let text = match self.bucket.as_deref().filter(|bucket| !bucket.is_empty()) {
            Some(_) if !self.context.is_empty() => return Err(ContextFlagError::BucketAndContext),
            Some(bucket) if bucket.contains("://") => bucket.to_owned(),
            Some(bucket) => format!("gs://{bucket}"),
            None => self.context.clone(),
        };
        let git = git_context(&self.git, env)?;
        ContextLocation::parse(&text, &git).map_err(ContextFlagError::Location)
    }

    /// Returns the directory inside the context.
    pub(crate) fn sub_path(&self) -> Option<String> {
        non_empty(self.context_sub_path.clone())
    }

    /// Returns the named contexts, and the locations of the directories among them, local or remote: whether such a
    /// location exists is found where it is opened.
    ///
    /// # Errors
    /// One has no valid name or location.
    pub(crate) fn named_contexts(&self) -> Result<(Vec<NamedContext>, Vec<String>), ContextFlagError> {
        let (mut contexts, mut directories) = (Vec::new(), Vec::new());
        for text in &self.build_context {
            let refused = |reason| ContextFlagError::NamedContext { text: text.clone(), reason };
            let image = |reference: Result<Reference, ReferenceError>| {
                let named = reference.map(NamedSource::Image);
                named.map_err(|source| ContextFlagError::NamedImage { text: text.clone(), source })
            };
            let (name, location) = values::pair(text)
                .filter(|(_, location)| !location.is_empty())
                .ok_or_else(|| refused("it is not of the form name=location"))?;
            if name.contains("::") {
                return Err(refused("contexts for one platform are not supported yet; leave out :: and what follows"));
            }
            if ["scratch", "context"].contains(&name.to_lowercase().as_str()) {
                return Err(refused("the name is reserved"));
            }
            let source = if let Some(name) = location.strip_prefix("docker-image://") {
                image(Reference::parse(name))?
            } else if let Some(layout) = location.strip_prefix("oci-layout://") {
                image(Reference::parse_layout(layout))?
            } else if ["target:", "input:"].iter().any(|scheme| location.starts_with(scheme)) {
                let reason = "only bake files know other targets; name a directory, an image, a layout or a URL";
                return Err(refused(reason));
            } else {
                directories.push(location);
                NamedSource::Directory(directories.len() - 1)
            };
            contexts.push(NamedContext { name, source });
        }
        Ok((contexts, directories))
    }
}

/// Returns the user and password for the server of a context that is a repository: a token is the user's name, as for
/// kaniko.
///
/// # Errors
/// A variable is not text.
pub(crate) fn git_login(env: Env<'_>) -> Result<Option<(String, Secret<String>)>, ContextFlagError> {
    let password = Secret::new(env.non_empty_text("GIT_PASSWORD")?.unwrap_or_default());
    let user = match env.non_empty_text("GIT_TOKEN")? {
        Some(token) => Some(token),
        None => env.non_empty_text("GIT_USERNAME")?,
    };
    Ok(user.map(|user| (user, password)))
}

fn git_context(texts: &[String], env: Env<'_>) -> Result<GitContext, ContextFlagError> {
    let method = env.text("GIT_PULL_METHOD")?.unwrap_or_default();
    let scheme = match method.as_str() {
        "" | "https" => "https",
        "http" => "http",
        _ => return Err(ContextFlagError::GitPullMethod { value: method }),
    };
    let mut context = GitContext { scheme, ..GitContext::default() };
    for pair in texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|pair| !pair.is_empty()) {
        let refused = |reason| ContextFlagError::Git { text: pair.to_owned(), reason };
        let (key, value) = pair.split_once('=').unwrap_or((pair, "true"));
        let switch = || values::boolean(value).map_err(|_| refused("true or false expected"));
        match key {
            "branch" => context.branch = Some(value.to_owned()).filter(|branch| !branch.is_empty()),
            "single-branch" => drop(switch()?),
            "depth" => drop(value.parse::<u32>().map_err(|_| refused("a number expected"))?),
            "recurse-submodules" => context.submodules = switch()?,
            "insecure-skip-tls" => context.skip_tls_verify = switch()?,
            _ => {
                let known = "known are branch, single-branch, depth, recurse-submodules and insecure-skip-tls";
                return Err(refused(known));
            }
        }
    }
    Ok(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::typed::variables;

    #[test]
    fn git_options_are_kanikos() {
        let parsed = |texts: &[&str], method: &'static str| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            git_context(&texts, Env::new(&variables(&[("GIT_PULL_METHOD", method)])))
        };
        let found = parsed(&["branch=dev,single-branch=true,depth=1", "recurse-submodules=true"], "http").unwrap();
        let expected =
            GitContext { branch: Some("dev".to_owned()), submodules: true, skip_tls_verify: false, scheme: "http" };
        assert_eq!(found, expected);
        assert!(parsed(&["insecure-skip-tls"], "").unwrap().skip_tls_verify);
        for text in ["depth=x", "recurse-submodules=maybe", "nonsense=1"] {
            assert!(parsed(&[text], "").unwrap_err().to_string().contains(text), "{text}");
        }
        assert!(parsed(&[], "ftp").unwrap_err().to_string().contains("GIT_PULL_METHOD"));
    }

    #[test]
    fn a_token_is_the_user() {
        let login = |environment: &'static [(&str, &str)]| {
            let login = git_login(Env::new(&variables(environment))).unwrap();
            login.map(|(user, password)| format!("{user}:{}", password.reveal()))
        };
        assert_eq!(login(&[]), None);
        assert_eq!(login(&[("GIT_USERNAME", "u"), ("GIT_PASSWORD", "p")]).as_deref(), Some("u:p"));
        assert_eq!(login(&[("GIT_USERNAME", "u"), ("GIT_TOKEN", "t")]).as_deref(), Some("t:"));
    }
}
