//! The flags of registries, and the configuration of the registry client that follows from them and the environment.

use std::path::PathBuf;

use clap::ArgAction;

use crate::cli::env::{Env, EnvError};
use crate::cli::values::{non_empty, path};
use crate::diag;
use crate::registry::credentials::Source;
use crate::registry::{ClientConfig, MirrorError, Mirrors};

/// How registries are reached: the flags of a command that pulls and pushes.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Registries")]
pub struct RegistryFlags {
    /// Pushes.
    #[command(flatten)]
    pub push: PushRegistryFlags,

    /// Pulls.
    #[command(flatten)]
    pub pull: PullRegistryFlags,

    /// Named registries, and credentials.
    #[command(flatten)]
    pub hosts: RegistryHostFlags,
}

/// How images are pushed.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Registries")]
pub struct PushRegistryFlags {
    /// Push over plain http.
    ///
    /// Credentials are then sent to the registries of destinations and caches only.
    #[arg(long, action = ArgAction::Set, default_value_t = false)]
    pub insecure: bool,

    /// Push without verifying certificates.
    #[arg(long, action = ArgAction::Set, default_value_t = false)]
    pub skip_tls_verify: bool,

    /// How often a push is repeated at least; never fewer than 4 times.
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    pub push_retry: u32,

    /// Succeed if the tag exists and the registry does not allow it to change.
    #[arg(long, action = ArgAction::Set, default_value_t = false)]
    pub push_ignore_immutable_tag_errors: bool,

    /// Do not check before the build whether its image may be pushed.
    #[arg(long, action = ArgAction::Set, default_value_t = false)]
    pub skip_push_permission_check: bool,
}

/// How images are pulled.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Registries")]
pub struct PullRegistryFlags {
    /// Pull over plain http.
    ///
    /// Credentials are then sent to the registries of destinations and caches only.
    #[arg(long, action = ArgAction::Set, default_value_t = false)]
    pub insecure_pull: bool,

    /// Pull without verifying certificates.
    #[arg(long, action = ArgAction::Set, default_value_t = false)]
    pub skip_tls_verify_pull: bool,

    /// A mirror from which images of a registry are pulled first. Repeatable.
    ///
    /// Mirrors are tried in their order, then the registry itself. Several can be separated by semicolons. The path of
    /// an image is appended to PREFIX. docker.io means Docker Hub. Pushes are not mapped.
    #[arg(long, value_name = "REGISTRY=MIRROR[/PREFIX]", action = ArgAction::Append)]
    pub registry_map: Vec<String>,

    /// A mirror of Docker Hub: the same as --registry-map docker.io=MIRROR. Repeatable.
    #[arg(long, value_name = "MIRROR[/PREFIX]", action = ArgAction::Append)]
    pub registry_mirror: Vec<String>,

    /// Do not fall back to the registry itself if it has mirrors.
    #[arg(long, action = ArgAction::Set, default_value_t = false)]
    pub skip_default_registry_fallback: bool,

    /// How often a pull is repeated at least; never fewer than 4 times.
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    pub image_download_retry: u32,
}

/// How the registries that a flag names are reached, and the sources of credentials.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Registries")]
pub struct RegistryHostFlags {
    /// A registry to push to and pull from over plain http, with credentials. Repeatable.
    #[arg(long, value_name = "HOST[:PORT]", action = ArgAction::Append)]
    pub insecure_registry: Vec<String>,

    /// A host and port whose certificate is not verified, whatever is requested there. Repeatable.
    #[arg(long, value_name = "HOST[:PORT]", action = ArgAction::Append)]
    pub skip_tls_verify_registry: Vec<String>,

    /// A PEM file with a registry's certificate authority, or its own certificate. Repeatable.
    #[arg(long, value_name = "HOST[:PORT]=FILE", action = ArgAction::Append)]
    pub registry_certificate: Vec<String>,

    /// PEM files with the client certificate for a registry, and its key. Repeatable.
    #[arg(long, value_name = "HOST[:PORT]=CERTIFICATE,KEY", action = ArgAction::Append)]
    pub registry_client_cert: Vec<String>,

    /// Credential sources in addition to Docker's config: env, google, ecr, acr, gitlab. Repeatable.
    ///
    /// All of them if not given; none if empty. Each is asked only for its own registries.
    #[arg(long, value_name = "NAME", value_delimiter = ',', action = ArgAction::Append)]
    pub credential_helpers: Vec<String>,

    /// The configuration of Azure's cloud provider (JSON or YAML), for tokens of Azure's registries.
    ///
    /// Its cloud, tenantId, aadClientId and aadClientSecret, federated token file or managed identity take precedence
    /// over the variables AZURE_*.
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub azure_container_registry_config: Option<PathBuf>,
}

/// A value of one of these flags that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryFlagError {
    /// A map or a mirror.
    #[error("{flag} cannot be {text:?}")]
    Mirror {
        /// The flag or variable.
        flag: &'static str,
        /// Its value.
        text: String,
        /// What is wrong with it.
        #[source]
        source: MirrorError,
    },
    /// A certificate.
    #[error("{flag} {text:?} is not of the form {form}")]
    Form {
        /// The flag.
        flag: &'static str,
        /// Its value.
        text: String,
        /// What it should look like.
        form: &'static str,
    },
    /// A configuration for a source that is not asked.
    #[error("--azure-container-registry-config needs acr among the --credential-helpers")]
    AzureNotAsked,
    /// A source of credentials.
    #[error(
        "--credential-helpers cannot be {word:?}: expected env, google, ecr, acr, gitlab{}",
        suggestion.as_ref().map(|word| format!(" (did you mean {word}?)")).unwrap_or_default()
    )]
    Source {
        /// The word.
        word: String,
        /// One that may have been meant.
        suggestion: Option<String>,
    },
    /// A variable of the environment.
    #[error(transparent)]
    Environment(#[from] EnvError),
}

impl RegistryFlags {
    /// Returns the configuration of the registry client.
    ///
    /// # Errors
    /// A value is not valid.
    pub(crate) fn config(self, env: Env<'_>) -> Result<ClientConfig, RegistryFlagError> {
        let Self { push, pull, hosts } = self;
        let credential_sources = sources(hosts.credential_helpers)?;
        let azure_configuration = non_empty(hosts.azure_container_registry_config);
        if azure_configuration.is_some() && !credential_sources.contains(&Source::Azure) {
            return Err(RegistryFlagError::AzureNotAsked);
        }
        Ok(ClientConfig {
            insecure: push.insecure,
            insecure_pull: pull.insecure_pull,
            insecure_registries: hosts.insecure_registry,
            skip_tls_verify: push.skip_tls_verify,
            skip_tls_verify_pull: pull.skip_tls_verify_pull,
            skip_tls_verify_registries: hosts.skip_tls_verify_registry,
            certificates: hosts.registry_certificate.into_iter().map(certificate).collect::<Result<_, _>>()?,
            client_certificates: hosts
                .registry_client_cert
                .into_iter()
                .map(client_certificate)
                .collect::<Result<_, _>>()?,
            pull_retries: pull.image_download_retry,
            push_retries: push.push_retry,
            mirrors: pull.mirrors(env)?,
            credential_sources,
            azure_configuration,
            ..ClientConfig::default()
        })
    }
}

impl PullRegistryFlags {
    /// Returns the mirrors of the flags, then those of the environment.
    fn mirrors(&self, env: Env<'_>) -> Result<Mirrors, RegistryFlagError> {
        let mut mirrors = Mirrors::default();
        mirrors.only_mirrors = self.skip_default_registry_fallback;
        let map = env.text("KANIKO_REGISTRY_MAP")?.map(|text| ("KANIKO_REGISTRY_MAP", text));
        let maps = self.registry_map.iter().map(|text| ("--registry-map", text.clone()));
        for (flag, text) in maps.chain(map) {
            mirrors.add_map(&text).map_err(|source| RegistryFlagError::Mirror { flag, text, source })?;
        }
        let hub = env.text("KANIKO_REGISTRY_MIRROR")?.map(|text| ("KANIKO_REGISTRY_MIRROR", text));
        let hubs = self.registry_mirror.iter().map(|text| ("--registry-mirror", text.clone()));
        for (flag, text) in hubs.chain(hub).filter(|(_, text)| !text.is_empty()) {
            mirrors.add_docker_hub(&text).map_err(|source| RegistryFlagError::Mirror { flag, text, source })?;
        }
        Ok(mirrors)
    }
}

fn certificate(text: String) -> Result<(String, PathBuf), RegistryFlagError> {
    match text.split_once('=') {
        Some((host, path)) if !host.is_empty() && !path.is_empty() => Ok((host.to_owned(), path.into())),
        _ => Err(RegistryFlagError::Form { flag: "--registry-certificate", text, form: "HOST[:PORT]=FILE" }),
    }
}

fn client_certificate(text: String) -> Result<(String, PathBuf, PathBuf), RegistryFlagError> {
    let parts = text.split_once('=').and_then(|(host, files)| Some((host, files.split_once(',')?)));
    match parts {
        Some((host, (certificate, key))) if ![host, certificate, key].contains(&"") => {
            Ok((host.to_owned(), certificate.into(), key.into()))
        }
        _ => {
            let form = "HOST[:PORT]=CERTIFICATE,KEY";
            Err(RegistryFlagError::Form { flag: "--registry-client-cert", text, form })
        }
    }
}

fn sources(words: Vec<String>) -> Result<Vec<Source>, RegistryFlagError> {
    if words.is_empty() {
        return Ok(Source::ALL.to_vec());
    }
    let mut sources = Vec::new();
    for word in words.into_iter().filter(|word| !word.is_empty()) {
        let Some(source) = Source::ALL.into_iter().find(|source| source.name() == word) else {
            let suggestion = diag::suggest(&word, Source::ALL.into_iter().map(Source::name));
            return Err(RegistryFlagError::Source { word, suggestion });
        };
        if !sources.contains(&source) {
            sources.push(source);
        }
    }
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::typed::variables;

    fn asked(flags: RegistryFlags, environment: &[(&str, &str)]) -> Result<ClientConfig, String> {
        flags.config(Env::new(&variables(environment))).map_err(|error| error.to_string())
    }

    fn hosts(hosts: RegistryHostFlags) -> RegistryFlags {
        RegistryFlags { hosts, ..RegistryFlags::default() }
    }

    #[test]
    fn certificates_belong_to_hosts() {
        let flags = hosts(RegistryHostFlags {
            registry_certificate: vec!["r:5000=/ca.pem".to_owned()],
            registry_client_cert: vec!["r:5000=/c.pem,/k.pem".to_owned()],
            ..RegistryHostFlags::default()
        });
        let config = asked(flags, &[]).unwrap();
        assert_eq!(config.certificates, [("r:5000".to_owned(), PathBuf::from("/ca.pem"))]);
        assert_eq!(config.client_certificates, [("r:5000".to_owned(), "/c.pem".into(), "/k.pem".into())]);
        for text in ["/ca.pem", "r=", "=/ca.pem"] {
            let flags = hosts(RegistryHostFlags {
                registry_certificate: vec![text.to_owned()],
                ..RegistryHostFlags::default()
            });
            assert!(asked(flags, &[]).unwrap_err().contains("is not of the form HOST[:PORT]=FILE"), "{text}");
        }
        for text in ["r=/c.pem", "r=,/k.pem", "r=/c.pem,"] {
            let flags = hosts(RegistryHostFlags {
                registry_client_cert: vec![text.to_owned()],
                ..RegistryHostFlags::default()
            });
            assert!(asked(flags, &[]).unwrap_err().contains("CERTIFICATE,KEY"), "{text}");
        }
    }

    #[test]
    fn mirrors_come_from_flags_and_then_from_the_environment() {
        let pull = PullRegistryFlags {
            registry_map: vec!["docker.io=a.example;quay.io=q.example".to_owned()],
            registry_mirror: vec!["b.example".to_owned()],
            ..PullRegistryFlags::default()
        };
        let flags = RegistryFlags { pull, ..RegistryFlags::default() };
        let environment = [("KANIKO_REGISTRY_MAP", "docker.io=c.example"), ("KANIKO_REGISTRY_MIRROR", "d.example")];
        let mut expected = Mirrors::default();
        for map in ["docker.io=a.example", "quay.io=q.example", "docker.io=c.example"] {
            expected.add_map(map).unwrap();
        }
        expected.add_docker_hub("b.example").unwrap();
        expected.add_docker_hub("d.example").unwrap();
        assert_eq!(asked(flags, &environment).unwrap().mirrors, expected);
        assert_eq!(
            asked(RegistryFlags::default(), &[("KANIKO_REGISTRY_MAP", "nonsense")]).unwrap_err(),
            "KANIKO_REGISTRY_MAP cannot be \"nonsense\""
        );
    }

    #[test]
    fn a_configuration_of_azure_is_for_azure() {
        let flags = |path: &str, helpers: &[&str]| {
            hosts(RegistryHostFlags {
                azure_container_registry_config: Some(path.into()),
                credential_helpers: helpers.iter().map(|word| (*word).to_owned()).collect(),
                ..RegistryHostFlags::default()
            })
        };
        assert_eq!(asked(flags("/c", &["acr"]), &[]).unwrap().azure_configuration, Some("/c".into()));
        assert_eq!(asked(flags("", &["env"]), &[]).unwrap().azure_configuration, None);
        assert!(asked(flags("/c", &["env"]), &[]).unwrap_err().contains("needs acr among"));
    }

    #[test]
    fn sources_of_credentials_are_named() {
        let asked = |words: &[&str]| sources(words.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(asked(&[]).unwrap(), Source::ALL);
        assert_eq!(asked(&[""]).unwrap(), []);
        assert_eq!(asked(&["gitlab", "env", "gitlab"]).unwrap(), [Source::GitLab, Source::Environment]);
        let error = asked(&["gogle"]).unwrap_err().to_string();
        assert!(error.ends_with("(did you mean google?)"), "{error}");
    }
}
