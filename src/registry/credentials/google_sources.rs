//! Reads the sources of Google's tokens from the file that `DOCKER_CREDENTIAL_GCR_CONFIG` names.
//!
//! The file has the settings of `docker-credential-gcr` (its README: `config --token-source`), which kaniko's image
//! contains and ours does not.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::google_error::GoogleError;
use super::variables::Variables;
use crate::fs::{failed_to, gated};

/// The variable that names the settings file.
pub(super) const VARIABLE: &str = "DOCKER_CREDENTIAL_GCR_CONFIG";

/// A source of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TokenSource {
    /// Application Default Credentials.
    #[serde(rename = "env")]
    Default,
    /// The program `gcloud`.
    Gcloud,
    /// The store of `docker-credential-gcr gcr-login`, which only that program can use.
    Store,
}

#[derive(Deserialize)]
struct Settings {
    #[serde(default, rename = "TokenSources")]
    token_sources: Vec<TokenSource>,
}

/// Returns the sources in order of use.
///
/// # Errors
/// The file exists, but cannot be read or parsed.
pub(super) async fn token_sources(variables: &Variables) -> Result<Vec<TokenSource>, GoogleError> {
    let default_sources = vec![TokenSource::Default];
    let Some(path) = variables.get(VARIABLE).map(PathBuf::from) else { return Ok(default_sources) };
    let settings = match gated::read_for_task(&path).await {
        Ok(text) => settings(&path, &text)?,
        // Images set the variable without providing the file.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(default_sources),
        Err(error) => return Err(failed_to("read", &path)(error).into()),
    };
    Ok(if settings.token_sources.is_empty() { default_sources } else { settings.token_sources })
}

fn settings(path: &Path, text: &[u8]) -> Result<Settings, GoogleError> {
    serde_json::from_slice(text).map_err(|_shape| GoogleError::Settings { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sources(text: &str) -> Result<Vec<TokenSource>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let variables = Variables::from([(VARIABLE, file.path().to_str().unwrap())]);
        token_sources(&variables).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn settings_select_the_sources() {
        use TokenSource::{Default, Gcloud, Store};
        assert_eq!(sources(r#"{"TokenSources":["store","gcloud","env"]}"#).await.unwrap(), [Store, Gcloud, Default]);
        assert_eq!(sources(r#"{"TokenSources":[],"more":1}"#).await.unwrap(), [Default]);
        assert_eq!(sources("{}").await.unwrap(), [Default]);
        for variables in [Variables::default(), Variables::from([(VARIABLE, "/nonexistent/settings")])] {
            assert_eq!(token_sources(&variables).await.unwrap(), [Default]);
        }
        for text in ["", "7", r#"{"TokenSources":["moon"]}"#] {
            assert!(sources(text).await.unwrap_err().contains("env, gcloud and store"), "{text}");
        }
    }
}
