//! Which certificate authorities, client certificates and exceptions hold for which registry.

use std::collections::BTreeMap;

use super::client::{ClientConfig, Purpose};
use super::error::RegistryError;
use crate::http::{HttpClients, SetupError, TlsSettings};

/// The TLS settings of all registries, from files that are read once.
pub(super) struct Trust {
    general: HttpClients,
    /// By `host[:port]`: what it is checked with, without and with our own certificate.
    named: BTreeMap<String, Named>,
}

#[derive(Default)]
struct Named {
    anonymous: TlsSettings,
    identified: TlsSettings,
}

impl Trust {
    pub(super) fn new(config: &ClientConfig) -> Result<Self, RegistryError> {
        let setup = |source| RegistryError::Setup { source };
        let general = HttpClients::new(&config.user_agent).map_err(setup)?;
        let mut named: BTreeMap<String, Named> = BTreeMap::new();
        for (host, path) in &config.certificates {
            let settings = named.entry(host.clone()).or_default();
            settings.anonymous.trust(path).map_err(SetupError::from).map_err(setup)?;
            settings.identified.trust(path).map_err(SetupError::from).map_err(setup)?;
        }
        for (host, certificate, key) in &config.client_certificates {
            let settings = named.entry(host.clone()).or_default();
            settings.identified.identify(certificate, key).map_err(SetupError::from).map_err(setup)?;
            // A key that does not go with its certificate is told now, not when the image is to be pushed.
            general.with_tls(settings.identified.clone()).map_err(setup)?;
        }
        Ok(Self { general, named })
    }

    /// The clients for servers that no setting is about.
    pub(super) fn others(&self) -> &HttpClients {
        &self.general
    }

    /// Whether the certificate of a registry is not checked.
    pub(super) fn skips(&self, config: &ClientConfig, registry: &str, host: &str, purpose: Purpose) -> bool {
        let all = match purpose {
            Purpose::Pull => config.skip_tls_verify_pull,
            Purpose::Push => config.skip_tls_verify,
        };
        all || config.skip_tls_verify_registries.iter().any(|named| named == registry || named == host)
    }

    /// The clients for a registry itself, and for the token servers and storage it leads to: these are checked in the same way, but
    /// shown no certificate.
    pub(super) fn clients(
        &self,
        registry: &str,
        host: &str,
        verified: bool,
    ) -> Result<(HttpClients, HttpClients), RegistryError> {
        let named = self.named.get(registry).or_else(|| self.named.get(host));
        if named.is_none() && verified {
            return Ok((self.general.clone(), self.general.clone()));
        }
        let clients = |settings: Option<&TlsSettings>| {
            let mut settings = settings.cloned().unwrap_or_default();
            if !verified {
                settings.skip_verification();
            }
            self.general.with_tls(settings).map_err(|source| RegistryError::Setup { source })
        };
        Ok((clients(named.map(|named| &named.identified))?, clients(named.map(|named| &named.anonymous))?))
    }
}
