//! The values of flags: words, sizes, durations and paths as they are typed.
//!
//! Each parser takes what kaniko or Docker takes for the same flag, and its error says what is expected. Values that
//! belong to one flag alone are with that flag.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};

use crate::dockerfile::{parse_go_bool, parse_go_duration};
use crate::image::ImageFormat;
use crate::layer::Compression;
use crate::sandbox::Isolation;

/// The spellings of Go's `strconv.ParseBool`.
pub(crate) fn boolean(word: &str) -> Result<bool, NotBoolean> {
    parse_go_bool(word).ok_or(NotBoolean)
}

/// A word that is neither true nor false.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected true or false")]
pub struct NotBoolean;

/// Takes any path, an empty one included: scripts pass it for "none".
pub(crate) fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// A value, unless it is empty: scripts pass an empty value for a flag that they do not use.
pub(crate) fn non_empty<T: AsRef<OsStr>>(value: Option<T>) -> Option<T> {
    value.filter(|value| !value.as_ref().is_empty())
}

/// `KEY=VALUE` with a key that is not empty.
pub(crate) fn pair(text: &str) -> Option<(String, String)> {
    let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty())?;
    Some((key.to_owned(), value.to_owned()))
}

/// Bytes, with a unit of 1000 (`k`, `M`, `G`, `T`) or of 1024 (`Ki`…), with or without a `B`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().trim_end_matches(['b', 'B']).to_ascii_lowercase();
    let power = |letter: &str| ["", "k", "m", "g", "t"].iter().position(|known| *known == letter);
    let factor = match (unit.strip_suffix('i'), power(&unit)) {
        (Some(letter), _) => power(letter).filter(|power| *power > 0).map(|power| 1024_u64.pow(power as u32)),
        (None, power) => power.map(|power| 1000_u64.pow(power as u32)),
    };
    let bytes = number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    bytes.ok_or_else(|| "expected bytes, or a number with a unit such as 500MiB or 8GiB".to_owned())
}

/// A duration in Go's notation that is not negative.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let nanoseconds = parse_go_duration(text)?;
    u64::try_from(nanoseconds).map(Duration::from_nanos).map_err(|_negative| "it is negative".to_owned())
}

/// The words of `--image-format`.
pub(crate) fn image_format() -> impl TypedValueParser<Value = ImageFormat> {
    PossibleValuesParser::new(["oci", "docker"]).map(|word| match word.as_str() {
        "docker" => ImageFormat::Docker,
        _ => ImageFormat::Oci,
    })
}

/// The words of `--compression`.
pub(crate) fn compression() -> impl TypedValueParser<Value = Compression> {
    PossibleValuesParser::new(Compression::ALL.map(Compression::name))
        .map(|word| Compression::ALL.into_iter().find(|known| known.name() == word).unwrap_or_default())
}

/// The words of `--isolation`.
pub(crate) fn isolation() -> impl TypedValueParser<Value = Isolation> {
    PossibleValuesParser::new(["auto", "namespace", "own-root"]).try_map(|word| word.parse::<Isolation>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("0", 0),
            ("10", 10),
            ("10B", 10),
            ("2k", 2000),
            ("2KiB", 2048),
            ("8GiB", 8 << 30),
            ("1T", 1_000_000_000_000),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "-1", "1.5G", "1X", "1i", "99999999999T"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_those_of_go() {
        assert_eq!(duration("336h0m0s"), Ok(Duration::from_secs(336 * 3600)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert!(duration("-1h").is_err());
        assert!(duration("2 days").is_err());
    }

    #[test]
    fn a_pair_has_a_key() {
        assert_eq!(pair("a=b=c"), Some(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(pair("a="), Some(("a".to_owned(), String::new())));
        assert_eq!((pair("=b"), pair("a")), (None, None));
    }
}
