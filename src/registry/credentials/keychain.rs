//! The sources of credentials, asked one after the other for a registry.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::azure_error::AzureError;
use super::azure_identity::Identity;
use super::docker_config::{ConfigEntry, DockerConfigs};
use super::error::CredentialsError;
use super::login::{Fresh, Login};
use super::program::{self, ProgramError};
use super::variables::Variables;
use super::{amazon, azure, environment, google};
use crate::http::HttpClients;

/// Credentials are fetched anew when they have less than this to live.
const MARGIN: Duration = Duration::from_secs(120);

/// What the keychain has for a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// Credentials.
    Login(Login),
    /// None; the text says where was looked, for hints.
    Anonymous(String),
}

impl Lookup {
    /// The credentials, if there are any.
    pub fn login(&self) -> Option<&Login> {
        match self {
            Self::Login(login) => Some(login),
            Self::Anonymous(_) => None,
        }
    }

    /// For messages: which credentials are used. Never the password.
    pub fn describe(&self) -> String {
        match self {
            Self::Login(login) => login.describe(),
            Self::Anonymous(why) => why.clone(),
        }
    }
}

/// The built-in sources of credentials; the words of `--credential-helpers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// `KANIKO_<HOST>_USER` and `KANIKO_<HOST>_PASSWORD`.
    Environment,
    /// Google's Container and Artifact Registry.
    Google,
    /// Amazon's ECR.
    Amazon,
    /// Azure's Container Registry.
    Azure,
    /// The variables of a GitLab job.
    GitLab,
}

impl Source {
    /// All of them, in the order in which they are asked.
    pub const ALL: [Self; 5] = [Self::Environment, Self::Google, Self::Amazon, Self::Azure, Self::GitLab];

    /// The word of `--credential-helpers`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Environment => "env",
            Self::Google => "google",
            Self::Amazon => "ecr",
            Self::Azure => "acr",
            Self::GitLab => "gitlab",
        }
    }
}

/// An answer that is good for a while.
#[derive(Clone)]
struct Kept {
    /// `None`: the source has nothing for the registry.
    login: Option<Login>,
    expires: Option<Instant>,
    /// There is no such program.
    is_missing: bool,
}

/// What was answered to one question. Locked while one asks, so that the others do not.
type Answer = Arc<tokio::sync::Mutex<Option<Kept>>>;

/// All credentials there are.
#[derive(Default)]
pub struct Keychain {
    files: DockerConfigs,
    variables: Variables,
    /// Registries that the command line names.
    named: BTreeSet<String>,
    sources: Vec<Source>,
    /// Instead of what the variables say of Azure.
    azure: Option<Identity>,
    http: Option<HttpClients>,
    /// What was answered, by source and registry.
    answers: Mutex<BTreeMap<(String, String), Answer>>,
}

impl fmt::Debug for Keychain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keychain").field("sources", &self.sources).finish_non_exhaustive()
    }
}

impl Keychain {
    /// Docker's config in all its places, and the built-in `sources`, as `variables` describe them; for Azure as the cloud
    /// provider's configuration `azure` does, if there is one. The command line names the registries `named`.
    ///
    /// # Errors
    /// A file is there, but cannot be read or understood; or `azure` is not there.
    pub fn new(
        variables: Variables,
        named: BTreeSet<String>,
        sources: Vec<Source>,
        azure: Option<&Path>,
        http: HttpClients,
    ) -> Result<Self, CredentialsError> {
        let files = DockerConfigs::of_environment(&variables)?;
        let azure = azure.map(Identity::of_configuration).transpose().map_err(CredentialsError::AzureConfiguration)?;
        Ok(Self { files, variables, named, sources, azure, http: Some(http), ..Self::default() })
    }

    /// Reads those Docker configs that are there, and asks no other source.
    ///
    /// # Errors
    /// A file is there, but cannot be read or understood.
    pub fn load(candidates: Vec<PathBuf>) -> Result<Self, CredentialsError> {
        Ok(Self { files: DockerConfigs::load(candidates)?, ..Self::default() })
    }

    /// The credentials for a repository.
    ///
    /// # Errors
    /// An entry cannot be used, or a source that is set up for this registry fails.
    pub async fn lookup(&self, registry: &str, repository: &str) -> Result<Lookup, CredentialsError> {
        let mut reasons: Vec<String> = self.files.explain_absence(registry).into_iter().collect();
        match self.files.entry(registry, repository)? {
            Some(ConfigEntry::Login(login)) => return Ok(Lookup::Login(login)),
            Some(ConfigEntry::Program { name, file }) => match self.ask_program(&name, &file, registry).await {
                Ok(Kept { login: Some(login), .. }) => return Ok(Lookup::Login(login)),
                // A config that came from a desk names programs that no pod has; the sources below often do their work.
                Ok(Kept { is_missing: true, .. }) => {
                    reasons = vec![format!("docker-credential-{name}, which {file} names, is not in PATH")];
                }
                Ok(_) => {
                    reasons = vec![format!("docker-credential-{name}, which {file} names, has none for {registry}")];
                }
                Err(error) => return Err(error),
            },
            None => {}
        }
        for source in &self.sources {
            if let Some(login) = self.ask(*source, registry).await? {
                return Ok(Lookup::Login(login));
            }
        }
        let why = if reasons.is_empty() { String::new() } else { format!(", because {}", reasons.join("; ")) };
        Ok(Lookup::Anonymous(format!("no credentials were used{why}")))
    }

    fn answer(&self, source: String, registry: &str) -> Answer {
        let mut answers = self.answers.lock();
        Arc::clone(answers.entry((source, registry.to_owned())).or_default())
    }

    /// Asks a program once: what it says holds for the build, and so does that it is not there.
    async fn ask_program(&self, name: &str, file: &str, registry: &str) -> Result<Kept, CredentialsError> {
        let answer = self.answer(format!("docker-credential-{name}"), registry);
        let mut answer = answer.lock().await;
        if let Some(kept) = &*answer {
            return Ok(kept.clone());
        }
        let (found, is_missing) = match program::get(name, registry).await {
            Ok(found) => (found, false),
            Err(ProgramError::Run(error)) if error.kind() == io::ErrorKind::NotFound => (None, true),
            Err(source) => {
                return Err(CredentialsError::Program {
                    name: name.to_owned(),
                    file: file.to_owned(),
                    registry: registry.to_owned(),
                    source,
                });
            }
        };
        let login = found
            .map(|credential| Login { credential, origin: format!("docker-credential-{name}, which {file} names") });
        Ok(answer.insert(Kept { login, expires: None, is_missing }).clone())
    }

    async fn ask(&self, source: Source, registry: &str) -> Result<Option<Login>, CredentialsError> {
        let owns = match source {
            Source::Environment => return Ok(self.look_in_environment(registry).await),
            Source::GitLab => return Ok(environment::gitlab(&self.variables, registry)),
            Source::Google => google::owns,
            Source::Amazon => amazon::owns,
            Source::Azure => azure::owns,
        };
        let Some(http) = self.http.as_ref().filter(|_| owns(registry)) else { return Ok(None) };
        let answer = self.answer(source.name().to_owned(), registry);
        let mut answer = answer.lock().await;
        if let Some(kept) = &*answer
            && kept.expires.is_none_or(|expires| expires > Instant::now() + MARGIN)
        {
            return Ok(kept.login.clone());
        }
        // What the clouds' conversations need on the stack would else be in every request of every transfer.
        let fresh = Box::pin(self.ask_cloud(source, http, registry)).await?;
        let expires = fresh.as_ref().map(|fresh| Instant::now() + fresh.life);
        let login = fresh.map(|fresh| fresh.login);
        *answer = Some(Kept { login: login.clone(), expires, is_missing: false });
        Ok(login)
    }

    /// kaniko's variables; what keeps some from being used is told once.
    async fn look_in_environment(&self, registry: &str) -> Option<Login> {
        let answer = self.answer(Source::Environment.name().to_owned(), registry);
        let mut answer = answer.lock().await;
        if let Some(kept) = &*answer {
            return kept.login.clone();
        }
        let login = match environment::kaniko(&self.variables, &self.named, registry) {
            environment::Found::Login(login) => login,
            environment::Found::Ambiguous { variable, other } => {
                tracing::warn!(
                    "{variable} is not used for {registry}: {other} has the same variable; put the credentials of {registry} into a \
                     Docker config or DOCKER_AUTH_CONFIG"
                );
                None
            }
        };
        *answer = Some(Kept { login: login.clone(), expires: None, is_missing: false });
        login
    }

    async fn ask_cloud(
        &self,
        source: Source,
        http: &HttpClients,
        registry: &str,
    ) -> Result<Option<Fresh>, CredentialsError> {
        let registry_name = || registry.to_owned();
        match source {
            Source::Google => google::login(http, &self.variables)
                .await
                .map_err(|source| CredentialsError::Google { registry: registry_name(), source }),
            Source::Amazon => amazon::login(http, &self.variables, registry)
                .await
                .map_err(|source| CredentialsError::Amazon { registry: registry_name(), source }),
            Source::Azure => self
                .ask_azure(http, registry)
                .await
                .map_err(|source| CredentialsError::Azure { registry: registry_name(), source }),
            Source::Environment | Source::GitLab => Ok(None),
        }
    }

    async fn ask_azure(&self, http: &HttpClients, registry: &str) -> Result<Option<Fresh>, AzureError> {
        match &self.azure {
            Some(identity) => azure::login(http, identity, registry).await,
            None => azure::login(http, &Identity::of_environment(&self.variables)?, registry).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_helper_that_is_not_there_is_looked_for_once() {
        let variables = Variables::from([("DOCKER_AUTH_CONFIG", r#"{"credsStore":"crabwright-test-none"}"#)]);
        let files = DockerConfigs::of_environment(&variables).unwrap();
        let keychain = Keychain { files, ..Keychain::default() };
        for _ in 0..2 {
            let Lookup::Anonymous(why) = keychain.lookup("r.example", "app").await.unwrap() else { panic!("a login") };
            assert!(why.contains("docker-credential-crabwright-test-none") && why.contains("is not in PATH"), "{why}");
        }
        let answer = keychain.answer("docker-credential-crabwright-test-none".to_owned(), "r.example");
        assert!(answer.lock().await.as_ref().unwrap().is_missing);
    }
}
