//! Named contexts (`--build-context`): what they are, and which names of a Dockerfile mean one.

use crate::image::Reference;

/// Something a Dockerfile can name besides its own stages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedContext {
    /// The name, as given.
    pub name: String,
    /// What it stands for.
    pub source: NamedSource,
}

/// What a named context stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedSource {
    /// A directory, by its number among the directories that were given.
    Directory(usize),
    /// An image.
    Image(Reference),
}

/// The context that `text` names: it goes before a stage and before an image of that name. `alpine` also names
/// `docker.io/library/alpine:latest`, as for images.
pub(super) fn find<'a>(contexts: &'a [NamedContext], text: &str) -> Option<&'a NamedSource> {
    // The last one given counts.
    contexts.iter().rev().find(|context| same_name(&context.name, text)).map(|context| &context.source)
}

/// The names of those that are directories, by their number.
pub(super) fn directories(contexts: &[NamedContext]) -> Vec<String> {
    let mut numbered: Vec<(usize, String)> = contexts
        .iter()
        .filter_map(|context| match context.source {
            NamedSource::Directory(number) => Some((number, context.name.clone())),
            NamedSource::Image(_) => None,
        })
        .collect();
    numbered.sort_unstable();
    numbered.into_iter().map(|(_, name)| name).collect()
}

fn same_name(one: &str, other: &str) -> bool {
    let (one, other) = (one.to_lowercase(), other.to_lowercase());
    one == other || matches!((canonical(&one), canonical(&other)), (Some(one), Some(other)) if one == other)
}

fn canonical(name: &str) -> Option<String> {
    let reference = Reference::parse(name).ok()?;
    let untagged = reference.tag.is_none() && reference.digest.is_none();
    Some(if untagged { format!("{reference}:latest") } else { reference.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_as_image_references() {
        let contexts: Vec<NamedContext> = ["Src", "alpine:latest", "src"]
            .iter()
            .enumerate()
            .map(|(number, name)| NamedContext { name: (*name).to_owned(), source: NamedSource::Directory(number) })
            .collect();
        for (text, number) in [
            ("src", Some(2)),
            ("SRC", Some(2)),
            ("alpine", Some(1)),
            ("docker.io/library/alpine", Some(1)),
            ("alpine:3", None),
            ("other", None),
            ("", None),
        ] {
            assert_eq!(find(&contexts, text), number.map(NamedSource::Directory).as_ref(), "{text}");
        }
    }
}
