//! The command line: turns flags into a validated request, sets up the log, and prints errors.

mod commands;
mod env;
pub mod failure;
mod flags;
pub mod kaniko;
mod lint;
mod logging;
mod login;
mod parse;
mod prune;
mod push;
mod request;
mod snippet;
#[cfg(test)]
mod typed;
mod usage;
mod values;
mod warmer;

pub use commands::{all_commands, command};
pub use env::Env;
pub use failure::Failure;
pub use flags::BuildFlags;
pub use flags::log::LogFlags;
pub use flags::warmer::WarmerFlags;
pub use lint::{LintFlags, lint_request};
pub use logging::{LoggingError, start_logging};
pub use login::{LoginError, LoginFlags, login};
pub use parse::{Invocation, UsageError, parse};
pub use prune::{PruneFlags, prune_report, prune_request};
pub use push::{PushFlags, push_request};
pub use request::{Asked, RequestError, request};
pub use snippet::Snippet;
pub use warmer::warm_request;
