//! Reads credentials from files: Docker's `config.json` and podman's `auth.json`, which has the same format.
//!
//! The files are read once, when the client is created: a RUN of the build must not be able to change the user of a
//! push.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use serde::Deserialize;

use super::error::CredentialsError;
use super::login::{Credential, Login};
use super::variables::Variables;
use crate::diag::redact::Secret;
use crate::fs::{failed_to, gated};
use crate::image::reference::DOCKER_HUB;

/// The variable that holds a config itself, as in GitLab.
const INLINE: &str = "DOCKER_AUTH_CONFIG";

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

/// The entry of the files for a repository.
pub(super) enum ConfigEntry {
    Login(Login),
    /// A credential helper has the credentials.
    Program {
        /// Its name without `docker-credential-`.
        name: String,
        /// The file that names it.
        file: String,
    },
}

/// All existing files, in order of precedence.
#[derive(Default)]
pub(super) struct DockerConfigs {
    /// The configs with their names for messages.
    found: Vec<(String, DockerConfig)>,
    candidates: Vec<PathBuf>,
}

impl DockerConfigs {
    /// Reads `$DOCKER_AUTH_CONFIG` and those of these files that exist: `$DOCKER_CONFIG` (the directory or the file),
    /// `$REGISTRY_AUTH_FILE`, `/kaniko/.docker/config.json`, `$HOME/.docker/config.json`, and `containers/auth.json`
    /// below `$XDG_RUNTIME_DIR` and `$XDG_CONFIG_HOME`.
    pub(super) fn of_environment(variables: &Variables) -> Result<Self, CredentialsError> {
        let mut configs = Self::load(candidates(variables))?;
        if let Some(text) = variables.get(INLINE) {
            let place = Path::new("$DOCKER_AUTH_CONFIG");
            configs.found.insert(0, (place.display().to_string(), parse(place, text.as_bytes())?));
        }
        Ok(configs)
    }

    /// Reads those of `candidates` that exist.
    pub(super) fn load(candidates: Vec<PathBuf>) -> Result<Self, CredentialsError> {
        let mut found = Vec::new();
        for path in &candidates {
            let bytes = match gated::read(path) {
                Ok(bytes) => bytes,
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    continue;
                }
                Err(error) => return Err(failed_to("read", path)(error).into()),
            };
            tracing::debug!(path = %path.display(), "read registry credentials");
            found.push((path.display().to_string(), parse(path, &bytes)?));
        }
        Ok(Self { found, candidates })
    }

    /// Returns the entry for a repository. In a file the longest matching path takes precedence, so that the
    /// credentials of one namespace are never sent for another.
    pub(super) fn entry(&self, registry: &str, repository: &str) -> Result<Option<ConfigEntry>, CredentialsError> {
        for (file, config) in &self.found {
            let best = config
                .auths
                .iter()
                .filter_map(|(key, entry)| match_length(key, registry, repository).map(|length| (length, key, entry)))
                .max_by_key(|(length, ..)| *length);
            if let Some((_, key, entry)) = best
                && let Some(login) = login(file, key, entry)?
            {
                return Ok(Some(ConfigEntry::Login(login)));
            }
            if let Some(name) = helper(config, registry) {
                return Ok(Some(ConfigEntry::Program { name: name.to_owned(), file: file.clone() }));
            }
        }
        Ok(None)
    }

    /// Explains why there is no entry for `registry`.
    pub(super) fn explain_absence(&self, registry: &str) -> Option<String> {
        let list = |names: Vec<String>| names.join(", ");
        if !self.found.is_empty() {
            let files = list(self.found.iter().map(|(file, _)| file.clone()).collect());
            return Some(format!("{files} has no entry for {registry}"));
        }
        let candidates = list(self.candidates.iter().map(|path| path.display().to_string()).collect());
        (!candidates.is_empty()).then(|| format!("none of {candidates} exists"))
    }
}

fn helper<'a>(config: &'a DockerConfig, registry: &str) -> Option<&'a str> {
    let named = config.helpers.iter().find(|(key, _)| match_length(key, registry, "").is_some());
    named.map(|(_, helper)| helper).or(config.store.as_ref()).map(String::as_str).filter(|name| !name.is_empty())
}

fn login(file: &str, key: &str, entry: &AuthEntry) -> Result<Option<Login>, CredentialsError> {
    let non_empty = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
    let credential = if let Some(token) = non_empty(&entry.registrytoken) {
        Credential::RegistryToken(Secret::new(token))
    } else if let Some(token) = non_empty(&entry.identitytoken) {
        Credential::IdentityToken(Secret::new(token))
    } else {
        match (non_empty(&entry.auth), non_empty(&entry.username), non_empty(&entry.password)) {
            (Some(auth), ..) => {
                let malformed = || CredentialsError::Auth { path: PathBuf::from(file), key: key.to_owned() };
                let (username, password) = decode(&auth).ok_or_else(malformed)?;
                Credential::password(username, password)
            }
            (None, Some(username), Some(password)) => Credential::password(username, password),
            // With a credential store, `docker login` writes an empty entry.
            _ => return Ok(None),
        }
    };
    Ok(Some(Login { credential, origin: format!("the entry {key:?} in {file}") }))
}

fn parse(path: &Path, bytes: &[u8]) -> Result<DockerConfig, CredentialsError> {
    // The JSON library's message may quote the content; only the position is safe.
    serde_json::from_slice(bytes).map_err(|error| CredentialsError::Malformed {
        path: path.to_owned(),
        line: error.line(),
        column: error.column(),
    })
}

fn candidates(variables: &Variables) -> Vec<PathBuf> {
    let set = |name: &str| variables.get(name).map(PathBuf::from);
    let mut candidates = Vec::new();
    if let Some(path) = set("DOCKER_CONFIG") {
        candidates.push(path.join("config.json"));
        // The variable may name the file itself; a path below a file gives ENOTDIR, so that the next candidate is
        // tried.
        if !gated::is_dir(&path) {
            candidates.push(path);
        }
    }
    candidates.extend(set("REGISTRY_AUTH_FILE"));
    candidates.push(PathBuf::from("/kaniko/.docker/config.json"));
    let home = set("HOME");
    candidates.extend(home.as_ref().map(|home| home.join(".docker/config.json")));
    candidates.extend(set("XDG_RUNTIME_DIR").map(|directory| directory.join("containers/auth.json")));
    let settings = set("XDG_CONFIG_HOME").or_else(|| home.map(|home| home.join(".config")));
    candidates.extend(settings.map(|directory| directory.join("containers/auth.json")));
    // kaniko's image has DOCKER_CONFIG=/kaniko/.docker/
    let mut distinct: Vec<PathBuf> = Vec::new();
    for path in candidates {
        if !distinct.contains(&path) {
            distinct.push(path);
        }
    }
    distinct
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

/// Returns how many characters of `registry/repository` an entry's key names; `None` if it names something else.
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

pub(super) fn canonical_host(host: &str) -> String {
    let host = host.to_lowercase();
    match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => DOCKER_HUB.to_owned(),
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configs(json: &str) -> Result<DockerConfigs, CredentialsError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        std::fs::write(&path, json).unwrap();
        DockerConfigs::load(vec![directory.path().join("absent/config.json"), path])
    }

    fn shown(entry: Option<ConfigEntry>) -> Option<String> {
        Some(match entry? {
            ConfigEntry::Login(login) => match login.credential {
                Credential::Password { username, password } => format!("{username}:{}", password.reveal()),
                Credential::IdentityToken(token) => format!("identity {}", token.reveal()),
                Credential::RegistryToken(token) => format!("bearer {}", token.reveal()),
            },
            ConfigEntry::Program { name, .. } => format!("docker-credential-{name}"),
        })
    }

    fn user(json: &str, registry: &str, repository: &str) -> Option<String> {
        shown(configs(json).unwrap().entry(registry, repository).unwrap())
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
    fn every_kind_of_entry_is_read() {
        // u:p:q
        assert_eq!(user(r#"{"auths":{"r":{"auth":"dTpwOnE"}}}"#, "r", "").as_deref(), Some("u:p:q"));
        let tokens = r#"{"auths":{"r":{"auth":"dTpw","identitytoken":"i"},"s":{"registrytoken":"t"}}}"#;
        assert_eq!(user(tokens, "r", "x").as_deref(), Some("identity i"));
        assert_eq!(user(tokens, "s", "x").as_deref(), Some("bearer t"));
        let programs = r#"{"auths":{"r":{}},"credHelpers":{"gcr.io":"gcr"},"credsStore":"pass"}"#;
        assert_eq!(user(programs, "gcr.io", "x").as_deref(), Some("docker-credential-gcr"));
        assert_eq!(user(programs, "r", "x").as_deref(), Some("docker-credential-pass"));
    }

    #[test]
    fn messages_name_the_file_and_show_no_secret() {
        let error = configs(r#"{"auths":{"r":{"auth":5e3}}}"#).err().unwrap().to_string();
        assert!(error.contains("line 1"), "{error}");
        let bad = configs(r#"{"auths":{"r":{"auth":"c2VzYW1l"}}}"#).unwrap().entry("r", "x").err().unwrap();
        assert!(matches!(bad, CredentialsError::Auth { .. }));
        let Some(ConfigEntry::Login(login)) =
            configs(r#"{"auths":{"r":{"auth":"dTpzZXNhbWU="}}}"#).unwrap().entry("r", "x").unwrap()
        else {
            panic!("no login")
        };
        assert!(!format!("{login:?} {}", login.describe()).contains("sesame"));
    }

    #[test]
    fn candidates_are_tried_in_order_and_each_once() {
        let variables = Variables::from([
            ("DOCKER_CONFIG", "/none/auth.json"),
            ("HOME", "/home/u"),
            ("REGISTRY_AUTH_FILE", "/f"),
            ("XDG_RUNTIME_DIR", "/run/u"),
        ]);
        let expected = [
            "/none/auth.json/config.json",
            "/none/auth.json",
            "/f",
            "/kaniko/.docker/config.json",
            "/home/u/.docker/config.json",
            "/run/u/containers/auth.json",
            "/home/u/.config/containers/auth.json",
        ];
        assert_eq!(candidates(&variables), expected.map(PathBuf::from));
        let kaniko = Variables::from([("DOCKER_CONFIG", "/kaniko/.docker/")]);
        assert_eq!(candidates(&kaniko).iter().filter(|path| path.ends_with("config.json")).count(), 1);
        let configs = DockerConfigs::load(vec![PathBuf::from("/none/config.json")]).unwrap();
        assert!(configs.explain_absence("r").unwrap().contains("/none/config.json"));
    }

    #[test]
    fn the_variable_takes_precedence_and_the_files_add_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.json");
        std::fs::write(&file, r#"{"auths":{"r":{"auth":"dTpw"},"s":{"auth":"dTpw"}}}"#).unwrap();
        let inline = r#"{"auths":{"r":{"username":"v","password":"w"}}}"#;
        let variables = Variables::from([("DOCKER_CONFIG", file.to_str().unwrap()), ("DOCKER_AUTH_CONFIG", inline)]);
        let configs = DockerConfigs::of_environment(&variables).unwrap();
        assert_eq!(shown(configs.entry("r", "x").unwrap()).as_deref(), Some("v:w"));
        assert_eq!(shown(configs.entry("s", "x").unwrap()).as_deref(), Some("u:p"));
        let broken = Variables::from([("DOCKER_AUTH_CONFIG", "sesame")]);
        let error = DockerConfigs::of_environment(&broken).err().unwrap().to_string();
        assert!(error.contains("$DOCKER_AUTH_CONFIG") && !error.contains("sesame"), "{error}");
    }
}
