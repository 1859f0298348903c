//! The agent in this process that holds the keys of files. It answers the two requests for listing keys and signing;
//! the library refuses all others.

use std::sync::Arc;

use async_trait::async_trait;
use ssh_agent_lib::agent::Session;
use ssh_agent_lib::error::AgentError;
use ssh_agent_lib::proto::{Identity, SignRequest};
use ssh_key::{LineEnding, PrivateKey, Signature};

use super::keys::{self, KeyError};
use crate::diag::redact::Secret;

/// Holds keys and signs with them.
#[derive(Debug, Clone)]
pub(super) struct KeyHolder(Arc<Vec<PrivateKey>>);

impl KeyHolder {
    pub(super) fn new(keys: Vec<PrivateKey>) -> Self {
        Self(Arc::new(keys))
    }

    /// The keys as OpenSSH writes them.
    pub(super) fn texts(&self) -> Result<Vec<Secret<String>>, KeyError> {
        let text = |key: &PrivateKey| key.to_openssh(LineEnding::LF).map(|text| Secret::new(text.to_string()));
        self.0.iter().map(text).collect::<Result<_, _>>().map_err(KeyError::Format)
    }
}

#[async_trait]
impl Session for KeyHolder {
    async fn request_identities(&mut self) -> Result<Vec<Identity>, AgentError> {
        let identity = |key: &PrivateKey| Identity {
            credential: key.public_key().key_data().clone().into(),
            comment: key.comment().to_owned(),
        };
        Ok(self.0.iter().map(identity).collect())
    }

    async fn sign(&mut self, request: SignRequest) -> Result<Signature, AgentError> {
        let wanted = request.credential.key_data();
        let key = self.0.iter().find(|key| key.public_key().key_data() == wanted).ok_or(AgentError::Failure)?;
        keys::sign(key, &request.data, request.flags).map_err(AgentError::other)
    }
}
