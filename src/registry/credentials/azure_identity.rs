//! Reads the identity for Azure: from variables of the environment, or from the configuration of a cloud provider that
//! `--azure-container-registry-config` names (Cloud Provider Azure: "Cluster configuration", the file `azure.json` of a
//! node).

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_norway::Value;

use super::azure_cloud::{Cloud, named_cloud};
use super::azure_error::AzureError;
use super::variables::Variables;
use crate::diag::redact::Secret;
use crate::fs::{gate, gated};

/// The most bytes of a configuration or token that are read.
const MAX_FILE: u64 = 1 << 20;

/// An identity in Azure; without a proof the machine's own.
#[derive(Debug, Default)]
pub(super) struct Identity {
    /// The cloud, if one is configured.
    pub(super) cloud: Option<&'static Cloud>,
    /// The directory (tenant) of the identity.
    pub(super) tenant: Option<String>,
    /// The client id of the identity.
    pub(super) client: Option<String>,
    /// The proof of the identity.
    pub(super) proof: Option<Proof>,
    /// A server to use instead of the cloud's own.
    pub(super) authority: Option<String>,
    /// Where the identity was configured, for messages.
    pub(super) origin: String,
}

/// The proof of an identity.
#[derive(Debug)]
pub(super) enum Proof {
    /// Its own password.
    Secret(Secret<String>),
    /// A token of another identity provider.
    Token(Token),
}

/// A token of another identity provider, or its location.
#[derive(Debug)]
pub(super) enum Token {
    /// The token itself.
    Text(Secret<String>),
    /// A file with the token, which the pod renews.
    File {
        /// The path.
        path: PathBuf,
        /// The variable or file that names it.
        namer: String,
    },
}

impl Token {
    /// Returns the current token.
    pub(super) async fn read(&self) -> Result<Secret<String>, AzureError> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::File { path, namer } => {
                let _pass = gate::passed_for(path).await.map_err(|source| unreadable(path, namer, source))?;
                Ok(Secret::new(read(path, namer)?.trim().to_owned()))
            }
        }
    }
}

impl Identity {
    /// Returns the identity that the variables describe.
    pub(super) fn of_environment(variables: &Variables) -> Result<Self, AzureError> {
        let text = |name: &str| variables.get(name).map(str::to_owned);
        let token = match (text("AZURE_FEDERATED_TOKEN"), text("AZURE_FEDERATED_TOKEN_FILE")) {
            (Some(token), _) => Some(Token::Text(Secret::new(token))),
            (None, Some(path)) => {
                Some(Token::File { path: path.into(), namer: "AZURE_FEDERATED_TOKEN_FILE".to_owned() })
            }
            (None, None) => None,
        };
        let (proof, origin) = match (text("AZURE_CLIENT_SECRET"), token) {
            (Some(secret), _) => {
                (Some(Proof::Secret(Secret::new(secret))), "the variables AZURE_CLIENT_ID and AZURE_CLIENT_SECRET")
            }
            (None, token) => (token.map(Proof::Token), "the variable AZURE_CLIENT_ID and a federated token"),
        };
        Ok(Self {
            cloud: text("AZURE_ENVIRONMENT").map(|name| known_cloud("AZURE_ENVIRONMENT", name)).transpose()?,
            tenant: text("AZURE_TENANT_ID"),
            client: text("AZURE_CLIENT_ID"),
            proof,
            authority: text("AZURE_AUTHORITY_HOST"),
            origin: origin.to_owned(),
        })
    }

    /// Returns the identity that a cloud provider's configuration describes, in JSON or YAML.
    ///
    /// # Errors
    /// The file cannot be read, or describes no usable identity.
    pub(super) fn of_configuration(path: &Path) -> Result<Self, AzureError> {
        let text = read(path, "--azure-container-registry-config")?;
        let shown = path.display().to_string();
        let unusable = |problem: &str| AzureError::Configuration { path: path.to_owned(), problem: problem.to_owned() };
        // The library's message may quote the secret.
        let fields: BTreeMap<String, Value> = serde_norway::from_str(&text)
            .map_err(|_secret| unusable("it is neither JSON nor YAML with a value for each name"))?;
        let field = |name: &str| {
            let found = fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value).filter(|value| !value.is_null())
        };
        let word = |name: &str| match field(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            Some(_) => Err(unusable(&format!("its {name} is not text"))),
        };
        let flag = |name: &str| match field(name) {
            None => Ok(false),
            Some(Value::Bool(on)) => Ok(*on),
            Some(_) => Err(unusable(&format!("its {name} is neither true nor false"))),
        };
        let cloud = word("cloud")?.map(|name| known_cloud(&shown, name)).transpose()?;
        let tenant = word("tenantId")?;
        let (client, proof) = if flag("useManagedIdentityExtension")? {
            (word("userAssignedIdentityID")?, None)
        } else {
            let federated = flag("useFederatedWorkloadIdentityExtension")?;
            let proof = match (word("aadClientSecret")?, word("aadFederatedTokenFile")?.filter(|_| federated)) {
                (Some(secret), _) => Proof::Secret(Secret::new(secret)),
                (None, Some(path)) => Proof::Token(Token::File { path: path.into(), namer: shown.clone() }),
                (None, None) if field("aadClientCertPath").is_some() => {
                    return Err(unusable("it logs in with a certificate, which is not supported: use aadClientSecret"));
                }
                (None, None) => {
                    return Err(unusable("it has neither an aadClientSecret nor useManagedIdentityExtension: true"));
                }
            };
            let client = word("aadClientId")?.ok_or_else(|| unusable("it has no aadClientId"))?;
            if tenant.is_none() {
                return Err(unusable("it has no tenantId"));
            }
            (Some(client), Some(proof))
        };
        Ok(Self { cloud, tenant, client, proof, authority: None, origin: shown })
    }
}

fn known_cloud(namer: &str, name: String) -> Result<&'static Cloud, AzureError> {
    named_cloud(&name).ok_or_else(|| AzureError::Cloud { namer: namer.to_owned(), name })
}

fn read(path: &Path, namer: &str) -> Result<String, AzureError> {
    let mut text = String::new();
    gated::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_string(&mut text))
        .map_err(|source| unreadable(path, namer, source))?;
    Ok(text)
}

fn unreadable(path: &Path, namer: &str, source: std::io::Error) -> AzureError {
    AzureError::Read { path: path.to_owned(), namer: namer.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(text: &str) -> Result<Identity, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Identity::of_configuration(file.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_configuration_is_json_or_yaml_whatever_the_case_of_its_names() {
        for text in [
            r#"{"cloud":"AzureChinaCloud","tenantId":"t","aadClientId":"c","aadClientSecret":"s","vnetName":"v"}"#,
            "cloud: AZURECHINACLOUD\ntenantID: t\naadClientID: c\naadClientSecret: s\ncacheTTL: 5\n",
        ] {
            let identity = configured(text).unwrap();
            assert_eq!(identity.cloud, named_cloud("AzureChinaCloud"));
            assert_eq!((identity.tenant.as_deref(), identity.client.as_deref()), (Some("t"), Some("c")));
            assert!(matches!(identity.proof, Some(Proof::Secret(secret)) if secret.reveal() == "s"));
        }
    }

    #[tokio::test]
    async fn the_machine_or_another_provider_may_prove_the_identity() {
        let managed =
            "useManagedIdentityExtension: true\nuserAssignedIdentityID: u\naadClientId: msi\naadClientSecret: msi\n";
        let managed = configured(managed).unwrap();
        assert_eq!((managed.client.as_deref(), managed.proof.is_none()), (Some("u"), true));
        let token = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(token.path(), "federated\n").unwrap();
        let identity = configured(&format!(
            "tenantId: t\naadClientId: c\nuseFederatedWorkloadIdentityExtension: true\naadFederatedTokenFile: {}\n",
            token.path().display()
        ));
        let Some(Proof::Token(read)) = identity.unwrap().proof else { panic!("no token") };
        assert_eq!(read.read().await.unwrap().reveal(), "federated");
    }

    #[test]
    fn an_unusable_configuration_is_reported_without_its_content() {
        for (text, message) in [
            ("sesame", "neither JSON nor YAML"),
            ("{", "neither JSON nor YAML"),
            ("- a\n", "neither JSON nor YAML"),
            ("", "neither an aadClientSecret nor"),
            ("aadClientSecret: {sesame: 1}\n", "its aadClientSecret is not text"),
            ("useManagedIdentityExtension: sesame\n", "its useManagedIdentityExtension is neither true nor false"),
            ("aadClientSecret: sesame\n", "it has no aadClientId"),
            ("aadClientSecret: sesame\naadClientId: c\n", "it has no tenantId"),
            ("aadClientId: c\ntenantId: t\n", "neither an aadClientSecret nor"),
            ("aadClientCertPath: /c\naadClientId: c\n", "use aadClientSecret"),
            ("cloud: moon\n", "names the unknown cloud \"moon\": expected AzurePublicCloud"),
        ] {
            let error = configured(text).unwrap_err();
            assert!(error.contains(message) && !error.contains("sesame"), "{text:?}: {error}");
        }
        let missing = Identity::of_configuration(Path::new("/nonexistent")).unwrap_err().to_string();
        assert_eq!(missing, "failed to read /nonexistent, which --azure-container-registry-config names");
    }

    #[test]
    fn the_environment_names_a_cloud() {
        let cloud = |name: &str| Identity::of_environment(&Variables::from([("AZURE_ENVIRONMENT", name)]));
        assert_eq!(cloud("AZUREUSGOVERNMENTCLOUD").unwrap().cloud, named_cloud("AzureUSGovernment"));
        assert_eq!(cloud("").unwrap().cloud, None);
        assert!(
            cloud("AzureStackCloud").unwrap_err().to_string().starts_with("AZURE_ENVIRONMENT names the unknown cloud")
        );
    }
}
