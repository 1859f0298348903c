//! Formats a plan as text (`--dryrun`): images, stages with their steps, and the result of each step.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::table::columns;
use crate::dockerfile::ast::Dockerfile;
use crate::plan::{Action, Base, CopyFrom, Plan};

/// Returns the text, in the order of the file. It does not depend on timing.
pub fn plan_text(plan: &Plan, file: &Dockerfile) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let images = plan.images.iter().map(|image| {
        let layers = image.layers.len();
        let plural = if layers == 1 { "" } else { "s" };
        vec![format!("pull    {}", image.reference), image.digest.to_string(), format!("{layers} layer{plural}")]
    });
    text.push_str(&columns(&images.collect::<Vec<_>>()));
    for (index, stage) in plan.stages.iter().enumerate() {
        let role = if index == plan.target { ", which becomes the image" } else { "" };
        writeln!(text, "build   stage {}{role}", stage.name).ok();
        let from = match stage.base {
            Base::Scratch => "from nothing".to_owned(),
            Base::Image(image) => format!("from image {}", plan.images[image].reference),
            Base::Stage(parent) => format!("from stage {}", plan.stages[parent].name),
        };
        let mut rows = vec![vec![format!("        {}", stage.from_text), from]];
        for step in &stage.steps {
            rows.push(vec![format!("        {}", shortened(&step.text)), effect(plan, &step.action)]);
        }
        text.push_str(&columns(&rows));
    }
    let built: BTreeSet<&str> = plan.stages.iter().map(|stage| stage.name.as_str()).collect();
    for (index, stage) in file.stages.iter().enumerate() {
        let name = stage.from.name.as_ref().map_or_else(|| format!("stage-{index}"), |name| name.text.to_lowercase());
        if !built.contains(name.as_str()) {
            writeln!(text, "skip    stage {name}, which nothing needs").ok();
        }
    }
    text
}

/// Returns a step's effect on the image.
fn effect(plan: &Plan, action: &Action) -> String {
    let sources: Vec<String> = action
        .origins()
        .into_iter()
        .filter_map(|from| match from {
            CopyFrom::Context | CopyFrom::Directory(_) => None,
            CopyFrom::Stage(stage) => Some(format!("stage {}", plan.stages[stage].name)),
            CopyFrom::Image(image) => Some(format!("image {}", plan.images[image].reference)),
        })
        .collect();
    let kind = if action.makes_layer() { "layer" } else { "configuration" };
    if sources.is_empty() { kind.to_owned() } else { format!("{kind}, with files of {}", sources.join(", ")) }
}

/// Shortens long instructions; the Dockerfile has the full text.
fn shortened(text: &str) -> String {
    const WIDTH: usize = 72;
    match text.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
