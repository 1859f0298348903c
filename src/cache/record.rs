//! What the last build of a Dockerfile was made of, so that a miss can say what is another one now.
//!
//! A record lies beside the entries under a tag of its own: for each step the names of its ingredients with a piece of each
//! one's digest, no values. It is read only when something is not in the cache, believed in nothing but what it makes a
//! message say, and bounded, as registries bound manifests.

use std::collections::BTreeMap;
use std::fmt;

use crate::image::{AssembleError, Digest, Image, Platform};
use crate::plan::Plan;

use super::key::{Encoder, KeyInputs};
use super::key_inputs::Definitions;
use super::layer_image;

/// The field of the configuration that holds it.
const FIELD: &str = "dev.crabwright.cache.steps";
/// What a record's tag starts with.
const TAG: &str = "last-";
/// How many ingredients of a step are named; those behind count together.
const MOST_NAMED: usize = 1000;
/// Bytes that all names together may have.
const MOST_BYTES: usize = 1 << 20;
/// What those behind are called.
const OTHERS: &str = "one of the other files";
/// How many changes a message names.
const MOST_TOLD: usize = 3;
/// An ingredient that is another one only because an earlier step is.
const EARLIER: &str = "an earlier step";

/// The ingredients of the steps of one build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    steps: BTreeMap<String, Vec<(String, String)>>,
}

impl Record {
    /// Of a build.
    pub fn new(plan: &Plan, definitions: &Definitions) -> Self {
        let mut steps = BTreeMap::new();
        let mut room = MOST_BYTES;
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

    /// The tag of the last build of this target of this Dockerfile.
    pub fn tag(plan: &Plan, dockerfile: &str) -> String {
        let target = &plan.stages[plan.target];
        let words = Encoder::new().text(dockerfile).text(&target.name).text(&target.config.platform().to_string());
        layer_image::tag(TAG, &words)
    }

    /// The record as an image without layers, made at `now` (seconds since 1970).
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn to_image(&self, platform: &Platform, now: i64) -> Result<Image, AssembleError> {
        layer_image::of_value(FIELD, &self.steps, "cache record", platform, now)
    }

    /// Reads a record's manifest; empty where it is something else.
    pub fn read(manifest: &[u8]) -> Self {
        Self { steps: layer_image::value(FIELD, manifest).unwrap_or_default() }
    }

    /// What is another one in this record than in the last build's, by the number of a step among those of its stage that
    /// make layers. `None` where nothing is known of that step.
    pub fn changes(&self, last: &Self, stage: &str, number: usize) -> Option<Changes> {
        let label = label(stage, number);
        let before: BTreeMap<&str, &str> =
            last.steps.get(&label)?.iter().map(|(name, digest)| (name.as_str(), digest.as_str())).collect();
        let now: BTreeMap<&str, &str> =
            self.steps.get(&label)?.iter().map(|(name, digest)| (name.as_str(), digest.as_str())).collect();
        let here = self.steps.get(&label)?.iter().filter_map(|(name, digest)| match before.get(name.as_str()) {
            Some(old) if old == digest => None,
            Some(_) => Some(format!("{name} changed")),
            None => Some(format!("{name} is new")),
        });
        let gone = before.keys().filter(|name| !now.contains_key(*name)).map(|name| format!("{name} is gone"));
        Some(Changes(here.chain(gone).collect()))
    }
}

/// Whether a tag is that of a record.
pub(super) fn is_tag(tag: &str) -> bool {
    layer_image::is_tag(TAG, tag)
}

/// What is another one than in the last build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes(Vec<String>);

impl Changes {
    /// Whether the step itself is another one, and not only what it starts from.
    pub fn has_own(&self) -> bool {
        self.own().next().is_some()
    }

    /// That the step before is another one, or that there are more files, follows from something else or is said by it.
    fn own(&self) -> impl Iterator<Item = &String> {
        self.0.iter().filter(|change| !change.starts_with(EARLIER) && !change.starts_with("files"))
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own: Vec<&String> = self.own().collect();
        if own.is_empty() {
            return f.write_str(if self.0.is_empty() {
                "its entry is not there any more"
            } else {
                "an earlier step changed"
            });
        }
        for (number, change) in own.iter().take(MOST_TOLD).enumerate() {
            // Names of the last build are what somebody wrote into the cache: no terminal may take them for commands.
            let change = change.replace(char::is_control, "\u{fffd}");
            write!(f, "{}{change}", if number == 0 { "" } else { ", " })?;
        }
        match own.len().saturating_sub(MOST_TOLD) {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

fn label(stage: &str, number: usize) -> String {
    format!("{stage} {}", number + 1)
}

/// The ingredients by name, so many as are kept.
fn named(key_inputs: &KeyInputs) -> Vec<(String, String)> {
    let short = |digest: &Digest| digest.hex().chars().take(16).collect::<String>();
    let ingredients = key_inputs.ingredients();
    let (first, others) = ingredients.split_at(MOST_NAMED.min(ingredients.len()));
    let mut named: Vec<(String, String)> = first.iter().map(|(name, digest)| (name.clone(), short(digest))).collect();
    if !others.is_empty() {
        let all = others.iter().fold(Encoder::new(), |all, (name, digest)| all.text(name).text(&digest.to_string()));
        named.push((OTHERS.to_owned(), short(&Digest::sha256_of(all.as_bytes()))));
    }
    named
}

#[cfg(test)]
mod tests {
    use super::super::key::Kind;
    use super::*;

    fn record(ingredients: &[(&str, &str)]) -> Record {
        let mut key_inputs = KeyInputs::new(Kind::Definition);
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
            "other changed, new is new, old is gone"
        );
        assert_eq!(changes(&last, &last), "its entry is not there any more");
        assert_eq!(changes(&[], &[("\u{1b}[2Jfile\n", "1")]), "\u{fffd}[2Jfile\u{fffd} is gone");
        assert_eq!(changes(&[("an earlier step", "1")], &[("an earlier step", "2")]), "an earlier step changed");
        assert_eq!(changes(&[("an earlier step", "1"), ("a", "1")], &[("an earlier step", "2")]), "a is new");
        let many: Vec<String> = (0..9).map(|number| format!("file {number}")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "")).collect();
        assert_eq!(changes(&many, &[]), "file 0 is new, file 1 is new, file 2 is new, and 6 more");
    }

    #[test]
    fn a_step_that_was_not_there_has_no_changes() {
        assert_eq!(record(&[]).changes(&record(&[]), "build", 1), None);
        assert_eq!(record(&[]).changes(&Record::default(), "build", 0), None);
    }

    #[test]
    fn more_ingredients_than_are_named_count_together() {
        let names: Vec<String> = (0..MOST_NAMED + 5).map(|number| number.to_string()).collect();
        let all: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
        let mut other = all.clone();
        other[MOST_NAMED + 3].1 = "x";
        assert_eq!(changes(&all, &other), "one of the other files changed");
    }

    #[test]
    fn a_record_is_read_back_and_anything_else_is_an_empty_one() {
        let record = record(&[("a", "1")]);
        let image = record.to_image(&"linux/amd64".parse().unwrap(), 0).unwrap();
        assert_eq!(Record::read(&image.manifest_bytes), record);
        for text in ["", "{}", "null", "{\"config\":{}}"] {
            assert_eq!(Record::read(text.as_bytes()), Record::default(), "{text}");
        }
    }
}
