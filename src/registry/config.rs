//! What the user can set about registries.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::credentials::Source;
use super::mirrors::Mirrors;
use crate::diag::progress::Progress;
use crate::http::{self, Pace, RetryPolicy};

/// How registries are reached: over what, with which credentials, and how patiently.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Pushes may use plain http where https fails.
    pub insecure: bool,
    /// Pulls may use plain http where https fails.
    pub insecure_pull: bool,
    /// Registries (`host[:port]`) that pushes and pulls may reach over plain http where https fails.
    pub insecure_registries: Vec<String>,
    /// Pushes take any certificate.
    pub skip_tls_verify: bool,
    /// Pulls take any certificate.
    pub skip_tls_verify_pull: bool,
    /// Registries (`host[:port]`) that the command line names as destinations, caches or images: where `insecure` and
    /// `insecure_pull` let requests go over plain http, credentials for these go with them, and a variable of the environment whose
    /// name stands for several hosts is for these.
    pub named_registries: BTreeSet<String>,
    /// Registries (`host[:port]`) whose certificates are not checked.
    pub skip_tls_verify_registries: Vec<String>,
    /// PEM files with the authority or the certificate of a registry, by its `host[:port]`.
    pub certificates: Vec<(String, PathBuf)>,
    /// What a registry is shown: its `host[:port]`, the PEM files of the certificate and of the key.
    pub client_certificates: Vec<(String, PathBuf, PathBuf)>,
    /// Where images are looked for before their own registry.
    pub mirrors: Mirrors,
    /// The built-in sources of credentials to ask.
    pub credential_sources: Vec<Source>,
    /// The configuration of Azure's cloud provider, in JSON or YAML: who asks Azure for tokens.
    pub azure_configuration: Option<PathBuf>,
    /// The `User-Agent`.
    pub user_agent: String,
    /// How often transient errors are tried again.
    pub retry: RetryPolicy,
    /// The least pace of blobs that are pulled.
    pub pace: Pace,
    /// How often pulls are tried again at least.
    pub pull_retries: u32,
    /// How often pushes are tried again at least.
    pub push_retries: u32,
    /// Where transfers report.
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
