//! An error and its causes, one by one or on one line.

use std::error::Error;

use super::Hint;

/// The messages of an error and of everything below it. A message that a wrapper only repeats is left out.
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

/// The same on one line, separated by colons.
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    messages(error).join(": ")
}

/// The same, and what the user can do: for an error that ends as a line of the log.
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
