//! Writes a login into Docker's config.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine;
use serde_json::{Map, Value};

use super::{CredentialsError, Variables};
use crate::fs::{self, failed_to, gated};
use crate::image::reference::DOCKER_HUB;

/// Stores a user and a password for a registry in `$DOCKER_CONFIG/config.json`, or else in `$HOME/.docker/config.json`,
/// and returns the file's path. The rest of the file is kept.
///
/// # Errors
/// The file exists but is not a Docker config, or cannot be written; or neither variable is set.
pub fn save_login(
    variables: &Variables,
    registry: &str,
    username: &str,
    password: &str,
) -> Result<PathBuf, CredentialsError> {
    let path = place(variables).ok_or(CredentialsError::NoPlace)?;
    let mut config = match gated::read(&path) {
        Ok(bytes) => serde_json::from_slice::<Map<String, Value>>(&bytes).map_err(|error| {
            CredentialsError::Malformed { path: path.clone(), line: error.line(), column: error.column() }
        })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Map::new(),
        Err(error) => return Err(failed_to("read", &path)(error).into()),
    };
    // Docker's own key for its hub.
    let key = if registry == DOCKER_HUB { "https://index.docker.io/v1/" } else { registry };
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
    let Value::Object(auths) = config.entry("auths").or_insert_with(|| Value::Object(Map::new())) else {
        return Err(CredentialsError::Malformed { path, line: 1, column: 1 });
    };
    auths.insert(key.to_owned(), Value::Object(Map::from_iter([("auth".to_owned(), Value::String(pair))])));
    write(&path, &format!("{:#}\n", Value::Object(config)))?;
    Ok(path)
}

fn place(variables: &Variables) -> Option<PathBuf> {
    if let Some(path) = variables.get("DOCKER_CONFIG").map(PathBuf::from) {
        return Some(if gated::is_file(&path) { path } else { path.join("config.json") });
    }
    variables.get("HOME").map(|home| Path::new(home).join(".docker/config.json"))
}

/// Writes a file that only its owner may read. It replaces the old one atomically, because another build may be reading
/// it.
fn write(path: &Path, text: &str) -> Result<(), CredentialsError> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new.{}", std::process::id()));
    let fresh = PathBuf::from(name);
    let mut options = std::fs::OpenOptions::new();
    let written = gated::open_with(&fresh, options.write(true).create(true).truncate(true).mode(0o600))
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| gated::rename(&fresh, path));
    if let Err(error) = written {
        if let Err(leftover) = gated::remove_file(&fresh) {
            tracing::debug!(path = %fresh.display(), error = %leftover, "the temporary config cannot be removed");
        }
        return Err(failed_to("write", path)(error).into());
    }
    Ok(())
}
