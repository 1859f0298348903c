//! One `--ssh`: `default`, or `ID[=SOCKET|KEY[,KEY…]][,raw=true]`, as with `docker build`.

use std::ffi::OsString;
use std::path::PathBuf;

/// Where an agent listens unless a path is given.
const AGENT_VARIABLE: &str = "SSH_AUTH_SOCK";

/// An agent's name, and the socket or the key files behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshSource {
    /// What a Dockerfile calls it.
    pub id: String,
    /// A socket, or keys; never empty.
    pub paths: Vec<PathBuf>,
    /// Whatever is said to the agent is passed on to it.
    pub raw: bool,
}

/// An `--ssh` that means nothing, or names an agent that is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SshSourceError {
    /// It has no name.
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
    /// No path is given, and no agent runs.
    #[error("--ssh {id} needs an agent, and SSH_AUTH_SOCK is not set: name a socket or a key with --ssh {id}=PATH")]
    NoAgent {
        /// The name.
        id: String,
    },
}

impl SshSource {
    /// Reads one flag; `environment` looks a variable up.
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
    fn what_means_nothing_is_refused() {
        for text in ["", "=/k", "a,b", "a=", "a=/k,", "a=/k,raw=yes"] {
            assert!(parse(text).is_err(), "{text}");
        }
        let error = SshSource::parse("default", &|_| None).unwrap_err();
        assert!(error.to_string().contains("--ssh default=PATH"), "{error}");
    }
}
