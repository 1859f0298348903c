//! Keeps secret values out of logs, layers, history entries and error messages.

use std::fmt;
use std::ops::Range;

/// A value that `Debug` and `Display` do not show.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// Returns the value itself, for the code that sends it.
    pub fn reveal(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Returns a URL for a log: user information and query are blanked, because both may carry credentials (as in signed
/// upload locations).
pub fn url(text: &str) -> String {
    let (rest, had_query) = match text.split_once('?') {
        Some((rest, _)) => (rest, true),
        None => (text, false),
    };
    let mut shown = match rest.split_once("://") {
        Some((scheme, after)) => {
            let (authority, path) = match after.find('/') {
                Some(slash) => after.split_at(slash),
                None => (after, ""),
            };
            match authority.rsplit_once('@') {
                Some((_, host)) => format!("{scheme}://[redacted]@{host}{path}"),
                None => rest.to_owned(),
            }
        }
        None => rest.to_owned(),
    };
    if had_query {
        shown.push_str("?[redacted]");
    }
    shown
}

/// Parts of the names of query parameters that carry credentials.
const TELLING: [&str; 8] = ["signature", "sig", "token", "credential", "password", "secret", "key", "auth"];

/// Returns a text, such as an instruction, without the credentials in its URLs.
pub fn text(text: &str) -> String {
    with_credentials_as(text, |_| "[redacted]".to_owned())
}

/// Returns the text with every byte of credentials masked, so that all other bytes keep their positions.
pub fn masked(text: &str) -> String {
    with_credentials_as(text, |length| "*".repeat(length))
}

/// Replaces each credential by the result of `stand_in` for its length.
fn with_credentials_as(text: &str, stand_in: impl Fn(usize) -> String) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut end = 0;
    for range in credentials(text) {
        shown.push_str(&text[end..range.start]);
        shown.push_str(&stand_in(range.len()));
        end = range.end;
    }
    shown.push_str(&text[end..]);
    shown
}

/// Returns the ranges of credentials in the URLs of a text: user information, and secret values of the query.
fn credentials(text: &str) -> Vec<Range<usize>> {
    const SEPARATOR: &str = "://";
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(separator) = text[from..].find(SEPARATOR).map(|offset| from + offset) {
        let start = separator + SEPARATOR.len();
        let is_end = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>' | '|');
        let end = text[start..].find(is_end).map_or(text.len(), |offset| start + offset);
        // A password may contain characters that a valid URL would encode; a path never begins before the host.
        let authority = text[start..end].find(['/', '?', '#']).map_or(end, |offset| start + offset);
        if let Some(at) = text[start..authority].rfind('@').map(|offset| start + offset) {
            let scheme = text[from..separator].rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
            let is_web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
            // The user of `ssh://git@host` is not a credential.
            if is_web || text[start..at].contains(':') {
                found.push(start..at);
            }
        }
        if let Some(query) = text[authority..end].find('?').map(|offset| authority + offset + 1) {
            let stop = text[query..end].find('#').map_or(end, |offset| query + offset);
            let mut place = query;
            for parameter in text[query..stop].split('&') {
                if let Some((name, value)) = parameter.split_once('=') {
                    let name = name.to_ascii_lowercase();
                    if !value.is_empty() && TELLING.iter().any(|word| name.contains(word)) {
                        found.push(place + parameter.len() - value.len()..place + parameter.len());
                    }
                }
                place += parameter.len() + 1;
            }
        }
        from = end;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Secret, masked, text, url};

    #[test]
    fn texts_lose_the_credentials_of_their_urls_and_nothing_else() {
        for (given, shown) in [
            ("ADD https://u:p@host/a?x=1 /b", "ADD https://[redacted]@host/a?x=1 /b"),
            ("RUN curl 'https://token@host/' | sh", "RUN curl 'https://[redacted]@host/' | sh"),
            (
                "ADD http://h/a?X-Amz-Date=1&X-Amz-Signature=abc&b=2#c /",
                "ADD http://h/a?X-Amz-Date=1&X-Amz-Signature=[redacted]&b=2#c /",
            ),
            ("git clone ssh://git@host/a ssh://u:p@host/b", "git clone ssh://git@host/a ssh://[redacted]@host/b"),
            ("A=https://a:b@h B=https://c@h", "A=https://[redacted]@h B=https://[redacted]@h"),
            ("https://u:pä@h/ä", "https://[redacted]@h/ä"),
        ] {
            assert_eq!(text(given), shown);
            assert_eq!(masked(given).len(), given.len());
            assert!(!masked(given).contains("u:p"), "{given}");
        }
        for same in
            ["", "://", "a://", "RUN echo a@b ://@ https://h/a@b", "https://h/?token=", "mail u:p@host", "ä://ä"]
        {
            assert_eq!((text(same), masked(same)), (same.to_owned(), same.to_owned()));
        }
    }

    #[test]
    fn secrets_do_not_print() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "[redacted] [redacted]");
        assert_eq!(*secret.reveal(), "hunter2");
    }

    #[test]
    fn urls_lose_credentials_and_query() {
        assert_eq!(url("https://u:p@host:5000/v2/a?sig=x"), "https://[redacted]@host:5000/v2/a?[redacted]");
        assert_eq!(url("https://host/a@b"), "https://host/a@b");
        assert_eq!(url("no url"), "no url");
    }
}
