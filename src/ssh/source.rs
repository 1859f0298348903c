//! One `--ssh`: `default`, or `ID[=SOCKET|KEY[,KEY…]][,raw=true]`, as with `docker build`.

use std::ffi::OsString;
use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;

use crate::fs::gated;

/// The variable with the agent's socket, unless a path is given.
pub const AGENT_VARIABLE: &str = "SSH_AUTH_SOCK";

/// An agent's name, and its socket or key files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshSource {
    /// Its name in the Dockerfile.
    pub id: String,
    /// A socket, or key files; never empty.
    pub paths: Vec<PathBuf>,
    /// True if everything is forwarded to the agent.
    pub raw: bool,
}

/// An `--ssh` that is invalid, or needs an agent that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SshSourceError {
    /// The name is missing.
    #[error("--ssh {text:?} has no name: it is default, or ID=SOCKET, or ID=KEY")]
    NoName {
        /// As given.
        text: String,
    },
    /// A path is empty.
    #[error("--ssh {text:?} has an empty path")]
    EmptyPath {
        /// As given.
        text: String,
    },
    /// `raw` is neither true nor false.
    #[error("--ssh {text:?}: raw is true or false")]
    Raw {
        /// As given.
        text: String,
    },
    /// There is neither a path nor a running agent.
    #[error("--ssh {id} needs an agent, and SSH_AUTH_SOCK is not set: name a socket or a key with --ssh {id}=PATH")]
    NoAgent {
        /// The name.
        id: String,
    },
}

impl SshSource {
    /// Parses a flag; `environment` looks up a variable.
    ///
    /// # Errors
    /// See [`SshSourceError`].
    pub fn parse(text: &str, environment: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, SshSourceError> {
        let (id, rest) = match text.split_once('=') {
            Some((id, rest)) => (id, Some(rest)),
            None => (text, None),
        };
        if id.is_empty() || id.contains(',') {
            return Err(SshSourceError::NoName { text: text.to_owned() });
        }
        let (mut paths, mut raw) = (Vec::new(), false);
        for field in rest.into_iter().flat_map(|rest| rest.split(',')) {
            match field.strip_prefix("raw=") {
                Some("true" | "1") => raw = true,
                Some("false" | "0") => raw = false,
                Some(_) => return Err(SshSourceError::Raw { text: text.to_owned() }),
                None if field.is_empty() => return Err(SshSourceError::EmptyPath { text: text.to_owned() }),
                None => paths.push(PathBuf::from(field)),
            }
        }
        if paths.is_empty() {
            let agent = environment(AGENT_VARIABLE).filter(|path| !path.is_empty());
            paths.push(agent.ok_or_else(|| SshSourceError::NoAgent { id: id.to_owned() })?.into());
        }
        Ok(Self { id: id.to_owned(), paths, raw })
    }
}

/// Returns the socket of the `default` agent of these flags, if it differs from the environment's. Invalid flags are
/// ignored here, because they are reported elsewhere.
pub fn unnamed_socket(flags: &[String], environment: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let source = flags
        .iter()
        .filter_map(|text| SshSource::parse(text, environment).ok())
        .find(|source| source.id == "default")?;
    let [path] = source.paths.as_slice() else { return None };
    let is_socket = gated::metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let is_named = environment(AGENT_VARIABLE).is_some_and(|named| named == *path);
    (is_socket && !is_named).then(|| path.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<SshSource, SshSourceError> {
        SshSource::parse(text, &|name| (name == AGENT_VARIABLE).then(|| "/agent".into()))
    }

    #[test]
    fn every_form_is_read() {
        let source = |id: &str, paths: &[&str], raw| SshSource {
            id: id.to_owned(),
            paths: paths.iter().map(PathBuf::from).collect(),
            raw,
        };
        for (text, expected) in [
            ("default", source("default", &["/agent"], false)),
            ("work", source("work", &["/agent"], false)),
            ("a=/k", source("a", &["/k"], false)),
            ("a=/k=1,/l", source("a", &["/k=1", "/l"], false)),
            ("a=/s,raw=true", source("a", &["/s"], true)),
            ("a=raw=true", source("a", &["/agent"], true)),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn only_a_socket_that_the_environment_does_not_name_is_returned() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("agent");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let key = directory.path().join("key");
        std::fs::write(&key, "").unwrap();
        let told = |flag: String| {
            unnamed_socket(&["a=".to_owned(), flag], &|name| (name == AGENT_VARIABLE).then(|| "/agent".into()))
        };
        assert_eq!(told(format!("default={}", socket.display())), Some(socket.clone()));
        for flag in [format!("other={}", socket.display()), format!("default={}", key.display()), "default".to_owned()]
        {
            assert_eq!(told(flag.clone()), None, "{flag}");
        }
        let named = |_: &str| Some(socket.clone().into());
        assert_eq!(unnamed_socket(&[format!("default={}", socket.display())], &named), None);
    }

    #[test]
    fn invalid_flags_are_refused() {
        for text in ["", "=/k", "a,b", "a=", "a=/k,", "a=/k,raw=yes"] {
            assert!(parse(text).is_err(), "{text}");
        }
        let error = SshSource::parse("default", &|_| None).unwrap_err();
        assert!(error.to_string().contains("--ssh default=PATH"), "{error}");
    }
}
