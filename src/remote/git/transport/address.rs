//! Parses the server out of a repository's URL.

use reqwest::Url;

use crate::diag::redact::Secret;
use crate::location::{GitLocation, decoded};

/// The address of a repository.
#[derive(Debug, Clone)]
pub(in super::super) struct Address {
    /// The host in canonical form: `0x7f.1` is 127.0.0.1.
    pub(in super::super) host: String,
    /// The protocol.
    pub(in super::super) protocol: Protocol,
}

/// How a repository is fetched.
#[derive(Debug, Clone)]
pub(in super::super) enum Protocol {
    /// `http` or `https`, by this program.
    Http {
        /// The repository, without login and trailing slash.
        base: Url,
        /// User and password of the URL.
        login: Option<(String, Secret<String>)>,
    },
    /// `ssh` or `git`, by the git library.
    Library,
}

impl Address {
    /// Parses a location; `None` if the git library or the lookup of credentials could see a different host in it.
    pub(in super::super) fn of(location: &GitLocation) -> Option<Self> {
        let named = location.host();
        let plain = |byte: u8| byte.is_ascii_graphic() && !br#"\%"<>^`{|}"#.contains(&byte);
        if !named.bytes().all(plain) {
            return None;
        }
        let server = Url::parse(&format!("http://{named}/")).ok()?;
        let host = server.host_str()?.to_owned();
        if !location.remote.starts_with("http://") && !location.remote.starts_with("https://") {
            return authority(&location.remote).then_some(Self { host, protocol: Protocol::Library });
        }
        let mut base = Url::parse(&location.remote).ok()?;
        let scheme = base.scheme();
        if Url::parse(&format!("{scheme}://{named}/")).ok()?.origin() != base.origin() {
            return None;
        }
        let login = (!base.username().is_empty() || base.password().is_some())
            .then(|| (decoded(base.username()), Secret::new(decoded(base.password().unwrap_or_default()))));
        base.set_username("").and_then(|()| base.set_password(None)).ok()?;
        let path = base.path().trim_end_matches('/').to_owned();
        base.set_path(&path);
        Some(Self { host, protocol: Protocol::Http { base, login } })
    }
}

/// Reports whether the library can see only one host in a URL of a different scheme.
fn authority(remote: &str) -> bool {
    let text = remote.split_once("://").map_or(remote, |(_, rest)| rest.split('/').next().unwrap_or_default());
    text.matches('@').count() <= 1 && !text.contains('\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(remote: &str) -> Option<Address> {
        Address::of(&GitLocation { remote: remote.to_owned(), ..GitLocation::default() })
    }

    #[test]
    fn hosts_are_seen_through_whatever_is_spoken_there() {
        for (remote, host) in [
            ("https://h.example/a.git", "h.example"),
            ("https://u:p@H.example:8443/a.git", "h.example"),
            ("http://0x7f.1/a.git", "127.0.0.1"),
            ("ssh://git@0x7f.1:22/a.git", "127.0.0.1"),
            ("ssh://git@2130706433/a.git", "127.0.0.1"),
            ("git://[::ffff:7f00:1]/a", "[::ffff:7f00:1]"),
            ("git@h.example:a.git", "h.example"),
        ] {
            assert_eq!(address(remote).map(|address| address.host).as_deref(), Some(host), "{remote}");
        }
    }

    #[test]
    fn what_could_be_two_hosts_is_none() {
        for remote in [
            r"https://evil.example\@h.example/a.git",
            "https://evil.example\t@h.example\\/a.git",
            r"ssh://h.example\@127.0.0.1/a.git",
            "ssh://a@127.0.0.1@h.example/a.git",
            "ssh://h%2eexample/a.git",
            "git://127.0.0.1 .h.example/a",
        ] {
            assert!(address(remote).is_none(), "{remote}: {:?}", address(remote));
        }
    }

    #[test]
    fn logins_are_taken_out_of_the_url() {
        let Some(Protocol::Http { base, login: Some((user, password)) }) =
            address("https://u%40x:p%2Fq@h:1/a.git/").map(|address| address.protocol)
        else {
            panic!("a login")
        };
        assert_eq!((base.as_str(), user.as_str(), password.reveal().as_str()), ("https://h:1/a.git", "u@x", "p/q"));
        let bare = address("https://token@h/a.git").map(|address| address.protocol);
        assert!(matches!(bare, Some(Protocol::Http { login: Some((user, _)), .. }) if user == "token"));
    }
}
