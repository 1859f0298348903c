//! Reads the `--name=value` words between the keyword and the arguments.

use std::ops::Range;

use crate::diag::suggest;

use super::ast::{Flag, Word};
use super::error::Problem;
use super::lines::LogicalLine;

/// A flag as written, quotes and escapes processed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawFlag {
    /// The text, with the dashes.
    text: String,
    /// The word in the logical line.
    range: Range<usize>,
    /// The start of the value in the logical line, if there is a `=`.
    value_start: Option<usize>,
}

/// Splits the flags off the front of the arguments; returns also the remaining range.
///
/// A backslash escapes, independent of the `escape` directive, and `--` ends the flags.
pub(super) fn extract(line: &str, range: Range<usize>) -> (Vec<RawFlag>, Range<usize>) {
    let mut flags = Vec::new();
    let mut position = range.start;
    loop {
        let rest = &line[position..range.end];
        position += rest.len() - rest.trim_start().len();
        if !line[position..range.end].starts_with("--") {
            return (flags, position..range.end);
        }
        let flag = raw_flag(line, position..range.end);
        position = flag.range.end;
        if flag.text == "--" {
            return (flags, position..range.end);
        }
        flags.push(flag);
    }
}

fn raw_flag(line: &str, range: Range<usize>) -> RawFlag {
    let mut flag = RawFlag { text: String::new(), range: range.clone(), value_start: None };
    let mut quote = None;
    let mut characters = line[range.clone()].char_indices();
    while let Some((offset, c)) = characters.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => {
                flag.range.end = range.start + offset;
                break;
            }
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (_, '\\') => flag.text.extend(characters.next().map(|(_, escaped)| escaped)),
            (_, c) => {
                if c == '=' && flag.value_start.is_none() {
                    flag.value_start = Some(range.start + offset + 1);
                }
                flag.text.push(c);
            }
        }
    }
    flag
}

/// The type of a flag's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FlagKind {
    /// Nothing, `=true` or `=false`.
    Bool,
    /// One value.
    Value,
    /// One value for each occurrence.
    Values,
}

/// The flags of an instruction, checked against those that it supports.
#[derive(Debug, Default)]
pub(super) struct Flags {
    bools: Vec<(&'static str, Flag)>,
    values: Vec<(&'static str, Word, Range<usize>)>,
}

impl Flags {
    /// Checks every flag, and adds the errors to `problems`.
    pub(super) fn check(
        line: &LogicalLine,
        raw: &[RawFlag],
        known: &[(&'static str, FlagKind)],
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut flags = Self::default();
        let mut seen = Vec::new();
        for flag in raw {
            let written = flag.text.strip_prefix("--").unwrap_or(&flag.text);
            let (name, value) = match written.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (written, None),
            };
            let problem = |message: String| Problem::new(flag.range.clone(), message);
            let Some((name, takes)) = known.iter().find(|(known, _)| *known == name).copied() else {
                let suggestion = suggest(name, known.iter().map(|(known, _)| *known)).map(|flag| format!("--{flag}"));
                let mut problem = problem(format!("unknown flag: --{name}")).with_suggestion(suggestion);
                if problem.hint.is_none() {
                    problem.hint = Some(known_flags(known));
                }
                problems.push(problem);
                continue;
            };
            if takes != FlagKind::Values && seen.contains(&name) {
                problems.push(problem(format!("duplicate flag specified: --{name}")));
                continue;
            }
            seen.push(name);
            let span = line.span(flag.range.clone());
            match (takes, value) {
                (FlagKind::Bool, None) => flags.bools.push((name, Flag { value: true, span })),
                (FlagKind::Bool, Some(value)) => match value.to_lowercase().as_str() {
                    "" => problems.push(
                        problem(format!("missing a value on flag: --{name}"))
                            .with_hint(format!("write --{name}, --{name}=true or --{name}=false")),
                    ),
                    "true" => flags.bools.push((name, Flag { value: true, span })),
                    "false" => flags.bools.push((name, Flag { value: false, span })),
                    _ => problems.push(problem(format!("expecting boolean value for flag --{name}, not: {value}"))),
                },
                (_, Some(value)) => {
                    let start = flag.value_start.unwrap_or(flag.range.end);
                    let range = start..flag.range.end;
                    flags.values.push((name, Word { text: value.to_owned(), span: line.span(range.clone()) }, range));
                }
                (_, None) => problems.push(
                    problem(format!("missing a value on flag: --{name}")).with_hint(format!("write --{name}=VALUE")),
                ),
            }
        }
        flags
    }

    /// Returns a boolean flag, if present.
    pub(super) fn bool(&self, name: &str) -> Option<Flag> {
        self.bools.iter().find(|(given, _)| *given == name).map(|(_, flag)| flag.clone())
    }

    /// Returns the value of a flag, if present.
    pub(super) fn value(&self, name: &str) -> Option<Word> {
        self.value_and_range(name).map(|(word, _)| word.clone())
    }

    /// Returns the value of a flag, if present, and its range in the logical line.
    pub(super) fn value_and_range(&self, name: &str) -> Option<(&Word, Range<usize>)> {
        self.values.iter().find(|(given, ..)| *given == name).map(|(_, word, range)| (word, range.clone()))
    }

    /// Returns the values of a flag that may be repeated, and their ranges in the logical line.
    pub(super) fn values_and_ranges<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a Word, Range<usize>)> {
        self.values.iter().filter(move |(given, ..)| *given == name).map(|(_, word, range)| (word, range.clone()))
    }

    /// Returns the values of a flag that may be repeated.
    pub(super) fn values(&self, name: &str) -> Vec<Word> {
        self.values.iter().filter(|(given, ..)| *given == name).map(|(_, word, _)| word.clone()).collect()
    }
}

fn known_flags(known: &[(&'static str, FlagKind)]) -> String {
    if known.is_empty() {
        return "this instruction has no flags; write -- before arguments that start with dashes".to_owned();
    }
    let names = known.iter().map(|(name, _)| format!("--{name}")).collect::<Vec<_>>();
    format!("this instruction has {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::{FlagKind, Flags, extract};
    use crate::dockerfile::lines::LineReader;

    fn extracted(line: &str) -> (Vec<String>, &str) {
        let (flags, rest) = extract(line, 0..line.len());
        (flags.into_iter().map(|flag| flag.text).collect(), &line[rest])
    }

    #[test]
    fn flags_end_at_the_first_other_word() {
        for (line, flags, rest) in [
            ("--a --b=c d --e", &["--a", "--b=c"][..], "d --e"),
            ("  --a=\"x y\" z", &["--a=x y"], "z"),
            ("--a='x'\\ y z", &["--a=x y"], "z"),
            ("--a -- --b", &["--a"], " --b"),
            ("--a", &["--a"], ""),
            ("--a=\"x\\\"y\" z", &["--a=x\"y"], "z"),
            ("--a=\"open z", &["--a=open z"], ""),
            ("--a\\", &["--a"], ""),
            ("-a b", &[], "-a b"),
            ("", &[], ""),
        ] {
            let (found, left) = extracted(line);
            assert_eq!(found, flags, "{line}");
            assert_eq!(left, rest, "{line}");
        }
    }

    fn check(text: &str) -> (Flags, Vec<(String, Option<String>)>) {
        let line = LineReader::new(text, 0, '\\').logical().expect("a line");
        let (raw, _) = extract(&line.text, 0..line.text.len());
        let mut problems = Vec::new();
        let known = [("link", FlagKind::Bool), ("chown", FlagKind::Value), ("exclude", FlagKind::Values)];
        let flags = Flags::check(&line, &raw, &known, &mut problems);
        (flags, problems.into_iter().map(|problem| (problem.message, problem.hint)).collect())
    }

    #[test]
    fn values_and_their_ranges() {
        let text = "--chown=a:b --exclude=x --link --exclude=\"y z\" rest";
        let (flags, problems) = check(text);
        assert_eq!(problems, []);
        let chown = flags.value("chown").expect("chown");
        assert_eq!((chown.text.as_str(), &text[chown.span]), ("a:b", "a:b"));
        let excludes = flags.values("exclude");
        assert_eq!(excludes.iter().map(|word| word.text.as_str()).collect::<Vec<_>>(), ["x", "y z"]);
        assert_eq!(flags.bool("link").map(|flag| flag.value), Some(true));
        assert_eq!(check("--link=FALSE x").0.bool("link").map(|flag| flag.value), Some(false));
        assert_eq!(check("--chown= x").0.value("chown").map(|word| word.text).as_deref(), Some(""));
    }

    #[test]
    fn invalid_flags_are_reported() {
        for (text, message, hint) in [
            ("--chwon=1 x", "unknown flag: --chwon", "did you mean --chown?"),
            ("--zzz x", "unknown flag: --zzz", "this instruction has --link, --chown, --exclude"),
            ("--chown x", "missing a value on flag: --chown", "write --chown=VALUE"),
            ("--link= x", "missing a value on flag: --link", "write --link, --link=true or --link=false"),
        ] {
            assert_eq!(check(text).1, [(message.to_owned(), Some(hint.to_owned()))], "{text}");
        }
        assert_eq!(check("--chown=1 --chown=2 x").1[0].0, "duplicate flag specified: --chown");
        assert_eq!(check("--link --link x").1[0].0, "duplicate flag specified: --link");
        assert_eq!(check("--link=maybe x").1[0].0, "expecting boolean value for flag --link, not: maybe");
        assert_eq!(check("--what --link=maybe --chown x").1.len(), 3, "all of them in one run");
    }
}
