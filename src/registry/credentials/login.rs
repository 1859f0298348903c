//! A credential, where it was found, and how long it is good for.

use std::time::Duration;

use crate::diag::redact::Secret;

/// What a registry or its token server is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user name and a password or access token.
    Password {
        /// The user.
        username: String,
        /// The password or access token.
        password: Secret<String>,
    },
    /// An OAuth2 refresh token, good for the token server.
    IdentityToken(Secret<String>),
    /// A bearer token, good for the registry itself.
    RegistryToken(Secret<String>),
}

impl Credential {
    pub(super) fn password(username: String, password: String) -> Self {
        Self::Password { username, password: Secret::new(password) }
    }
}

/// A credential, and where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The credential.
    pub credential: Credential,
    /// `the entry "ghcr.io" in /root/.docker/config.json`.
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

/// What a cloud gave, and how long it is good for.
pub(super) struct Fresh {
    pub(super) login: Login,
    pub(super) life: Duration,
}
