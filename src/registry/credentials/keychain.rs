//! Asks the credential sources for a registry's credentials, one after the other.

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

/// Credentials are fetched again when less than this remains of their lifetime.
const MARGIN: Duration = Duration::from_secs(120);

/// The result of a lookup for a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// Credentials were found.
    Login(Login),
    /// None were found; the text lists where they were searched for, for hints.
    Anonymous(String),
}

impl Lookup {
    /// Returns the credentials, if there are any.
    pub fn login(&self) -> Option<&Login> {
        match self {
            Self::Login(login) => Some(login),
            Self::Anonymous(_) => None,
        }
    }

    /// Describes the credentials for messages, without the password.
    pub fn describe(&self) -> String {
        match self {
            Self::Login(login) => login.describe(),
            Self::Anonymous(why) => why.clone(),
        }
    }
}

/// The built-in credential sources, as `--credential-helpers` names them.
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
    /// All sources, in the order in which they are asked.
    pub const ALL: [Self; 5] = [Self::Environment, Self::Google, Self::Amazon, Self::Azure, Self::GitLab];

    /// Returns its name in `--credential-helpers`.
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

/// A source's result, cached for its lifetime.
#[derive(Clone)]
struct CachedLogin {
    /// `None` if the source has no credentials for the registry.
    login: Option<Login>,
    expires: Option<Instant>,
    /// True if the credential helper is not installed.
    is_missing: bool,
}

/// The cached result of one source for one registry. It is locked while one task asks, so that others wait for it.
type CacheSlot = Arc<tokio::sync::Mutex<Option<CachedLogin>>>;

/// All credential sources.
#[derive(Default)]
pub struct Keychain {
    files: DockerConfigs,
    variables: Variables,
    /// Registries that the command line names.
    named: BTreeSet<String>,
    sources: Vec<Source>,
    /// The identity to use instead of the variables' for Azure.
    azure: Option<Identity>,
    http: Option<HttpClients>,
    /// Cached results, by source and registry.
    answers: Mutex<BTreeMap<(String, String), CacheSlot>>,
}

impl fmt::Debug for Keychain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keychain").field("sources", &self.sources).finish_non_exhaustive()
    }
}

impl Keychain {
    /// Reads Docker's config from all its paths, and sets up the built-in `sources` with `variables`; for Azure with
    /// the cloud provider's configuration `azure`, if there is one. `named` are the registries that the command line
    /// names.
    ///
    /// # Errors
    /// A file exists but cannot be read or parsed, or `azure` does not exist.
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

    /// Reads those Docker configs that exist, and uses no other source.
    ///
    /// # Errors
    /// A file exists but cannot be read or parsed.
    pub fn load(candidates: Vec<PathBuf>) -> Result<Self, CredentialsError> {
        Ok(Self { files: DockerConfigs::load(candidates)?, ..Self::default() })
    }

    /// Returns the credentials for a repository.
    ///
    /// # Errors
    /// An entry cannot be used, or a source that is set up for this registry fails.
    pub async fn lookup(&self, registry: &str, repository: &str) -> Result<Lookup, CredentialsError> {
        let mut reasons: Vec<String> = self.files.explain_absence(registry).into_iter().collect();
        match self.files.entry(registry, repository)? {
            Some(ConfigEntry::Login(login)) => return Ok(Lookup::Login(login)),
            Some(ConfigEntry::Program { name, file }) => match self.ask_program(&name, &file, registry).await {
                Ok(CachedLogin { login: Some(login), .. }) => return Ok(Lookup::Login(login)),
                // A config that was copied from a workstation names helpers that no pod has. The built-in sources often
                // work instead.
                Ok(CachedLogin { is_missing: true, .. }) => {
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

    fn answer(&self, source: String, registry: &str) -> CacheSlot {
        let mut answers = self.answers.lock();
        Arc::clone(answers.entry((source, registry.to_owned())).or_default())
    }

    /// Asks a credential helper once. Its result is valid for the whole build, also that it is not installed.
    async fn ask_program(&self, name: &str, file: &str, registry: &str) -> Result<CachedLogin, CredentialsError> {
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
        Ok(answer.insert(CachedLogin { login, expires: None, is_missing }).clone())
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
        // Boxed, because the large futures of the cloud sources would otherwise be part of every request's future.
        let fresh = Box::pin(self.ask_cloud(source, http, registry)).await?;
        let expires = fresh.as_ref().map(|fresh| Instant::now() + fresh.lifetime);
        let login = fresh.map(|fresh| fresh.login);
        *answer = Some(CachedLogin { login: login.clone(), expires, is_missing: false });
        Ok(login)
    }

    /// Looks up kaniko's variables. The reason why they are not used is logged once.
    async fn look_in_environment(&self, registry: &str) -> Option<Login> {
        let answer = self.answer(Source::Environment.name().to_owned(), registry);
        let mut answer = answer.lock().await;
        if let Some(kept) = &*answer {
            return kept.login.clone();
        }
        let login = match environment::kaniko(&self.variables, &self.named, registry) {
            environment::KanikoLogin::Login(login) => login,
            environment::KanikoLogin::Ambiguous { variable, other } => {
                tracing::warn!(
                    "{variable} is not used for {registry}: {other} has the same variable; put the credentials of {registry} into a \
                     Docker config or DOCKER_AUTH_CONFIG"
                );
                None
            }
        };
        *answer = Some(CachedLogin { login: login.clone(), expires: None, is_missing: false });
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
    async fn a_missing_helper_is_searched_for_once() {
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
