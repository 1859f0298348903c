//! Configures TLS: trusted authorities, client certificates and exceptions.
//!
//! The trusted authorities are the machine's (`SSL_CERT_FILE` and `SSL_CERT_DIR` included) and Mozilla's, which are
//! compiled in because an executor image made from scratch has no file of them. Files that the user names are read at
//! once, not when a connection needs them: by then a RUN may have replaced the container's files by the image's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// A reason why the user's certificates or key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] crate::fs::Error),
    /// The file has no such PEM block.
    #[error("{} has no {wanted} in PEM form", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// `certificate` or `private key`.
        wanted: &'static str,
    },
    /// The TLS library rejects them.
    #[error("failed to set up TLS{}", path.as_ref().map(|path| format!(" with the certificate {}", path.display())).unwrap_or_default())]
    Library {
        /// The client certificate, if there is one.
        path: Option<PathBuf>,
        /// The TLS library's error.
        #[source]
        source: rustls::Error,
    },
}

/// A client certificate and its key.
#[derive(Debug)]
struct Identity {
    path: PathBuf,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// The TLS settings for one server: how its certificate is checked, and the client certificate.
#[derive(Debug, Clone, Default)]
pub struct TlsSettings {
    authorities: Vec<CertificateDer<'static>>,
    identity: Option<Arc<Identity>>,
    unverified: bool,
}

impl TlsSettings {
    /// Also trusts the certificates in a PEM file: authorities, or the server's own.
    ///
    /// # Errors
    /// The file cannot be read, or has no certificate.
    pub fn trust(&mut self, path: &Path) -> Result<(), TlsError> {
        self.authorities.extend(certificates(path)?);
        Ok(())
    }

    /// Sets the client certificate (chain) and its key, both PEM files.
    ///
    /// # Errors
    /// A file cannot be read, or has no such PEM block.
    pub fn identify(&mut self, certificate: &Path, key: &Path) -> Result<(), TlsError> {
        let chain = certificates(certificate)?;
        let bytes = read(key)?;
        // The parser's message may quote the key.
        let key = PrivateKeyDer::from_pem_slice(&bytes)
            .map_err(|_secret| TlsError::Content { path: key.to_owned(), wanted: "private key" })?;
        self.identity = Some(Arc::new(Identity { path: certificate.to_owned(), chain, key }));
        Ok(())
    }

    /// Accepts any certificate.
    pub fn skip_verification(&mut self) {
        self.unverified = true;
    }

    /// Returns the TLS library's configuration for the HTTP versions `protocols` (ALPN names).
    pub(super) fn client_config(&self, roots: &MachineRoots, protocols: &[&[u8]]) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let error = |source| TlsError::Library { path: self.identity.as_ref().map(|shown| shown.path.clone()), source };
        let verifier = self.verifier(roots, &provider).map_err(error)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(error)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &self.identity {
            Some(identity) => {
                builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key()).map_err(error)?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }

    fn verifier(
        &self,
        roots: &MachineRoots,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>, rustls::Error> {
        if self.unverified {
            return Ok(Arc::new(AnyCertificate { provider: Arc::clone(provider) }));
        }
        let mut store = roots.store.clone();
        store.add_parsable_certificates(self.authorities.iter().cloned());
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let listed = [Arc::from(self.authorities.as_slice()), Arc::clone(&roots.listed)];
        Ok(Arc::new(ListedCertificate { inner, listed }))
    }
}

/// The trusted certificates of this machine.
pub(super) struct MachineRoots {
    store: RootCertStore,
    /// The certificates of the machine's files, which may be servers' own.
    listed: Arc<[CertificateDer<'static>]>,
}

/// Reads the authorities of this machine and adds Mozilla's. The caller must have a pass. A malformed file is skipped,
/// so that it does not break all connections.
#[expect(clippy::disallowed_methods, reason = "with a pass")]
pub(super) fn machine_roots() -> MachineRoots {
    let found = rustls_native_certs::load_native_certs();
    let asked_for = ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().any(|name| std::env::var_os(name).is_some());
    for error in &found.errors {
        if asked_for {
            tracing::warn!(%error, "a certificate authority of SSL_CERT_FILE or SSL_CERT_DIR cannot be read");
        } else {
            tracing::debug!(%error, "skip a certificate authority");
        }
    }
    let listed: Arc<[_]> = found.certs.into();
    let mut store = RootCertStore::empty();
    let (_, unusable) = store.add_parsable_certificates(listed.iter().cloned());
    if unusable > 0 {
        tracing::warn!(unusable, "some certificate authorities of this machine are not usable");
    }
    store.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
    MachineRoots { store, listed }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    Ok(crate::fs::read(path)?)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let none = || TlsError::Content { path: path.to_owned(), wanted: "certificate" };
    let bytes = read(path)?;
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(|_malformed| none())?;
    if found.is_empty() { Err(none()) } else { Ok(found) }
}

/// The library's verifier, which also accepts a server certificate that the user listed itself, by a flag or in
/// `SSL_CERT_FILE`.
///
/// `openssl req -x509` marks its certificates as authorities, and the library refuses an authority as a server,
/// although listing it is the clearest statement of trust. Its name and dates are still checked.
#[derive(Debug)]
struct ListedCertificate {
    inner: Arc<WebPkiServerVerifier>,
    listed: [Arc<[CertificateDer<'static>]>; 2],
}

impl ServerCertVerifier for ListedCertificate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The case without its own error variant: an authority as the server. The dates have been checked before.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_)))
                if self.listed.iter().any(|listed| listed.contains(end_entity)) =>
            {
                rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// The verifier for `--skip-tls-verify`: any certificate, but the server must have its key.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
