//! Formats outlines and targets as tables.

use std::fmt::Write as _;

use super::{Outline, Target, Targets};
use crate::lint::report::printable;

/// The number of blanks between columns.
const GAP: usize = 4;

/// Returns the inputs of a target, with a table for each type.
pub fn outline_text(outline: &Outline) -> String {
    let mut text = String::new();
    if !outline.name.is_empty() {
        writeln!(text, "TARGET:      {}", printable(&outline.name)).ok();
    }
    if !outline.description.is_empty() {
        writeln!(text, "DESCRIPTION: {}", printable(&outline.description)).ok();
    }
    let mut tables = Vec::new();
    let rows = outline.args.iter().map(|arg| vec![arg.name.clone(), arg.value.clone(), arg.description.clone()]);
    tables.push(table(&["BUILD ARG", "VALUE", "DESCRIPTION"], rows.collect()));
    for (heading, secrets) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        let rows = secrets.iter().map(|secret| vec![secret.name.clone(), secret.required.to_string()]);
        tables.push(table(&[heading, "REQUIRED"], rows.collect()));
    }
    tables.push(table(&["CACHE"], outline.cache.iter().map(|cache| vec![cache.id.clone()]).collect()));
    for table in tables.into_iter().filter(|table| !table.is_empty()) {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&table);
    }
    text
}

/// Returns the targets of a file as a table.
pub fn targets_text(targets: &Targets) -> String {
    let name = |target: &Target| match target.default && target.name != "default" {
        true => format!("{} (default)", target.name),
        false => target.name.clone(),
    };
    let rows = targets.targets.iter().map(|target| vec![name(target), target.description.clone()]);
    table(&["TARGET", "DESCRIPTION"], rows.collect())
}

/// Returns a heading and rows in aligned columns; empty if there are no rows.
fn table(heading: &[&str], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let heading = heading.iter().map(|word| (*word).to_owned()).collect();
    columns(&std::iter::once(heading).chain(rows).collect::<Vec<_>>())
}

/// Returns rows in aligned columns.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default() + GAP).collect();
    let mut text = String::new();
    for row in &rows {
        let line: String = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(text, "{}", line.trim_end()).ok();
    }
    text
}
