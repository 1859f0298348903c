//! Formats an error and its causes, as a list or on one line.

use std::error::Error;

use super::Hint;

/// Returns the messages of an error and its sources. A message that a wrapper only repeats is left out.
pub fn messages(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut messages = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        let message = cause.to_string();
        if messages.last() != Some(&message) {
            messages.push(message);
        }
        next = cause.source();
    }
    messages
}

/// Returns the messages on one line, separated by colons.
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    messages(error).join(": ")
}

/// Returns the messages and the hint on one line, for errors that are only logged.
pub fn with_hint(error: &(impl Hint + 'static)) -> String {
    match error.hint() {
        Some(hint) => format!("{}; hint: {hint}", with_causes(error)),
        None => with_causes(error),
    }
}

#[cfg(test)]
mod tests {
    use super::with_causes;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Layer>>);

    #[test]
    fn causes_follow_and_repetitions_do_not() {
        let below = Layer("wet", None);
        let wrapper = Layer("it rains", Some(Box::new(Layer("it rains", Some(Box::new(below))))));
        assert_eq!(with_causes(&wrapper), "it rains: wet");
    }
}
