//! Who may do what: passwords, and a token server with scopes.

use std::collections::BTreeSet;

use base64::Engine;
use bytes::Bytes;
use hyper::{Method, Response};

use super::{FakeRegistry, Seen, error, pairs, parameters, respond};

/// Who may do what.
#[derive(Debug, Clone, Default)]
pub(crate) enum Authentication {
    #[default]
    None,
    Basic {
        user: &'static str,
        password: &'static str,
    },
    /// Tokens from `/token`. Without credentials it gives tokens only for `public` repositories.
    Token {
        user: &'static str,
        password: &'static str,
        /// How many requests a token is good for.
        requests: u32,
    },
    /// Tokens from `/token`, for this identity token only (OAuth2).
    Identity {
        token: &'static str,
    },
}

impl FakeRegistry {
    pub(super) fn token(&self, seen: &Seen, form: &[u8]) -> Response<Bytes> {
        let mut state = self.state();
        let refused = || respond(401, &[], r#"{"details":"incorrect username or password"}"#);
        let (known, requests, asked) = match state.habits.authentication.clone() {
            Authentication::Token { user, password, requests } => {
                let known = match &seen.authorization {
                    Some(header) if *header == basic(user, password) => true,
                    Some(_) => return refused(),
                    None => false,
                };
                (known, requests, pairs(&seen.query))
            }
            Authentication::Identity { token } => {
                let form = String::from_utf8_lossy(form);
                let given = parameters(&form);
                let given = |name: &str| given.get(name).map(String::as_str);
                if (given("grant_type"), given("refresh_token")) != (Some("refresh_token"), Some(token)) {
                    return refused();
                }
                let scopes = given("scope").unwrap_or_default().split(' ');
                (true, u32::MAX, scopes.map(|scope| ("scope".to_owned(), scope.to_owned())).collect())
            }
            Authentication::None | Authentication::Basic { .. } => {
                return error(404, "UNSUPPORTED", "no tokens here");
            }
        };
        let mut scopes = BTreeSet::new();
        for (name, scope) in asked {
            let mut parts = scope.splitn(3, ':').skip(1);
            let (repository, actions) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            if name != "scope" || !(known || repository.starts_with("public")) {
                continue;
            }
            let allowed = actions.split(',').filter(|action| known || *action == "pull");
            scopes.extend(allowed.map(|action| format!("{repository}:{action}")));
        }
        state.counter += 1;
        let token = format!("token-{}", state.counter);
        state.tokens.insert(token.clone(), (scopes, requests));
        let life = state.habits.token_life.unwrap_or(300);
        respond(200, &[], &format!(r#"{{"token":"{token}","expires_in":{life}}}"#))
    }

    pub(super) fn unauthorized(&self, method: &Method, seen: &Seen) -> Option<Response<Bytes>> {
        let mut state = self.state();
        let repository = seen.path.trim_start_matches("/v2/");
        let repository = ["/blobs/", "/manifests/"]
            .iter()
            .find_map(|part| repository.split_once(part))
            .map_or("", |(repository, _)| repository);
        let reads = matches!(*method, Method::GET | Method::HEAD);
        match state.habits.authentication.clone() {
            Authentication::None => None,
            Authentication::Basic { user, password } => {
                let allowed = seen.authorization == Some(basic(user, password));
                let challenge = [("www-authenticate", r#"Basic realm="fake""#)];
                let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
                (!allowed).then(|| respond(401, &challenge, body))
            }
            Authentication::Token { .. } | Authentication::Identity { .. } => {
                let token = seen.authorization.as_ref().and_then(|header| header.strip_prefix("Bearer "));
                let action = if reads { "pull" } else { "push" };
                let mut needed = Vec::new();
                if !repository.is_empty() {
                    needed.push(format!("{repository}:{action}"));
                }
                if let Some(from) = parameters(&seen.query).get("from") {
                    needed.push(format!("{from}:pull"));
                }
                if let Some((scopes, left)) = token.and_then(|token| state.tokens.get_mut(token))
                    && *left > 0
                    && needed.iter().all(|scope| scopes.contains(scope))
                {
                    *left -= 1;
                    return None;
                }
                let scope = if repository.is_empty() {
                    String::new()
                } else {
                    let actions = if reads { "pull" } else { "pull,push" };
                    format!(",scope=\"repository:{repository}:{actions}\"")
                };
                let challenge = format!("Bearer realm=\"http://{}/token\",service=\"fake\"{scope}", self.address);
                let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
                Some(respond(401, &[("www-authenticate", &challenge)], body))
            }
        }
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}
