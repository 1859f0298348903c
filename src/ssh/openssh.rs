//! Parses private keys in OpenSSH's format (openssh/PROTOCOL.key).
//!
//! OpenSSH writes the private number of an ECDSA key without leading zeros (RFC 4251, section 5, `mpint`), but ssh-key
//! 0.6 only reads it at the full width of the curve. It would refuse one of 256 keys, and one of four with P-521, so
//! the zeros are added.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ssh_key::PrivateKey;

const MAGIC: &[u8] = b"openssh-key-v1\0";
const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
/// The block size to which the private part of a key without a passphrase is padded.
const BLOCK: usize = 8;

/// Parses a key.
///
/// # Errors
/// `text` is not a key in this format.
pub(super) fn parse(text: &str) -> Result<PrivateKey, ssh_key::Error> {
    match widen(text) {
        Some(bytes) => PrivateKey::from_bytes(&bytes),
        None => PrivateKey::from_openssh(text),
    }
}

/// Returns the key with its private number at full width; `None` if it needs no change or cannot be changed.
fn widen(text: &str) -> Option<Vec<u8>> {
    let body = text.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
    let bytes = STANDARD.decode(body.split_ascii_whitespace().collect::<String>()).ok()?;
    let mut key = Fields(bytes.strip_prefix(MAGIC)?);
    let (cipher, derivation, options) = (key.string()?, key.string()?, key.string()?);
    let (count, public) = (key.take(4)?, key.string()?);
    if cipher != b"none" || count != [0, 0, 0, 1] {
        return None;
    }
    let mut private = Fields(key.string()?);
    let check = private.take(8)?;
    let (algorithm, curve, point) = (private.string()?, private.string()?, private.string()?);
    let width: usize = match curve {
        b"nistp256" => 32,
        b"nistp384" => 48,
        b"nistp521" => 66,
        _ => return None,
    };
    let (number, comment) = (private.string()?, private.string()?);
    let number = &number[number.iter().take_while(|byte| **byte == 0).count()..];
    let missing = width.checked_sub(number.len()).filter(|missing| *missing > 0)?;

    let mut wide = check.to_vec();
    for field in [algorithm, curve, point, &[vec![0; missing], number.to_vec()].concat(), comment] {
        put(&mut wide, field)?;
    }
    wide.extend((1..).take(wide.len().next_multiple_of(BLOCK) - wide.len()));
    let mut out = MAGIC.to_vec();
    for field in [cipher, derivation, options] {
        put(&mut out, field)?;
    }
    out.extend(count);
    put(&mut out, public)?;
    put(&mut out, &wide)?;
    Some(out)
}

/// Appends a `string` of RFC 4251.
fn put(out: &mut Vec<u8>, field: &[u8]) -> Option<()> {
    out.extend(u32::try_from(field.len()).ok()?.to_be_bytes());
    out.extend(field);
    Some(())
}

/// The bytes that are left to read.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// Reads a `string` of RFC 4251: its length, and that many bytes.
    fn string(&mut self) -> Option<&'a [u8]> {
        let length = u32::from_be_bytes(self.take(4)?.try_into().ok()?);
        self.take(usize::try_from(length).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn key(name: &str) -> String {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/ssh").join(name);
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn numbers_with_leading_zeros_are_read() {
        for name in ["p256-short", "p384-short", "p521-short"] {
            let text = key(name);
            assert!(PrivateKey::from_openssh(&text).is_err(), "{name}: widening has become unnecessary");
            let read = parse(&text).unwrap();
            assert_eq!(read.public_key().to_openssh().unwrap(), key(&format!("{name}.pub")).trim(), "{name}");
        }
    }

    #[test]
    fn anything_cut_short_is_an_error() {
        let text = key("p256-short");
        for length in 0..text.trim().len() {
            parse(&text[..length]).unwrap_err();
        }
        let bytes = STANDARD.encode(MAGIC);
        parse(&format!("{BEGIN}\n{bytes}\n{END}\n")).unwrap_err();
    }
}
