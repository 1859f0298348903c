//! Where else an image may be pulled from: `--registry-map`, `--registry-mirror` and `--skip-default-registry-fallback`.

use crate::image::reference::DOCKER_HUB;
use crate::image::{Reference, ReferenceError};

/// Why a mirror cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MirrorError {
    /// There is no `=`, or nothing on one side of it.
    #[error("{text:?} is not of the form registry=mirror[/prefix]")]
    Form {
        /// The entry.
        text: String,
    },
    /// The registry has a path.
    #[error("{text:?} names a repository: all repositories of a registry are mapped, or none")]
    Path {
        /// What stands before the `=`.
        text: String,
    },
    /// The mirror names no place that an image can be at.
    #[error("{text:?} is not a registry with an optional path")]
    Mirror {
        /// The mirror.
        text: String,
        /// What is wrong with an image's name there.
        #[source]
        source: ReferenceError,
    },
}

/// One registry's stand-in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mirror {
    /// The registry it stands in for.
    registry: String,
    /// `host[:port][/prefix]`
    place: String,
}

/// The mirrors of all registries, in the order in which they are tried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mirrors {
    mirrors: Vec<Mirror>,
    plain_http: Vec<String>,
    /// Registries with mirrors are not asked themselves.
    pub only_mirrors: bool,
}

/// The places of one image, never none.
pub(super) struct Places {
    pub(super) first: Vec<Reference>,
    pub(super) last: Reference,
}

impl Mirrors {
    /// Adds what `--registry-map` says: `registry=mirror[/prefix]`, several separated by semicolons. A scheme may stand before either;
    /// `http://` allows plain http to the mirror.
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

    /// Adds what `--registry-mirror` says: a mirror of Docker Hub.
    ///
    /// # Errors
    /// See [`MirrorError`].
    pub fn add_docker_hub(&mut self, mirror: &str) -> Result<(), MirrorError> {
        self.add(DOCKER_HUB, mirror)
    }

    /// The hosts of mirrors that were given with `http://`.
    pub(super) fn plain_http(&self) -> &[String] {
        &self.plain_http
    }

    fn add(&mut self, registry: &str, mirror: &str) -> Result<(), MirrorError> {
        let (place, plain) = without_scheme(mirror);
        let place = place.trim_end_matches('/');
        let mirror = Mirror { registry: canonical(registry), place: place.to_owned() };
        // Whatever image it is asked for: its name must be one.
        let probe =
            mirror.reference("library/name").and_then(|probe| match probe.repository.ends_with("library/name") {
                true if probe.registry == canonical(place.split('/').next().unwrap_or_default()) => Ok(probe),
                _ => Err(ReferenceError::Registry { text: place.to_owned(), registry: place.to_owned() }),
            });
        let probe = probe.map_err(|source| MirrorError::Mirror { text: place.to_owned(), source })?;
        if plain {
            self.plain_http.push(probe.registry);
        }
        self.mirrors.push(mirror);
        Ok(())
    }

    /// Where an image is looked for: at the mirrors of its registry, and there itself in the end, unless that is not wanted.
    pub(super) fn places(&self, reference: &Reference) -> Places {
        let mut first: Vec<Reference> = self
            .mirrors
            .iter()
            .filter(|mirror| mirror.registry == reference.registry.to_lowercase())
            // The form was checked; a name that becomes too long at a mirror is not there.
            .filter_map(|mirror| mirror.reference(&reference.repository).ok())
            .map(|place| Reference { tag: reference.tag.clone(), digest: reference.digest.clone(), ..place })
            .collect();
        let last = if self.only_mirrors { first.pop() } else { None };
        Places { first, last: last.unwrap_or_else(|| reference.clone()) }
    }
}

impl Mirror {
    fn reference(&self, repository: &str) -> Result<Reference, ReferenceError> {
        Reference::parse(&format!("{}/{repository}", self.place))
    }
}

/// The text behind a scheme, and whether that was `http`.
fn without_scheme(text: &str) -> (&str, bool) {
    match text.split_once("://") {
        Some((scheme, rest)) => (rest, scheme.eq_ignore_ascii_case("http")),
        None => (text, false),
    }
}

/// Docker Hub has many names.
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

    fn places(mirrors: &Mirrors, text: &str) -> Vec<String> {
        let places = mirrors.places(&Reference::parse(text).unwrap());
        places.first.iter().chain([&places.last]).map(ToString::to_string).collect()
    }

    #[test]
    fn mirrors_come_before_the_registry_in_their_order() {
        let mut mirrors = Mirrors::default();
        mirrors.add_map("https://index.docker.io/=a.example/hub;quay.io=http://b.example:5000").unwrap();
        mirrors.add_map("docker.io=c.example").unwrap();
        mirrors.add_docker_hub("https://d.example/").unwrap();
        assert_eq!(
            places(&mirrors, "debian:12"),
            [
                "a.example/hub/library/debian:12",
                "c.example/library/debian:12",
                "d.example/library/debian:12",
                "docker.io/library/debian:12"
            ]
        );
        assert_eq!(places(&mirrors, "quay.io/x/y"), ["b.example:5000/x/y", "quay.io/x/y"]);
        assert_eq!(places(&mirrors, "ghcr.io/x/y"), ["ghcr.io/x/y"]);
        assert_eq!(mirrors.plain_http(), ["b.example:5000"]);
        mirrors.only_mirrors = true;
        assert_eq!(places(&mirrors, "quay.io/x/y"), ["b.example:5000/x/y"]);
        assert_eq!(places(&mirrors, "ghcr.io/x/y"), ["ghcr.io/x/y"], "it has no mirror");
    }

    #[test]
    fn what_is_no_map_is_refused() {
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
