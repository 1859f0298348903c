//! Finds the credentials for a registry.
//!
//! Docker's config comes first, then the built-in sources that `--credential-helpers` names. Each source has
//! credentials only for the registries that it knows. Results of programs and clouds are cached for their lifetime.

mod amazon;
mod azure;
mod azure_cloud;
mod azure_error;
mod azure_identity;
mod docker_config;
mod environment;
mod error;
mod exchange;
#[cfg(test)]
mod fake_service;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod google;
mod google_error;
mod google_sources;
mod keychain;
mod login;
mod program;
mod save;
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
