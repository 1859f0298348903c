//! Parses `WWW-Authenticate` challenges (RFC 9110, section 11.6.1).

use std::collections::BTreeMap;

/// An authentication scheme that the server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    /// `basic`, `bearer` …, in lower case.
    pub(super) scheme: String,
    /// `realm`, `service`, `scope` …, the names in lower case.
    pub(super) parameters: BTreeMap<String, String>,
}

/// Returns all challenges of a header value. Malformed parts are skipped: servers are sloppy, and a different challenge
/// of the header may suffice.
pub(super) fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = Cursor { text: header };
    loop {
        rest.skip(|c| c == ',' || c.is_whitespace());
        if rest.text.is_empty() {
            return challenges;
        }
        let word = rest.take(is_token);
        if word.is_empty() {
            // Not the start of a challenge; skip a character so that the loop ends.
            rest.advance();
            continue;
        }
        rest.skip(char::is_whitespace);
        if rest.text.starts_with('=') {
            rest.advance();
            rest.skip(char::is_whitespace);
            let value = rest.value();
            if let Some(challenge) = challenges.last_mut() {
                challenge.parameters.entry(word.to_lowercase()).or_insert(value);
            }
            continue;
        }
        challenges.push(Challenge { scheme: word.to_lowercase(), parameters: BTreeMap::new() });
        rest.skip_token68();
    }
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

struct Cursor<'a> {
    text: &'a str,
}

impl<'a> Cursor<'a> {
    fn skip(&mut self, wanted: impl Fn(char) -> bool) {
        self.text = self.text.trim_start_matches(wanted);
    }

    fn advance(&mut self) {
        let mut chars = self.text.chars();
        chars.next();
        self.text = chars.as_str();
    }

    fn take(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.text.find(|c| !wanted(c)).unwrap_or(self.text.len());
        let (taken, rest) = self.text.split_at(end);
        self.text = rest;
        taken
    }

    /// Reads a quoted string, or a bare word up to the next comma: some realms are not quoted.
    fn value(&mut self) -> String {
        if !self.text.starts_with('"') {
            return self.take(|c| c != ',' && !c.is_whitespace()).to_owned();
        }
        self.advance();
        let mut value = String::new();
        let mut chars = self.text.chars();
        while let Some(c) = chars.next() {
            match c {
                '"' => break,
                '\\' => value.extend(chars.next()),
                c => value.push(c),
            }
        }
        self.text = chars.as_str();
        value
    }

    /// Skips a value without a name, as in `Negotiate a87421000492aa874209af8bc028==`.
    fn skip_token68(&mut self) {
        let end =
            self.text.find(|c: char| !(c.is_ascii_alphanumeric() || "-._~+/".contains(c))).unwrap_or(self.text.len());
        let after = self.text[end..].trim_start_matches('=');
        let padded = after.len() < self.text.len() - end;
        let ends = after.trim_start().is_empty() || after.trim_start().starts_with(',');
        // `realm=` without a value looks the same, but such a realm is useless.
        if end > 0 && ends && (padded || !self.text[end..].trim_start().starts_with('=')) {
            self.text = after;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(header: &str) -> Vec<String> {
        parse(header)
            .into_iter()
            .map(|challenge| {
                let parameters: Vec<String> =
                    challenge.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("{} {}", challenge.scheme, parameters.join("|")).trim_end().to_owned()
            })
            .collect()
    }

    #[test]
    fn challenges_of_real_registries_are_parsed() {
        for (header, expected) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
                vec![
                    "bearer realm=https://auth.docker.io/token|scope=repository:a/b:pull,push|service=registry.docker.io",
                ],
            ),
            (r#"Basic realm="Registry Realm""#, vec!["basic realm=Registry Realm"]),
            (r#"BASIC Realm = "a" , charset="UTF-8""#, vec!["basic charset=UTF-8|realm=a"]),
            ("Basic", vec!["basic"]),
            (r#"Negotiate, Basic realm="x""#, vec!["negotiate", "basic realm=x"]),
            (r#"Negotiate abc/+==, Bearer realm="y""#, vec!["negotiate", "bearer realm=y"]),
            (r#"Basic realm="x", Bearer realm="y",service=z"#, vec!["basic realm=x", "bearer realm=y|service=z"]),
            (r#"Bearer realm="a\"b\\c",error="invalid_token""#, vec![r#"bearer error=invalid_token|realm=a"b\c"#]),
            (
                "Bearer realm=https://r.example/token?x=1,service=s",
                vec!["bearer realm=https://r.example/token?x=1|service=s"],
            ),
            (r#"Bearer realm="unterminated"#, vec!["bearer realm=unterminated"]),
            ("", vec![]),
            (",,", vec![]),
        ] {
            assert_eq!(shown(header), expected, "{header}");
        }
    }

    proptest! {
        #[test]
        fn parsing_ends(header in ".{0,60}") {
            parse(&header);
        }
    }
}
