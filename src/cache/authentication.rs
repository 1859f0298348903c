//! Entries that only builds with a secret can have written.
//!
//! A key says what a step is made of, and nothing in an entry can show that its layer was made of just that: without more, who may
//! write to a cache decides what later images hold. With a secret (`--cache-key-file`) every manifest carries a code (HMAC-SHA256)
//! over all that is read of it: the keys or the name it is found under, the layer, the configuration. Who does not have the
//! secret can neither plant a layer nor move one to another key; what has no code, or a wrong one, is not there.

use std::io::Read as _;
use std::path::Path;

use hmac::digest::Key as BlockKey;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::diag::redact::Secret;
use crate::fs::gated as fs;
use crate::image::{AssembleError, Descriptor, Image, Manifest};

use super::key::Encoder;

/// The annotation that holds the code, in hexadecimal digits.
const CODE: &str = "dev.crabwright.cache.hmac-sha256";
/// Comes first in what is authenticated: other uses of the same secret never meet this one.
const VERSION: &str = "crabwright cache entry 1";
/// The fewest bytes of a secret: too many to guess.
const SHORTEST: usize = 16;
/// More is no secret but some other file.
const LONGEST: usize = 4096;

/// A file that holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--cache-key-file {path}: {problem}")]
pub struct SecretFileError {
    path: String,
    problem: String,
}

/// Why a manifest is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unauthentic {
    /// It was written without any secret.
    #[error("it has no authentication code")]
    NoCode,
    /// It was written with another secret, or changed since.
    #[error("its authentication code is not that of --cache-key-file")]
    WrongCode,
    /// It is something else.
    #[error("it is no manifest")]
    NoManifest,
}

/// Writes and checks the codes of one secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticator(Secret<Vec<u8>>);

impl Authenticator {
    /// Reads the secret from a file; line ends after it are left out.
    ///
    /// # Errors
    /// The file cannot be read, or what it holds is too short or too long for a secret.
    pub fn open(path: &Path) -> Result<Self, SecretFileError> {
        let failed = |problem| SecretFileError { path: path.display().to_string(), problem };
        let mut secret = Vec::new();
        let file = fs::open(path).map_err(|error| failed(format!("cannot open it: {error}")))?;
        let read = file.take(LONGEST as u64 + 1).read_to_end(&mut secret);
        read.map_err(|error| failed(format!("cannot read it: {error}")))?;
        secret.truncate(secret.trim_ascii_end().len());
        match secret.len() {
            length @ 0..SHORTEST => Err(failed(format!(
                "a secret of {length} bytes can be guessed, {SHORTEST} are the least: make one with `openssl rand -hex 32`"
            ))),
            SHORTEST..=LONGEST => Ok(Self(Secret::new(secret))),
            _ => Err(failed(format!("it has more than {LONGEST} bytes, and is no secret"))),
        }
    }

    /// The image with the code of its manifest.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn sign(&self, image: Image) -> Result<Image, AssembleError> {
        let Image { config, config_bytes, mut manifest, blobs, .. } = image;
        let code = self.code(&manifest).finalize().into_bytes();
        let code = code.iter().map(|byte| format!("{byte:02x}")).collect();
        manifest.annotations.insert(CODE.to_owned(), code);
        Image::with_manifest(config, config_bytes, manifest, blobs)
    }

    /// Holds a manifest against its code, in a time that says nothing of the right one.
    ///
    /// # Errors
    /// It was not written with this secret.
    pub fn check(&self, manifest: &[u8]) -> Result<(), Unauthentic> {
        let manifest: Manifest = serde_json::from_slice(manifest).map_err(|_error| Unauthentic::NoManifest)?;
        let code = manifest.annotations.get(CODE).ok_or(Unauthentic::NoCode)?;
        let code = bytes(code).ok_or(Unauthentic::WrongCode)?;
        self.code(&manifest).verify_slice(&code).map_err(|_differs| Unauthentic::WrongCode)
    }

    /// Takes in all that is read of such a manifest; the digest of the configuration says what that is.
    fn code(&self, manifest: &Manifest) -> Hmac<Sha256> {
        let descriptor = |words: Encoder, descriptor: &Descriptor| {
            words.text(&descriptor.media_type).text(&descriptor.digest.to_string()).number(descriptor.size)
        };
        let words = descriptor(Encoder::new().text(VERSION), &manifest.config);
        let words = manifest.layers.iter().fold(words.number(manifest.layers.len() as u64), descriptor);
        let annotations = manifest.annotations.iter().filter(|(name, _)| *name != CODE);
        let words = annotations.fold(words, |words, (name, value)| words.text(name).text(value));
        // Of its digest, which fits into a block whatever the secret's length.
        let mut block = BlockKey::<Hmac<Sha256>>::default();
        let digest = Sha256::digest(self.0.reveal());
        block.iter_mut().zip(digest).for_each(|(place, byte)| *place = byte);
        let mut code = Hmac::<Sha256>::new(&block);
        code.update(words.as_bytes());
        code
    }
}

/// The bytes that are written in hexadecimal digits.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|digit| u8::try_from(digit.to_digit(16)?).ok()).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|pair| (pair[0] << 4) | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::layer_image::KeptLayer;
    use crate::image::{Blob, BlobSource, Digest, media_type};

    fn authenticator(secret: &str) -> Authenticator {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), secret).unwrap();
        Authenticator::open(file.path()).unwrap()
    }

    const SECRET: &str = "a secret that nobody knows\n";

    fn image() -> Image {
        let blob = Blob {
            descriptor: Descriptor::of(media_type::OCI_LAYER_GZIP, b"layer"),
            source: BlobSource::Bytes(b"layer".to_vec()),
        };
        let annotations = [("dev.crabwright.cache.content", "key".to_owned())];
        KeptLayer::to_image(&Digest::sha256_of(b"tar"), 7, &"linux/amd64".parse().unwrap(), blob, annotations).unwrap()
    }

    #[test]
    fn what_is_signed_is_believed_by_those_with_the_secret() {
        let signed = authenticator(SECRET).sign(image()).unwrap();
        // Line ends are the editor's.
        assert_eq!(authenticator(SECRET.trim_end()).check(&signed.manifest_bytes), Ok(()));
        assert_eq!(
            authenticator("another one of some length").check(&signed.manifest_bytes),
            Err(Unauthentic::WrongCode)
        );
        assert_eq!(authenticator(SECRET).check(&image().manifest_bytes), Err(Unauthentic::NoCode));
        assert_eq!(authenticator(SECRET).check(b"<html>"), Err(Unauthentic::NoManifest));
        // Signing twice is no other thing.
        assert_eq!(authenticator(SECRET).sign(signed.clone()).unwrap().manifest_bytes, signed.manifest_bytes);
        assert!(!String::from_utf8_lossy(&signed.manifest_bytes).contains("nobody knows"));
    }

    #[test]
    fn everything_that_is_read_is_authenticated() {
        type Change = fn(&mut Manifest);
        let changes: [(&str, Change); 8] = [
            ("the layer", |manifest| manifest.layers[0].digest = Digest::sha256_of(b"other")),
            ("its size", |manifest| manifest.layers[0].size += 1),
            ("its media type", |manifest| manifest.layers[0].media_type = media_type::OCI_LAYER_ZSTD.to_owned()),
            ("the number of layers", |manifest| manifest.layers.clear()),
            ("the configuration", |manifest| manifest.config.digest = Digest::sha256_of(b"other")),
            ("a key", |manifest| _ = manifest.annotations.insert("dev.crabwright.cache.content".into(), "k".into())),
            ("one more key", |manifest| {
                _ = manifest.annotations.insert("dev.crabwright.cache.definition".into(), "k".into());
            }),
            ("the code", |manifest| _ = manifest.annotations.insert(CODE.into(), "0g".into())),
        ];
        let signed = authenticator(SECRET).sign(image()).unwrap();
        for (what, change) in changes {
            let mut manifest = signed.manifest.clone();
            change(&mut manifest);
            let checked = authenticator(SECRET).check(&manifest.to_bytes().unwrap());
            assert_eq!(checked, Err(Unauthentic::WrongCode), "{what}");
        }
    }

    #[test]
    fn a_file_without_a_secret_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let long = "x".repeat(5000);
        for (content, problem) in [("", "of 0 bytes"), ("short\n", "of 5 bytes"), (long.as_str(), "is no secret")] {
            std::fs::write(file.path(), content).unwrap();
            let error = Authenticator::open(file.path()).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
            assert!(content.is_empty() || !error.contains(content.trim_end()), "{error}");
        }
        let error = Authenticator::open(Path::new("/no/such/file")).unwrap_err().to_string();
        assert!(error.starts_with("--cache-key-file /no/such/file: cannot open it"), "{error}");
        assert_eq!(format!("{:?}", authenticator(SECRET)), "Authenticator([redacted])");
    }
}
