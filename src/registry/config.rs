//! The user's settings for registries.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::credentials::Source;
use super::mirrors::Mirrors;
use crate::diag::progress::Progress;
use crate::http::{self, Pace, RetryPolicy};

/// How registries are reached: protocol, certificates, credentials and retries.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Pushes may use plain http if https fails.
    pub insecure: bool,
    /// Pulls may use plain http if https fails.
    pub insecure_pull: bool,
    /// Registries (`host[:port]`) that pushes and pulls may reach over plain http if https fails.
    pub insecure_registries: Vec<String>,
    /// Pushes accept any certificate.
    pub skip_tls_verify: bool,
    /// Pulls accept any certificate.
    pub skip_tls_verify_pull: bool,
    /// Registries (`host[:port]`) that the command line names as destinations, caches or images. Where `insecure` or
    /// `insecure_pull` allows plain http, credentials for these are sent over it too. A variable of the environment
    /// whose name is ambiguous is meant for these.
    pub named_registries: BTreeSet<String>,
    /// Registries (`host[:port]`) whose certificates are not checked.
    pub skip_tls_verify_registries: Vec<String>,
    /// PEM files with the authority or the certificate of a registry, by its `host[:port]`.
    pub certificates: Vec<(String, PathBuf)>,
    /// Client certificates: `host[:port]` of the registry, the PEM files of the certificate and of the key.
    pub client_certificates: Vec<(String, PathBuf, PathBuf)>,
    /// Registries to pull images from before their own.
    pub mirrors: Mirrors,
    /// The built-in credential sources to use.
    pub credential_sources: Vec<Source>,
    /// The configuration of Azure's cloud provider, in JSON or YAML, with the identity to use.
    pub azure_configuration: Option<PathBuf>,
    /// The `User-Agent`.
    pub user_agent: String,
    /// The policy for retrying transient errors.
    pub retry: RetryPolicy,
    /// The minimum pace of pulled blobs.
    pub pace: Pace,
    /// The minimum number of retries of a pull.
    pub pull_retries: u32,
    /// The minimum number of retries of a push.
    pub push_retries: u32,
    /// The display of transfers.
    pub progress: Progress,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            insecure: false,
            insecure_pull: false,
            insecure_registries: Vec::new(),
            named_registries: BTreeSet::new(),
            skip_tls_verify: false,
            skip_tls_verify_pull: false,
            skip_tls_verify_registries: Vec::new(),
            certificates: Vec::new(),
            client_certificates: Vec::new(),
            mirrors: Mirrors::default(),
            credential_sources: Source::ALL.to_vec(),
            azure_configuration: None,
            user_agent: http::USER_AGENT.to_owned(),
            retry: RetryPolicy::default(),
            pace: Pace::default(),
            pull_retries: 0,
            push_retries: 0,
            progress: Progress::hidden(),
        }
    }
}
