//! Reads credentials from variables of the environment: kaniko's own, and those of a GitLab job.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::docker_config::canonical_host;
use super::login::{Credential, Login};
use super::variables::Variables;

/// The result of looking up kaniko's variables for a registry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum KanikoLogin {
    /// Credentials, or none.
    Login(Option<Login>),
    /// Credentials that may be meant for a different host.
    Ambiguous {
        /// The variable with the user.
        variable: String,
        /// The different host.
        other: String,
    },
}

/// Looks up `KANIKO_<HOST>_USER` and `KANIKO_<HOST>_PASSWORD`: the host in capitals, with `_` for `.` and `-`; then
/// those of its parent domains. `named` are the registries that the command line names.
///
/// That spelling is ambiguous, and a Dockerfile decides which host is contacted. So these rules apply. A parent domain
/// has at least two labels. A port may follow the host (`REG_EXAMPLE_5000`); other ports of that host then get nothing
/// from the name without a port. If hosts of two domains have the same name, it means the host with dots, unless the
/// command line names only the other one.
pub(super) fn kaniko(variables: &Variables, named: &BTreeSet<String>, registry: &str) -> KanikoLogin {
    let (host, port) = split(registry);
    let mut names = Vec::new();
    if let Some(port) = port {
        names.push((host, format!("{host}_{port}")));
    }
    if port.is_none_or(|port| port == "443" || !has_ports(variables, host)) {
        names.push((host, host.to_owned()));
    }
    if host.parse::<IpAddr>().is_err() {
        let parents = std::iter::successors(Some(host), |domain| domain.split_once('.').map(|(_, parent)| parent));
        let parents = parents.skip(1).filter(|parent| parent.contains('.'));
        names.extend(parents.map(|parent| (parent, parent.to_owned())));
    }
    for (domain, name) in names {
        let host = spelled(&name);
        let (user, password) = (format!("KANIKO_{host}_USER"), format!("KANIKO_{host}_PASSWORD"));
        if let Some(login) = pair(variables, &user, &password) {
            return match rival(domain, named) {
                Some(other) => KanikoLogin::Ambiguous { variable: user, other },
                None => KanikoLogin::Login(Some(login)),
            };
        }
    }
    KanikoLogin::Login(None)
}

/// Splits host and port; an IPv6 address loses its brackets.
fn split(registry: &str) -> (&str, Option<&str>) {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => (host, Some(port)),
        _ => (registry, None),
    };
    (host.trim_start_matches('[').trim_end_matches(']'), port)
}

fn spelled(host: &str) -> String {
    host.to_uppercase().replace(['.', '-', ':'], "_")
}

/// Reports whether a variable exists for a port of the host.
fn has_ports(variables: &Variables, host: &str) -> bool {
    let prefix = format!("KANIKO_{}_", spelled(host));
    variables.names().any(|name| {
        let port = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix("_USER"));
        port.is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

/// Returns the host of a different domain that a variable for `host` more likely means.
fn rival(host: &str, named: &BTreeSet<String>) -> Option<String> {
    let hosts = || named.iter().map(|registry| split(registry).0);
    let is_named =
        hosts().any(|named| named == host || named.strip_suffix(host).is_some_and(|rest| rest.ends_with('.')));
    let has_dashes = host.contains('-');
    let other = match hosts().find(|other| *other != host && spelled(other) == spelled(host)) {
        Some(other) => other.to_owned(),
        None if has_dashes && !is_named => host.replace('-', "."),
        None => return None,
    };
    let is_meant = !has_dashes && is_named;
    let is_same_domain = is_one_domain(if has_dashes { host } else { &other });
    (!is_meant && !is_same_domain).then_some(other)
}

/// Reports whether the host stays in one domain however its `-` are read, because they precede the domain.
fn is_one_domain(host: &str) -> bool {
    let shared: Vec<&str> = host.rsplit('.').take_while(|label| !label.contains('-')).collect();
    // `co.uk` and the like do not belong to one owner.
    let is_suffix = matches!(shared.as_slice(), [last, second, ..] if last.len() == 2 && second.len() <= 3);
    shared.len() >= if is_suffix { 3 } else { 2 }
}

/// Returns the credentials that GitLab gives a job for its own registry and its dependency proxy.
pub(super) fn gitlab(variables: &Variables, registry: &str) -> Option<Login> {
    [
        ("CI_REGISTRY", "CI_REGISTRY_USER", "CI_REGISTRY_PASSWORD"),
        ("CI_DEPENDENCY_PROXY_SERVER", "CI_DEPENDENCY_PROXY_USER", "CI_DEPENDENCY_PROXY_PASSWORD"),
    ]
    .into_iter()
    .find_map(|(host, user, password)| {
        let named = variables.get(host)?;
        let same = same_host(named, registry);
        if same { pair(variables, user, password) } else { None }
    })
}

/// Compares hosts; GitLab writes the port of https explicitly.
fn same_host(named: &str, registry: &str) -> bool {
    let plain = |host: &str| canonical_host(host.strip_suffix(":443").unwrap_or(host));
    plain(named) == plain(registry)
}

fn pair(variables: &Variables, user: &str, password: &str) -> Option<Login> {
    let credential = Credential::password(variables.get(user)?.to_owned(), variables.get(password)?.to_owned());
    Some(Login { credential, origin: format!("the variables {user} and {password}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(login: Option<Login>) -> Option<String> {
        match login?.credential {
            Credential::Password { username, password } => Some(format!("{username}:{}", password.reveal())),
            other => panic!("{other:?}"),
        }
    }

    /// Returns the user that is found; `? host` if it may be meant for that host.
    fn asked(variables: &Variables, named: &[&str], registry: &str) -> Option<String> {
        match kaniko(variables, &named.iter().map(|name| (*name).to_owned()).collect(), registry) {
            KanikoLogin::Login(login) => user(login),
            KanikoLogin::Ambiguous { other, .. } => Some(format!("? {other}")),
        }
    }

    #[test]
    fn the_host_wins_over_its_domains() {
        let variables = Variables::from([
            ("KANIKO_REG_A_ACME_COM_USER", "host"),
            ("KANIKO_REG_A_ACME_COM_PASSWORD", "1"),
            ("KANIKO_ACME_COM_USER", "domain"),
            ("KANIKO_ACME_COM_PASSWORD", "2"),
            ("KANIKO_ORG_USER", "no password"),
        ]);
        let found = |registry| asked(&variables, &[], registry);
        assert_eq!(found("reg-a.acme.com").as_deref(), Some("host:1"));
        assert_eq!(found("reg-a.acme.com:5000").as_deref(), Some("host:1"));
        assert_eq!(found("other.acme.com").as_deref(), Some("domain:2"));
        assert_eq!(found("acme.com").as_deref(), Some("domain:2"));
        assert_eq!(found("notacme.com"), None);
        assert_eq!(found("acme.org"), None);
    }

    #[test]
    fn a_top_level_domain_has_no_credentials() {
        let variables = Variables::from([
            ("KANIKO_COM_USER", "all"),
            ("KANIKO_COM_PASSWORD", "1"),
            ("KANIKO_0_0_1_USER", "no domain"),
            ("KANIKO_0_0_1_PASSWORD", "2"),
            ("KANIKO_LOCALHOST_USER", "here"),
            ("KANIKO_LOCALHOST_PASSWORD", "3"),
        ]);
        for registry in ["evil.com", "a.evil.com", "127.0.0.1:5000", "[::1]:5000"] {
            assert_eq!(asked(&variables, &[], registry), None, "{registry}");
        }
        assert_eq!(asked(&variables, &[], "localhost:5000").as_deref(), Some("here:3"), "a host of one label is one");
    }

    #[test]
    fn an_ambiguous_name_means_the_host_with_dots() {
        let variables = Variables::from([
            ("KANIKO_EVIL_EXAMPLE_LOCAL_USER", "u"),
            ("KANIKO_EVIL_EXAMPLE_LOCAL_PASSWORD", "p"),
            ("KANIKO_REG_ACME_CO_UK_USER", "u"),
            ("KANIKO_REG_ACME_CO_UK_PASSWORD", "p"),
        ]);
        for (named, registry, expected) in [
            (&[][..], "evil.example.local", "u:p"),
            (&[], "evil-example.local:5067", "? evil.example.local"),
            (&[], "evil.example-local", "? evil.example.local"),
            (&[], "x.evil-example.local", "? evil.example.local"),
            (&[], "reg-acme.co.uk", "? reg.acme.co.uk"),
            (&[], "reg.acme.co.uk", "u:p"),
            // the command line names the host
            (&["evil-example.local:5067"], "evil-example.local:5067", "u:p"),
            (&["evil-example.local:5067"], "evil.example.local", "? evil-example.local"),
            (&["evil-example.local", "evil.example.local"], "evil-example.local", "? evil.example.local"),
            (&["evil-example.local", "evil.example.local"], "evil.example.local", "u:p"),
        ] {
            assert_eq!(asked(&variables, named, registry).as_deref(), Some(expected), "{named:?} {registry}");
        }
    }

    #[test]
    fn ports_have_separate_credentials() {
        let variables = Variables::from([
            ("KANIKO_R_EXAMPLE_5000_USER", "port"),
            ("KANIKO_R_EXAMPLE_5000_PASSWORD", "1"),
            ("KANIKO_R_EXAMPLE_USER", "host"),
            ("KANIKO_R_EXAMPLE_PASSWORD", "2"),
        ]);
        for (registry, expected) in [
            ("r.example:5000", Some("port:1")),
            ("r.example", Some("host:2")),
            ("r.example:443", Some("host:2")),
            ("r.example:5001", None),
            ("s.example:5000", None),
        ] {
            assert_eq!(asked(&variables, &[], registry).as_deref(), expected, "{registry}");
        }
    }

    #[test]
    fn gitlabs_variables_are_for_its_own_hosts() {
        let variables = Variables::from([
            ("CI_REGISTRY", "registry.gitlab.example"),
            ("CI_REGISTRY_USER", "job"),
            ("CI_REGISTRY_PASSWORD", "1"),
            ("CI_DEPENDENCY_PROXY_SERVER", "gitlab.example:443"),
            ("CI_DEPENDENCY_PROXY_USER", "proxy"),
            ("CI_DEPENDENCY_PROXY_PASSWORD", "2"),
        ]);
        let found = |registry| user(gitlab(&variables, registry));
        assert_eq!(found("registry.gitlab.example").as_deref(), Some("job:1"));
        assert_eq!(found("gitlab.example").as_deref(), Some("proxy:2"));
        assert_eq!(found("gitlab.example:443").as_deref(), Some("proxy:2"));
        assert_eq!(found("other.example"), None);
    }
}
