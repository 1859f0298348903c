//! Parses `HEALTHCHECK`.

use super::ast::{Command, Healthcheck};
use super::error::Problem;
use super::flags::{FlagKind, Flags};
use super::go::{go_quote, parse_go_duration};
use super::json;
use super::statement::Statement;
use super::words::{split_first, trim};

/// The shortest duration other than 0, in nanoseconds (Docker's `container.MinimumDuration`).
const MINIMUM_DURATION: i64 = 1_000_000;

const FLAGS: [(&str, FlagKind); 5] = [
    ("interval", FlagKind::Value),
    ("timeout", FlagKind::Value),
    ("start-period", FlagKind::Value),
    ("start-interval", FlagKind::Value),
    ("retries", FlagKind::Value),
];

/// Parses the arguments of `HEALTHCHECK`.
pub(super) fn convert(statement: &Statement<'_>) -> Result<Healthcheck, Vec<Problem>> {
    let line = &statement.line.text;
    if statement.arguments.is_empty() {
        let problem = Problem::new(statement.keyword_range.clone(), "HEALTHCHECK requires at least one argument");
        return Err(vec![problem.with_hint("write HEALTHCHECK CMD command or HEALTHCHECK NONE")]);
    }
    let (kind_range, rest) = split_first(line, statement.arguments.clone());
    let kind = &line[kind_range.clone()];
    if kind.eq_ignore_ascii_case("NONE") {
        // Options are ignored, because there is no check that they could apply to.
        return match rest {
            None => Ok(Healthcheck::None),
            Some(rest) => Err(vec![Problem::new(rest, "HEALTHCHECK NONE takes no arguments")]),
        };
    }
    let mut problems = Vec::new();
    let flags = Flags::check(statement.line, &statement.flags, &FLAGS, &mut problems);
    let mut command = None;
    if !kind.eq_ignore_ascii_case("CMD") {
        let message = format!("unknown type {} in HEALTHCHECK (try CMD)", go_quote(&kind.to_uppercase()));
        problems.push(Problem::new(kind_range, message));
    } else {
        match rest.map_or(Ok(None), |rest| self::command(line, trim(line, rest))) {
            Ok(Some(given)) => command = Some(given),
            Ok(None) => problems.push(Problem::new(kind_range, "missing command after HEALTHCHECK CMD")),
            Err(problem) => problems.push(problem),
        }
    }
    let mut duration = |name| {
        parse_duration(&flags, name).unwrap_or_else(|problem| {
            problems.push(problem);
            0
        })
    };
    let interval = duration("interval");
    let timeout = duration("timeout");
    let start_period = duration("start-period");
    let start_interval = duration("start-interval");
    let retries = parse_retries(&flags).unwrap_or_else(|problem| {
        problems.push(problem);
        0
    });
    match command {
        Some(command) if problems.is_empty() => {
            Ok(Healthcheck::Check { command, interval, timeout, start_period, start_interval, retries })
        }
        _ => Err(problems),
    }
}

fn command(line: &str, range: std::ops::Range<usize>) -> Result<Option<Command>, Problem> {
    let text = &line[range.clone()];
    Ok(match json::parse(line, range)? {
        Some(tokens) if tokens.is_empty() => None,
        Some(tokens) => Some(Command::Exec(tokens.into_iter().map(|token| token.text).collect())),
        None => (!text.is_empty()).then(|| Command::Shell(text.to_owned())),
    })
}

fn parse_duration(flags: &Flags, name: &str) -> Result<i64, Problem> {
    let Some((value, range)) = flags.value_and_range(name).filter(|(value, _)| !value.text.is_empty()) else {
        return Ok(0);
    };
    let nanoseconds = parse_go_duration(&value.text).map_err(|message| {
        Problem::new(range.clone(), message).with_hint("a duration is a number and a unit, such as 30s, 1m30s or 500ms")
    })?;
    if nanoseconds != 0 && nanoseconds < MINIMUM_DURATION {
        let message = format!("Interval {} cannot be less than 1ms", go_quote(name));
        return Err(Problem::new(range, message).with_hint("0 means the default"));
    }
    Ok(nanoseconds)
}

fn parse_retries(flags: &Flags) -> Result<i64, Problem> {
    let Some((value, range)) = flags.value_and_range("retries").filter(|(value, _)| !value.text.is_empty()) else {
        return Ok(0);
    };
    let retries: i32 = value.text.parse().map_err(|_| {
        Problem::new(
            range.clone(),
            format!("invalid value {} for --retries: expected a whole number", go_quote(&value.text)),
        )
    })?;
    if retries < 0 {
        return Err(Problem::new(range, format!("--retries cannot be negative ({retries})")));
    }
    Ok(i64::from(retries))
}
