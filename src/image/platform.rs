//! Platforms of images, and the selection of an index's image for a requested platform.
//!
//! Names are normalized as in containerd's `platforms` package: `linux/aarch64`, `arm64` and `linux/arm64/v8` are the
//! same platform.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// The text has the wrong format.
    #[error("invalid platform {text:?}: expected os/architecture[/variant][:os-version], such as linux/arm64")]
    Syntax {
        /// The text as given.
        text: String,
    },
    /// A single word that is neither an operating system nor an architecture.
    #[error(
        "unknown platform {text:?}: neither an operating system nor an architecture{}",
        suggestion.as_deref().map(|s| format!("; did you mean {s}?")).unwrap_or_default()
    )]
    Unknown {
        /// The text as given.
        text: String,
        /// The most similar known word.
        suggestion: Option<String>,
    },
}

/// An operating system and a processor architecture (OCI image specification, image-index.md, "platform").
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// The processor architecture with Go's name.
    #[serde(default)]
    pub architecture: String,
    /// The operating system with Go's name.
    #[serde(default)]
    pub os: String,
    /// The version of the operating system, for Windows.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features that the operating system must have.
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "super::null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// The variant of the architecture, such as `v7` of `arm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

const KNOWN_SYSTEMS: &[&str] = &[
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "illumos",
    "ios",
    "js",
    "linux",
    "macos",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "wasip1",
    "windows",
    "zos",
];

const KNOWN_ARCHITECTURES: &[&str] = &[
    "386", "aarch64", "amd64", "arm", "arm64", "armel", "armhf", "i386", "loong64", "mips", "mips64", "mips64le",
    "mipsle", "ppc64", "ppc64le", "riscv64", "s390x", "wasm", "x86-64", "x86_64",
];

impl Platform {
    /// Returns a normalized platform without a version.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let platform = Self {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            os_version: None,
            os_features: Vec::new(),
            variant: variant.map(str::to_owned),
        };
        platform.normalized()
    }

    /// Returns the platform of this program.
    pub fn host() -> Self {
        Self::new(std::env::consts::OS, std::env::consts::ARCH, None)
    }

    /// Returns the platform with the usual names; an empty variant becomes `None`.
    #[must_use]
    pub fn normalized(&self) -> Self {
        let os = match self.os.to_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let variant = self.variant.as_deref().unwrap_or_default().to_lowercase();
        let (architecture, variant) = normalize_architecture(&self.architecture.to_lowercase(), &variant);
        Self {
            architecture,
            os,
            os_version: self.os_version.clone().filter(|version| !version.is_empty()),
            os_features: self.os_features.clone(),
            variant: Some(variant).filter(|variant| !variant.is_empty()),
        }
    }

    /// Reports whether an image for `candidate` runs on `self`.
    pub fn matches(&self, candidate: &Self) -> bool {
        self.distance(candidate).is_some()
    }

    /// Returns the distance of `candidate` from the requested platform: 0 for the same platform, more for an older
    /// variant that also runs (`arm/v6` on `arm/v7`, plain `amd64` on `amd64/v3`), `None` if it does not run.
    pub fn distance(&self, candidate: &Self) -> Option<u32> {
        let wanted = self.normalized();
        let offered = candidate.normalized();
        if wanted.os != offered.os || wanted.architecture != offered.architecture {
            return None;
        }
        if wanted.os_version.is_some() && wanted.os_version != offered.os_version {
            return None;
        }
        if wanted.variant == offered.variant {
            return Some(0);
        }
        let oldest = match wanted.architecture.as_str() {
            "amd64" => 1,
            "arm" => 5,
            "arm64" => 8,
            _ => return None,
        };
        let wanted_level = variant_level(wanted.variant.as_deref(), oldest)?;
        let offered_level = variant_level(offered.variant.as_deref(), oldest)?;
        wanted_level.checked_sub(offered_level).filter(|_| offered_level >= oldest)
    }
}

/// Returns 7 for `v7`; without a variant, the architecture's oldest.
fn variant_level(variant: Option<&str>, oldest: u32) -> Option<u32> {
    match variant {
        None => Some(oldest),
        Some(variant) => variant.strip_prefix('v')?.parse().ok(),
    }
}

fn normalize_architecture(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = match (architecture, variant) {
        ("i386" | "386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", variant) => ("arm64", variant),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        ("loongarch64", variant) => ("loong64", variant),
        ("powerpc64le", variant) => ("ppc64le", variant),
        other => other,
    };
    (architecture.to_owned(), variant.to_owned())
}

impl FromStr for Platform {
    type Err = PlatformError;

    /// Parses `os/architecture[/variant]`, a single `os` or `architecture` (the rest is the host's), and a version of
    /// the operating system in kaniko's form (`:version` at the end) or containerd's (`os(version)`).
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let syntax = || PlatformError::Syntax { text: text.to_owned() };
        let (names, colon_version) = match text.split_once(':') {
            Some((_, "")) => return Err(syntax()),
            Some((names, version)) => (names, Some(version.to_owned())),
            None => (text, None),
        };
        let mut parts = Vec::new();
        let mut os_version = colon_version;
        for (position, part) in names.split('/').enumerate() {
            let word = match part.strip_suffix(')').and_then(|part| part.split_once('(')) {
                Some((word, version)) if position == 0 && os_version.is_none() && !version.is_empty() => {
                    os_version = Some(version.to_owned());
                    word
                }
                _ => part,
            };
            let well_formed = word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
            if word.is_empty() || !well_formed {
                return Err(syntax());
            }
            parts.push(word);
        }
        let host = Self::host();
        let mut platform = match parts.as_slice() {
            [word] => {
                let lower = word.to_lowercase();
                if KNOWN_SYSTEMS.contains(&lower.as_str()) {
                    Self::new(&lower, &host.architecture, host.variant.as_deref())
                } else if KNOWN_ARCHITECTURES.contains(&lower.as_str()) {
                    Self::new(&host.os, &lower, None)
                } else {
                    let known = KNOWN_SYSTEMS.iter().chain(KNOWN_ARCHITECTURES).copied();
                    let suggestion = crate::diag::suggest(&lower, known);
                    return Err(PlatformError::Unknown { text: text.to_owned(), suggestion });
                }
            }
            [os, architecture] => Self::new(os, architecture, None),
            [os, architecture, variant] => Self::new(os, architecture, Some(variant)),
            _ => return Err(syntax()),
        };
        platform.os_version = os_version;
        Ok(platform)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if let Some(variant) = &self.variant {
            write!(f, "/{variant}")?;
        }
        if let Some(version) = &self.os_version {
            write!(f, ":{version}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalized() {
        for (text, shown) in [
            ("linux/amd64", "linux/amd64"),
            ("Linux/x86_64", "linux/amd64"),
            ("linux/x86-64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64/8", "linux/arm64"),
            ("linux/arm64/v9", "linux/arm64/v9"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/7", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/i386", "linux/386"),
            ("macos/arm64", "darwin/arm64"),
            ("windows/amd64:10.0.17763.1", "windows/amd64:10.0.17763.1"),
            ("windows(10.0.17763.1)/amd64", "windows/amd64:10.0.17763.1"),
            ("linux/s390x", "linux/s390x"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn a_single_word_is_completed_by_the_host() {
        let host = Platform::host();
        assert_eq!("linux".parse::<Platform>().unwrap(), host);
        assert_eq!("riscv64".parse::<Platform>().unwrap().to_string(), format!("{}/riscv64", host.os));
    }

    #[test]
    fn malformed_platforms_are_refused_with_a_hint() {
        for text in ["", "/", "linux/", "linux//v7", "a/b/c/d", "linux/amd64:", "lin ux/amd64"] {
            assert!(matches!(text.parse::<Platform>(), Err(PlatformError::Syntax { .. })), "{text}");
        }
        let error = "linx".parse::<Platform>().unwrap_err();
        assert!(error.to_string().contains("did you mean linux?"), "{error}");
    }

    #[test]
    fn older_variants_run_and_newer_do_not() {
        let wanted: Platform = "linux/arm/v7".parse().unwrap();
        let distance = |text: &str| wanted.distance(&text.parse().unwrap());
        assert_eq!(distance("linux/arm/v7"), Some(0));
        assert_eq!(distance("linux/arm/v6"), Some(1));
        assert_eq!(distance("linux/arm/v8"), None);
        assert_eq!(distance("linux/arm64"), None);
        let wanted: Platform = "linux/amd64/v3".parse().unwrap();
        assert!(wanted.matches(&"linux/amd64".parse().unwrap()));
        assert!(!"linux/amd64".parse::<Platform>().unwrap().matches(&wanted));
        let wanted: Platform = "linux/arm64".parse().unwrap();
        assert!(wanted.matches(&Platform { variant: Some("v8".to_owned()), ..wanted.clone() }));
    }
}
