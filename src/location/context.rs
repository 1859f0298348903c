//! Parses `--context` with kaniko's schemes: a directory, an archive, a repository, a bucket or a URL.

use std::fmt;
use std::path::PathBuf;

use super::{BucketLocation, GitLocation, HttpLocation, LocationError};

/// The source of a build's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextLocation {
    /// A local directory: a path, `dir://` and a path, or text with an unknown scheme.
    Directory(String),
    /// A local archive: `tar://` and a path.
    Archive(PathBuf),
    /// An archive on standard input: `tar://stdin`, or `-`.
    StandardInput,
    /// A directory of a commit.
    Git(GitLocation),
    /// An archive at a URL.
    Http(HttpLocation),
    /// An archive in a bucket.
    Bucket(BucketLocation),
}

/// Settings of `--git` and `GIT_PULL_METHOD` for a context that is a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitContext {
    /// `branch=`: the branch for a URL that names none.
    pub branch: Option<String>,
    /// `recurse-submodules=`: true to include submodules.
    pub submodules: bool,
    /// `insecure-skip-tls=`: true to accept any certificate of the server.
    pub skip_tls_verify: bool,
    /// The scheme that replaces `git://`, as in kaniko: `https`, or `http`.
    pub scheme: &'static str,
}

impl Default for GitContext {
    fn default() -> Self {
        Self { branch: None, submodules: false, skip_tls_verify: false, scheme: "https" }
    }
}

impl ContextLocation {
    /// Parses `--context`.
    ///
    /// # Errors
    /// The text has the form of a URL but is invalid, or an archive has no name.
    pub fn parse(text: &str, git: &GitContext) -> Result<Self, LocationError> {
        if text == "-" {
            return Ok(Self::StandardInput);
        }
        if let Some(path) = text.strip_prefix("tar://") {
            return match path {
                "" => Err(LocationError::new("tar:// names no archive: expected tar://FILE or tar://stdin")),
                "stdin" => Ok(Self::StandardInput),
                path => Ok(Self::Archive(PathBuf::from(path))),
            };
        }
        if let Some(location) = BucketLocation::parse(text)? {
            return Ok(Self::Bucket(location));
        }
        if let Some(location) = repository(text, git)? {
            return Ok(Self::Git(location));
        }
        if let Some(location) = HttpLocation::parse(text)? {
            return Ok(Self::Http(location));
        }
        Ok(Self::Directory(text.to_owned()))
    }
}

/// Parses a repository by BuildKit's rules with kaniko's additions: `git://` uses http(s), and a commit may follow the
/// reference to search it in: `#REFERENCE#COMMIT`.
fn repository(text: &str, git: &GitContext) -> Result<Option<GitLocation>, LocationError> {
    let (url, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (reference, commit) = fragment.split_once('#').unwrap_or((fragment, ""));
    let (commit, subdir) = commit.split_once(':').unwrap_or((commit, ""));
    let mut written = url.to_owned();
    if !reference.is_empty() || !subdir.is_empty() {
        let colon = if subdir.is_empty() { "" } else { ":" };
        written.push_str(&format!("#{reference}{colon}{subdir}"));
    }
    let Some(mut location) = GitLocation::parse(&written)? else { return Ok(None) };
    if let Some(rest) = location.remote.strip_prefix("git://") {
        location.remote = format!("{}://{rest}", git.scheme);
    }
    if !commit.is_empty() {
        location.require(commit)?;
        location.fetch_by_commit = true;
    }
    if location.reference.is_none() {
        location.reference = git.branch.as_ref().map(|branch| format!("refs/heads/{branch}"));
    }
    let says_submodules = url.split_once('?').is_some_and(|(_, query)| query.contains("submodules"));
    if !says_submodules {
        location.submodules = git.submodules;
    }
    location.skip_tls_verify = git.skip_tls_verify;
    Ok(Some(location))
}

/// Writes the location without credentials.
impl fmt::Display for ContextLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => f.write_str(&crate::diag::redact::url(path)),
            Self::Archive(path) => write!(f, "tar://{}", path.display()),
            Self::StandardInput => f.write_str("tar://stdin"),
            Self::Git(location) => location.fmt(f),
            Self::Http(location) => location.fmt(f),
            Self::Bucket(location) => location.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> ContextLocation {
        ContextLocation::parse(text, &GitContext::default()).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn repository_of(text: &str, options: &GitContext) -> GitLocation {
        match ContextLocation::parse(text, options).unwrap() {
            ContextLocation::Git(location) => location,
            other => panic!("{text} is {other:?}"),
        }
    }

    #[test]
    fn every_form_is_recognized_by_its_start() {
        let kind = |text: &str| match parsed(text) {
            ContextLocation::Directory(_) => "directory",
            ContextLocation::Archive(_) => "archive",
            ContextLocation::StandardInput => "input",
            ContextLocation::Git(_) => "git",
            ContextLocation::Http(_) => "http",
            ContextLocation::Bucket(_) => "bucket",
        };
        for (text, expected) in [
            ("/workspace/", "directory"),
            ("dir:///workspace", "directory"),
            ("ftp://x", "directory"),
            ("tar:///a/b.tar.gz", "archive"),
            ("tar://stdin", "input"),
            ("-", "input"),
            ("git://github.com/a/b", "git"),
            ("https://github.com/a/b.git", "git"),
            ("ssh://git@h/a", "git"),
            ("git@h:a/b.git", "git"),
            ("https://h/c.tar.gz", "http"),
            ("s3://b/c.tar.gz", "bucket"),
            ("https://acc.blob.core.usgovcloudapi.net/c/b.tgz", "bucket"),
        ] {
            assert_eq!(kind(text), expected, "{text}");
        }
        assert!(ContextLocation::parse("tar://", &GitContext::default()).is_err());
    }

    #[test]
    fn repositories_are_named_as_kaniko_names_them() {
        for (text, remote, reference, checksum, subdir) in [
            ("git://h/a/b.git", "https://h/a/b.git", None, None, ""),
            ("git://h/a#refs/heads/main", "https://h/a", Some("refs/heads/main"), None, ""),
            ("git://h/a#refs/pull/7/head#abcd12", "https://h/a", Some("refs/pull/7/head"), Some("abcd12"), ""),
            ("git://h/a##abcd12", "https://h/a", None, Some("abcd12"), ""),
            ("git://h/a#main#abcd12:x/y", "https://h/a", Some("main"), Some("abcd12"), "x/y"),
            ("git://h/a#main:x/y", "https://h/a", Some("main"), None, "x/y"),
            ("git@h:a.git#v1", "git@h:a.git", Some("v1"), None, ""),
        ] {
            let found = repository_of(text, &GitContext::default());
            assert_eq!(found.remote, remote, "{text}");
            assert_eq!((found.reference.as_deref(), found.checksum.as_deref()), (reference, checksum), "{text}");
            assert_eq!((found.subdir.as_str(), found.submodules), (subdir, false), "{text}");
        }
        let git = GitContext { scheme: "http", ..GitContext::default() };
        let location = ContextLocation::parse("git://h/a", &git).unwrap();
        assert_eq!(location.to_string(), "http://h/a");
    }

    #[test]
    fn the_url_takes_precedence_over_git_options() {
        let options =
            GitContext { branch: Some("dev".to_owned()), submodules: true, skip_tls_verify: true, scheme: "https" };
        let found = repository_of("git://h/a", &options);
        assert_eq!((found.reference.as_deref(), found.submodules), (Some("refs/heads/dev"), true));
        assert!(found.skip_tls_verify);
        assert_eq!(repository_of("git://h/a#main", &options).reference.as_deref(), Some("main"));
        assert!(!repository_of("https://h/a.git?submodules=false", &options).submodules);
        assert!(repository_of("https://h/a.git?submodules=true", &GitContext::default()).submodules);
    }
}
