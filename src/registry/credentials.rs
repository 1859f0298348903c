//! Credentials for registries, from Docker's `config.json`.
//!
//! The file is read once, when the client is made: a RUN of the build must not be able to change whom we push as.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use base64::Engine;
use serde::Deserialize;

use crate::diag::redact::Secret;
use crate::image::reference::DOCKER_HUB;

/// Why a Docker config cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file is not JSON of the right shape. The position is told, the content is not.
    #[error("{} is not a Docker config: malformed at line {line}, column {column}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
    },
    /// An entry's `auth` is not `base64(user:password)`.
    #[error("the entry {key:?} in {}: \"auth\" is not base64 of user:password", path.display())]
    Auth {
        /// The file.
        path: PathBuf,
        /// The key below `auths`.
        key: String,
    },
    /// An entry asks for OAuth2.
    #[error(
        "the entry {key:?} in {} has {field:?}, which is not supported yet: use a user name and a password or access token",
        path.display()
    )]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The key below `auths`.
        key: String,
        /// `identitytoken` or `registrytoken`.
        field: &'static str,
    },
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DockerConfig {
    auths: BTreeMap<String, AuthEntry>,
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AuthEntry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// A user name and a password, and where they were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub username: String,
    /// The password or access token.
    pub password: Secret<String>,
    /// `the entry "ghcr.io" in /root/.docker/config.json`.
    pub origin: String,
}

/// What the keychain has for a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// Credentials.
    Login(Login),
    /// None; the text says where was looked, for hints.
    Anonymous(String),
}

impl Lookup {
    /// The credentials, if there are any.
    pub fn login(&self) -> Option<&Login> {
        match self {
            Self::Login(login) => Some(login),
            Self::Anonymous(_) => None,
        }
    }

    /// For messages: which credentials are used. Never the password.
    pub fn describe(&self) -> String {
        match self {
            Self::Login(login) => format!("credentials of user {:?} come from {}", login.username, login.origin),
            Self::Anonymous(why) => why.clone(),
        }
    }
}

/// All credentials there are.
#[derive(Default)]
pub struct Keychain {
    path: Option<PathBuf>,
    looked: Vec<PathBuf>,
    config: DockerConfig,
    warned: Mutex<BTreeSet<String>>,
}

impl std::fmt::Debug for Keychain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keychain").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Keychain {
    /// Reads the first of `$DOCKER_CONFIG` (the directory or the file), `/kaniko/.docker/config.json` and
    /// `$HOME/.docker/config.json` that is there.
    ///
    /// # Errors
    /// The file is there, but cannot be read or understood.
    pub fn from_environment() -> Result<Self, CredentialsError> {
        Self::load(candidates(|name| std::env::var_os(name).map(PathBuf::from)))
    }

    /// Reads the first of `candidates` that is there.
    ///
    /// # Errors
    /// The file is there, but cannot be read or understood.
    pub fn load(candidates: Vec<PathBuf>) -> Result<Self, CredentialsError> {
        for path in &candidates {
            let bytes = match std::fs::read(path) {
                Ok(bytes) => bytes,
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    continue;
                }
                Err(source) => return Err(CredentialsError::Read { path: path.clone(), source }),
            };
            tracing::debug!(path = %path.display(), "read registry credentials");
            let config = parse(path, &bytes)?;
            return Ok(Self { path: Some(path.clone()), looked: candidates, config, warned: Mutex::default() });
        }
        Ok(Self { looked: candidates, ..Self::default() })
    }

    /// The credentials for a repository: the entry with the longest matching path wins, so that those of one namespace
    /// are never sent for another.
    ///
    /// # Errors
    /// The entry cannot be used.
    pub fn lookup(&self, registry: &str, repository: &str) -> Result<Lookup, CredentialsError> {
        let Some(path) = &self.path else {
            if self.looked.is_empty() {
                return Ok(Lookup::Anonymous("no credentials were used".to_owned()));
            }
            let looked: Vec<String> = self.looked.iter().map(|path| path.display().to_string()).collect();
            return Ok(Lookup::Anonymous(format!(
                "no credentials were used, because none of {} exists",
                looked.join(", ")
            )));
        };
        let best = self
            .config
            .auths
            .iter()
            .filter_map(|(key, entry)| match_length(key, registry, repository).map(|length| (length, key, entry)))
            .max_by_key(|(length, ..)| *length);
        if let Some((_, key, entry)) = best
            && let Some(login) = self.login(path, key, entry)?
        {
            return Ok(Lookup::Login(login));
        }
        if let Some(helper) = self.helper(registry) {
            let note = format!(
                "no credentials were used: {} names the credential helper docker-credential-{helper} for {registry}, \
                 and helpers are not supported yet",
                path.display()
            );
            let first_time = self.warned.lock().is_ok_and(|mut warned| warned.insert(registry.to_owned()));
            if first_time {
                tracing::warn!("{note}");
            }
            return Ok(Lookup::Anonymous(note));
        }
        Ok(Lookup::Anonymous(format!(
            "no credentials were used, because {} has no entry for {registry}",
            path.display()
        )))
    }

    fn helper(&self, registry: &str) -> Option<&str> {
        let named = self.config.helpers.iter().find(|(key, _)| match_length(key, registry, "").is_some());
        named
            .map(|(_, helper)| helper)
            .or(self.config.store.as_ref())
            .map(String::as_str)
            .filter(|name| !name.is_empty())
    }

    fn login(&self, path: &Path, key: &str, entry: &AuthEntry) -> Result<Option<Login>, CredentialsError> {
        let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        for (field, value) in [("identitytoken", &entry.identitytoken), ("registrytoken", &entry.registrytoken)] {
            if given(value).is_some() {
                return Err(CredentialsError::Unsupported { path: path.to_owned(), key: key.to_owned(), field });
            }
        }
        let (username, password) = match (given(&entry.auth), given(&entry.username), given(&entry.password)) {
            (Some(auth), ..) => {
                decode(&auth).ok_or_else(|| CredentialsError::Auth { path: path.to_owned(), key: key.to_owned() })?
            }
            (None, Some(username), Some(password)) => (username, password),
            // `docker login` with a credential store leaves an empty entry behind.
            _ => return Ok(None),
        };
        let origin = format!("the entry {key:?} in {}", path.display());
        Ok(Some(Login { username, password: Secret::new(password), origin }))
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<DockerConfig, CredentialsError> {
    // The JSON library's message may quote what it found; the position alone is safe.
    serde_json::from_slice(bytes).map_err(|error| CredentialsError::Malformed {
        path: path.to_owned(),
        line: error.line(),
        column: error.column(),
    })
}

fn candidates(variable: impl Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    let set = |name: &str| variable(name).filter(|path| !path.as_os_str().is_empty());
    let mut candidates = Vec::new();
    if let Some(path) = set("DOCKER_CONFIG") {
        candidates.push(path.join("config.json"));
        // The variable may name the file itself; asking for a file below a file gives ENOTDIR and leads here.
        if !path.is_dir() {
            candidates.push(path);
        }
    }
    candidates.push(PathBuf::from("/kaniko/.docker/config.json"));
    if let Some(home) = set("HOME") {
        candidates.push(home.join(".docker/config.json"));
    }
    candidates
}

fn decode(auth: &str) -> Option<(String, String)> {
    let lenient = base64::engine::GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        base64::engine::GeneralPurposeConfig::new()
            .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
    );
    let bytes = lenient.decode(auth.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (username, password) = text.split_once(':')?;
    // Docker pads with NUL bytes.
    Some((username.to_owned(), password.trim_end_matches('\0').to_owned()))
}

/// How many characters of `registry/repository` the key of an entry names; `None` if it names something else.
fn match_length(key: &str, registry: &str, repository: &str) -> Option<usize> {
    let bare = key.split_once("://").map_or(key, |(_, rest)| rest).trim_end_matches('/');
    let bare = ["/v1", "/v2"].iter().find_map(|suffix| bare.strip_suffix(suffix)).unwrap_or(bare);
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    if canonical_host(host) != canonical_host(registry) {
        return None;
    }
    let inside = path.is_empty()
        || repository == path
        || repository.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
    inside.then_some(path.len())
}

fn canonical_host(host: &str) -> String {
    let host = host.to_lowercase();
    match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => DOCKER_HUB.to_owned(),
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keychain(json: &str) -> Result<Keychain, CredentialsError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        std::fs::write(&path, json).unwrap();
        Keychain::load(vec![directory.path().join("absent/config.json"), path])
    }

    fn user(json: &str, registry: &str, repository: &str) -> Option<String> {
        let lookup = keychain(json).unwrap().lookup(registry, repository).unwrap();
        lookup.login().map(|login| format!("{}:{}", login.username, login.password.reveal()))
    }

    #[test]
    fn keys_are_found_in_every_spelling() {
        // "dTpw" is u:p
        for (key, registry) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("index.docker.io", "docker.io"),
            ("docker.io", "docker.io"),
            ("https://registry-1.docker.io/v2/", "docker.io"),
            ("ghcr.io", "ghcr.io"),
            ("https://ghcr.io", "ghcr.io"),
            ("https://ghcr.io/v2/", "ghcr.io"),
            ("http://localhost:5000/v1/", "localhost:5000"),
            ("GHCR.io", "ghcr.io"),
        ] {
            let json = format!(r#"{{"auths":{{"{key}":{{"auth":"dTpw"}}}}}}"#);
            assert_eq!(user(&json, registry, "a/b").as_deref(), Some("u:p"), "{key}");
            assert_eq!(user(&json, "other.example", "a/b"), None);
            assert_eq!(user(&json, "localhost:5001", "a/b"), None);
        }
    }

    #[test]
    fn the_longest_path_wins_and_siblings_get_nothing() {
        let json = r#"{"auths":{"r.example/a":{"username":"a","password":"1"},
                                "r.example/a/b":{"username":"ab","password":"2"}}}"#;
        assert_eq!(user(json, "r.example", "a/b/c").as_deref(), Some("ab:2"));
        assert_eq!(user(json, "r.example", "a/bc").as_deref(), Some("a:1"));
        assert_eq!(user(json, "r.example", "ab"), None);
    }

    #[test]
    fn auth_may_lack_padding_and_hold_colons() {
        // u:p:q
        assert_eq!(user(r#"{"auths":{"r":{"auth":"dTpwOnE"}}}"#, "r", "").as_deref(), Some("u:p:q"));
    }

    #[test]
    fn what_is_not_supported_is_said_and_secrets_are_not() {
        let tokens = keychain(r#"{"auths":{"r":{"identitytoken":"sesame"}}}"#).unwrap();
        let error = tokens.lookup("r", "x").unwrap_err().to_string();
        assert!(error.contains("identitytoken") && !error.contains("sesame"), "{error}");
        let error = keychain(r#"{"auths":{"r":{"auth":5e3}}}"#).unwrap_err().to_string();
        assert!(error.contains("line 1"), "{error}");
        let bad = keychain(r#"{"auths":{"r":{"auth":"c2VzYW1l"}}}"#).unwrap().lookup("r", "x").unwrap_err();
        assert!(matches!(bad, CredentialsError::Auth { .. }));
        let helper = keychain(r#"{"credHelpers":{"gcr.io":"gcr"},"credsStore":"pass"}"#).unwrap();
        assert!(helper.lookup("gcr.io", "x").unwrap().describe().contains("docker-credential-gcr"));
        assert!(helper.lookup("r", "x").unwrap().describe().contains("docker-credential-pass"));
        let login = keychain(r#"{"auths":{"r":{"auth":"dTpzZXNhbWU="}}}"#).unwrap().lookup("r", "x").unwrap();
        assert!(!format!("{login:?} {}", login.describe()).contains("sesame"));
    }

    #[test]
    fn places_are_tried_in_order() {
        let variable = |name: &str| match name {
            "DOCKER_CONFIG" => Some(PathBuf::from("/none/auth.json")),
            "HOME" => Some(PathBuf::from("/home/u")),
            _ => None,
        };
        let expected = [
            "/none/auth.json/config.json",
            "/none/auth.json",
            "/kaniko/.docker/config.json",
            "/home/u/.docker/config.json",
        ];
        assert_eq!(candidates(variable), expected.map(PathBuf::from));
        let keychain = Keychain::load(vec![PathBuf::from("/none/config.json")]).unwrap();
        assert!(keychain.lookup("r", "x").unwrap().describe().contains("/none/config.json"));
    }
}
