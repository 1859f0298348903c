//! The flags of what only the steps that ask for it may use: secrets and SSH agents.

use clap::ArgAction;

use crate::cli::env::Env;
use crate::secret::{SecretSource, SourceError};
use crate::ssh::{SshSource, SshSourceError};

/// Secrets and SSH agents.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Input")]
pub struct SecretFlags {
    /// A secret, from a file or a variable of the environment: id=ID[,src=FILE][,env=VARIABLE]. Repeatable.
    ///
    /// With the ID alone, the source is the variable of that name, or else the file. type=file or type=env decides. A
    /// secret reaches only the steps that mount it, and never the image.
    #[arg(long, value_name = "FIELDS", action = ArgAction::Append)]
    pub secret: Vec<String>,

    /// An SSH agent for RUN --mount=type=ssh: default, or ID[=SOCKET|KEY[,KEY...]][,raw=true]. Repeatable.
    ///
    /// Without a path, the agent at $SSH_AUTH_SOCK is used. Commands can list keys and have data signed, nothing else.
    /// Key files must not have a passphrase; crabwright holds their keys itself. raw=true forwards everything to a
    /// socket.
    #[arg(long, value_name = "AGENT")]
    pub ssh: Vec<String>,
}

impl SecretFlags {
    /// Returns the sources of the secrets.
    ///
    /// # Errors
    /// One is not valid.
    pub(crate) fn secrets(&self, env: Env<'_>) -> Result<Vec<SecretSource>, SourceError> {
        self.secret.iter().map(|text| SecretSource::parse(text, env.lookup())).collect()
    }

    /// Returns the sources of the SSH agents.
    ///
    /// # Errors
    /// One is not valid.
    pub(crate) fn agents(&self, env: Env<'_>) -> Result<Vec<SshSource>, SshSourceError> {
        self.ssh.iter().map(|text| SshSource::parse(text, env.lookup())).collect()
    }
}
