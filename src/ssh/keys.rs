//! Reads private keys from files, and signs with them.

use std::io;
use std::path::Path;

use rsa::BigUint;
use rsa::pkcs1v15::SigningKey;
use rsa::sha2::{Sha256, Sha512};
use rsa::signature::{SignatureEncoding, Signer};
use ssh_agent_lib::proto::signature::{RSA_SHA2_256, RSA_SHA2_512};
use ssh_key::private::{KeypairData, RsaKeypair};
use ssh_key::{Algorithm, HashAlg, PrivateKey, Signature};

use super::openssh;
use crate::fs::gated;

/// The most bytes of a key file; the largest keys have some ten thousand.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A reason why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file is not in OpenSSH's format.
    #[error("not a private key in OpenSSH's format: `ssh-keygen -p -f FILE` rewrites a key of an older one")]
    Format(#[source] ssh_key::Error),
    /// The key has a passphrase, and there is no user to ask for it.
    #[error("the key has a passphrase: use an agent that holds it, or a key without one")]
    Encrypted,
    /// Keys of this type cannot sign here.
    #[error("keys of the type {0} are not supported: use ed25519, ECDSA or RSA")]
    Unsupported(String),
    /// The key could not sign.
    #[error("the key cannot sign")]
    Sign,
}

/// Reads a key and checks that it can sign.
pub(super) fn read(path: &Path) -> Result<PrivateKey, KeyError> {
    if gated::metadata(path)?.len() > MAX_FILE_BYTES {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge).into());
    }
    let key = openssh::parse(&String::from_utf8_lossy(&gated::read(path)?)).map_err(KeyError::Format)?;
    if key.is_encrypted() {
        return Err(KeyError::Encrypted);
    }
    sign(&key, b"", RSA_SHA2_512)?;
    Ok(key)
}

/// Signs `data`; `flags` select the hash for an RSA key (draft-miller-ssh-agent, section 4.5.1). SHA-1, which no
/// current server accepts, is replaced by SHA-512.
pub(super) fn sign(key: &PrivateKey, data: &[u8], flags: u32) -> Result<Signature, KeyError> {
    match key.key_data() {
        KeypairData::Rsa(pair) => sign_rsa(pair, data, flags),
        KeypairData::Ed25519(_) | KeypairData::Ecdsa(_) => key.key_data().try_sign(data).map_err(|_| KeyError::Sign),
        _ => Err(KeyError::Unsupported(key.algorithm().to_string())),
    }
}

/// Signs without the key's own method, which builds the key from one of its primes twice (ssh-key 0.6). The open
/// advisory about the rsa crate's timing does not matter here: only a command of the build itself can request
/// signatures, on this machine.
fn sign_rsa(pair: &RsaKeypair, data: &[u8], flags: u32) -> Result<Signature, KeyError> {
    let number = |value| BigUint::try_from(value).map_err(|_| KeyError::Sign);
    let (public, private) = (&pair.public, &pair.private);
    let primes = vec![number(&private.p)?, number(&private.q)?];
    let key = rsa::RsaPrivateKey::from_components(number(&public.n)?, number(&public.e)?, number(&private.d)?, primes)
        .map_err(|_| KeyError::Sign)?;
    let (hash, bytes) = if flags & RSA_SHA2_256 != 0 && flags & RSA_SHA2_512 == 0 {
        (HashAlg::Sha256, SigningKey::<Sha256>::new(key).try_sign(data).map(|signature| signature.to_vec()))
    } else {
        (HashAlg::Sha512, SigningKey::<Sha512>::new(key).try_sign(data).map(|signature| signature.to_vec()))
    };
    let bytes = bytes.map_err(|_| KeyError::Sign)?;
    Signature::new(Algorithm::Rsa { hash: Some(hash) }, bytes).map_err(|_| KeyError::Sign)
}
