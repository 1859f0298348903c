//! The repositories of an image's destinations.

use super::error::PushError;
use crate::image::Reference;

/// Checks that every destination is a tag.
pub(super) fn check_tags(destinations: &[Reference]) -> Result<(), PushError> {
    match destinations.iter().find(|destination| destination.digest.is_some()) {
        Some(destination) => Err(PushError::Digest { destination: Box::new(destination.clone()) }),
        None => Ok(()),
    }
}

/// Returns the repositories of the destinations, each once, in their order.
pub(super) fn repositories(destinations: &[Reference]) -> Vec<Reference> {
    let mut repositories: Vec<Reference> = Vec::new();
    for destination in destinations {
        if !repositories.iter().any(|repository| repository.same_repository(destination)) {
            repositories.push(destination.without_tag());
        }
    }
    repositories
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;

    #[test]
    fn repositories_are_distinct() {
        let parse = |text: &str| Reference::parse(text).unwrap();
        let all = ["r.example/a:1", "r.example/b:1", "r.example/a:2"].map(parse);
        assert_eq!(repositories(&all), ["r.example/a", "r.example/b"].map(parse));
        let pinned = parse("a").with_digest(Digest::sha256_of(b""));
        assert!(matches!(check_tags(&[pinned]), Err(PushError::Digest { .. })));
    }
}
