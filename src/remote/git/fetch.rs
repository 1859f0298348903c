//! Fetches a commit into a local object store: looks up the reference, and transfers as little as the server allows.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use git2::{
    AutotagOption, Config, Cred, CredentialType, FetchOptions, Oid, RemoteCallbacks, Repository, RepositoryInitOptions,
};

use super::error::GitError;
use super::request::GitRequest;
use super::transport::{self, Address, Conversation, Exchange, Logins, Protocol, Servers, TransportError};
use super::watch::Watch;
use crate::diag::redact;
use crate::http::{HostRefused, Lead, SetupError};
use crate::location::GitLocation;
use crate::remote::credentials::{GitAuthorization, git_authorization};

/// The most bytes that one repository may send.
const MAX_PACK: usize = 16 << 30;
/// A reference that matches nothing: fetching it only returns the server's references.
const NO_REFERENCE: &str = "refs/crabwright/none";
/// The local name of a fetched reference that is neither branch nor tag.
const FETCHED: &str = "refs/crabwright/fetched";

/// The access to servers for one checkout.
pub(super) struct Access<'a> {
    pub(super) request: &'a GitRequest,
    pub(super) watch: &'a Watch,
    servers: Arc<Servers>,
}

impl<'a> Access<'a> {
    /// Returns the access for one checkout.
    ///
    /// # Errors
    /// The HTTP library cannot start.
    pub(super) fn new(request: &'a GitRequest, watch: &'a Watch) -> Result<Self, SetupError> {
        Ok(Self { request, watch, servers: Arc::new(Servers::of(request)?) })
    }

    /// Makes sure that the library does not connect to a host that a server must not lead to. Over ssh and git's own
    /// protocol the library resolves the name by itself.
    fn judge(&self, lead: &Lead, host: &str) -> Result<(), TransportError> {
        match self.watch.wait(self.servers.clients().judge(lead, host)) {
            Some(Ok(())) => Ok(()),
            Some(Err(HostRefused::Astray(source))) => Err(TransportError::Astray { host: host.to_owned(), source }),
            Some(Err(source)) => Err(TransportError::Unknown { host: host.to_owned(), source }),
            None => Err(TransportError::GivenUp),
        }
    }

    /// Returns the credentials for the server of a repository. The server is the build's own if scheme, host and port
    /// are the same.
    fn authorization(&self, location: &GitLocation) -> Option<GitAuthorization> {
        let is_main = is_same_server(&location.remote, &self.request.location.remote);
        git_authorization(&self.request.secrets, location, is_main)
    }
}

/// A repository that has the commit and its files.
pub(super) struct Fetched {
    pub(super) repository: Repository,
    pub(super) commit: Oid,
    /// Who named the server in the URL.
    pub(super) lead: Lead,
    /// The hosts that the commit's server may lead to.
    pub(super) onward: Lead,
}

impl Fetched {
    /// Returns the commit's time, in seconds since 1970.
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

/// Fetches the commit that `location` names into a new repository at `place`. `lead` is who named the location, unless
/// it is the user.
pub(super) fn fetch(
    access: &Access<'_>,
    location: &GitLocation,
    lead: Option<&Lead>,
    place: &Path,
) -> Result<Fetched, GitError> {
    let fetcher = Fetcher::new(access, location, lead, place)?;
    let commit = fetcher.commit()?;
    check(location, &commit.to_string())?;
    let Fetcher { repository, lead, onward, .. } = fetcher;
    Ok(Fetched { repository, commit, lead, onward: onward.into_inner() })
}

/// Returns the hash of the commit that `location` names, using a new repository at `place`.
pub(super) fn resolve(access: &Access<'_>, location: &GitLocation, place: &Path) -> Result<String, GitError> {
    let fetcher = Fetcher::new(access, location, None, place)?;
    let commit = match fetcher.named_commit()? {
        Some(commit) => commit,
        None => fetcher.commit()?.to_string(),
    };
    check(location, &commit)?;
    Ok(commit)
}

/// Checks that a commit is the requested one.
fn check(location: &GitLocation, found: &str) -> Result<(), GitError> {
    match &location.checksum {
        Some(expected) if !found.starts_with(expected.as_str()) => {
            Err(GitError::Checksum { expected: expected.clone(), found: found.to_owned() })
        }
        _ => Ok(()),
    }
}

/// Creates an empty repository that only has its own settings. The library reads those of the user and the machine when
/// it opens a repository; they are dropped afterwards, because the calls that prevent reading them are not thread-safe
/// (and `unsafe`).
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

fn not_transported(location: &GitLocation, source: TransportError) -> GitError {
    GitError::Transport { url: redact::url(&location.remote), source }
}

struct Fetcher<'a> {
    access: &'a Access<'a>,
    location: &'a GitLocation,
    address: Address,
    repository: Repository,
    lead: Lead,
    /// The hosts that all servers so far may lead to.
    onward: RefCell<Lead>,
}

impl<'a> Fetcher<'a> {
    fn new(
        access: &'a Access<'a>,
        location: &'a GitLocation,
        lead: Option<&Lead>,
        place: &Path,
    ) -> Result<Self, GitError> {
        let address = Address::of(location).ok_or_else(|| not_transported(location, TransportError::Url))?;
        let lead = lead.cloned().unwrap_or_else(|| Lead::of_user(&address.host));
        if matches!(address.protocol, Protocol::Library) {
            access.judge(&lead, &address.host).map_err(|error| not_transported(location, error))?;
        }
        let repository = create(place, access.watch).map_err(|error| failed(location, error))?;
        let onward = RefCell::new(lead.onward(&address.host));
        Ok(Self { access, location, address, repository, lead, onward })
    }

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

    /// Returns the commit, if it can be known without fetching it.
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

    /// Returns the server's references.
    fn heads(&self) -> Result<Vec<Head>, GitError> {
        self.fetch_references(&[format!("{NO_REFERENCE}:{NO_REFERENCE}")], 0)
    }

    fn by_head(&self, head: &Head) -> Result<Oid, GitError> {
        // The target of an annotated tag is listed next to it, but only the tag itself can be requested.
        let name = head.name.trim_end_matches("^{}");
        let here = match (name.strip_prefix("refs/heads/"), name.starts_with("refs/tags/")) {
            (Some(branch), _) => format!("refs/remotes/origin/{branch}"),
            (None, true) => name.to_owned(),
            (None, false) => FETCHED.to_owned(),
        };
        let refspec = [format!("+{name}:{here}")];
        if let Err(error) = self.fetch_references(&refspec, 1) {
            // Some servers only send complete histories.
            if !is_refusal_of_depth(&error) {
                return Err(error);
            }
            self.fetch_references(&refspec, 0)?;
        }
        self.peel(&here)
    }

    /// Fetches a commit by its hash, or by the start of it.
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
                Err(error @ GitError::Transport { .. }) if !error.is_answer() => return Err(error),
                Err(error) => tracing::debug!("{hash} cannot be fetched by itself: {error}"),
            }
        }
        let everything = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"].map(str::to_owned);
        self.fetch_references(&everything, 0)?;
        self.peel(hash)
    }

    /// Returns the commit for a name or hash that has been fetched.
    fn peel(&self, name: &str) -> Result<Oid, GitError> {
        let object = self.repository.revparse_single(name).and_then(|object| object.peel_to_commit());
        object.map(|commit| commit.id()).map_err(|error| {
            tracing::debug!("{name} is not a commit: {error}");
            self.no_such(self.location.reference.as_deref().unwrap_or(name))
        })
    }

    /// Fetches references with `depth` commits of each, or all of them (0), and returns the server's list.
    fn fetch_references(&self, refspecs: &[String], depth: i32) -> Result<Vec<Head>, GitError> {
        let mut options = FetchOptions::new();
        options.download_tags(AutotagOption::None).update_fetchhead(false);
        if depth > 0 {
            options.depth(depth);
        }
        options.remote_callbacks(self.callbacks());
        tracing::debug!(url = %redact::url(&self.location.remote), ?refspecs, depth, "git fetch");
        let mut remote = self.repository.remote_anonymous(&self.location.remote).map_err(|error| self.failed(error))?;
        let conversation = self.conversation()?;
        let fetched = transport::carry(conversation.as_ref(), || remote.fetch(refspecs, Some(&mut options), None));
        if let Some(conversation) = conversation {
            if conversation.onward() != *self.onward.borrow() {
                self.onward.replace(Lead::default());
            }
            match conversation.failure() {
                Some(TransportError::TooLarge { limit }) => return Err(self.too_large(limit)),
                Some(error) => return Err(not_transported(self.location, error)),
                None => {}
            }
        }
        fetched.map_err(|error| self.failed(error))?;
        let heads = remote.list().map_err(|error| self.failed(error))?;
        Ok(heads.iter().map(|head| Head { name: head.name().to_owned(), oid: head.oid() }).collect())
    }

    fn failed(&self, error: git2::Error) -> GitError {
        match self.access.watch.too_large() {
            Some(limit) => self.too_large(limit),
            None => failed(self.location, error),
        }
    }

    fn too_large(&self, limit: usize) -> GitError {
        GitError::TooLarge { url: redact::url(&self.location.remote), limit }
    }

    /// Returns the callbacks with which the library asks for credentials and reports progress.
    fn conversation(&self) -> Result<Option<Arc<Conversation>>, GitError> {
        let Protocol::Http { base, login } = &self.address.protocol else { return Ok(None) };
        let secret = self.access.authorization(self.location);
        let logins = Logins::new(login.clone(), secret).map_err(|error| not_transported(self.location, error))?;
        let Access { servers, watch, .. } = self.access;
        Ok(Some(Conversation::new(Exchange::new(servers, watch, base.clone(), self.lead.clone(), logins))))
    }

    fn callbacks(&self) -> RemoteCallbacks<'_> {
        let watch = self.access.watch;
        let ssh = &self.access.request.ssh;
        let (mut keys, mut agent) = (ssh.keys.iter(), ssh.agent);
        let mut callbacks = RemoteCallbacks::new();
        callbacks.transfer_progress(move |progress| watch.received(progress.received_bytes(), MAX_PACK));
        callbacks.sideband_progress(move |_text| watch.touch());
        // The library asks again as long as the server accepts none of the credentials.
        callbacks.credentials(move |_url, user, allowed| {
            let user = user.unwrap_or("git");
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
                format!("the server requires a key for the user {user:?}, and the build has none")
            } else {
                format!("the server accepts none of the keys for the user {user:?}")
            };
            Err(git2::Error::new(git2::ErrorCode::Auth, git2::ErrorClass::Ssh, said))
        });
        callbacks
    }
}

/// Finds the reference for a name: the name itself, below `refs/`, a branch before a tag.
fn find<'h>(heads: &'h [Head], name: &str) -> Option<&'h Head> {
    ["", "refs/", "refs/heads/", "refs/tags/"]
        .iter()
        .find_map(|prefix| heads.iter().find(|head| head.name.strip_prefix(prefix) == Some(name)))
}

/// Returns the target of an annotated tag, which servers list after it; otherwise the reference itself.
fn peeled<'h>(heads: &'h [Head], head: &'h Head) -> &'h Head {
    heads.iter().find(|other| other.name.strip_suffix("^{}") == Some(&head.name)).unwrap_or(head)
}

/// Reports whether two URLs have the same scheme, host and port.
fn is_same_server(one: &str, other: &str) -> bool {
    let origin = |text: &str| reqwest::Url::parse(text).ok().map(|url| url.origin());
    // Opaque origins, those of schemes that are not the web's, never equal.
    matches!((origin(one), origin(other)), (Some(one), Some(other)) if one == other)
}

fn is_full_hash(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && is_hash(text)
}

fn is_hash(text: &str) -> bool {
    text.len() >= 4 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Reports whether a fetch failed because it was shallow.
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
