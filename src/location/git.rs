//! Parses a directory of a commit in a git repository, in BuildKit's notation: `URL#REF:SUBDIR`, or
//! `URL?branch=…&subdir=…`.

use std::fmt;

use super::error::LocationError;
use crate::diag::redact;

/// The modification time of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FileTimes {
    /// The time of the checkout.
    #[default]
    Checkout,
    /// The time of the commit.
    Commit,
}

/// A repository, a commit in it, and options of the checkout.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GitLocation {
    /// The repository's URL for git clients; may contain a password.
    pub remote: String,
    /// A branch, tag, full reference name or commit; the default branch if `None`.
    pub reference: Option<String>,
    /// A directory of the commit, without `..` and leading slash; empty for all.
    pub subdir: String,
    /// The required start of the commit's hash (lower case).
    pub checksum: Option<String>,
    /// Whether to include `.git`; `None` if not specified.
    pub keep_git_dir: Option<bool>,
    /// True to include submodules.
    pub submodules: bool,
    /// True to fetch the commit of `checksum` itself, wherever the reference points now.
    pub fetch_by_commit: bool,
    /// The modification time of the files.
    pub times: FileTimes,
    /// True to accept any certificate of the server.
    pub skip_tls_verify: bool,
}

impl GitLocation {
    /// Parses a location; `None` for text that names no repository: `git://`, `ssh://` and `user@host:path` do, and
    /// `http(s)://` with a path that ends in `.git`.
    ///
    /// # Errors
    /// The repository has no host, or its query is unknown, malformed or contradictory.
    pub fn parse(text: &str) -> Result<Option<Self>, LocationError> {
        let (rest, fragment) = match text.split_once('#') {
            Some((rest, fragment)) => (rest, Some(fragment)),
            None => (text, None),
        };
        let (remote, query) = match rest.split_once('?') {
            Some((remote, query)) => (remote, Some(query)),
            None => (rest, None),
        };
        let Some(remote) = repository(remote)? else { return Ok(None) };
        let mut location = Self { remote, submodules: true, ..Self::default() };
        let mut keys = SeenKeys::default();
        if let Some(fragment) = fragment {
            let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
            keys.set("ref", reference, &mut location)?;
            keys.set("subdir", subdir, &mut location)?;
        }
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            keys.pair(key, &decode(value)?, &mut location)?;
        }
        if location.fetch_by_commit && location.checksum.is_none() {
            return Err(LocationError::new("fetch-by-commit needs the commit: add checksum=COMMIT"));
        }
        if let Some(keep) = location.keep_git_dir {
            location.keep_git_dir(keep)?;
        }
        Ok(Some(location))
    }

    /// Sets whether to include `.git`, as `ADD --keep-git-dir` does.
    ///
    /// # Errors
    /// The URL contradicts it, or names a sub-directory, which has no `.git`.
    pub fn keep_git_dir(&mut self, keep: bool) -> Result<(), LocationError> {
        if self.keep_git_dir.is_some_and(|wanted| wanted != keep) {
            return Err(LocationError::new("--keep-git-dir contradicts keep-git-dir of the URL"));
        }
        if keep && !self.subdir.is_empty() {
            return Err(LocationError::new(format!(
                "the repository cannot be kept for a sub-directory ({}): .git is at the top",
                self.subdir
            )));
        }
        self.keep_git_dir = Some(keep);
        Ok(())
    }

    /// Requires that the commit's hash starts with `checksum`, as `ADD --checksum` does.
    ///
    /// # Errors
    /// It is not a hash, or contradicts the location's own.
    pub fn require(&mut self, checksum: &str) -> Result<(), LocationError> {
        let checksum = commit(checksum)?;
        match &self.checksum {
            Some(other) if !other.starts_with(&checksum) && !checksum.starts_with(other.as_str()) => {
                Err(LocationError::new(format!("the URL's checksum {other} contradicts {checksum}")))
            }
            Some(other) if other.len() >= checksum.len() => Ok(()),
            _ => {
                self.checksum = Some(checksum);
                Ok(())
            }
        }
    }

    /// Returns the `host[:port]` of the repository.
    pub fn host(&self) -> &str {
        let authority = match self.remote.split_once("://") {
            Some((_, rest)) => rest.split('/').next().unwrap_or_default(),
            None => self.remote.split(':').next().unwrap_or_default(),
        };
        authority.rsplit_once('@').map_or(authority, |(_, host)| host)
    }

    /// Reports whether it is reached over ssh.
    pub fn is_ssh(&self) -> bool {
        self.remote.starts_with("ssh://") || !self.remote.contains("://")
    }
}

/// Writes the location without user information and query.
impl fmt::Display for GitLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact::url(&self.remote))?;
        match (&self.reference, self.subdir.as_str()) {
            (None, "") => Ok(()),
            (reference, "") => write!(f, "#{}", reference.as_deref().unwrap_or_default()),
            (reference, subdir) => write!(f, "#{}:{subdir}", reference.as_deref().unwrap_or_default()),
        }
    }
}

/// Returns the URL for git clients, with the scheme in lower case; `None` if it is not a repository.
fn repository(text: &str) -> Result<Option<String>, LocationError> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Ok(is_remote_shell(text).then(|| text.to_owned()));
    };
    let scheme = scheme.to_ascii_lowercase();
    match scheme.as_str() {
        "git" | "ssh" => {}
        "http" | "https" if rest.ends_with(".git") => {}
        _ => return Ok(None),
    }
    let host = rest.split('/').next().unwrap_or_default();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let path = rest.split_once('/').map_or("", |(_, path)| path);
    if host.is_empty() || path.is_empty() {
        let shown = redact::url(text);
        return Err(LocationError::new(format!("{shown} names no repository: expected {scheme}://HOST/PATH")));
    }
    Ok(Some(format!("{scheme}://{rest}")))
}

/// Reports whether it is `user@host:path`, the address form of scp and git.
fn is_remote_shell(text: &str) -> bool {
    let name = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    text.split_once(':')
        .and_then(|(address, path)| Some((address.split_once('@')?, path)))
        .is_some_and(|((user, host), path)| name(user) && name(host) && !path.is_empty())
}

/// The keys that occurred, and which of their aliases.
#[derive(Default)]
struct SeenKeys {
    reference: Option<&'static str>,
    subdir: bool,
    checksum: Option<&'static str>,
}

impl SeenKeys {
    /// Sets a part of the fragment; an empty one is ignored.
    fn set(&mut self, key: &str, value: &str, location: &mut GitLocation) -> Result<(), LocationError> {
        if value.is_empty() { Ok(()) } else { self.pair(key, value, location) }
    }

    fn pair(&mut self, key: &str, value: &str, location: &mut GitLocation) -> Result<(), LocationError> {
        match key {
            "ref" => self.reference("ref", value.to_owned(), location),
            "branch" => self.reference("branch", prefixed("refs/heads/", value), location),
            "tag" => self.reference("tag", prefixed("refs/tags/", value), location),
            "subdir" => {
                if std::mem::replace(&mut self.subdir, true) {
                    return Err(LocationError::new("subdir is keys twice"));
                }
                location.subdir = subdir(value)?;
                Ok(())
            }
            "checksum" => self.checksum("checksum", value, location),
            "commit" => self.checksum("commit", value, location),
            "keep-git-dir" => {
                location.keep_git_dir = Some(switch(key, value)?);
                Ok(())
            }
            "submodules" => {
                location.submodules = switch(key, value)?;
                Ok(())
            }
            "fetch-by-commit" => {
                location.fetch_by_commit = switch(key, value)?;
                Ok(())
            }
            "mtime" => {
                location.times = match value {
                    "checkout" => FileTimes::Checkout,
                    "commit" => FileTimes::Commit,
                    _ => return Err(LocationError::new(format!("mtime cannot be {value:?}: checkout or commit"))),
                };
                Ok(())
            }
            _ => Err(LocationError::new(format!(
                "unexpected query {key:?}: a git URL takes ref, tag, branch, subdir, checksum (or commit), keep-git-dir, \
                 submodules, fetch-by-commit and mtime"
            ))),
        }
    }

    fn reference(&mut self, key: &'static str, value: String, location: &mut GitLocation) -> Result<(), LocationError> {
        if let Some(other) = self.reference.replace(key) {
            return Err(LocationError::new(format!("{key} conflicts with {other}: a git URL names one commit")));
        }
        if value.is_empty() {
            return Err(LocationError::new(format!("{key} is empty")));
        }
        // Characters that git does not allow in reference names, or that have a meaning in refspecs.
        let odd = |character: char| character.is_control() || " ~^:?*[\\".contains(character);
        if value.starts_with('-') || value.contains("..") || value.contains(odd) {
            return Err(LocationError::new(format!("{value:?} cannot be the name of a branch, tag or commit")));
        }
        location.reference = Some(value);
        Ok(())
    }

    fn checksum(&mut self, key: &'static str, value: &str, location: &mut GitLocation) -> Result<(), LocationError> {
        if let Some(other) = self.checksum.replace(key) {
            return Err(LocationError::new(format!("{key} conflicts with {other}: they mean the same")));
        }
        location.checksum = Some(commit(value)?);
        Ok(())
    }
}

fn prefixed(prefix: &str, value: &str) -> String {
    if value.is_empty() || value.starts_with(prefix) { value.to_owned() } else { format!("{prefix}{value}") }
}

/// Parses a boolean; a key without a value is true.
fn switch(key: &str, value: &str) -> Result<bool, LocationError> {
    match value {
        "" | "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(LocationError::new(format!("{key} cannot be {value:?}: true or false"))),
    }
}

/// Returns the directory's path, cleaned as text; `..` must not leave the repository.
fn subdir(value: &str) -> Result<String, LocationError> {
    let mut parts: Vec<&str> = Vec::new();
    for part in value.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_none() => {
                return Err(LocationError::new(format!("subdir {value:?} leads out of the repository")));
            }
            ".." => {}
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// Returns a commit's hash or the start of one: git requires at least four digits.
fn commit(text: &str) -> Result<String, LocationError> {
    let lower = text.to_ascii_lowercase();
    if (4..=64).contains(&lower.len()) && lower.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(lower);
    }
    Err(LocationError::new(format!(
        "checksum {text:?} is not the start of a commit's hash: hexadecimal digits expected"
    )))
}

/// Percent-decodes a query's value.
fn decode(value: &str) -> Result<String, LocationError> {
    let base = reqwest::Url::parse(&format!("query:?v={value}"));
    let decoded = base.ok().and_then(|url| url.query_pairs().next().map(|(_, value)| value.into_owned()));
    decoded.ok_or_else(|| LocationError::new(format!("{value:?} cannot be read as a query")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> GitLocation {
        GitLocation::parse(text).unwrap().unwrap_or_else(|| panic!("{text} names no repository"))
    }

    fn refused(text: &str) -> String {
        GitLocation::parse(text).expect_err(text).to_string()
    }

    #[test]
    fn fragments_name_reference_and_directory() {
        for (text, reference, subdir) in [
            ("https://h/x.git", None, ""),
            ("https://h/x.git#", None, ""),
            ("https://h/x.git#v1", Some("v1"), ""),
            ("https://h/x.git#v1:a/b", Some("v1"), "a/b"),
            ("git@h:x#:a", None, "a"),
            ("ssh://h/x#refs/pull/7/head:/a/./b/", Some("refs/pull/7/head"), "a/b"),
            ("git://h/x?tag=v1", Some("refs/tags/v1"), ""),
            ("git://h/x?branch=main&subdir=a%2Fb", Some("refs/heads/main"), "a/b"),
            ("git://h/x?ref=pull/7/head#:a", Some("pull/7/head"), "a"),
        ] {
            let location = parsed(text);
            assert_eq!((location.reference.as_deref(), location.subdir.as_str()), (reference, subdir), "{text}");
        }
    }

    #[test]
    fn queries_set_options() {
        let location =
            parsed("https://h/x.git?commit=ABCD12&keep-git-dir&submodules=false&mtime=commit&fetch-by-commit=1");
        assert_eq!(location.checksum.as_deref(), Some("abcd12"));
        assert_eq!((location.keep_git_dir, location.submodules, location.fetch_by_commit), (Some(true), false, true));
        assert_eq!(location.times, FileTimes::Commit);
        assert!(parsed("https://h/x.git").submodules);
    }

    #[test]
    fn contradictions_and_unknown_keys_are_refused() {
        for (query, message) in [
            ("?nonsense=1", "unexpected query \"nonsense\""),
            ("?tag=a&branch=b", "branch conflicts with tag"),
            ("?ref=a#b", "ref conflicts with ref"),
            ("?subdir=a#:b", "subdir is keys twice"),
            ("?checksum=abcd&commit=abcd", "commit conflicts with checksum"),
            ("?checksum=xyz", "is not the start of a commit's hash"),
            ("?checksum=", "is not the start of a commit's hash"),
            ("?keep-git-dir=maybe", "true or false"),
            ("?mtime=never", "checkout or commit"),
            ("?fetch-by-commit=true", "add checksum=COMMIT"),
            ("?tag=", "tag is empty"),
            ("#a..b", "cannot be the name"),
            ("#--upload-pack=x", "cannot be the name"),
            ("?ref=a:b", "cannot be the name"),
            ("?subdir=a&keep-git-dir=true", "cannot be kept for a sub-directory"),
            ("?subdir=a/../../b", "leads out of the repository"),
        ] {
            let text = refused(&format!("https://h/x.git{query}"));
            assert!(text.contains(message), "{query}: {text}");
        }
    }

    #[test]
    fn hosts_are_returned_without_user() {
        for (text, host, ssh) in [
            ("https://u:p@h:8443/x.git", "h:8443", false),
            ("git@h:x", "h", true),
            ("ssh://git@h:2222/x", "h:2222", true),
            ("git://h/x", "h", false),
        ] {
            let location = parsed(text);
            assert_eq!((location.host(), location.is_ssh()), (host, ssh), "{text}");
        }
        assert!(!parsed("https://u:hunter2@h/x.git#main").to_string().contains("hunter2"));
    }

    #[test]
    fn a_checksum_may_be_longer_but_not_different() {
        let mut location = parsed("https://h/x.git?checksum=abcd12");
        location.require("ABCD").unwrap();
        assert_eq!(location.checksum.as_deref(), Some("abcd12"));
        location.require("abcd1234").unwrap();
        assert_eq!(location.checksum.as_deref(), Some("abcd1234"));
        assert!(location.require("abce").is_err() && location.require("sha256:ab").is_err());
    }
}
