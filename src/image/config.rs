//! Image configurations (OCI image specification, config.md) with Docker's additional fields: health check, triggers,
//! shell.
//!
//! The JSON equals BuildKit's: compact, with sorted top-level keys, the container's configuration with Docker's Go
//! names in Docker's order, without empty fields. Unknown fields are preserved.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Digest, Platform};

/// The configuration of an image: its layers and its container's settings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ImageConfig {
    /// The processor architecture.
    #[serde(default)]
    pub architecture: String,
    /// The author of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The settings of a container.
    #[serde(default, deserialize_with = "super::null_is_default")]
    pub config: ContainerConfig,
    /// The creation time (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The history of each layer, lowest first, with entries for instructions without a layer.
    #[serde(default, deserialize_with = "super::null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// The operating system.
    #[serde(default)]
    pub os: String,
    /// Features that the operating system must have.
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "super::null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// The version of the operating system.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// The uncompressed layers.
    #[serde(default, deserialize_with = "super::null_is_default")]
    pub rootfs: RootFs,
    /// The variant of the architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Fields that the specification does not define.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

impl ImageConfig {
    /// Returns the normalized platform of the image.
    pub fn platform(&self) -> Platform {
        Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
            variant: self.variant.clone(),
        }
        .normalized()
    }

    /// Sets the fields of `platform`.
    pub fn set_platform(&mut self, platform: &Platform) {
        self.architecture.clone_from(&platform.architecture);
        self.os.clone_from(&platform.os);
        self.os_version.clone_from(&platform.os_version);
        self.os_features.clone_from(&platform.os_features);
        self.variant.clone_from(&platform.variant);
    }

    /// Returns the bytes to push: compact JSON, the same for equal configurations.
    ///
    /// # Errors
    /// A value cannot be written as JSON, which does not happen with these types.
    pub fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }
}

/// The value of a set's keys: `{}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Empty {}

/// The settings of a container of the image; Docker's `Config`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerConfig {
    /// The user of the process: `user`, `uid`, `user:group` …
    #[serde(default, deserialize_with = "super::null_is_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Ports that the image serves, `80/tcp`.
    #[serde(default, deserialize_with = "super::null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// The environment, `NAME=value`.
    #[serde(default, deserialize_with = "super::null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The command that always runs. `None` and an empty list differ during the build (an empty one resets that of the
    /// base); in JSON both are omitted.
    #[serde(default, skip_serializing_if = "is_absent_or_empty")]
    pub entrypoint: Option<Vec<String>>,
    /// The arguments, or the command if there is no entry point. `None` and an empty list differ as for the entry
    /// point.
    #[serde(default, skip_serializing_if = "is_absent_or_empty")]
    pub cmd: Option<Vec<String>>,
    /// Directories for data.
    #[serde(default, deserialize_with = "super::null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Empty>,
    /// The working directory of the process.
    #[serde(default, deserialize_with = "super::null_is_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Free-form metadata.
    #[serde(default, deserialize_with = "super::null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The signal that ends the container.
    #[serde(default, deserialize_with = "super::null_is_default", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Windows: the command line is already escaped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args_escaped: Option<bool>,
    /// The health check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// Instructions for builds that start from this image.
    #[serde(default, skip_serializing_if = "is_absent_or_empty")]
    pub on_build: Option<Vec<String>>,
    /// The shell of shell-form commands.
    #[serde(default, skip_serializing_if = "is_absent_or_empty")]
    pub shell: Option<Vec<String>>,
    /// Fields that neither Docker nor the specification defines.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

fn is_absent_or_empty(list: &Option<Vec<String>>) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

/// A health check as Docker writes it. Times are in nanoseconds; 0 is the default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthConfig {
    /// The test: `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", …]`.
    #[serde(default, deserialize_with = "super::null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Nanoseconds between two tests.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Nanoseconds until a test counts as failed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Nanoseconds after the start in which failures do not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Nanoseconds between two tests during the start period.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// The number of consecutive failures that make the container unhealthy.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: i64,
    /// Fields that Docker does not define.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// The uncompressed layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The digests of the uncompressed tars, lowest first.
    #[serde(default, deserialize_with = "super::null_is_default")]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

/// The history of a layer or of a change of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct History {
    /// The time (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// The author.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The builder, `buildkit.dockerfile.v0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether there is no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
    /// Fields that the specification does not define.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All fields, in the order in which they are written.
    const FULL: &str = r#"{"architecture":"arm","author":"me","config":{"User":"u:g","ExposedPorts":{"80/tcp":{}},"Env":["A=b"],"Entrypoint":["/e"],"Cmd":["c"],"Volumes":{"/v":{}},"WorkingDir":"/w","Labels":{"a":"1","b":"2"},"StopSignal":"9","ArgsEscaped":true,"Healthcheck":{"Test":["CMD","t"],"Interval":1000000000,"Timeout":2,"StartPeriod":3,"StartInterval":4,"Retries":5},"OnBuild":["RUN x"],"Shell":["/bin/bash","-c"],"Hostname":"h"},"created":"2023-11-14T22:13:20Z","history":[{"created":"2023-11-14T22:13:20Z","created_by":"RUN x","author":"me","comment":"c","empty_layer":true}],"os":"linux","os.features":["f"],"os.version":"1","rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},"variant":"v7","moby.buildkit.cache.v0":"eA=="}"#;

    #[test]
    fn every_field_survives_in_one_order() {
        let config: ImageConfig = serde_json::from_str(FULL).unwrap();
        assert_eq!(config.config.healthcheck.as_ref().unwrap().start_interval, 4);
        assert_eq!(config.config.extra["Hostname"], "h");
        assert_eq!(String::from_utf8(config.to_bytes().unwrap()).unwrap(), FULL);
    }

    #[test]
    fn nulls_of_old_docker_versions_are_absent_fields() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"User":"","ExposedPorts":null,"Env":null,
            "Entrypoint":null,"Cmd":[],"Volumes":null,"WorkingDir":"","Labels":null,"OnBuild":null,"Shell":null,
            "Healthcheck":null},"rootfs":{"type":"layers","diff_ids":null},"history":null}"#;
        let config: ImageConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.config.entrypoint, None);
        assert_eq!(config.config.cmd, Some(Vec::new()));
        assert_eq!(
            String::from_utf8(config.to_bytes().unwrap()).unwrap(),
            r#"{"architecture":"amd64","config":{},"os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#
        );
    }

    #[test]
    fn a_missing_config_object_is_an_empty_one() {
        let config: ImageConfig =
            serde_json::from_str(r#"{"architecture":"amd64","os":"linux","config":null}"#).unwrap();
        assert_eq!(config.config, ContainerConfig::default());
        assert_eq!(config.rootfs.kind, "layers");
    }
}
