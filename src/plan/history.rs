//! Formats the `created_by` text of each instruction, as BuildKit writes it into the image's history.

use crate::diag::redact;
use crate::dockerfile::ast::{Command, Healthcheck};
use crate::dockerfile::{format_go_duration, go_quote};
use crate::image::History;

use super::environment::Environment;
use super::steps::Copy;

/// Formats `RUN |2 A=1 B=2 /bin/sh -c text # buildkit`: the arguments in scope come first, with the value that the
/// command sees.
pub(super) fn run(arguments: &[String], build_arguments: &[(String, Option<String>)], scope: &Environment) -> String {
    let mut shown: Vec<(&str, &str)> = Vec::new();
    for (name, value) in build_arguments {
        let value = scope.get(name).or(value.as_deref()).unwrap_or("");
        match shown.iter_mut().find(|(known, _)| known == name) {
            Some(entry) => entry.1 = value,
            None => shown.push((name, value)),
        }
    }
    let mut words = vec!["RUN".to_owned()];
    if !shown.is_empty() {
        words.push(format!("|{}", shown.len()));
        words.extend(shown.iter().map(|(name, value)| format!("{name}={value}")));
    }
    words.extend(arguments.iter().cloned());
    words.push("# buildkit".to_owned());
    words.join(" ")
}

/// Formats `COPY --chown=1:2 a b /dir/ # buildkit`.
pub(super) fn copy(step: &Copy) -> String {
    let mut words = vec![if step.add { "ADD" } else { "COPY" }.to_owned()];
    words.extend(step.parents.then(|| "--parents".to_owned()));
    words.extend(step.chown.iter().map(|owner| format!("--chown={owner}")));
    words.extend(step.chmod.iter().map(|mode| format!("--chmod={mode}")));
    words.extend(step.sources.iter().cloned());
    words.extend(step.texts.iter().map(|text| format!("<<{}", text.name)));
    words.push(step.destination.clone());
    words.push("# buildkit".to_owned());
    words.join(" ")
}

/// Formats `CMD ["a" "b"]`: a list of quoted strings without commas, as Go prints one.
pub(super) fn quoted_command(keyword: &str, arguments: &[String]) -> String {
    let quoted: Vec<String> = arguments.iter().map(|argument| go_quote(argument)).collect();
    format!("{keyword} {}", list(&quoted))
}

/// Formats `ENV A=1 B=two words`.
pub(super) fn pairs(keyword: &str, pairs: &[(String, String)]) -> String {
    let words: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{keyword} {}", words.join(" "))
}

/// Formats `HEALTHCHECK {Test:[CMD-SHELL true] Interval:1s …}`.
pub(super) fn healthcheck(check: &Healthcheck) -> String {
    let (test, numbers, retries) = match check {
        Healthcheck::None => (vec!["NONE".to_owned()], [0; 4], 0),
        Healthcheck::Check { command, interval, timeout, start_period, start_interval, retries } => {
            (healthcheck_test(command), [*interval, *timeout, *start_period, *start_interval], *retries)
        }
    };
    let [interval, timeout, start_period, start_interval] = numbers.map(format_go_duration);
    format!(
        "HEALTHCHECK {{Test:{} Interval:{interval} Timeout:{timeout} StartPeriod:{start_period} \
         StartInterval:{start_interval} Retries:{retries}}}",
        list(&test)
    )
}

/// Returns the `Test` of a health check (Docker image specification).
pub(super) fn healthcheck_test(command: &Command) -> Vec<String> {
    match command {
        Command::Shell(text) => vec!["CMD-SHELL".to_owned(), text.clone()],
        Command::Exec(arguments) => std::iter::once("CMD".to_owned()).chain(arguments.iter().cloned()).collect(),
    }
}

/// Formats a list like Go's `%v` of `[]string`: `[a b]`.
pub(super) fn list(items: &[String]) -> String {
    format!("[{}]", items.join(" "))
}

/// Returns a history entry as BuildKit writes it, without its time.
pub(super) fn entry(created_by: &str, empty_layer: bool) -> History {
    History {
        // More people may read the image than the Dockerfile.
        created_by: Some(redact::text(created_by)),
        comment: Some("buildkit.dockerfile.v0".to_owned()),
        empty_layer,
        ..History::default()
    }
}
