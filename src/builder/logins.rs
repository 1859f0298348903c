//! Selects the secrets and SSH agents that servers and commands may use.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::diag::redact::Secret;
use crate::executor::{AgentError, SshAgents};
use crate::remote::Lookup;
use crate::secret::{SecretError, Secrets};
use crate::ssh::Agents;

impl SshAgents for Agents {
    fn socket(&self, id: &str) -> Result<Option<PathBuf>, AgentError> {
        Ok(self.socket(id)?)
    }
}

/// Returns the secrets for servers by id, with `own` unless one of them is for repositories. They are read now, while
/// errors can still be returned.
pub(super) fn server_logins(secrets: &Secrets, own: Option<(String, Secret<String>)>) -> Result<Lookup, SecretError> {
    let mut logins: HashMap<String, Secret<String>> = HashMap::new();
    for id in secrets.ids().filter(|id| id.starts_with("HTTP_AUTH_") || id.starts_with("GIT_AUTH_")) {
        if let Some(value) = secrets.get(id)? {
            let text =
                String::from_utf8(value.reveal().clone()).map_err(|_| SecretError::NotText { id: id.to_owned() })?;
            logins.insert(id.to_owned(), Secret::new(text));
        }
    }
    if !logins.keys().any(|id| id.starts_with("GIT_AUTH_")) {
        logins.extend(own);
    }
    Ok(Arc::new(move |id| logins.get(id).cloned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::{SecretSource, SecretValue};

    #[test]
    fn servers_get_their_own_secrets_only() {
        let secrets = |id: &str, value: &[u8]| {
            let value = SecretValue::Text(Secret::new(value.to_vec()));
            Secrets::new(vec![SecretSource { id: id.to_owned(), value }]).expect("readable")
        };
        let own = || Some(("GIT_AUTH_HEADER.h".to_owned(), Secret::new("own".to_owned())));
        let lookup = server_logins(&secrets("GIT_AUTH_TOKEN", b"t"), own()).expect("text");
        assert_eq!(lookup("GIT_AUTH_TOKEN"), Some(Secret::new("t".to_owned())));
        assert_eq!(lookup("GIT_AUTH_HEADER.h"), None);
        let lookup = server_logins(&secrets("other", b"t"), own()).expect("not read");
        assert_eq!(lookup("other"), None);
        assert_eq!(lookup("GIT_AUTH_HEADER.h"), Some(Secret::new("own".to_owned())));
        let error = server_logins(&secrets("HTTP_AUTH_TOKEN_a", &[255]), None).err().expect("not text");
        assert!(matches!(error, SecretError::NotText { .. }));
    }
}
