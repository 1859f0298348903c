//! Credentials in variables of the environment: kaniko's own, and those of a GitLab job.

use super::docker_config::canonical_host;
use super::{Credential, Login, Variables};

/// `KANIKO_<HOST>_USER` and `KANIKO_<HOST>_PASSWORD`: the host in capitals, with `_` for `.` and `-`; then those of its parent domains.
pub(super) fn kaniko(variables: &Variables, registry: &str) -> Option<Login> {
    let mut domain = registry.split(':').next().unwrap_or(registry);
    loop {
        let host = domain.to_uppercase().replace(['.', '-'], "_");
        let (user, password) = (format!("KANIKO_{host}_USER"), format!("KANIKO_{host}_PASSWORD"));
        if let Some(login) = pair(variables, &user, &password) {
            return Some(login);
        }
        domain = domain.split_once('.')?.1;
    }
}

/// The variables that GitLab gives a job for its own registry and its dependency proxy.
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

/// GitLab writes the port of https out.
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

    #[test]
    fn the_host_wins_over_its_domains() {
        let variables = Variables::from([
            ("KANIKO_REG_A_ACME_COM_USER", "host"),
            ("KANIKO_REG_A_ACME_COM_PASSWORD", "1"),
            ("KANIKO_ACME_COM_USER", "domain"),
            ("KANIKO_ACME_COM_PASSWORD", "2"),
            ("KANIKO_ORG_USER", "no password"),
        ]);
        let found = |registry| user(kaniko(&variables, registry));
        assert_eq!(found("reg-a.acme.com").as_deref(), Some("host:1"));
        assert_eq!(found("reg-a.acme.com:5000").as_deref(), Some("host:1"));
        assert_eq!(found("other.acme.com").as_deref(), Some("domain:2"));
        assert_eq!(found("acme.com").as_deref(), Some("domain:2"));
        assert_eq!(found("notacme.com"), None);
        assert_eq!(found("acme.org"), None);
    }

    #[test]
    fn gitlab_speaks_for_its_own_hosts() {
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
