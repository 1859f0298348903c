//! From a server to a commit in a local object store: the reference looked up, and as little fetched as the server allows.

use std::path::Path;

use git2::{
    AutotagOption, CertificateCheckStatus, Config, Cred, CredentialType, FetchOptions, Oid, ProxyOptions,
    RemoteCallbacks, RemoteRedirect, Repository, RepositoryInitOptions,
};

use super::error::GitError;
use super::{GitRequest, Watch};
use crate::diag::redact;
use crate::location::GitLocation;
use crate::remote::credentials::{GitAuthorization, git_authorization};

/// Bytes that one repository may send.
const MAX_PACK: usize = 16 << 30;
/// Matches nothing: a fetch of it only asks for the server's references.
const NO_REFERENCE: &str = "refs/crabwright/none";
/// Where a reference that is neither branch nor tag comes to lie.
const FETCHED: &str = "refs/crabwright/fetched";

/// Who asks, and for whom.
pub(super) struct Access<'a> {
    pub(super) request: &'a GitRequest,
    pub(super) watch: &'a Watch,
}

impl Access<'_> {
    /// What the server of a repository is told; it is the build's own where scheme, host and port are.
    fn authorization(&self, location: &GitLocation) -> Option<GitAuthorization> {
        let is_main = is_same_server(&location.remote, &self.request.location.remote);
        git_authorization(&self.request.secrets, location, is_main)
    }
}

/// A repository that has the commit and its files.
pub(super) struct Fetched {
    pub(super) repository: Repository,
    pub(super) commit: Oid,
}

impl Fetched {
    /// In seconds since 1970.
    pub(super) fn commit_time(&self) -> Result<i64, GitError> {
        let commit = self.repository.find_commit(self.commit).map_err(|source| self.unreadable("the time", source))?;
        Ok(commit.time().seconds())
    }

    pub(super) fn unreadable(&self, what: impl Into<String>, source: git2::Error) -> GitError {
        GitError::Object { what: what.into(), commit: self.commit.to_string(), source }
    }
}

/// A reference of the server.
struct Head {
    name: String,
    oid: Oid,
}

/// Fetches the commit that `location` names into a new repository at `place`.
pub(super) fn fetch(access: &Access<'_>, location: &GitLocation, place: &Path) -> Result<Fetched, GitError> {
    let fetcher =
        Fetcher { access, location, repository: create(place, access.watch).map_err(|error| failed(location, error))? };
    let commit = fetcher.commit()?;
    check(location, &commit.to_string())?;
    Ok(Fetched { repository: fetcher.repository, commit })
}

/// The hash of the commit that `location` names, with a new repository at `place` to ask from.
pub(super) fn resolve(access: &Access<'_>, location: &GitLocation, place: &Path) -> Result<String, GitError> {
    let fetcher =
        Fetcher { access, location, repository: create(place, access.watch).map_err(|error| failed(location, error))? };
    let commit = match fetcher.named_commit()? {
        Some(commit) => commit,
        None => fetcher.commit()?.to_string(),
    };
    check(location, &commit)?;
    Ok(commit)
}

/// Whether a commit is the one that was asked for.
fn check(location: &GitLocation, found: &str) -> Result<(), GitError> {
    match &location.checksum {
        Some(expected) if !found.starts_with(expected.as_str()) => {
            Err(GitError::Checksum { expected: expected.clone(), found: found.to_owned() })
        }
        _ => Ok(()),
    }
}

/// An empty repository whose settings are its own alone. The library reads those of the user and the machine when it opens one,
/// and only lets go of them afterwards: the calls that would keep it from looking are not thread-safe (and `unsafe` for it).
#[expect(clippy::disallowed_methods, reason = "who watches a fetch has a pass")]
pub(super) fn create(place: &Path, _watch: &Watch) -> Result<Repository, git2::Error> {
    let mut options = RepositoryInitOptions::new();
    options.bare(true).no_reinit(true).mkpath(true).external_template(false).initial_head("main");
    let repository = Repository::init_opts(place, &options)?;
    repository.set_config(&Config::open(&place.join("config"))?)?;
    Ok(repository)
}

fn failed(location: &GitLocation, source: git2::Error) -> GitError {
    GitError::Fetch { url: redact::url(&location.remote), source }
}

struct Fetcher<'a> {
    access: &'a Access<'a>,
    location: &'a GitLocation,
    repository: Repository,
}

impl Fetcher<'_> {
    fn commit(&self) -> Result<Oid, GitError> {
        let location = self.location;
        if location.fetch_by_commit
            && let Some(checksum) = &location.checksum
        {
            return self.by_hash(checksum);
        }
        let wanted = location.reference.as_deref().unwrap_or("HEAD");
        if is_full_hash(wanted) {
            return self.by_hash(wanted);
        }
        let heads = self.heads()?;
        match find(&heads, wanted) {
            Some(head) => self.by_head(head),
            None if is_hash(wanted) => self.by_hash(wanted),
            None => Err(self.no_such(wanted)),
        }
    }

    /// The commit, as far as it can be told without fetching it.
    fn named_commit(&self) -> Result<Option<String>, GitError> {
        let location = self.location;
        let wanted = match &location.checksum {
            Some(checksum) if location.fetch_by_commit => checksum,
            _ => location.reference.as_deref().unwrap_or("HEAD"),
        };
        if is_full_hash(wanted) {
            return Ok(Some(wanted.to_ascii_lowercase()));
        }
        if location.fetch_by_commit {
            return Ok(None);
        }
        let heads = self.heads()?;
        match find(&heads, wanted) {
            Some(head) => Ok(Some(peeled(&heads, head).oid.to_string())),
            None if is_hash(wanted) => Ok(None),
            None => Err(self.no_such(wanted)),
        }
    }

    fn no_such(&self, reference: &str) -> GitError {
        GitError::Reference { url: redact::url(&self.location.remote), reference: reference.to_owned() }
    }

    /// The server's references.
    fn heads(&self) -> Result<Vec<Head>, GitError> {
        self.fetch_references(&[format!("{NO_REFERENCE}:{NO_REFERENCE}")], 0)
    }

    fn by_head(&self, head: &Head) -> Result<Oid, GitError> {
        // What an annotated tag leads to is listed beside it; only the tag itself can be asked for.
        let name = head.name.trim_end_matches("^{}");
        let here = match (name.strip_prefix("refs/heads/"), name.starts_with("refs/tags/")) {
            (Some(branch), _) => format!("refs/remotes/origin/{branch}"),
            (None, true) => name.to_owned(),
            (None, false) => FETCHED.to_owned(),
        };
        let refspec = [format!("+{name}:{here}")];
        if let Err(error) = self.fetch_references(&refspec, 1) {
            // Servers that know nothing but whole histories.
            if !is_refusal_of_depth(&error) {
                return Err(error);
            }
            self.fetch_references(&refspec, 0)?;
        }
        self.peel(&here)
    }

    /// A commit by its hash, or by the start of it.
    fn by_hash(&self, hash: &str) -> Result<Oid, GitError> {
        let heads = self.heads()?;
        if let Some(head) = heads.iter().find(|head| head.oid.to_string() == hash) {
            return self.by_head(head);
        }
        if is_full_hash(hash) {
            match self.fetch_references(&[format!("+{hash}:{FETCHED}")], 1) {
                Ok(_heads) => {
                    if let Ok(commit) = self.peel(hash) {
                        return Ok(commit);
                    }
                }
                Err(error @ (GitError::Interrupted(_) | GitError::TooLarge { .. })) => return Err(error),
                Err(error) => tracing::debug!("{hash} cannot be fetched by itself: {error}"),
            }
        }
        let everything = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"].map(str::to_owned);
        self.fetch_references(&everything, 0)?;
        self.peel(hash)
    }

    /// The commit behind a name or hash that has been fetched.
    fn peel(&self, name: &str) -> Result<Oid, GitError> {
        let object = self.repository.revparse_single(name).and_then(|object| object.peel_to_commit());
        object.map(|commit| commit.id()).map_err(|error| {
            tracing::debug!("{name} is no commit: {error}");
            self.no_such(self.location.reference.as_deref().unwrap_or(name))
        })
    }

    /// Fetches references, with `depth` commits of each or (0) all of them; gives the server's own list.
    fn fetch_references(&self, refspecs: &[String], depth: i32) -> Result<Vec<Head>, GitError> {
        let authorization = self.access.authorization(self.location);
        let mut options = FetchOptions::new();
        let mut proxy = ProxyOptions::new();
        proxy.auto();
        options.proxy_options(proxy).download_tags(AutotagOption::None).update_fetchhead(false);
        if depth > 0 {
            options.depth(depth);
        }
        if authorization.is_some() {
            // The library would give the credentials to whichever host it is led to.
            options.follow_redirects(RemoteRedirect::None);
        }
        if let Some(GitAuthorization::Header(value)) = &authorization {
            options.custom_headers(&[&format!("Authorization: {}", value.reveal())]);
        }
        options.remote_callbacks(self.callbacks(authorization.as_ref()));
        tracing::debug!(url = %redact::url(&self.location.remote), ?refspecs, depth, "git fetch");
        let mut remote = self.repository.remote_anonymous(&self.location.remote).map_err(|error| self.failed(error))?;
        remote.fetch(refspecs, Some(&mut options), None).map_err(|error| self.failed(error))?;
        let heads = remote.list().map_err(|error| self.failed(error))?;
        Ok(heads.iter().map(|head| Head { name: head.name().to_owned(), oid: head.oid() }).collect())
    }

    fn failed(&self, error: git2::Error) -> GitError {
        match self.access.watch.too_large() {
            Some(limit) => GitError::TooLarge { url: redact::url(&self.location.remote), limit },
            None => failed(self.location, error),
        }
    }

    fn callbacks<'c>(&'c self, authorization: Option<&'c GitAuthorization>) -> RemoteCallbacks<'c> {
        let watch = self.access.watch;
        let ssh = &self.access.request.ssh;
        let remote = self.location.remote.as_str();
        let is_ssh = self.location.is_ssh();
        let (mut logins, mut keys, mut agent) = (0, ssh.keys.iter(), ssh.agent);
        let mut callbacks = RemoteCallbacks::new();
        callbacks.transfer_progress(move |progress| watch.received(progress.received_bytes(), MAX_PACK));
        callbacks.sideband_progress(move |_text| watch.touch());
        if self.location.skip_tls_verify && !is_ssh {
            callbacks.certificate_check(|_certificate, _host| Ok(CertificateCheckStatus::CertificateOk));
        }
        // Asked again as long as the server takes nothing of what it is given.
        callbacks.credentials(move |url, user, allowed| {
            logins += 1;
            let user = user.unwrap_or("git");
            if is_ssh {
                if allowed.contains(CredentialType::USERNAME) {
                    return Cred::username(user);
                }
                if allowed.contains(CredentialType::SSH_MEMORY)
                    && let Some(key) = keys.next()
                {
                    return Cred::ssh_key_from_memory(user, None, key.reveal(), None);
                }
                if allowed.contains(CredentialType::SSH_KEY) && std::mem::take(&mut agent) {
                    return Cred::ssh_key_from_agent(user);
                }
                let said = if ssh.keys.is_empty() && !ssh.agent {
                    format!("the server wants a key of the user {user:?}, and there is none")
                } else {
                    format!("the server takes no key that it was offered for the user {user:?}")
                };
                return Err(git2::Error::new(git2::ErrorCode::Auth, git2::ErrorClass::Ssh, said));
            }
            if allowed.contains(CredentialType::USER_PASS_PLAINTEXT)
                && let Some(GitAuthorization::Basic { user, password }) = authorization
                && logins == 1
                && is_same_server(url, remote)
            {
                return Cred::userpass_plaintext(user, password.reveal());
            }
            let said = "the server wants credentials";
            Err(git2::Error::new(git2::ErrorCode::Auth, git2::ErrorClass::Net, said))
        });
        callbacks
    }
}

/// The reference a name means: itself, below `refs/`, a branch before a tag.
fn find<'h>(heads: &'h [Head], name: &str) -> Option<&'h Head> {
    ["", "refs/", "refs/heads/", "refs/tags/"]
        .iter()
        .find_map(|prefix| heads.iter().find(|head| head.name.strip_prefix(prefix) == Some(name)))
}

/// What a tag with a message leads to, which servers list behind it; any other reference itself.
fn peeled<'h>(heads: &'h [Head], head: &'h Head) -> &'h Head {
    heads.iter().find(|other| other.name.strip_suffix("^{}") == Some(&head.name)).unwrap_or(head)
}

/// Whether two URLs lead to one host and port.
fn is_same_server(one: &str, other: &str) -> bool {
    let origin = |text: &str| reqwest::Url::parse(text).ok().map(|url| url.origin());
    // Opaque origins, those of other schemes than the web's, equal nothing.
    matches!((origin(one), origin(other)), (Some(one), Some(other)) if one == other)
}

fn is_full_hash(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && is_hash(text)
}

fn is_hash(text: &str) -> bool {
    text.len() >= 4 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a fetch failed for being shallow.
fn is_refusal_of_depth(error: &GitError) -> bool {
    matches!(error, GitError::Fetch { source, .. } if source.message().contains("shallow"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_its_scheme_host_and_port() {
        assert!(is_same_server("https://h:443/a", "https://u:p@h/b.git"));
        for other in ["http://h/a", "https://h:444/a", "https://h.example/a", "ssh://h/a", "nothing"] {
            assert!(!is_same_server(other, "https://h/a"), "{other}");
        }
    }

    #[test]
    fn branches_go_before_tags_and_whole_names_before_both() {
        let names =
            ["HEAD", "refs/heads/v1", "refs/tags/v1", "refs/tags/v2", "refs/pull/7/head", "refs/heads/refs/tags/v2"];
        let heads: Vec<Head> =
            names.iter().map(|name| Head { name: (*name).to_owned(), oid: Oid::ZERO_SHA1 }).collect();
        let found = |name: &str| find(&heads, name).map(|head| head.name.as_str());
        assert_eq!(found("HEAD"), Some("HEAD"));
        assert_eq!(found("v1"), Some("refs/heads/v1"));
        assert_eq!(found("refs/tags/v1"), Some("refs/tags/v1"));
        assert_eq!(found("tags/v1"), Some("refs/tags/v1"));
        assert_eq!(found("refs/tags/v2"), Some("refs/tags/v2"));
        assert_eq!(found("pull/7/head"), Some("refs/pull/7/head"));
        assert_eq!(found("v3"), None);
    }
}
