//! Digests (OCI image specification, descriptor.md, "Digests"), and readers and writers that compute them.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256, Sha512};

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no `algorithm:` part.
    #[error("invalid digest {text:?}: expected sha256:<64 hexadecimal digits>")]
    Syntax {
        /// The text as given.
        text: String,
    },
    /// The algorithm is not one of the two in the OCI image specification.
    #[error("unsupported digest algorithm {algorithm:?} in {text:?}: only sha256 and sha512 are known")]
    Algorithm {
        /// The text as given.
        text: String,
        /// The part before the colon.
        algorithm: String,
    },
    /// The hexadecimal part has the wrong length, or is not lower-case hexadecimal.
    #[error("invalid digest {text:?}: expected {expected} lower-case hexadecimal digits after the colon")]
    Encoding {
        /// The text as given.
        text: String,
        /// The number of digits of the algorithm.
        expected: usize,
    },
}

/// The hash functions of the OCI image specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, the usual one.
    Sha256,
    /// SHA-512, which the specification allows.
    Sha512,
}

impl Algorithm {
    /// Returns the name, as it is before the colon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn hex_length(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// The digest of some content; formatted as `sha256:<hex>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    hex: String,
}

impl Digest {
    /// Returns the SHA-256 digest of `content`.
    pub fn sha256_of(content: &[u8]) -> Self {
        Self { algorithm: Algorithm::Sha256, hex: to_hex(&Sha256::digest(content)) }
    }

    /// Returns the algorithm's name, usually `sha256`.
    pub fn algorithm(&self) -> &'static str {
        self.algorithm.name()
    }

    /// Returns the hexadecimal part, without the algorithm.
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// Returns a hasher of this digest's algorithm, to verify content.
    pub fn hasher(&self) -> Hasher {
        match self.algorithm {
            Algorithm::Sha256 => Hasher { state: HashState::Sha256(Sha256::new()), bytes: 0 },
            Algorithm::Sha512 => Hasher { state: HashState::Sha512(Sha512::new()), bytes: 0 },
        }
    }

    /// Reports whether `content` has this digest.
    pub fn verifies(&self, content: &[u8]) -> bool {
        let mut hasher = self.hasher();
        hasher.update(content);
        hasher.finish() == *self
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let Some((algorithm, hex)) = text.split_once(':') else {
            return Err(DigestError::Syntax { text: text.to_owned() });
        };
        let algorithm = match algorithm {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            other => return Err(DigestError::Algorithm { text: text.to_owned(), algorithm: other.to_owned() }),
        };
        let is_hex = hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if hex.len() != algorithm.hex_length() || !is_hex {
            return Err(DigestError::Encoding { text: text.to_owned(), expected: algorithm.hex_length() });
        }
        Ok(Self { algorithm, hex: hex.to_owned() })
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        hex.push(char::from(DIGITS[usize::from(byte >> 4)]));
        hex.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    hex
}

#[derive(Clone)]
enum HashState {
    Sha256(Sha256),
    Sha512(Sha512),
}

/// Computes a digest step by step, and counts the bytes.
#[derive(Clone)]
pub struct Hasher {
    state: HashState,
    bytes: u64,
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

impl Hasher {
    /// Returns a SHA-256 hasher.
    pub fn new() -> Self {
        Self { state: HashState::Sha256(Sha256::new()), bytes: 0 }
    }

    /// Adds bytes.
    pub fn update(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        match &mut self.state {
            HashState::Sha256(state) => state.update(piece),
            HashState::Sha512(state) => state.update(piece),
        }
    }

    /// Returns the number of bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the digest of all bytes.
    pub fn finish(self) -> Digest {
        match self.state {
            HashState::Sha256(state) => Digest { algorithm: Algorithm::Sha256, hex: to_hex(&state.finalize()) },
            HashState::Sha512(state) => Digest { algorithm: Algorithm::Sha512, hex: to_hex(&state.finalize()) },
        }
    }
}

/// A writer that hashes the bytes written to it.
#[derive(Debug)]
pub struct HashingWriter<W> {
    inner: W,
    hasher: Hasher,
}

impl<W> HashingWriter<W> {
    /// Hashes (SHA-256) everything written to `inner`.
    pub fn new(inner: W) -> Self {
        Self { inner, hasher: Hasher::new() }
    }

    /// Returns the number of bytes written.
    pub fn bytes(&self) -> u64 {
        self.hasher.bytes()
    }

    /// Returns the inner writer, the digest of all bytes, and their number.
    pub fn finish(self) -> (W, Digest, u64) {
        let bytes = self.hasher.bytes();
        (self.inner, self.hasher.finish(), bytes)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.hasher.update(&buffer[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A reader that hashes the bytes read from it.
#[derive(Debug)]
pub struct HashingReader<R> {
    inner: R,
    hasher: Hasher,
}

impl<R> HashingReader<R> {
    /// Hashes (SHA-256) everything read from `inner`.
    pub fn new(inner: R) -> Self {
        Self { inner, hasher: Hasher::new() }
    }

    /// Hashes everything read from `inner` with the algorithm of `expected`.
    pub fn verifying(inner: R, expected: &Digest) -> Self {
        Self { inner, hasher: expected.hasher() }
    }

    /// Returns the number of bytes read.
    pub fn bytes(&self) -> u64 {
        self.hasher.bytes()
    }

    /// Returns the inner reader, the digest of all bytes, and their number.
    pub fn finish(self) -> (R, Digest, u64) {
        let bytes = self.hasher.bytes();
        (self.inner, self.hasher.finish(), bytes)
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digests_of_known_content() {
        assert_eq!(Digest::sha256_of(b"").to_string(), EMPTY);
        let (_, digest, bytes) = {
            let mut reader = HashingReader::new(&b"abc"[..]);
            io::copy(&mut reader, &mut io::sink()).unwrap();
            reader.finish()
        };
        assert_eq!(digest.hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(bytes, 3);
        let mut writer = HashingWriter::new(Vec::new());
        writer.write_all(b"abc").unwrap();
        assert_eq!(writer.finish().1, digest);
    }

    #[test]
    fn sha512_content_is_verified_with_sha512() {
        let text = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                    2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
        let digest: Digest = text.parse().unwrap();
        assert!(digest.verifies(b"abc"));
        assert!(!digest.verifies(b"abd"));
    }

    #[test]
    fn malformed_digests_are_refused() {
        assert!(matches!("e3b0".parse::<Digest>(), Err(DigestError::Syntax { .. })));
        assert!(matches!("md5:00".parse::<Digest>(), Err(DigestError::Algorithm { .. })));
        assert!(matches!("sha256:00".parse::<Digest>(), Err(DigestError::Encoding { .. })));
        assert!(matches!(
            EMPTY.to_uppercase().replace("SHA", "sha").parse::<Digest>(),
            Err(DigestError::Encoding { .. })
        ));
    }
}
