//! Image references, by the rules of Docker (distribution's `reference` package).

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::Digest;
use super::digest::DigestError;

/// The registry of names without one.
pub const DOCKER_HUB: &str = "docker.io";

/// The longest repository name, registry included.
const MAX_NAME: usize = 255;
/// The longest tag.
const MAX_TAG: usize = 128;

/// Why a text is not an image reference. Each message says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The text is empty.
    #[error("invalid image reference: it is empty")]
    Empty,
    /// The text starts with a scheme.
    #[error("invalid image reference {text:?}: leave out {scheme}, a reference starts with the registry's host")]
    Scheme {
        /// The text as given.
        text: String,
        /// The scheme, such as `https://`.
        scheme: String,
    },
    /// The repository has upper-case letters.
    #[error("invalid image reference {text:?}: the repository name must be lower-case ({suggestion})")]
    Uppercase {
        /// The text as given.
        text: String,
        /// The repository in lower case.
        suggestion: String,
    },
    /// The registry's host is malformed.
    #[error("invalid image reference {text:?}: {registry:?} is not a registry host[:port]")]
    Registry {
        /// The text as given.
        text: String,
        /// The part before the first slash.
        registry: String,
    },
    /// A component of the repository is malformed.
    #[error(
        "invalid image reference {text:?}: {component:?} is not a repository component \
         (lower-case letters and digits, separated by one of . _ __ or any number of -)"
    )]
    Component {
        /// The text as given.
        text: String,
        /// The malformed part.
        component: String,
    },
    /// The tag is malformed.
    #[error(
        "invalid image reference {text:?}: {tag:?} is not a tag \
         (at most 128 letters, digits, _ . or -, the first neither . nor -)"
    )]
    Tag {
        /// The text as given.
        text: String,
        /// The part after the colon.
        tag: String,
    },
    /// The digest is malformed.
    #[error("invalid image reference {text:?}")]
    Digest {
        /// The text as given.
        text: String,
        /// What is wrong with it.
        #[source]
        source: DigestError,
    },
    /// The name is too long.
    #[error("invalid image reference {text:?}: the name is longer than {MAX_NAME} characters")]
    TooLong {
        /// The text as given.
        text: String,
    },
    /// The name could be mistaken for an image ID.
    #[error("invalid image reference {text:?}: 64 hexadecimal digits are an image ID, not a repository name")]
    ImageId {
        /// The text as given.
        text: String,
    },
}

/// The name of an image in a registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// The registry, `host[:port]`; always `docker.io` for Docker Hub.
    pub registry: String,
    /// The repository in the registry, including `library/`.
    pub repository: String,
    /// The tag, if there is one.
    pub tag: Option<String>,
    /// The digest, if there is one. It takes precedence over the tag.
    pub digest: Option<Digest>,
}

/// The registry of images in a layout. It cannot be a registry's name, because a port would follow the colon.
const LAYOUT: &str = "oci-layout:";

impl Reference {
    /// Parses `DIRECTORY[:NAME][@DIGEST]`, an image in a local OCI layout; it is formatted with the prefix
    /// `oci-layout://`.
    ///
    /// # Errors
    /// The directory is missing, or the name or the digest is malformed.
    pub fn parse_layout(text: &str) -> Result<Self, ReferenceError> {
        let (place, digest) = match text.split_once('@') {
            Some((place, digest)) => {
                let digest =
                    digest.parse().map_err(|source| ReferenceError::Digest { text: text.to_owned(), source })?;
                (place, Some(digest))
            }
            None => (text, None),
        };
        let (directory, tag) = match place.rsplit_once(':') {
            Some((directory, tag)) if !tag.contains('/') => (directory, Some(tag)),
            _ => (place, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(ReferenceError::Tag { text: text.to_owned(), tag: tag.to_owned() });
        }
        if directory.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let repository = format!("/{directory}");
        Ok(Self { registry: LAYOUT.to_owned(), repository, tag: tag.map(str::to_owned), digest })
    }

    /// Returns the directory of the image's OCI layout, if it is in one.
    pub fn layout_directory(&self) -> Option<&Path> {
        let directory = self.repository.strip_prefix('/')?;
        (self.registry == LAYOUT).then_some(Path::new(directory))
    }

    /// Parses `[registry/]repository[:tag][@digest]`.
    ///
    /// # Errors
    /// The text is not a reference; the message says why, and how to write one.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(ReferenceError::Scheme { text: text.to_owned(), scheme: format!("{scheme}://") });
        }
        if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ReferenceError::ImageId { text: text.to_owned() });
        }
        let (name_and_tag, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                let digest =
                    digest.parse().map_err(|source| ReferenceError::Digest { text: text.to_owned(), source })?;
                (name, Some(digest))
            }
            None => (text, None),
        };
        let (name, tag) = match name_and_tag.rsplit_once(':') {
            // A colon before a slash precedes the registry's port, or is part of an IPv6 address.
            Some((name, tag)) if !tag.contains('/') && !name.is_empty() => (name, Some(tag)),
            _ => (name_and_tag, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(ReferenceError::Tag { text: text.to_owned(), tag: tag.to_owned() });
        }
        let (registry, remainder) = split_registry(name);
        if !is_registry(registry) {
            return Err(ReferenceError::Registry { text: text.to_owned(), registry: registry.to_owned() });
        }
        check_repository(text, remainder)?;
        if registry.len() + 1 + remainder.len() > MAX_NAME {
            return Err(ReferenceError::TooLong { text: text.to_owned() });
        }
        let registry = if registry == "index.docker.io" { DOCKER_HUB } else { registry };
        let repository = if registry == DOCKER_HUB && !remainder.contains('/') {
            format!("library/{remainder}")
        } else {
            remainder.to_owned()
        };
        Ok(Self { registry: registry.to_owned(), repository, tag: tag.map(str::to_owned), digest })
    }

    /// Returns the host of the registry's API. That of Docker Hub differs from its name.
    pub fn registry_host(&self) -> &str {
        if self.registry == DOCKER_HUB { "registry-1.docker.io" } else { &self.registry }
    }

    /// Returns `registry/repository` for digest files, in which Docker Hub is `index.docker.io` (as in kaniko).
    pub fn name(&self) -> String {
        let registry = if self.registry == DOCKER_HUB { "index.docker.io" } else { &self.registry };
        format!("{registry}/{}", self.repository)
    }

    /// Returns the name as Docker shows it: `app:1` instead of `docker.io/library/app:1`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let short = full.strip_prefix("docker.io/").unwrap_or(&full);
        short.strip_prefix("library/").filter(|_| short.len() < full.len()).unwrap_or(short).to_owned()
    }

    /// Returns the tag, or `latest`.
    pub fn tag_or_latest(&self) -> &str {
        self.tag.as_deref().unwrap_or("latest")
    }

    /// Returns the last part of a manifest's URL: the digest if there is one, otherwise the tag.
    pub fn manifest_reference(&self) -> String {
        match &self.digest {
            Some(digest) => digest.to_string(),
            None => self.tag_or_latest().to_owned(),
        }
    }

    /// Returns a reference to the same repository with `tag` and without a digest.
    #[must_use]
    pub fn with_tag(&self, tag: impl Into<String>) -> Self {
        Self { tag: Some(tag.into()), digest: None, ..self.clone() }
    }

    /// Returns a reference to the same repository and tag with `digest`.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// Returns a reference to the repository, without tag and digest.
    #[must_use]
    pub fn without_tag(&self) -> Self {
        Self { tag: None, digest: None, ..self.clone() }
    }

    /// Reports whether both are in the same repository of the same registry.
    pub fn same_repository(&self, other: &Self) -> bool {
        self.registry == other.registry && self.repository == other.repository
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

/// Splits a name after Docker's rule: the part before the first slash is a registry if it has a dot or a colon, is
/// `localhost`, or has upper-case letters and so cannot be a repository.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':']) || first == "localhost" || first.chars().any(char::is_uppercase) =>
        {
            (first, rest)
        }
        _ => (DOCKER_HUB, name),
    }
}

fn is_registry(registry: &str) -> bool {
    let (host, port) = if let Some(rest) = registry.strip_prefix('[') {
        let Some((address, after)) = rest.split_once(']') else { return false };
        let port = match after.strip_prefix(':') {
            Some(port) => Some(port),
            None if after.is_empty() => None,
            None => return false,
        };
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return false;
        }
        ("ipv6", port)
    } else {
        match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        }
    };
    let port_ok = port.is_none_or(|port| {
        !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
    });
    let host_ok = host.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    });
    port_ok && host_ok
}

fn check_repository(text: &str, repository: &str) -> Result<(), ReferenceError> {
    for component in repository.split('/') {
        if is_component(component) {
            continue;
        }
        if is_component(&component.to_lowercase()) {
            let suggestion = format!("write {}", repository.to_lowercase());
            return Err(ReferenceError::Uppercase { text: text.to_owned(), suggestion });
        }
        return Err(ReferenceError::Component { text: text.to_owned(), component: component.to_owned() });
    }
    Ok(())
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(component: &str) -> bool {
    let is_word = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9');
    let mut rest = component.as_bytes();
    loop {
        let word = rest.iter().take_while(|byte| is_word(**byte)).count();
        if word == 0 {
            return false;
        }
        rest = &rest[word..];
        if rest.is_empty() {
            return true;
        }
        let separator = rest.iter().take_while(|byte| !is_word(**byte)).count();
        let known = match &rest[..separator] {
            b"." | b"_" | b"__" => true,
            other => !other.is_empty() && other.iter().all(|byte| *byte == b'-'),
        };
        if !known {
            return false;
        }
        rest = &rest[separator..];
    }
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_are_completed_as_docker_does() {
        let table = [
            ("busybox", "docker.io/library/busybox"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("library/busybox", "docker.io/library/busybox"),
            ("user/app", "docker.io/user/app"),
            ("docker.io/app", "docker.io/library/app"),
            ("docker.io/user/app:v1", "docker.io/user/app:v1"),
            ("index.docker.io/app", "docker.io/library/app"),
            ("index.docker.io/user/app", "docker.io/user/app"),
            ("registry-1.docker.io/user/app", "registry-1.docker.io/user/app"),
            ("quay.io/a/b/c", "quay.io/a/b/c"),
            ("localhost/app", "localhost/app"),
            ("localhost:5000/app:x", "localhost:5000/app:x"),
            ("127.0.0.1:5000/app", "127.0.0.1:5000/app"),
            ("host:5000/app", "host:5000/app"),
            ("[::1]:5000/a", "[::1]:5000/a"),
            ("[::1]/a:b", "[::1]/a:b"),
            ("[2001:db8::1]:5000/a/b:c", "[2001:db8::1]:5000/a/b:c"),
            ("UPPER/x", "UPPER/x"),
            ("Registry.Example.com/x", "Registry.Example.com/x"),
            ("a/b:c", "docker.io/a/b:c"),
            ("a_b/c__d/e-f/g---h/i.j", "docker.io/a_b/c__d/e-f/g---h/i.j"),
            ("a:_under.score-1", "docker.io/library/a:_under.score-1"),
            ("xn--n3h.com/myimage", "xn--n3h.com/myimage"),
            ("a.b-c.d:80/e", "a.b-c.d:80/e"),
        ];
        for (text, canonical) in table {
            assert_eq!(Reference::parse(text).unwrap().to_string(), canonical, "{text}");
            assert_eq!(Reference::parse(canonical).unwrap().to_string(), canonical, "{canonical}");
            let pinned = format!("{text}@sha256:{HEX}");
            assert_eq!(Reference::parse(&pinned).unwrap().to_string(), format!("{canonical}@sha256:{HEX}"));
        }
    }

    #[test]
    fn malformed_references_are_refused_with_the_reason() {
        let long_tag = format!("a:{}", "x".repeat(129));
        let long_name = format!("a/{}", "x".repeat(254));
        let table = [
            ("", "empty"),
            ("https://example.com/a", "leave out https://"),
            ("docker://a", "leave out docker://"),
            ("Busybox", "write busybox"),
            ("example.com/My/App:1", "write my/app"),
            ("user/App", "write user/app"),
            (":tag", "not a repository component"),
            ("a//b", "\"\" is not a repository component"),
            ("a/", "\"\" is not a repository component"),
            ("/a", "\"\" is not a repository component"),
            ("a/b:", "\"\" is not a tag"),
            ("a:-x", "\"-x\" is not a tag"),
            ("a:b:c", "component"),
            ("a:tag with space", "is not a tag"),
            ("a@sha256:12", "invalid image reference"),
            ("a@md5:12", "invalid image reference"),
            ("-bad.com/a", "not a registry host"),
            ("host:port/a", "not a registry host"),
            ("host:70000/a", "not a registry host"),
            ("a..b/c", "not a registry host"),
            ("[::g]:5000/a", "not a registry host"),
            ("[::1]x/a", "not a registry host"),
            ("a___b", "not a repository component"),
            ("a._b", "not a repository component"),
            ("a/-b", "not a repository component"),
            ("a/b-", "not a repository component"),
            ("ünïcode", "not a repository component"),
            (HEX, "image ID"),
            (long_tag.as_str(), "is not a tag"),
            (long_name.as_str(), "longer than 255"),
        ];
        for (text, reason) in table {
            let error = Reference::parse(text).expect_err(text);
            assert!(error.to_string().contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn names_for_digest_files_and_hosts_for_requests() {
        let hub = Reference::parse("alpine:3").unwrap();
        assert_eq!(hub.name(), "index.docker.io/library/alpine");
        assert_eq!(hub.registry_host(), "registry-1.docker.io");
        let own = Reference::parse("r.example:5000/a").unwrap();
        assert_eq!(own.name(), "r.example:5000/a");
        assert_eq!(own.registry_host(), "r.example:5000");
        assert_eq!(own.tag_or_latest(), "latest");
        let pinned = own.with_tag("v1").with_digest(Digest::sha256_of(b""));
        assert_eq!(pinned.manifest_reference(), format!("sha256:{HEX}"));
        assert_eq!(pinned.with_tag("v2").digest, None);
        assert!(pinned.same_repository(&own));
    }

    #[test]
    fn familiar_names_leave_out_defaults() {
        for (full, familiar) in [
            ("docker.io/library/app:1", "app:1"),
            ("docker.io/me/app:1", "me/app:1"),
            ("localhost:5000/library/app:1", "localhost:5000/library/app:1"),
        ] {
            assert_eq!(Reference::parse(full).unwrap().familiar(), familiar);
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_canonical_text_is_stable(text in "[a-zA-Z0-9.:/@_\\[\\]-]{0,40}") {
            if let Ok(reference) = Reference::parse(&text) {
                let canonical = reference.to_string();
                prop_assert_eq!(Reference::parse(&canonical).unwrap(), reference);
            }
        }
    }
}
