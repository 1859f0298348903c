//! Decides which mirrors an image is pulled from: `--registry-map`, `--registry-mirror` and
//! `--skip-default-registry-fallback`.

use crate::image::reference::DOCKER_HUB;
use crate::image::{Reference, ReferenceError};

/// An invalid mirror.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MirrorError {
    /// There is no `=`, or one side of it is empty.
    #[error("{text:?} is not of the form registry=mirror[/prefix]")]
    Form {
        /// The entry.
        text: String,
    },
    /// The registry has a path.
    #[error("{text:?} names a repository: all repositories of a registry are mapped, or none")]
    Path {
        /// The text before the `=`.
        text: String,
    },
    /// The mirror and an image's name do not form a reference.
    #[error("{text:?} is not a registry with an optional path")]
    Mirror {
        /// The mirror.
        text: String,
        /// The error of the resulting name.
        #[source]
        source: ReferenceError,
    },
}

/// A mirror of one registry.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mirror {
    /// The mirrored registry.
    registry: String,
    /// `host[:port][/prefix]`
    prefix: String,
}

/// The mirrors of all registries, in the order in which they are tried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mirrors {
    mirrors: Vec<Mirror>,
    plain_http: Vec<String>,
    /// True if registries with mirrors are not asked themselves.
    pub only_mirrors: bool,
}

/// The sources to pull an image from, at least one.
pub(super) struct PullSources {
    pub(super) first: Vec<Reference>,
    pub(super) last: Reference,
}

impl Mirrors {
    /// Adds the mirrors of `--registry-map`: `registry=mirror[/prefix]`, several separated by semicolons. Either may
    /// have a scheme; `http://` allows plain http to the mirror.
    ///
    /// # Errors
    /// See [`MirrorError`].
    pub fn add_map(&mut self, text: &str) -> Result<(), MirrorError> {
        for entry in text.split(';').map(str::trim).filter(|entry| !entry.is_empty()) {
            let malformed = || MirrorError::Form { text: entry.to_owned() };
            let (registry, mirror) = entry.split_once('=').ok_or_else(malformed)?;
            let registry = without_scheme(registry.trim()).0.trim_end_matches('/');
            if registry.is_empty() || mirror.trim().is_empty() {
                return Err(malformed());
            }
            if registry.contains('/') {
                return Err(MirrorError::Path { text: registry.to_owned() });
            }
            self.add(registry, mirror.trim())?;
        }
        Ok(())
    }

    /// Adds the mirror of Docker Hub of `--registry-mirror`.
    ///
    /// # Errors
    /// See [`MirrorError`].
    pub fn add_docker_hub(&mut self, mirror: &str) -> Result<(), MirrorError> {
        self.add(DOCKER_HUB, mirror)
    }

    /// Returns the hosts of mirrors that were given with `http://`.
    pub(super) fn plain_http(&self) -> &[String] {
        &self.plain_http
    }

    fn add(&mut self, registry: &str, mirror: &str) -> Result<(), MirrorError> {
        let (prefix, plain) = without_scheme(mirror);
        let prefix = prefix.trim_end_matches('/');
        let mirror = Mirror { registry: canonical(registry), prefix: prefix.to_owned() };
        // Checked with an example: any image's name at the mirror must be valid.
        let probe =
            mirror.reference("library/name").and_then(|probe| match probe.repository.ends_with("library/name") {
                true if probe.registry == canonical(prefix.split('/').next().unwrap_or_default()) => Ok(probe),
                _ => Err(ReferenceError::Registry { text: prefix.to_owned(), registry: prefix.to_owned() }),
            });
        let probe = probe.map_err(|source| MirrorError::Mirror { text: prefix.to_owned(), source })?;
        if plain {
            self.plain_http.push(probe.registry);
        }
        self.mirrors.push(mirror);
        Ok(())
    }

    /// Returns the sources of an image: the mirrors of its registry, then the registry itself unless that is disabled.
    pub(super) fn pull_sources(&self, reference: &Reference) -> PullSources {
        let mut first: Vec<Reference> = self
            .mirrors
            .iter()
            .filter(|mirror| mirror.registry == reference.registry.to_lowercase())
            // The form has been checked. A name that becomes too long at a mirror does not exist there.
            .filter_map(|mirror| mirror.reference(&reference.repository).ok())
            .map(|prefix| Reference { tag: reference.tag.clone(), digest: reference.digest.clone(), ..prefix })
            .collect();
        let last = if self.only_mirrors { first.pop() } else { None };
        PullSources { first, last: last.unwrap_or_else(|| reference.clone()) }
    }
}

impl Mirror {
    fn reference(&self, repository: &str) -> Result<Reference, ReferenceError> {
        Reference::parse(&format!("{}/{repository}", self.prefix))
    }
}

/// Returns the text after a scheme, and whether that was `http`.
fn without_scheme(text: &str) -> (&str, bool) {
    match text.split_once("://") {
        Some((scheme, rest)) => (rest, scheme.eq_ignore_ascii_case("http")),
        None => (text, false),
    }
}

/// Returns the canonical name: Docker Hub has many.
fn canonical(registry: &str) -> String {
    let registry = registry.to_lowercase();
    match registry.as_str() {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => DOCKER_HUB.to_owned(),
        _ => registry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pull_sources(mirrors: &Mirrors, text: &str) -> Vec<String> {
        let pull_sources = mirrors.pull_sources(&Reference::parse(text).unwrap());
        pull_sources.first.iter().chain([&pull_sources.last]).map(ToString::to_string).collect()
    }

    #[test]
    fn mirrors_come_before_the_registry_in_their_order() {
        let mut mirrors = Mirrors::default();
        mirrors.add_map("https://index.docker.io/=a.example/hub;quay.io=http://b.example:5000").unwrap();
        mirrors.add_map("docker.io=c.example").unwrap();
        mirrors.add_docker_hub("https://d.example/").unwrap();
        assert_eq!(
            pull_sources(&mirrors, "debian:12"),
            [
                "a.example/hub/library/debian:12",
                "c.example/library/debian:12",
                "d.example/library/debian:12",
                "docker.io/library/debian:12"
            ]
        );
        assert_eq!(pull_sources(&mirrors, "quay.io/x/y"), ["b.example:5000/x/y", "quay.io/x/y"]);
        assert_eq!(pull_sources(&mirrors, "ghcr.io/x/y"), ["ghcr.io/x/y"]);
        assert_eq!(mirrors.plain_http(), ["b.example:5000"]);
        mirrors.only_mirrors = true;
        assert_eq!(pull_sources(&mirrors, "quay.io/x/y"), ["b.example:5000/x/y"]);
        assert_eq!(pull_sources(&mirrors, "ghcr.io/x/y"), ["ghcr.io/x/y"], "it has no mirror");
    }

    #[test]
    fn malformed_maps_are_refused() {
        let refused = |text: &str| Mirrors::default().add_map(text).unwrap_err();
        for text in ["docker.io", "=a.example", "docker.io="] {
            assert!(matches!(refused(text), MirrorError::Form { .. }), "{text}");
        }
        assert!(matches!(refused("docker.io/library=a.example"), MirrorError::Path { .. }));
        for text in ["docker.io=A.example/Upper", "docker.io=a.example/x:1", "docker.io=mirror", "docker.io=a b"] {
            assert!(matches!(refused(text), MirrorError::Mirror { .. }), "{text}");
        }
    }
}
