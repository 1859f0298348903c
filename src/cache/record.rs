//! Records the inputs of a Dockerfile's last build, so that a miss can name what changed.
//!
//! A record is stored next to the entries under its own tag: for each step the names of its ingredients, each with a
//! part of its digest, but no values. It is read only after a miss, and only affects messages. Its size is limited
//! because registries limit manifests.

use std::collections::BTreeMap;
use std::fmt;

use crate::image::{AssembleError, Digest, Image, Platform};
use crate::plan::Plan;

use super::key::{Encoder, KeyInputs};
use super::key_inputs::Definitions;
use super::layer_image;

/// The configuration's field that holds it.
const FIELD: &str = "dev.crabwright.cache.steps";
/// The prefix of a record's tag.
const TAG: &str = "last-";
/// The most ingredients of a step that are named; the rest counts as one.
const MAX_NAMED: usize = 1000;
/// The most bytes of all names together.
const MAX_BYTES: usize = 1 << 20;
/// The name of the rest.
const REST: &str = "one of the other files";
/// The most changes that a message names.
const MAX_REPORTED: usize = 3;
/// The ingredient that changes when an earlier step does.
const EARLIER: &str = "an earlier step";

/// The ingredients of a build's steps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    steps: BTreeMap<String, Vec<(String, String)>>,
}

impl Record {
    /// Records the steps of a build.
    pub fn new(plan: &Plan, definitions: &Definitions) -> Self {
        let mut steps = BTreeMap::new();
        let mut room = MAX_BYTES;
        for (stage, key_inputs) in plan.stages.iter().zip(definitions) {
            for (number, key_inputs) in key_inputs.iter().flatten().enumerate() {
                let ingredients = named(key_inputs);
                let bytes: usize = ingredients.iter().map(|(name, digest)| name.len() + digest.len() + 8).sum();
                if let Some(left) = room.checked_sub(bytes) {
                    room = left;
                    steps.insert(label(&stage.name, number), ingredients);
                }
            }
        }
        Self { steps }
    }

    /// Returns the tag of the last build of this target of this Dockerfile.
    pub fn tag(plan: &Plan, dockerfile: &str) -> String {
        let target = &plan.stages[plan.target];
        let words = Encoder::new().text(dockerfile).text(&target.name).text(&target.config.platform().to_string());
        layer_image::tag(TAG, &words)
    }

    /// Returns the record as an image without layers, made at `now` (seconds since 1970).
    ///
    /// # Errors
    /// The image cannot be written as JSON.
    pub fn to_image(&self, platform: &Platform, now: i64) -> Result<Image, AssembleError> {
        layer_image::of_value(FIELD, &self.steps, "cache record", platform, now)
    }

    /// Reads a record's manifest; anything else is an empty record.
    pub fn read(manifest: &[u8]) -> Self {
        Self { steps: layer_image::value(FIELD, manifest).unwrap_or_default() }
    }

    /// Returns the inputs that differ from the last build, for the n-th step of a stage that makes a layer; `None` if
    /// one of the builds has no such step.
    pub fn changes(&self, last: &Self, stage: &str, number: usize) -> Option<Changes> {
        let label = label(stage, number);
        let before: BTreeMap<&str, &str> =
            last.steps.get(&label)?.iter().map(|(name, digest)| (name.as_str(), digest.as_str())).collect();
        let now: BTreeMap<&str, &str> =
            self.steps.get(&label)?.iter().map(|(name, digest)| (name.as_str(), digest.as_str())).collect();
        let current = self.steps.get(&label)?.iter().filter_map(|(name, digest)| match before.get(name.as_str()) {
            Some(old) if old == digest => None,
            Some(_) => Some(format!("{name} changed")),
            None => Some(format!("{name} is new")),
        });
        let removed = before.keys().filter(|name| !now.contains_key(*name)).map(|name| format!("{name} was removed"));
        Some(Changes(current.chain(removed).collect()))
    }
}

/// Reports whether a tag is one of a record.
pub(super) fn is_tag(tag: &str) -> bool {
    layer_image::is_tag(TAG, tag)
}

/// The inputs that differ from the last build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes(Vec<String>);

impl Changes {
    /// Reports whether the step itself changed, not only an earlier one.
    pub fn has_own(&self) -> bool {
        self.own().next().is_some()
    }

    /// Returns the changes that do not follow from others, such as a changed earlier step or a larger number of files.
    fn own(&self) -> impl Iterator<Item = &String> {
        self.0.iter().filter(|change| !change.starts_with(EARLIER) && !change.starts_with("files"))
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own: Vec<&String> = self.own().collect();
        if own.is_empty() {
            return f.write_str(if self.0.is_empty() {
                "its entry is missing, expired or unusable"
            } else {
                "an earlier step changed"
            });
        }
        for (number, change) in own.iter().take(MAX_REPORTED).enumerate() {
            // The names come from the cache, which others can write to: control characters must not reach a terminal.
            let change = change.replace(char::is_control, "\u{fffd}");
            write!(f, "{}{change}", if number == 0 { "" } else { ", " })?;
        }
        match own.len().saturating_sub(MAX_REPORTED) {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

fn label(stage: &str, number: usize) -> String {
    format!("{stage} {}", number + 1)
}

/// Returns the ingredients by name, up to the limits.
fn named(key_inputs: &KeyInputs) -> Vec<(String, String)> {
    let short = |digest: &Digest| digest.hex().chars().take(16).collect::<String>();
    let ingredients = key_inputs.ingredients();
    let (first, others) = ingredients.split_at(MAX_NAMED.min(ingredients.len()));
    let mut named: Vec<(String, String)> = first.iter().map(|(name, digest)| (name.clone(), short(digest))).collect();
    if !others.is_empty() {
        let all = others.iter().fold(Encoder::new(), |all, (name, digest)| all.text(name).text(&digest.to_string()));
        named.push((REST.to_owned(), short(&Digest::sha256_of(all.as_bytes()))));
    }
    named
}

#[cfg(test)]
mod tests {
    use super::super::key::KeyKind;
    use super::*;

    fn record(ingredients: &[(&str, &str)]) -> Record {
        let mut key_inputs = KeyInputs::new(KeyKind::Definition);
        for (name, value) in ingredients {
            key_inputs.add(*name, &Encoder::new().text(value));
        }
        Record { steps: BTreeMap::from([(label("build", 0), named(&key_inputs))]) }
    }

    fn changes(now: &[(&str, &str)], last: &[(&str, &str)]) -> String {
        record(now).changes(&record(last), "build", 0).unwrap().to_string()
    }

    #[test]
    fn changes_are_named() {
        let last = [("same", "1"), ("other", "1"), ("old", "1")];
        assert_eq!(
            changes(&[("same", "1"), ("other", "2"), ("new", "3")], &last),
            "other changed, new is new, old was removed"
        );
        assert_eq!(changes(&last, &last), "its entry is missing, expired or unusable");
        assert_eq!(changes(&[], &[("\u{1b}[2Jfile\n", "1")]), "\u{fffd}[2Jfile\u{fffd} was removed");
        assert_eq!(changes(&[("an earlier step", "1")], &[("an earlier step", "2")]), "an earlier step changed");
        assert_eq!(changes(&[("an earlier step", "1"), ("a", "1")], &[("an earlier step", "2")]), "a is new");
        let many: Vec<String> = (0..9).map(|number| format!("file {number}")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "")).collect();
        assert_eq!(changes(&many, &[]), "file 0 is new, file 1 is new, file 2 is new, and 6 more");
    }

    #[test]
    fn a_new_step_has_no_changes() {
        assert_eq!(record(&[]).changes(&record(&[]), "build", 1), None);
        assert_eq!(record(&[]).changes(&Record::default(), "build", 0), None);
    }

    #[test]
    fn ingredients_beyond_the_limit_count_as_one() {
        let names: Vec<String> = (0..MAX_NAMED + 5).map(|number| number.to_string()).collect();
        let all: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
        let mut other = all.clone();
        other[MAX_NAMED + 3].1 = "x";
        assert_eq!(changes(&all, &other), "one of the other files changed");
    }

    #[test]
    fn records_are_read_back_and_other_manifests_are_empty() {
        let record = record(&[("a", "1")]);
        let image = record.to_image(&"linux/amd64".parse().unwrap(), 0).unwrap();
        assert_eq!(Record::read(&image.manifest_bytes), record);
        for text in ["", "{}", "null", "{\"config\":{}}"] {
            assert_eq!(Record::read(text.as_bytes()), Record::default(), "{text}");
        }
    }
}
