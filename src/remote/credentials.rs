//! Selects which secrets of the build are sent to which server.
//!
//! The names of secrets are BuildKit's. A secret for a host is only sent to that host. One without a host is sent to
//! the server that the build itself names, not to those of its submodules.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::diag::redact::Secret;
use crate::http::{host_of, is_loopback};
use crate::location::{GitLocation, HttpLocation};

/// The user name that git hosts expect with a token.
const TOKEN_USER: &str = "x-access-token";

/// Looks up a secret of the build by its id.
pub type Lookup = Arc<dyn Fn(&str) -> Option<Secret<String>> + Send + Sync>;

/// The credentials for ssh servers.
#[derive(Debug, Clone, Default)]
pub struct SshAccess {
    /// Private keys in OpenSSH or PEM form, tried in order.
    pub keys: Vec<Secret<String>>,
    /// True if the agent at `SSH_AUTH_SOCK` may be used.
    pub agent: bool,
}

/// The credentials for a git server over HTTP.
#[derive(Debug, Clone)]
pub enum GitAuthorization {
    /// A user and a password, sent if the server asks for them.
    Basic {
        /// The user.
        user: String,
        /// The password or token.
        password: Secret<String>,
    },
    /// The value of an `Authorization` header of a different scheme.
    Header(Secret<String>),
}

/// Returns the value of the `Authorization` header for a file: the secret `HTTP_AUTH_HEADER_<host>`, or
/// `HTTP_AUTH_TOKEN_<host>` as a bearer token. The host is first tried with its port.
pub fn http_authorization(lookup: &Lookup, location: &HttpLocation) -> Option<Secret<String>> {
    let name = location.url().host_str().unwrap_or_default();
    let host = host_of(location.url());
    let hosts = if host == name { vec![name] } else { vec![host.as_str(), name] };
    hosts.into_iter().find_map(|host| {
        let header = lookup(&format!("HTTP_AUTH_HEADER_{host}")).map(|secret| trimmed(&secret));
        header.or_else(|| {
            let token = lookup(&format!("HTTP_AUTH_TOKEN_{host}"))?;
            Some(Secret::new(format!("Bearer {}", token.reveal().trim())))
        })
    })
}

/// Returns the credentials for the server of a repository: the secret `GIT_AUTH_HEADER.<host>` or
/// `GIT_AUTH_TOKEN.<host>`. For the server that the build itself names (`is_main`), secrets without a host count as
/// well. Only that server gets credentials over plain http, and secrets without a host only if it is on this machine.
/// `<scheme>://<host>` in place of the host limits a secret to that scheme.
pub fn git_authorization(lookup: &Lookup, location: &GitLocation, is_main: bool) -> Option<GitAuthorization> {
    let scheme = location.remote.split_once("://").map(|(scheme, _)| scheme).filter(|_| !location.is_ssh())?;
    let host = location.host();
    let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    if scheme != "https" && !is_main {
        return None;
    }
    let mut suffixes = vec![format!(".{scheme}://{host}"), format!(".{host}")];
    if name != host {
        suffixes.push(format!(".{name}"));
    }
    if is_main && (scheme == "https" || is_loopback(name)) {
        suffixes.push(String::new());
    }
    suffixes.into_iter().find_map(|suffix| {
        let header = lookup(&format!("GIT_AUTH_HEADER{suffix}")).map(|secret| from_header(&trimmed(&secret)));
        header.or_else(|| {
            let token = lookup(&format!("GIT_AUTH_TOKEN{suffix}"))?;
            Some(GitAuthorization::Basic { user: TOKEN_USER.to_owned(), password: trimmed(&token) })
        })
    })
}

/// Removes the line end at the end of a secret's file, which is not part of the secret.
fn trimmed(secret: &Secret<String>) -> Secret<String> {
    Secret::new(secret.reveal().trim().to_owned())
}

fn from_header(header: &Secret<String>) -> GitAuthorization {
    let basic = || {
        let (scheme, encoded) = header.reveal().split_once(' ')?;
        let decoded = STANDARD.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
        let text = String::from_utf8(decoded).ok()?;
        let (user, password) = text.split_once(':')?;
        Some(GitAuthorization::Basic { user: user.to_owned(), password: Secret::new(password.to_owned()) })
    };
    basic().unwrap_or_else(|| GitAuthorization::Header(header.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(secrets: &[(&str, &str)]) -> Lookup {
        let secrets: Vec<(String, String)> =
            secrets.iter().map(|(id, value)| ((*id).to_owned(), (*value).to_owned())).collect();
        Arc::new(move |id| secrets.iter().find(|(known, _)| known == id).map(|(_, value)| Secret::new(value.clone())))
    }

    #[test]
    fn files_get_the_secret_of_their_host() {
        let secrets = lookup(&[
            ("HTTP_AUTH_TOKEN_a.example", "t\n"),
            ("HTTP_AUTH_HEADER_b.example:81", "Basic x"),
            ("HTTP_AUTH_TOKEN_b.example", "u"),
        ]);
        let asked = |url: &str| {
            let location = HttpLocation::parse(url).unwrap().unwrap();
            http_authorization(&secrets, &location).map(|secret| secret.reveal().clone())
        };
        assert_eq!(asked("https://a.example/x").as_deref(), Some("Bearer t"));
        assert_eq!(asked("https://a.example:444/x").as_deref(), Some("Bearer t"));
        assert_eq!(asked("http://b.example:81/x").as_deref(), Some("Basic x"));
        assert_eq!(asked("http://b.example/x").as_deref(), Some("Bearer u"));
        assert_eq!(asked("http://c.example/a.example"), None);
    }

    #[test]
    fn the_general_git_secret_is_for_the_main_server() {
        let secrets = lookup(&[("GIT_AUTH_TOKEN", "general"), ("GIT_AUTH_HEADER.h.example", "basic dTpw")]);
        assert_eq!(told(&secrets, "https://x.example/a.git", true), "x-access-token:general");
        assert_eq!(told(&secrets, "https://x.example/a.git", false), "nothing");
        assert_eq!(told(&secrets, "https://h.example:8443/a.git", false), "u:p");
        assert_eq!(told(&secrets, "ssh://git@h.example/a.git", true), "nothing");
        let other = lookup(&[("GIT_AUTH_HEADER", "Bearer abc")]);
        assert_eq!(told(&other, "https://h/a.git", true), "Bearer abc");
    }

    #[test]
    fn plain_http_is_for_the_server_that_is_named_so() {
        let secrets = lookup(&[("GIT_AUTH_TOKEN", "general"), ("GIT_AUTH_TOKEN.h.example", "t")]);
        assert_eq!(told(&secrets, "http://h.example/a.git", true), "x-access-token:t");
        assert_eq!(told(&secrets, "http://h.example/sub.git", false), "nothing");
        assert_eq!(told(&secrets, "http://x.example/a.git", true), "nothing");
        assert_eq!(told(&secrets, "http://127.0.0.1:80/a.git", true), "x-access-token:general");
        let own = lookup(&[("GIT_AUTH_TOKEN.https://h.example", "own")]);
        assert_eq!(told(&own, "https://h.example/sub.git", false), "x-access-token:own");
        for other in ["http://h.example/a.git", "https://h.example:8443/a.git"] {
            assert_eq!(told(&own, other, true), "nothing", "{other}");
        }
    }

    fn told(secrets: &Lookup, url: &str, is_main: bool) -> String {
        let location = GitLocation::parse(url).unwrap().unwrap();
        match git_authorization(secrets, &location, is_main) {
            Some(GitAuthorization::Basic { user, password }) => format!("{user}:{}", password.reveal()),
            Some(GitAuthorization::Header(header)) => header.reveal().clone(),
            None => "nothing".to_owned(),
        }
    }
}
