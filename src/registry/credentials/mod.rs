//! Whom we speak to a registry as.
//!
//! Docker's config comes first, then the built-in sources that `--credential-helpers` names. Each answers for the registries it
//! knows and for no others. What programs and clouds answer is kept for as long as it is good.

mod amazon;
mod azure;
mod azure_cloud;
mod azure_error;
mod azure_identity;
mod docker_config;
mod environment;
mod error;
mod exchange;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod google;
mod google_error;
mod google_sources;
mod keychain;
mod login;
mod program;
mod save;
#[cfg(test)]
mod stand_in;
mod variables;

pub use amazon::AmazonError;
pub use azure_error::AzureError;
pub use error::CredentialsError;
pub use exchange::ExchangeError;
pub use google_error::GoogleError;
pub use keychain::{Keychain, Lookup, Source};
pub use login::{Credential, Login};
pub use program::ProgramError;
pub use save::save_login;
pub use variables::Variables;
