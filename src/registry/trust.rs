//! Selects the certificate authorities, client certificates and exceptions for each server.
//!
//! A setting is valid for the `host:port` that it names, whatever the request is for. A token server or storage on a
//! different host is checked by default, unless it has its own setting. Settings for all registries are valid for all
//! servers.

use std::collections::BTreeMap;

use reqwest::Url;

use super::access::Purpose;
use super::config::ClientConfig;
use super::error::RegistryError;
use crate::http::{HttpClients, SetupError, TlsSettings};
use crate::image::reference::DOCKER_HUB;

/// The clients for all servers; files are read once.
#[derive(Debug)]
pub(super) struct Trust {
    /// For servers without settings.
    general: Clients,
    /// By `host:port`.
    named: BTreeMap<String, Clients>,
}

/// The clients for one server: with and without checking certificates.
#[derive(Debug)]
struct Clients {
    verified: HttpClients,
    /// For `--skip-tls-verify` and similar flags; `None` if none of them is set.
    unverified: Option<HttpClients>,
}

impl Clients {
    fn new(verified: HttpClients, config: &ClientConfig, settings: &TlsSettings) -> Result<Self, SetupError> {
        let unverified = if config.skip_tls_verify || config.skip_tls_verify_pull {
            let mut settings = settings.clone();
            settings.skip_verification();
            Some(verified.with_tls(settings)?)
        } else {
            None
        };
        Ok(Self { verified, unverified })
    }

    fn get(&self, verify: bool) -> &HttpClients {
        self.unverified.as_ref().filter(|_| !verify).unwrap_or(&self.verified)
    }
}

impl Trust {
    pub(super) fn new(config: &ClientConfig) -> Result<Self, RegistryError> {
        let setup = |source| RegistryError::Setup { source };
        let mut settings: BTreeMap<String, TlsSettings> = BTreeMap::new();
        for (host, path) in &config.certificates {
            settings.entry(server_named(host)).or_default().trust(path).map_err(SetupError::from).map_err(setup)?;
        }
        for (host, certificate, key) in &config.client_certificates {
            settings
                .entry(server_named(host))
                .or_default()
                .identify(certificate, key)
                .map_err(SetupError::from)
                .map_err(setup)?;
        }
        for host in &config.skip_tls_verify_registries {
            settings.entry(server_named(host)).or_default().skip_verification();
        }
        let general = HttpClients::new(&config.user_agent).map_err(setup)?;
        // A key that does not match its certificate is reported now, not at the push.
        let named = settings.into_iter().map(|(server, settings)| -> Result<_, SetupError> {
            let clients = Clients::new(general.with_tls(settings.clone())?, config, &settings)?;
            Ok((server, clients))
        });
        let named = named.collect::<Result<_, _>>().map_err(setup)?;
        Ok(Self { named, general: Clients::new(general, config, &TlsSettings::default()).map_err(setup)? })
    }

    /// Returns the clients for servers without settings.
    pub(super) fn without_settings(&self) -> &HttpClients {
        self.general.get(true)
    }

    /// Reports whether certificates are checked by default.
    pub(super) fn verifies(config: &ClientConfig, purpose: Purpose) -> bool {
        match purpose {
            Purpose::Pull => !config.skip_tls_verify_pull,
            Purpose::Push => !config.skip_tls_verify,
        }
    }

    /// Returns the clients for the server of `url`.
    pub(super) fn clients(&self, url: &Url, verify: bool) -> &HttpClients {
        self.named.get(&server(url)).unwrap_or(&self.general).get(verify)
    }
}

/// Returns the `host:port` of a URL.
pub(super) fn server(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default().trim_end_matches('.');
    format!("{host}:{}", url.port_or_known_default().unwrap_or_default())
}

/// Returns the `host:port` that a flag's `host[:port]` means: the default port is that of https.
fn server_named(host: &str) -> String {
    let host = if matches!(host, DOCKER_HUB | "index.docker.io") { "registry-1.docker.io" } else { host };
    // An invalid host matches no server.
    Url::parse(&format!("https://{host}/")).map_or_else(|_invalid| host.to_owned(), |url| server(&url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_means_one_server() {
        let url = |text: &str| server(&Url::parse(text).unwrap());
        assert_eq!(server_named("R.example"), url("https://r.example./v2/"));
        assert_eq!(server_named("r.example:5443"), url("https://r.example:5443/"));
        assert_eq!(server_named("docker.io"), url("https://registry-1.docker.io/v2/"));
        assert_eq!(server_named("[::1]:5000"), url("http://[::1]:5000/"));
        assert_ne!(server_named("r.example"), url("https://r.example:5443/"));
        assert_ne!(server_named("r.example"), url("https://auth.r.example/"));
    }

    #[test]
    fn an_exception_is_for_the_server_that_it_names() {
        let config = |all| ClientConfig {
            skip_tls_verify_registries: vec!["r.example:5443".to_owned()],
            skip_tls_verify: all,
            ..ClientConfig::default()
        };
        let unverified = |all, text: &str, purpose| {
            let config = config(all);
            let trust = Trust::new(&config).unwrap();
            let clients = trust.clients(&Url::parse(text).unwrap(), Trust::verifies(&config, purpose));
            format!("{clients:?}").contains("unverified: true")
        };
        assert!(unverified(false, "https://r.example:5443/v2/", Purpose::Pull));
        for other in ["https://r.example/", "https://r.example:5444/token", "https://auth.example:5443/token"] {
            assert!(!unverified(false, other, Purpose::Push), "{other}");
            assert!(!unverified(true, other, Purpose::Pull), "{other}");
            assert!(unverified(true, other, Purpose::Push), "{other}: --skip-tls-verify is for all");
        }
    }
}
