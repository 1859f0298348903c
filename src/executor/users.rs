//! Resolves users and groups of `USER`, `--chown` and `WORKDIR` in the image's `/etc/passwd` and `/etc/group`.
//!
//! A process needs a user, so an unknown name is an error for `RUN`. For owners of files it is not: `--chown` and
//! `WORKDIR` treat an unknown user as root, and an unknown group as the user's own. BuildKit does so, although its
//! documentation says otherwise.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use crate::diag::Hint;
use crate::fs;
use crate::rootfs::{RootfsError, Tree};

const ACCOUNTS: &str = "etc/passwd";
const GROUPS: &str = "etc/group";
/// The files in which names are looked up, relative to the root.
pub(super) const DATABASES: &[&str] = &[ACCOUNTS, GROUPS];
/// The most bytes of `/etc/passwd` or `/etc/group` that are read.
const MAX_DATABASE: u64 = 64 * 1024 * 1024;
/// The largest id that a process may have, as in runc.
const MAX_ID: u32 = i32::MAX as u32;

/// A user or group that cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The image has no such user, and `RUN` needs it.
    #[error("unable to find user {name}: no matching entries in the image's /etc/passwd")]
    UnknownUser {
        /// The name.
        name: String,
    },
    /// The image has no such group, and `RUN` needs it.
    #[error("unable to find group {name}: no matching entries in the image's /etc/group")]
    UnknownGroup {
        /// The name.
        name: String,
    },
    /// A process cannot have this id.
    #[error("user or group id {id} is out of range: it must be between 0 and {MAX_ID}")]
    OutOfRange {
        /// The id.
        id: u32,
    },
    /// A name in an image that is still empty.
    #[error("invalid user {name}: on scratch there is no /etc/passwd or /etc/group, give numeric ids")]
    NameOnScratch {
        /// The name.
        name: String,
    },
    /// The databases cannot be reached.
    #[error(transparent)]
    Tree(#[from] RootfsError),
    /// A database cannot be read.
    #[error(transparent)]
    Read(#[from] fs::Error),
}

impl Hint for UserError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Tree(error) => error.hint(),
            Self::Read(error) => error.hint(),
            Self::UnknownUser { .. }
            | Self::UnknownGroup { .. }
            | Self::OutOfRange { .. }
            | Self::NameOnScratch { .. } => None,
        }
    }
}

/// The user and groups of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The supplementary groups; the first is the group itself.
    pub groups: Vec<u32>,
    /// The home directory; `/` for a user without one.
    pub home: String,
}

/// The owner of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Resolves `USER user[:group]` for a process. An id may be unknown; its group is 0 then. The groups of which the user
/// is a member count only if no group is specified.
///
/// # Errors
/// A name is unknown, an id is out of range, or the user database cannot be read.
pub fn resolve_user(tree: &Tree, user: &str) -> Result<Ids, UserError> {
    let (user, group) = split(user);
    let Some(Account { name, uid, gid: own_gid, home }) = account(tree, user)? else {
        return Err(UserError::UnknownUser { name: user.to_owned() });
    };
    let mut groups = Vec::new();
    let gid = match group.filter(|group| !group.is_empty()) {
        Some(group) => group_id(tree, group)?.ok_or_else(|| UserError::UnknownGroup { name: group.to_owned() })?,
        None => {
            if !name.is_empty() {
                find(tree, GROUPS, |line| {
                    groups.extend(Group::parse(line).filter(|group| group.has(&name)).map(|group| group.gid));
                    None::<()>
                })?;
            }
            own_gid
        }
    };
    require_range(uid, gid)?;
    groups.retain(|member| *member != gid);
    groups.insert(0, gid);
    let home = if home.is_empty() { "/".to_owned() } else { String::from_utf8_lossy(&home).into_owned() };
    Ok(Ids { uid, gid, groups, home })
}

/// Resolves `USER user[:group]` for the directories of a `WORKDIR`: they belong to the user of a process. An unknown
/// user is 0, an unknown group the user's own.
///
/// # Errors
/// The user is a name and the tree is still empty, an id is out of range, or the user database cannot be read.
pub fn resolve_directory_owner(tree: &Tree, user: &str) -> Result<Owner, UserError> {
    refuse_names_on_scratch(tree, user)?;
    let (user, group) = split(user);
    let own = account(tree, user)?.map_or_else(Owner::default, |account| Owner { uid: account.uid, gid: account.gid });
    let gid = match group.filter(|group| !group.is_empty()) {
        Some(group) => group_id(tree, group)?,
        None => None,
    };
    let owner = Owner { gid: gid.unwrap_or(own.gid), ..own };
    require_range(owner.uid, owner.gid)?;
    Ok(owner)
}

/// Resolves `--chown=user[:group]`. Without a group, it is the user's: for a name that of `/etc/passwd`, for a number
/// the same number. An unknown user is 0, an unknown group the user's own.
///
/// # Errors
/// The user is a name and the tree is still empty, or the user database cannot be read.
pub fn resolve_owner(tree: &Tree, owner: &str) -> Result<Owner, UserError> {
    refuse_names_on_scratch(tree, owner)?;
    let (user, group) = split(owner);
    let own = match number(user) {
        Some(id) => Owner { uid: id, gid: id },
        None => {
            let entry = find(tree, ACCOUNTS, |line| Account::parse(line).filter(|entry| entry.is(user, None)))?;
            entry.map_or_else(Owner::default, |entry| Owner { uid: entry.uid, gid: entry.gid })
        }
    };
    let gid = match group.filter(|group| !group.is_empty()) {
        Some(group) => group_id(tree, group)?,
        None => None,
    };
    Ok(Owner { gid: gid.unwrap_or(own.gid), ..own })
}

fn require_range(uid: u32, gid: u32) -> Result<(), UserError> {
    match [uid, gid].into_iter().find(|id| *id > MAX_ID) {
        Some(id) => Err(UserError::OutOfRange { id }),
        None => Ok(()),
    }
}

fn refuse_names_on_scratch(tree: &Tree, owner: &str) -> Result<(), UserError> {
    let (user, group) = split(owner);
    let name = [Some(user), group].into_iter().flatten().find(|part| !part.is_empty() && number(part).is_none());
    match name.filter(|_| tree.index().is_empty()) {
        Some(name) if tree.list(Path::new(""))?.is_empty() => Err(UserError::NameOnScratch { name: name.to_owned() }),
        _ => Ok(()),
    }
}

/// Returns the account of a user; root if it is empty. Returns `None` for an unknown name. An unknown number has an
/// empty name and the group 0.
fn account(tree: &Tree, user: &str) -> Result<Option<Account>, UserError> {
    let user = if user.is_empty() { "0" } else { user };
    let id = number(user);
    let entry = find(tree, ACCOUNTS, |line| Account::parse(line).filter(|entry| entry.is(user, id)))?;
    Ok(entry.or(id.map(|uid| Account { name: Vec::new(), uid, gid: 0, home: Vec::new() })))
}

fn split(user: &str) -> (&str, Option<&str>) {
    match user.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (user, None),
    }
}

fn number(text: &str) -> Option<u32> {
    // `parse` would take a plus sign.
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn group_id(tree: &Tree, group: &str) -> Result<Option<u32>, UserError> {
    if let Some(id) = number(group) {
        return Ok(Some(id));
    }
    find(tree, GROUPS, |line| Group::parse(line).filter(|entry| entry.name == group.as_bytes()).map(|entry| entry.gid))
}

/// Returns the first result of `parse` for the lines of the file; `None` if the file does not exist.
fn find<T>(tree: &Tree, path: &str, parse: impl FnMut(&[u8]) -> Option<T>) -> Result<Option<T>, UserError> {
    match tree.open_file(Path::new(path)) {
        Ok(file) => {
            find_line(file, parse).map_err(|source| fs::Error::new("read", tree.path().join(path), source).into())
        }
        Err(RootfsError::Io(error))
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn find_line<T>(file: File, mut parse: impl FnMut(&[u8]) -> Option<T>) -> io::Result<Option<T>> {
    let mut reader = BufReader::new(file.take(MAX_DATABASE));
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        if let Some(parsed) = parse(line.trim_ascii()) {
            return Ok(Some(parsed));
        }
    }
}

/// A line of `/etc/passwd`.
struct Account {
    name: Vec<u8>,
    uid: u32,
    gid: u32,
    home: Vec<u8>,
}

impl Account {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?.to_vec();
        let (uid, gid) = (id(fields.nth(1)?)?, id(fields.next()?)?);
        Some(Self { name, uid, gid, home: fields.nth(1).unwrap_or_default().to_vec() })
    }

    fn is(&self, name: &str, uid: Option<u32>) -> bool {
        self.name == name.as_bytes() || uid == Some(self.uid)
    }
}

/// A line of `/etc/group`.
struct Group<'a> {
    name: &'a [u8],
    gid: u32,
    members: &'a [u8],
}

impl<'a> Group<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        Some(Self { name, gid: id(fields.nth(1)?)?, members: fields.next().unwrap_or_default() })
    }

    fn has(&self, name: &[u8]) -> bool {
        self.members.split(|byte| *byte == b',').any(|member| member.trim_ascii() == name)
    }
}

fn id(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok().and_then(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# comment\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n\
        app:x:1000:100:app:/home/app:/bin/sh\nbroken:x\n";
    const GROUP: &str = "root:x:0:\ndaemon:x:1:\nstaff:x:50:other,app\napps:x:100:app\n";

    fn tree(databases: bool) -> (tempfile::TempDir, Tree) {
        let directory = tempfile::tempdir().expect("temporary directory");
        let tree = Tree::create(directory.path().join("root")).expect("tree");
        if databases {
            std::fs::create_dir(tree.path().join("etc")).expect("directory");
            std::fs::write(tree.path().join("etc/passwd"), PASSWD).expect("passwd");
            std::fs::write(tree.path().join("etc/group"), GROUP).expect("group");
        }
        (directory, tree)
    }

    #[test]
    fn a_process_runs_as_a_known_user_or_a_number() {
        let (_directory, tree) = tree(true);
        for (user, uid, gid, groups, home) in [
            ("app", 1000, 100, vec![100, 50], "/home/app"),
            ("1000", 1000, 100, vec![100, 50], "/home/app"),
            ("app:daemon", 1000, 1, vec![1], "/home/app"),
            ("1000:50", 1000, 50, vec![50], "/home/app"),
            ("4321", 4321, 0, vec![0], "/"),
            ("4321:8765", 4321, 8765, vec![8765], "/"),
            ("root", 0, 0, vec![0], "/root"),
            ("", 0, 0, vec![0], "/root"),
            (":staff", 0, 50, vec![50], "/root"),
        ] {
            let expected = Ids { uid, gid, groups, home: home.to_owned() };
            assert_eq!(resolve_user(&tree, user).expect(user), expected, "{user}");
        }
        let message = |user| resolve_user(&tree, user).expect_err(user).to_string();
        assert!(message("nosuch").starts_with("unable to find user nosuch"));
        assert!(message("app:nosuch").starts_with("unable to find group nosuch"));
        assert!(message("4294967295").contains("out of range"));
        assert!(message("broken").starts_with("unable to find user broken"));
    }

    #[test]
    fn unknown_owners_are_root() {
        let (_directory, tree) = tree(true);
        for (owner, uid, gid) in [
            ("app", 1000, 100),
            ("app:staff", 1000, 50),
            ("55", 55, 55),
            ("10:11", 10, 11),
            ("55:staff", 55, 50),
            ("app:77", 1000, 77),
            ("nosuch", 0, 0),
            ("nosuch:staff", 0, 50),
            ("app:nosuch", 1000, 100),
            ("55:nosuch", 55, 55),
            ("app:", 1000, 100),
        ] {
            assert_eq!(resolve_owner(&tree, owner).expect(owner), Owner { uid, gid }, "{owner}");
        }
    }

    /// As observed with BuildKit and `WORKDIR` under each user; BuildKit makes an unknown number its own group.
    #[test]
    fn directories_belong_to_the_user_of_a_process_or_to_root() {
        let (_directory, tree) = tree(true);
        for (user, uid, gid) in [
            ("app", 1000, 100),
            ("1000", 1000, 100),
            ("app:daemon", 1000, 1),
            ("4321", 4321, 0),
            ("4321:8765", 4321, 8765),
            ("", 0, 0),
            ("nosuch", 0, 0),
            ("nosuch:nosuch", 0, 0),
            ("nosuch:staff", 0, 50),
            ("nosuch:77", 0, 77),
            ("app:nosuch", 1000, 100),
            ("broken", 0, 0),
        ] {
            assert_eq!(resolve_directory_owner(&tree, user).expect(user), Owner { uid, gid }, "{user}");
        }
        assert!(resolve_directory_owner(&tree, "4294967295").is_err());
        std::fs::remove_file(tree.path().join("etc/passwd")).expect("removed");
        assert_eq!(resolve_directory_owner(&tree, "app").expect("without a database"), Owner::default());
    }

    #[test]
    fn on_scratch_users_are_numbers() {
        let (_directory, tree) = tree(false);
        assert_eq!(resolve_owner(&tree, "7:8").expect("numbers"), Owner { uid: 7, gid: 8 });
        let error = resolve_owner(&tree, "7:app").expect_err("a name");
        assert!(error.to_string().starts_with("invalid user app"), "{error}");
        assert_eq!(resolve_user(&tree, "7").expect("number").gid, 0);
        std::fs::write(tree.path().join("file"), "").expect("file");
        assert_eq!(resolve_owner(&tree, "app").expect("no longer scratch"), Owner::default());
    }

    #[test]
    fn links_to_the_databases_are_followed_inside_the_image() {
        let (_directory, tree) = tree(false);
        std::fs::create_dir_all(tree.path().join("data")).expect("directory");
        std::fs::write(tree.path().join("data/passwd"), PASSWD).expect("passwd");
        std::fs::create_dir(tree.path().join("etc")).expect("directory");
        std::os::unix::fs::symlink("/data/passwd", tree.path().join("etc/passwd")).expect("link");
        assert_eq!(resolve_user(&tree, "app").expect("found").uid, 1000);
    }
}
