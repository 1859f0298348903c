//! Parses the errors in responses of registries and token servers.

use std::fmt;

/// The most characters of an error page that is not JSON.
const MAX_ERROR_TEXT: usize = 300;

/// An error in the body of a registry's response (OCI distribution spec, "Error codes").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteError {
    /// `MANIFEST_UNKNOWN`, `DENIED` …; empty if the body has none.
    pub code: String,
    /// The registry's text.
    pub message: String,
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code.is_empty(), self.message.is_empty()) {
            (true, _) => f.write_str(&self.message),
            (false, true) => f.write_str(&self.code),
            (false, false) => write!(f, "{}: {}", self.code, self.message),
        }
    }
}

/// Parses the errors in a body: JSON of the distribution spec or of a token server, or plain text.
pub(super) fn error_body(body: &[u8]) -> Vec<RemoteError> {
    let text = |value: &serde_json::Value, name: &str| {
        value.get(name).and_then(|found| found.as_str()).map(one_line).unwrap_or_default()
    };
    if let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) {
        if let Some(errors) = json.get("errors").and_then(|errors| errors.as_array()) {
            let remote = errors
                .iter()
                .map(|error| RemoteError { code: text(error, "code"), message: text(error, "message") })
                .filter(|error| !error.code.is_empty() || !error.message.is_empty());
            return remote.take(5).collect();
        }
        for name in ["message", "details", "error_description", "error", "detail"] {
            let message = text(&json, name);
            if !message.is_empty() {
                return vec![RemoteError { code: String::new(), message }];
            }
        }
        return Vec::new();
    }
    let page = one_line(&String::from_utf8_lossy(body));
    if page.is_empty() || page.starts_with('<') {
        return Vec::new();
    }
    vec![RemoteError { code: String::new(), message: page }]
}

fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line: String = words.join(" ").chars().filter(|c| !c.is_control()).collect();
    line.chars().take(MAX_ERROR_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_read_in_every_shape() {
        let shown =
            |body: &str| error_body(body.as_bytes()).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        assert_eq!(shown(r#"{"errors":[{"code":"DENIED","message":"no"},{"code":"X"}]}"#), "DENIED: no; X");
        assert_eq!(shown(r#"{"details":"incorrect username or password"}"#), "incorrect username or password");
        assert_eq!(shown("too many\n requests"), "too many requests");
        assert_eq!(shown("<html>413</html>"), "");
        assert_eq!(shown(""), "");
        assert_eq!(shown("\u{1b}[31mred"), "[31mred");
    }
}
