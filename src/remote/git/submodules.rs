//! Checks out submodules, whose sources are in `.gitmodules`.

use std::path::Path;

use git2::{Config, ObjectType, Oid};

use super::error::GitError;
use super::fetch::{Access, Fetched, fetch};
use super::files::{self, CheckoutState};
use super::request::CheckoutLimits;
use super::watch::Watch;
use crate::fs;
use crate::location::GitLocation;

/// The most nested submodules.
const MAX_DEPTH: usize = 16;
/// The most submodules of one checkout.
const MAX_SUBMODULES: usize = 1000;
/// The most bytes of `.gitmodules`.
const MAX_SETTINGS: usize = 1 << 20;

/// The submodules of one checkout.
pub(super) struct Submodules<'a> {
    access: &'a Access<'a>,
    /// The directory of their object stores during the checkout.
    directory: &'a Path,
    depth: usize,
    count: usize,
    /// What remains of the checkout's limits.
    left: CheckoutLimits,
}

impl<'a> Submodules<'a> {
    pub(super) fn new(access: &'a Access<'a>, directory: &'a Path) -> Self {
        Self { access, directory, depth: 0, count: 0, left: access.request.limits }
    }

    /// Returns the URL that `.gitmodules` has for a path; `None` if the submodule should not be checked out.
    fn url(&self, parent: &Fetched, path: &Path, store: &Path) -> Result<Option<String>, GitError> {
        let unreadable = |source| parent.unreadable(".gitmodules", source);
        let refused = |problem: &str| GitError::SubmoduleUrl {
            commit: parent.commit.to_string(),
            path: path.to_string_lossy().into_owned(),
            problem: problem.to_owned(),
        };
        let tree = parent.repository.find_commit(parent.commit).and_then(|commit| commit.tree()).map_err(unreadable)?;
        let Some(entry) = tree.get_name(".gitmodules").filter(|entry| entry.kind() == Some(ObjectType::Blob)) else {
            return Err(refused("there is no .gitmodules with its URL"));
        };
        const REFUSED: &str = ".gitmodules is too large, or includes other files";
        let header = parent.repository.odb().and_then(|store| store.read_header(entry.id()));
        if header.map_err(unreadable)?.0 > MAX_SETTINGS {
            return Err(refused(REFUSED));
        }
        let blob = parent.repository.find_blob(entry.id()).map_err(unreadable)?;
        let content = blob.content();
        // Settings can include other files.
        if contains_include(content) {
            return Err(refused(REFUSED));
        }
        let settings = store.with_extension("gitmodules");
        fs::write(&settings, content)?;
        let found = setting_for(&settings, path).map_err(unreadable);
        fs::remove_file(&settings)?;
        match found? {
            Some(Setting { skipped: true, .. }) => Ok(None),
            Some(Setting { url: Some(url), .. }) => Ok(Some(url)),
            _ => Err(refused(".gitmodules does not have its URL")),
        }
    }
}

impl CheckoutState for Submodules<'_> {
    fn limits(&self) -> CheckoutLimits {
        self.access.request.limits
    }

    fn take(&mut self, commit: Oid, bytes: u64) -> Result<(), GitError> {
        let CheckoutLimits { entries, bytes: most, .. } = self.limits();
        let commit = || commit.to_string();
        self.left.entries = self
            .left
            .entries
            .checked_sub(1)
            .ok_or_else(|| GitError::TooManyEntries { commit: commit(), limit: entries })?;
        self.left.bytes = self
            .left
            .bytes
            .checked_sub(bytes)
            .ok_or_else(|| GitError::TooManyBytes { commit: commit(), limit: most })?;
        Ok(())
    }

    fn watch(&self) -> &Watch {
        self.access.watch
    }

    fn check_out(
        &mut self,
        parent: &Fetched,
        location: &GitLocation,
        path: &Path,
        commit: Oid,
        place: &Path,
    ) -> Result<(), GitError> {
        if !self.access.request.location.submodules {
            return Ok(());
        }
        let shown = path.to_string_lossy().into_owned();
        let refused = |problem: String| GitError::SubmoduleUrl {
            commit: parent.commit.to_string(),
            path: shown.clone(),
            problem,
        };
        self.count += 1;
        if self.depth >= MAX_DEPTH || self.count > MAX_SUBMODULES {
            return Err(refused("too many submodules".to_owned()));
        }
        let store = self.directory.join(format!("submodule-{}", self.count));
        let Some(url) = self.url(parent, path, &store)? else { return Ok(()) };
        // A relative URL stays on its parent's server; any other URL comes from that server's commit.
        let lead = if is_relative(&url) { &parent.lead } else { &parent.onward };
        let url = resolve(&location.remote, &url).map_err(refused)?;
        let module = GitLocation::parse(&url).map_err(|error| refused(error.to_string()))?;
        // Only the server: a submodule cannot set the other fields of a URL.
        let remote = module.map(|module| module.remote).or_else(|| without_suffix(&url));
        let Some(remote) = remote else {
            return Err(refused(format!(
                "its URL {} is not one of git, ssh, http or https",
                crate::diag::redact::url(&url)
            )));
        };
        let module =
            GitLocation { remote, reference: Some(commit.to_string()), submodules: true, ..GitLocation::default() };
        let below = |source| GitError::Submodule { path: shown.clone(), source: Box::new(source) };
        let fetched = fetch(self.access, &module, Some(lead), &store).map_err(below)?;
        self.depth += 1;
        files::write(&fetched, place, &module, self).map_err(below)?;
        self.depth -= 1;
        drop(fetched);
        Ok(fs::remove_dir_all(&store)?)
    }
}

#[derive(Default)]
pub(super) struct Setting {
    pub(super) url: Option<String>,
    /// `update = none`
    skipped: bool,
}

pub(super) fn contains_include(content: &[u8]) -> bool {
    String::from_utf8_lossy(content).to_ascii_lowercase().contains("[include")
}

pub(super) fn setting_for(settings: &Path, path: &Path) -> Result<Option<Setting>, git2::Error> {
    let config = Config::open(settings)?;
    let mut names = Vec::new();
    config.entries(Some("submodule\\..*\\.path"))?.for_each(|entry| {
        // A key without a value means true and is not a path; git2 panics if its value is requested.
        if entry.has_value()
            && let (Ok(name), Ok(value)) = (entry.name(), entry.value())
            && Path::new(value.trim_end_matches('/')) == path
        {
            names.push(name.strip_suffix(".path").unwrap_or(name).to_owned());
        }
    })?;
    let Some(name) = names.pop() else { return Ok(None) };
    let url = config.get_string(&format!("{name}.url")).ok();
    let skipped = config.get_string(&format!("{name}.update")).is_ok_and(|update| update == "none");
    Ok(Some(Setting { url, skipped }))
}

/// Returns an http URL that lacks `.git` at its end, which git accepts for submodules.
fn without_suffix(url: &str) -> Option<String> {
    let clean = !url.contains(['#', '?']);
    (clean && (url.starts_with("http://") || url.starts_with("https://"))).then(|| url.to_owned())
}

fn is_relative(url: &str) -> bool {
    url.starts_with("./") || url.starts_with("../")
}

/// Resolves a URL of `.gitmodules`: one that starts with `./` or `../` is relative to its repository.
pub(super) fn resolve(parent: &str, url: &str) -> Result<String, String> {
    if !is_relative(url) {
        return Ok(url.to_owned());
    }
    let mut base = parent.trim_end_matches('/').to_owned();
    let mut rest = url;
    loop {
        if let Some(after) = rest.strip_prefix("./") {
            rest = after;
        } else if let Some(after) = rest.strip_prefix("../") {
            let start = base.find("://").map_or(0, |at| at + 3);
            let cut = base.rfind('/').filter(|at| *at >= start).or_else(|| base.rfind(':').filter(|_| start == 0));
            let Some(cut) = cut else { return Err(format!("its URL {url} leads above the root of the server")) };
            let separator = base.as_bytes().get(cut).copied();
            base.truncate(if separator == Some(b':') { cut + 1 } else { cut });
            rest = after;
        } else {
            let joint = if base.ends_with(':') { "" } else { "/" };
            return Ok(format!("{base}{joint}{rest}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_urls_start_at_the_repository() {
        for (parent, url, expected) in [
            ("https://h/a/b.git", "../c.git", "https://h/a/c.git"),
            ("https://h/a/b.git", "../../c.git", "https://h/c.git"),
            ("https://h/a/b.git/", "./c.git", "https://h/a/b.git/c.git"),
            ("git@h:a/b.git", "../c.git", "git@h:a/c.git"),
            ("git@h:b.git", "../c.git", "git@h:c.git"),
            ("https://h/a", "https://other/c", "https://other/c"),
            ("https://h/a", "/etc", "/etc"),
        ] {
            assert_eq!(resolve(parent, url).as_deref(), Ok(expected), "{parent} {url}");
        }
        assert!(resolve("https://h/a.git", "../../../c").is_err());
    }

    #[test]
    fn settings_are_found_by_path() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("gitmodules");
        std::fs::write(
            &file,
            "[submodule \"one.path\"]\n\tpath = lib/one/\n\turl = ../one.git\n\
             [submodule \"bare\"]\n\tpath\n\turl\n[submodule \"two\"]\n\tpath = two\n\tupdate = none\n\turl = https://h/two.git\n",
        )
        .unwrap();
        let one = setting_for(&file, Path::new("lib/one")).unwrap().unwrap();
        assert_eq!((one.url.as_deref(), one.skipped), (Some("../one.git"), false));
        assert!(setting_for(&file, Path::new("two")).unwrap().unwrap().skipped);
        assert!(setting_for(&file, Path::new("three")).unwrap().is_none());
        assert!(contains_include(b"[Include]\npath = /etc/passwd\n"));
    }
}
