//! `crabwright login`: stores a user and a password where builds find them, as `docker login` does. The registry is not
//! asked.

use std::io::{self, Read};

use clap::{ArgAction, Args};

use crate::diag::Hint;
use crate::image::{Reference, ReferenceError};
use crate::registry::credentials::{CredentialsError, Variables, save_login};

/// The longest password that is read.
const MAX_PASSWORD: u64 = 64 << 10;

/// Log in to a registry.
///
/// The user and the password are stored in Docker's config.json. The registry is not asked.
#[derive(Debug, Clone, Args)]
pub struct LoginFlags {
    /// The registry, such as registry.example:5000; Docker Hub if not given.
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    pub registry: String,

    /// The user.
    #[arg(short, long, value_name = "USER")]
    pub username: Option<String>,

    /// The password. Other processes of the machine can see it; prefer --password-stdin.
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    pub password: Option<String>,

    /// Read the password from standard input.
    #[arg(long, action = ArgAction::Set, default_value_t = false)]
    pub password_stdin: bool,
}

/// A login that is not complete, or could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// No user.
    #[error("login needs a user: give --username")]
    NoUser,
    /// No password.
    #[error("login needs a password: give --password-stdin, and the password on standard input")]
    NoPassword,
    /// What was given is not a registry.
    #[error("{registry:?} is not a registry")]
    Registry {
        /// As given.
        registry: String,
        /// What is wrong with the name of an image there.
        #[source]
        source: ReferenceError,
    },
    /// Standard input cannot be read.
    #[error("failed to read the password from standard input")]
    Input(#[source] io::Error),
    /// The config cannot be read or written.
    #[error("failed to save the login")]
    Keep(#[source] CredentialsError),
}

impl Hint for LoginError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Input(error) => error.hint(),
            Self::Keep(error) => error.hint(),
            // What can be done is in the message.
            Self::NoUser | Self::NoPassword | Self::Registry { .. } => None,
        }
    }
}

/// Stores a login, and returns the message for the user.
///
/// # Errors
/// See [`LoginError`].
pub fn login(flags: &LoginFlags, variables: &Variables, input: &mut dyn Read) -> Result<String, LoginError> {
    let username = flags.username.as_deref().filter(|user| !user.is_empty()).ok_or(LoginError::NoUser)?;
    let password = if flags.password_stdin {
        let mut text = String::new();
        input.take(MAX_PASSWORD).read_to_string(&mut text).map_err(LoginError::Input)?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        line.strip_suffix('\r').unwrap_or(line).to_owned()
    } else {
        flags.password.clone().unwrap_or_default()
    };
    if password.is_empty() {
        return Err(LoginError::NoPassword);
    }
    let registry = registry(&flags.registry)?;
    let path = save_login(variables, &registry, username, &password).map_err(LoginError::Keep)?;
    Ok(format!("the login for {registry} is kept in {}\n", path.display()))
}

/// The registry's host, as references name it.
fn registry(given: &str) -> Result<String, LoginError> {
    let bare = given.split_once("://").map_or(given, |(_, rest)| rest).split('/').next().unwrap_or_default();
    let probe = Reference::parse(&format!("{bare}/name/name"))
        .map_err(|source| LoginError::Registry { registry: given.to_owned(), source })?;
    // A name without a dot, a colon or "localhost" would be a user at Docker Hub.
    if probe.repository == "name/name" {
        return Ok(probe.registry);
    }
    let source = ReferenceError::Registry { text: given.to_owned(), registry: bare.to_owned() };
    Err(LoginError::Registry { registry: given.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn flags(registry: &str, password: Option<&str>) -> LoginFlags {
        LoginFlags {
            registry: registry.to_owned(),
            username: Some("me".to_owned()),
            password: password.map(str::to_owned),
            password_stdin: password.is_none(),
        }
    }

    #[test]
    fn logins_are_added_to_what_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let variables = Variables::from([("DOCKER_CONFIG", directory.path().join("new").to_str().unwrap())]);
        let said = login(&flags("https://r.example:5000/v2/", Some("sesame")), &variables, &mut io::empty()).unwrap();
        assert!(said.contains("r.example:5000") && !said.contains("sesame"), "{said}");
        login(&flags("docker.io", None), &variables, &mut &b"open\r\n"[..]).unwrap();
        let path = directory.path().join("new/config.json");
        let config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(config["auths"]["r.example:5000"]["auth"], "bWU6c2VzYW1l");
        assert_eq!(config["auths"]["https://index.docker.io/v1/"]["auth"], "bWU6b3Blbg==");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, r#"{"auths":{"a":{"auth":"dTpw"}},"credsStore":"x","other":[1]}"#).unwrap();
        login(&flags("r.example", Some("p")), &variables, &mut io::empty()).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!((&config["auths"]["a"]["auth"], &config["other"][0]), (&"dTpw".into(), &1.into()));
    }

    #[test]
    fn what_is_missing_is_said() {
        let variables = Variables::default();
        let refused = |flags: LoginFlags| login(&flags, &variables, &mut io::empty()).unwrap_err();
        assert!(matches!(refused(LoginFlags { username: None, ..flags("r.example", None) }), LoginError::NoUser));
        assert!(matches!(refused(flags("r.example", None)), LoginError::NoPassword));
        assert!(matches!(refused(flags("my registry", Some("p"))), LoginError::Registry { .. }));
        assert!(matches!(refused(flags("team", Some("p"))), LoginError::Registry { .. }));
    }
}
