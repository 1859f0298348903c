//! The command line: flags as typed to a validated request, the shape of the log, and errors as the user reads them.

mod cache_flags;
mod cache_mount_flags;
mod commands;
pub mod context_flags;
pub mod delivery;
pub mod failure;
pub mod flags;
pub mod kaniko;
pub mod kaniko_flags;
pub mod layer_flags;
pub mod log_flags;
mod logging;
mod login;
mod output;
pub mod output_flags;
mod parse;
mod prune;
pub mod registry_flags;
mod request;
mod snapshot_mode;
mod snippet;
#[cfg(test)]
mod typed;
mod warmer;

pub use failure::Failure;
pub use logging::{LoggingError, start_logging};
pub use login::{LoginError, login};
pub use parse::{Invocation, UsageError, parse};
pub use prune::{PruneFlags, prune_report, prune_request};
pub use request::{Asked, RequestError, push_request, request};
pub use snippet::Snippet;
pub use warmer::{WarmerFlags, warm_request};

/// The parsers of all commands, a build's first: the reference of flags is generated from them.
pub fn all_commands() -> Vec<clap::Command> {
    let build = flags::command();
    let login = build.find_subcommand("login").cloned();
    let mut all = vec![build, commands::lint_command(), commands::push_command(), prune::command(), warmer::command()];
    all.extend(login.map(|login| login.name("crabwright login")));
    all
}
