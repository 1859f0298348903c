//! Authenticates cache entries with a secret.
//!
//! A key identifies the inputs of a step, but an entry cannot prove that its layer was made from them: without a
//! secret, anyone who can write to a cache decides what later images contain. With a secret (`--cache-key-file`), every
//! manifest carries a code (HMAC-SHA256) over everything that is read from it: the keys or the name it is found under,
//! the layer, the configuration. Without the secret, a layer can neither be planted nor moved to a different key. An
//! entry with a wrong code, or without one, counts as a miss.

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
/// The start of the authenticated data, so that a code is never valid for other uses of the same secret.
const VERSION: &str = "crabwright cache entry 1";
/// The fewest bytes of a secret: too many to guess.
const MIN_LENGTH: usize = 16;
/// The most bytes of a secret: a longer file is a different file by mistake.
const MAX_LENGTH: usize = 4096;

/// A file that does not hold a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--cache-key-file {path}: {problem}")]
pub struct SecretFileError {
    path: String,
    problem: String,
}

/// Why a manifest is not trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UntrustedManifest {
    /// It was written without a secret.
    #[error("it has no authentication code")]
    NoCode,
    /// It was written with a different secret, or changed since.
    #[error("its authentication code is not that of --cache-key-file")]
    WrongCode,
    /// The bytes are not a manifest.
    #[error("it is not a manifest")]
    NoManifest,
}

/// Writes and verifies the codes of one secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticator(Secret<Vec<u8>>);

impl Authenticator {
    /// Reads the secret from a file, without trailing line ends.
    ///
    /// # Errors
    /// The file cannot be read, or its content is too short or too long for a secret.
    pub fn open(path: &Path) -> Result<Self, SecretFileError> {
        let failed = |problem| SecretFileError { path: path.display().to_string(), problem };
        let mut secret = Vec::new();
        let file = fs::open(path).map_err(|error| failed(format!("failed to open it: {error}")))?;
        let read = file.take(MAX_LENGTH as u64 + 1).read_to_end(&mut secret);
        read.map_err(|error| failed(format!("failed to read it: {error}")))?;
        secret.truncate(secret.trim_ascii_end().len());
        match secret.len() {
            length @ 0..MIN_LENGTH => Err(failed(format!(
                "a secret of {length} bytes can be guessed, the minimum is {MIN_LENGTH}: make one with `openssl rand -hex 32`"
            ))),
            MIN_LENGTH..=MAX_LENGTH => Ok(Self(Secret::new(secret))),
            _ => Err(failed(format!("it has more than {MAX_LENGTH} bytes, which is too long for a secret"))),
        }
    }

    /// Returns the image with the code in its manifest.
    ///
    /// # Errors
    /// The manifest cannot be written as JSON.
    pub fn sign(&self, image: Image) -> Result<Image, AssembleError> {
        let Image { config, config_bytes, mut manifest, blobs, .. } = image;
        let code = self.code(&manifest).finalize().into_bytes();
        let code = code.iter().map(|byte| format!("{byte:02x}")).collect();
        manifest.annotations.insert(CODE.to_owned(), code);
        Image::with_manifest(config, config_bytes, manifest, blobs)
    }

    /// Verifies the code of a manifest, in constant time.
    ///
    /// # Errors
    /// The manifest was not written with this secret.
    pub fn check(&self, manifest: &[u8]) -> Result<(), UntrustedManifest> {
        let manifest: Manifest = serde_json::from_slice(manifest).map_err(|_error| UntrustedManifest::NoManifest)?;
        let code = manifest.annotations.get(CODE).ok_or(UntrustedManifest::NoCode)?;
        let code = bytes(code).ok_or(UntrustedManifest::WrongCode)?;
        self.code(&manifest).verify_slice(&code).map_err(|_differs| UntrustedManifest::WrongCode)
    }

    /// Computes the code over everything that is read from a manifest. The digest covers the configuration.
    fn code(&self, manifest: &Manifest) -> Hmac<Sha256> {
        let descriptor = |words: Encoder, descriptor: &Descriptor| {
            words.text(&descriptor.media_type).text(&descriptor.digest.to_string()).number(descriptor.size)
        };
        let words = descriptor(Encoder::new().text(VERSION), &manifest.config);
        let words = manifest.layers.iter().fold(words.number(manifest.layers.len() as u64), descriptor);
        let annotations = manifest.annotations.iter().filter(|(name, _)| *name != CODE);
        let words = annotations.fold(words, |words, (name, value)| words.text(name).text(value));
        // The key is the secret's digest, which fits into a block.
        let mut block = BlockKey::<Hmac<Sha256>>::default();
        let digest = Sha256::digest(self.0.reveal());
        block.iter_mut().zip(digest).for_each(|(place, byte)| *place = byte);
        let mut code = Hmac::<Sha256>::new(&block);
        code.update(words.as_bytes());
        code
    }
}

/// Decodes hexadecimal digits.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|digit| u8::try_from(digit.to_digit(16)?).ok()).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|pair| (pair[0] << 4) | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::layer_image::StoredLayer;
    use crate::image::{Blob, BlobSource, Digest, media_type};

    fn authenticator(secret: &str) -> Authenticator {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), secret).unwrap();
        Authenticator::open(file.path()).unwrap()
    }

    const SECRET: &str = "a secret of some length\n";

    fn image() -> Image {
        let blob = Blob {
            descriptor: Descriptor::of(media_type::OCI_LAYER_GZIP, b"layer"),
            source: BlobSource::Bytes(b"layer".to_vec()),
        };
        let annotations = [("dev.crabwright.cache.content", "key".to_owned())];
        StoredLayer::to_image(&Digest::sha256_of(b"tar"), 7, &"linux/amd64".parse().unwrap(), blob, annotations)
            .unwrap()
    }

    #[test]
    fn signed_manifests_are_trusted_with_the_secret() {
        let signed = authenticator(SECRET).sign(image()).unwrap();
        // Line ends are added by editors.
        assert_eq!(authenticator(SECRET.trim_end()).check(&signed.manifest_bytes), Ok(()));
        assert_eq!(
            authenticator("a different secret, long enough").check(&signed.manifest_bytes),
            Err(UntrustedManifest::WrongCode)
        );
        assert_eq!(authenticator(SECRET).check(&image().manifest_bytes), Err(UntrustedManifest::NoCode));
        assert_eq!(authenticator(SECRET).check(b"<html>"), Err(UntrustedManifest::NoManifest));
        // Signing twice has the same result.
        assert_eq!(authenticator(SECRET).sign(signed.clone()).unwrap().manifest_bytes, signed.manifest_bytes);
        assert!(!String::from_utf8_lossy(&signed.manifest_bytes).contains("of some length"));
    }

    #[test]
    fn everything_that_is_read_is_covered_by_the_code() {
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
            assert_eq!(checked, Err(UntrustedManifest::WrongCode), "{what}");
        }
    }

    #[test]
    fn a_file_without_a_secret_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let long = "x".repeat(5000);
        for (content, problem) in
            [("", "of 0 bytes"), ("short\n", "of 5 bytes"), (long.as_str(), "too long for a secret")]
        {
            std::fs::write(file.path(), content).unwrap();
            let error = Authenticator::open(file.path()).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
            assert!(content.is_empty() || !error.contains(content.trim_end()), "{error}");
        }
        let error = Authenticator::open(Path::new("/no/such/file")).unwrap_err().to_string();
        assert!(error.starts_with("--cache-key-file /no/such/file: failed to open it"), "{error}");
        assert_eq!(format!("{:?}", authenticator(SECRET)), "Authenticator([redacted])");
    }
}
