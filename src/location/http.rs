//! Parses the URL of a file: `http://` or `https://`.

use std::fmt;

use reqwest::Url;

use super::error::LocationError;
use crate::diag::redact;

/// The file name for a URL without one, as in BuildKit.
const UNNAMED: &str = "__unnamed__";

/// The URL of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpLocation {
    url: Url,
}

impl HttpLocation {
    /// Parses a URL; `None` for text with a different scheme or without one.
    ///
    /// # Errors
    /// It has the scheme but is not a valid URL.
    pub fn parse(text: &str) -> Result<Option<Self>, LocationError> {
        let lower = text.to_ascii_lowercase();
        if !lower.starts_with("http://") && !lower.starts_with("https://") {
            return Ok(None);
        }
        match Url::parse(text) {
            Ok(mut url) => {
                url.set_fragment(None);
                Ok(Some(Self { url }))
            }
            Err(error) => Err(LocationError::new(format!("{} is not a URL: {error}", redact::url(text)))),
        }
    }

    /// Returns the URL to request, without fragment.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Returns the file name: the last element of the URL's path, one path component without a slash or NUL.
    pub fn file_name(&self) -> String {
        let path = decoded(self.url.path());
        let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        match name {
            "" | "." | ".." => UNNAMED.to_owned(),
            name if name.contains('\0') => UNNAMED.to_owned(),
            name => name.to_owned(),
        }
    }
}

/// Writes the URL without user information and query.
impl fmt::Display for HttpLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact::url(self.url.as_str()))
    }
}

/// Decodes percent-encoded bytes (RFC 3986, 2.1); other text is kept.
pub(crate) fn decoded(text: &str) -> String {
    let digit =
        |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut position = 0;
    while let Some(byte) = bytes.get(position) {
        match (byte, digit(bytes.get(position + 1)), digit(bytes.get(position + 2))) {
            (b'%', Some(high), Some(low)) => {
                plain.push(high * 16 + low);
                position += 3;
            }
            _ => {
                plain.push(*byte);
                position += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_path_element_is_the_name() {
        for (url, name) in [
            ("http://h/dir/file.txt", "file.txt"),
            ("http://h/dir/file.txt?v=1#x", "file.txt"),
            ("http://h/a%20b", "a b"),
            ("http://h/dir/", "dir"),
            ("http://h/", "__unnamed__"),
            ("http://h", "__unnamed__"),
            ("http://h/?file=x", "__unnamed__"),
            ("http://h/a%2f..", "__unnamed__"),
            ("http://h/..%2f..%2fetc%2fpasswd", "passwd"),
            ("http://h/a%00b", "__unnamed__"),
            ("http://h/100%", "100%"),
        ] {
            let location = HttpLocation::parse(url).unwrap().unwrap();
            assert_eq!(location.file_name(), name, "{url}");
        }
    }

    #[test]
    fn credentials_are_not_shown() {
        let location = HttpLocation::parse("https://user:hunter2@h/x?sig=hunter2").unwrap().unwrap();
        assert!(!location.to_string().contains("hunter2"), "{location}");
        assert!(!HttpLocation::parse("http://u:hunter2@ x/").unwrap_err().to_string().contains("hunter2"));
    }
}
