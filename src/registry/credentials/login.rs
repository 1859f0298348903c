//! Credentials, their origin and their lifetime.

use std::time::Duration;

use crate::diag::redact::Secret;

/// The secret that authenticates to a registry or its token server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user name and a password or access token.
    Password {
        /// The user name.
        username: String,
        /// The password or access token.
        password: Secret<String>,
    },
    /// An OAuth2 refresh token, for the token server.
    IdentityToken(Secret<String>),
    /// A bearer token, for the registry itself.
    RegistryToken(Secret<String>),
}

impl Credential {
    pub(super) fn password(username: String, password: String) -> Self {
        Self::Password { username, password: Secret::new(password) }
    }
}

/// A credential and its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The secret.
    pub credential: Credential,
    /// The origin, for messages: `the entry "ghcr.io" in /root/.docker/config.json`.
    pub origin: String,
}

impl Login {
    pub(super) fn describe(&self) -> String {
        match &self.credential {
            Credential::Password { username, .. } => {
                format!("credentials of user {username:?} come from {}", self.origin)
            }
            Credential::IdentityToken(_) => format!("an identity token comes from {}", self.origin),
            Credential::RegistryToken(_) => format!("a registry token comes from {}", self.origin),
        }
    }
}

/// A cloud's credentials and their lifetime.
pub(super) struct Fresh {
    pub(super) login: Login,
    pub(super) lifetime: Duration,
}
