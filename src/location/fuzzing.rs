//! Fuzz target: URLs of contexts and of ADD.

use super::{ContextLocation, GitContext, GitLocation, Location};

/// Parses any text as a location, or refuses it; a directory of a repository stays inside it, and no password is shown.
pub(crate) fn location(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    drop(ContextLocation::parse(text, &GitContext::default()));
    match Location::parse(text) {
        Ok(Some(Location::Git(git))) => check(&git),
        Ok(Some(Location::Http(http))) => {
            let name = http.file_name();
            assert!(!name.contains('/') && name != "..", "{name:?}");
        }
        Ok(None) | Err(_) => {}
    }
}

fn check(git: &GitLocation) {
    assert!(git.subdir.split('/').all(|part| part != ".."), "{:?}", git.subdir);
    assert!(!git.subdir.starts_with('/'));
    assert!(!git.reference.as_deref().unwrap_or_default().starts_with('-'), "{:?}", git.reference);
    drop((git.host().to_owned(), git.to_string()));
}
