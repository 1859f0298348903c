//! Fuzz target: Docker's `config.json`.

use super::docker_config::DockerConfigs;
use crate::fuzzing::{Scratch, parts};

/// Reads any `config.json`, and looks up the entry of a registry; the input is the registry's name, a zero byte and the
/// config. It may be refused.
pub(crate) fn docker_config(input: &[u8]) {
    let [registry, config] = parts(input);
    let Ok(registry) = std::str::from_utf8(registry) else { return };
    let scratch = Scratch::new();
    let Ok(configs) = DockerConfigs::load(vec![scratch.file("config.json", config)]) else { return };
    drop(configs.entry(registry, "team/app"));
    drop(configs.explain_absence(registry));
}
