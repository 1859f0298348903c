//! Named contexts (`--build-context`), and the names of a Dockerfile that refer to them.

use crate::image::Reference;

/// A name that a Dockerfile can use in addition to its own stages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedContext {
    /// The name as written.
    pub name: String,
    /// The source of its files.
    pub source: NamedSource,
}

/// The source of a named context's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedSource {
    /// A directory, by its number among the directories of `--build-context`.
    Directory(usize),
    /// An image.
    Image(Reference),
}

/// Returns the context that `text` names, which takes precedence over a stage and an image of that name. `alpine` also
/// names `docker.io/library/alpine:latest`, as for images.
pub(super) fn find<'a>(contexts: &'a [NamedContext], text: &str) -> Option<&'a NamedSource> {
    // The last one counts.
    contexts.iter().rev().find(|context| same_name(&context.name, text)).map(|context| &context.source)
}

/// Returns the names of the directories, by number.
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
