//! The flags that say how the build context is fetched, and what they and the environment make of `--context`.

use std::ffi::OsString;

use clap::ArgAction;

use super::flags;
use super::request::{RequestError, variable};
use crate::diag::redact::Secret;
use crate::executor::copy::Limits;
use crate::location::{ContextLocation, GitContext};

/// Largest contexts are those with models and their weights; a pod's disk is mostly not much larger.
const DEFAULT_MAX_SIZE: &str = "8GiB";

/// How the build context is fetched.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Input")]
pub struct ContextFlags {
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
}

impl ContextFlags {
    /// What an archive may unpack to.
    pub(super) fn limits(&self) -> Limits {
        Limits { entries: self.context_max_entries, bytes: self.context_max_size }
    }
}

/// Where the context is; `context` is the value of `--context`. `environment` looks a variable up.
pub(super) fn context(
    flags: &ContextFlags,
    context: &str,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<ContextLocation, RequestError> {
    let bucket = flags.bucket.as_deref().filter(|bucket| !bucket.is_empty());
    let text = match bucket {
        Some(_) if !context.is_empty() => return Err(RequestError::BucketAndContext),
        Some(bucket) if bucket.contains("://") => bucket.to_owned(),
        Some(bucket) => format!("gs://{bucket}"),
        None => context.to_owned(),
    };
    let git = git_context(&flags.git, environment)?;
    ContextLocation::parse(&text, &git).map_err(RequestError::Context)
}

/// Who asks for a context that is a repository: a token is the user's name, as for kaniko.
pub(super) fn git_login(
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<(String, Secret<String>)>, RequestError> {
    let given = |name: &str| Ok::<_, RequestError>(variable(name, environment)?.filter(|value| !value.is_empty()));
    let password = Secret::new(given("GIT_PASSWORD")?.unwrap_or_default());
    let user = match given("GIT_TOKEN")? {
        Some(token) => Some(token),
        None => given("GIT_USERNAME")?,
    };
    Ok(user.map(|user| (user, password)))
}

fn git_context(texts: &[String], environment: &dyn Fn(&str) -> Option<OsString>) -> Result<GitContext, RequestError> {
    let method = variable("GIT_PULL_METHOD", environment)?.unwrap_or_default();
    let scheme = match method.as_str() {
        "" | "https" => "https",
        "http" => "http",
        _ => return Err(RequestError::GitPullMethod { value: method }),
    };
    let mut context = GitContext { scheme, ..GitContext::default() };
    for pair in texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|pair| !pair.is_empty()) {
        let refused = |reason| RequestError::Git { text: pair.to_owned(), reason };
        let (key, value) = pair.split_once('=').unwrap_or((pair, "true"));
        let switch = || flags::boolean(value).map_err(|_| refused("true or false expected"));
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

/// Bytes, with a unit of 1000 (`k`, `M`, `G`, `T`) or of 1024 (`Ki`…), with or without a `B`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().trim_end_matches(['b', 'B']).to_ascii_lowercase();
    let power = |letter: &str| ["", "k", "m", "g", "t"].iter().position(|known| *known == letter);
    let factor = match (unit.strip_suffix('i'), power(&unit)) {
        (Some(letter), _) => power(letter).filter(|power| *power > 0).map(|power| 1024_u64.pow(power as u32)),
        (None, power) => power.map(|power| 1000_u64.pow(power as u32)),
    };
    let bytes = number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    bytes.ok_or_else(|| "expected bytes, or a number with a unit such as 500MiB or 8GiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::typed::variables;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("0", 0),
            ("10", 10),
            ("10B", 10),
            ("2k", 2000),
            ("2KiB", 2048),
            ("8GiB", 8 << 30),
            ("1T", 1_000_000_000_000),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "-1", "1.5G", "1X", "1i", "99999999999T"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn git_options_are_kanikos() {
        let parsed = |texts: &[&str], method: &'static str| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            git_context(&texts, &|name| (name == "GIT_PULL_METHOD").then(|| method.into()))
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
            git_login(&variables(environment)).unwrap().map(|(user, password)| format!("{user}:{}", password.reveal()))
        };
        assert_eq!(login(&[]), None);
        assert_eq!(login(&[("GIT_USERNAME", "u"), ("GIT_PASSWORD", "p")]).as_deref(), Some("u:p"));
        assert_eq!(login(&[("GIT_USERNAME", "u"), ("GIT_TOKEN", "t")]).as_deref(), Some("t:"));
    }
}
