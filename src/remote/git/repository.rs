//! Completes the repository that `--keep-git-dir` keeps next to the files.
//!
//! It has what a clone would have, except for what differs between checkouts or contains a login: logs, and the user in
//! the server's URL.

use git2::Config;

use super::error::GitError;
use super::fetch::Fetched;
use crate::fs;
use crate::location::GitLocation;

/// Turns a fetched repository into that of the files around it.
pub(super) fn tidy(fetched: &Fetched, location: &GitLocation) -> Result<(), GitError> {
    let path = fetched.repository.path().to_owned();
    let settle = || {
        let mut config = Config::open(&path.join("config"))?;
        config.set_bool("core.bare", false)?;
        config.set_bool("core.logallrefupdates", false)?;
        config.set_str("remote.origin.url", &without_user(&location.remote))?;
        config.set_str("remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")?;
        let tree = fetched.repository.find_commit(fetched.commit)?.tree()?;
        let mut index = git2::Index::open(&path.join("index"))?;
        index.read_tree(&tree)?;
        index.write()
    };
    settle().map_err(|source| GitError::Keep { path: path.clone(), source })?;
    // HEAD is the commit itself, as for every checkout of a commit. It is written here, because the library would log
    // who did it.
    fs::write(path.join("HEAD"), format!("{}\n", fetched.commit))?;
    for name in ["logs", "hooks", "refs/crabwright"] {
        let leftover = path.join(name);
        if fs::gated::exists(&leftover) {
            fs::remove_dir_all(&leftover)?;
        }
    }
    Ok(())
}

/// Returns a URL without user name and password.
fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if scheme == "ssh" { url.to_owned() } else { format!("{scheme}://{host}/{path}") }
}

#[cfg(test)]
mod tests {
    use super::without_user;

    #[test]
    fn logins_do_not_stay_behind() {
        assert_eq!(without_user("https://u:p@h:1/a/b.git"), "https://h:1/a/b.git");
        assert_eq!(without_user("git@h:a/b.git"), "git@h:a/b.git");
    }
}
