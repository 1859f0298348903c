//! docs/reference/flags.md: the flags of every command, generated from their definitions and compared with the file.
//! `UPDATE_DOCS=1 cargo test --test it documents` writes it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::{Arg, Command};
use crabwright::cli::all_commands;

use crate::support::markdown::generated;

/// The heading of flags that have none of their own.
const OTHER: &str = "Options";
/// That of words without a flag.
const ARGUMENTS: &str = "Arguments";

#[test]
fn documents_list_the_flags_of_every_command() {
    let commands = all_commands();
    let build = &commands[0];
    let mut text = String::from(
        "# Flags\n\n\
         Generated from the definitions of the flags; a test compares this file with them. Names, defaults\n\
         and meanings are kaniko's, those of outputs also those of `docker buildx build`. An unknown flag is\n\
         refused with the nearest name. The same text is in `--help` and in the [man page](../crabwright.1).\n\
         The status of each flag of kaniko is in [kaniko-flags.md](../kaniko-flags.md).\n\n",
    );
    for command in &commands {
        let name = command.get_bin_name().unwrap_or(command.get_name());
        let is_build = command.get_name() == build.get_name();
        if is_build {
            text.push_str("A boolean flag may be given as `--flag`, `--flag=true` or `--flag=false`.\n\n");
        } else {
            writeln!(text, "## {name}\n\n{}.\n", about(command)).unwrap();
        }
        let (shared, own): (Vec<&Arg>, Vec<&Arg>) =
            visible(command).partition(|arg| !is_build && visible(build).any(|other| is_same(arg, other)));
        for (heading, flags) in by_heading(&own) {
            let level = if is_build { "##" } else { "###" };
            writeln!(text, "{level} {heading}\n\n| flag | default | meaning |\n| --- | --- | --- |").unwrap();
            flags.iter().for_each(|flag| row(&mut text, flag));
            text.push('\n');
        }
        if !shared.is_empty() {
            let names: Vec<String> = shared.iter().map(|arg| format!("`--{}`", arg.get_long().unwrap())).collect();
            text.push_str(&wrapped(&format!("As in a build: {}.", names.join(", "))));
            text.push_str("\n\n");
        }
        if let Some(notes) = command.get_after_help() {
            let heading = if is_build { "## Environment and exit status\n\n" } else { "" };
            writeln!(text, "{heading}```text\n{}\n```\n", notes.to_string().trim_end()).unwrap();
        }
    }
    for flag in ["--destination", "--cache-repo", "--keep", "--offline", "--password-stdin"] {
        assert!(text.contains(flag), "{flag} is missing");
    }
    generated("docs/reference/flags.md", &format!("{}\n", text.trim_end()));
}

fn visible(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str()))
}

/// Whether two commands have the same flag: one of another meaning has another text.
fn is_same(arg: &Arg, other: &Arg) -> bool {
    arg.get_id() == other.get_id()
        && arg.get_help().map(ToString::to_string) == other.get_help().map(ToString::to_string)
}

/// The first sentence of a command's description.
fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default().trim_end_matches('.').to_owned()
}

/// Flags by their headings, which keep the order of their first flags.
fn by_heading<'a>(flags: &[&'a Arg]) -> Vec<(&'a str, Vec<&'a Arg>)> {
    let mut order = Vec::new();
    let mut groups: BTreeMap<&str, Vec<&Arg>> = BTreeMap::new();
    for flag in flags {
        let heading = if flag.is_positional() { ARGUMENTS } else { flag.get_help_heading().unwrap_or(OTHER) };
        if !order.contains(&heading) {
            order.push(heading);
        }
        groups.entry(heading).or_default().push(flag);
    }
    order.into_iter().map(|heading| (heading, groups.remove(heading).unwrap())).collect()
}

fn is_boolean(flag: &Arg) -> bool {
    flag.get_value_names().is_some_and(|names| names == ["true|false"])
}

/// `-d`, `--destination IMAGE`, and other visible spellings.
fn names(flag: &Arg) -> String {
    let value = flag.get_value_names().filter(|_| !is_boolean(flag)).and_then(|names| names.first());
    let value = value.filter(|_| flag.get_action().takes_values()).map(|name| format!(" {name}")).unwrap_or_default();
    let short = flag.get_short().map(|letter| format!("`-{letter}`"));
    let long = flag.get_long_and_visible_aliases().unwrap_or_default();
    let long = long.iter().map(|name| format!("`--{name}{value}`"));
    let spellings: Vec<String> = short.into_iter().chain(long).collect();
    if spellings.is_empty() { format!("`{}`", value.trim()) } else { spellings.join(", ") }
}

fn row(text: &mut String, flag: &Arg) {
    let meaning = flag.get_long_help().or(flag.get_help()).map(ToString::to_string).unwrap_or_default();
    // A default that is not a value is part of the text.
    let (meaning, described) = match meaning.split_once("[default: ") {
        Some((before, rest)) => {
            let (default, after) = rest.split_once(']').unwrap();
            (format!("{}{after}", before.trim_end()), Some(default.to_owned()))
        }
        None => (meaning, None),
    };
    let values: Vec<_> = flag.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    let default = match (described, values.join(",").as_str()) {
        (Some(described), _) => described,
        (None, "true") if is_boolean(flag) => "on".to_owned(),
        (None, "false") if is_boolean(flag) => "off".to_owned(),
        (None, value) if value.is_empty() || flag.is_hide_default_value_set() => String::new(),
        (None, value) => format!("`{value}`"),
    };
    // The first paragraph of a definition has no full stop, as clap leaves it out of one that stands alone.
    let paragraphs: Vec<String> = meaning.split("\n\n").map(|paragraph| sentence(&cell(paragraph))).collect();
    writeln!(text, "| {} | {} | {} |", cell(&names(flag)), cell(&default), paragraphs.join(" ")).unwrap();
}

/// With a full stop where it has none.
fn sentence(text: &str) -> String {
    if text.is_empty() || text.ends_with(['.', ':', '!', '?']) { text.to_owned() } else { format!("{text}.") }
}

fn cell(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.replace('|', "\\|").replace('<', "&lt;").replace('*', "\\*")
}

/// Lines of at most 100 columns; a code span stays on one line.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_inclusive(", ") {
        let last = lines.last_mut().unwrap();
        if last.len() + word.trim_end().len() > 100 {
            *last = last.trim_end().to_owned();
            lines.push(word.to_owned());
        } else {
            last.push_str(word);
        }
    }
    lines.join("\n")
}
