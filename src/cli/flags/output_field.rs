//! The value of `--output`: what `docker buildx build` understands there, or why it is not possible here.

use std::path::PathBuf;

use crate::cli::values;
use crate::csv::{self, CsvError};
use crate::diag;
use crate::image::{Reference, ReferenceError};
use crate::push::{Output, OutputKind, Target};

/// One `--output`, understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// What is written here.
    pub(crate) output: Option<Output>,
    /// Names that the image gets everywhere.
    pub(crate) names: Vec<Reference>,
    /// The image is pushed.
    pub(crate) push: bool,
    /// File times are at most `SOURCE_DATE_EPOCH`.
    pub(crate) rewrite_timestamp: bool,
}

/// An `--output` that is not valid or not possible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutputError {
    /// It is not a list of fields.
    #[error("--output {text:?} cannot be used")]
    Fields {
        /// As given.
        text: String,
        /// Why.
        #[source]
        source: CsvError,
    },
    /// A field without `=`.
    #[error("--output {text:?} cannot be used: {field:?} is not of the form key=value")]
    Field {
        /// As given.
        text: String,
        /// The field.
        field: String,
    },
    /// The kind is missing or unknown.
    #[error(
        "--output {text:?} has no type that is known here: expected image, registry, oci, docker, tar or local{}",
        suggestion.as_ref().map(|word| format!(" (did you mean {word}?)")).unwrap_or_default()
    )]
    Kind {
        /// As given.
        text: String,
        /// A kind that may have been meant.
        suggestion: Option<String>,
    },
    /// A field of another kind, or of none.
    #[error("--output {text:?} cannot be used: type={kind} has no field {key}")]
    UnknownKey {
        /// As given.
        text: String,
        /// The kind.
        kind: &'static str,
        /// The field.
        key: String,
    },
    /// Something BuildKit can do, and this program does otherwise or not at all.
    #[error("--output {text:?} cannot be used: {key} is not possible for one output; {instead}")]
    Refused {
        /// As given.
        text: String,
        /// The field.
        key: String,
        /// What can be done instead.
        instead: &'static str,
    },
    /// A field's value is neither true nor false.
    #[error("--output {text:?} cannot be used: {key} is true or false")]
    Boolean {
        /// As given.
        text: String,
        /// The field.
        key: String,
    },
    /// A name that is not a reference.
    #[error("--output {text:?} cannot be used")]
    Name {
        /// As given.
        text: String,
        /// Why.
        #[source]
        source: ReferenceError,
    },
    /// A directory needs a path.
    #[error("--output {text:?} needs dest=DIRECTORY")]
    NoDestination {
        /// As given.
        text: String,
    },
    /// An image that stays in a store.
    #[error(
        "--output {text:?} would keep the image in a store, and there is none: push=true pushes it, type=oci,dest=FILE writes it, \
         --no-push only builds it"
    )]
    NoStore {
        /// As given.
        text: String,
    },
}

const KINDS: [&str; 6] = ["image", "registry", "oci", "docker", "tar", "local"];

/// Reads the value of one `--output`.
pub(crate) fn parse(text: &str) -> Result<Asked, OutputError> {
    let text_owned = || text.to_owned();
    let fields = csv::record(text).map_err(|source| OutputError::Fields { text: text_owned(), source })?;
    if let [only] = fields.as_slice()
        && !only.text.is_empty()
        && !only.text.starts_with("type=")
        && !only.text.starts_with("dest=")
    {
        let (kind, target) = match only.text.as_str() {
            "-" => (OutputKind::FilesArchive, Target::Stdout),
            path => (OutputKind::Files, Target::Path(PathBuf::from(path))),
        };
        return Ok(Asked { output: Some(Output { kind, target, names: None }), ..Asked::default() });
    }
    let mut pairs = Vec::new();
    for field in &fields {
        let (key, value) = field
            .text
            .split_once('=')
            .ok_or_else(|| OutputError::Field { text: text_owned(), field: field.text.clone() })?;
        pairs.push((key.trim().to_lowercase(), value));
    }
    let kind = pairs.iter().find(|(key, _)| key == "type").map_or("", |(_, value)| *value);
    let Some(kind) = KINDS.into_iter().find(|known| *known == kind) else {
        return Err(OutputError::Kind { text: text_owned(), suggestion: diag::suggest(kind, KINDS) });
    };
    let mut reading =
        Reading { text, kind, asked: Asked::default(), push: false, names: Vec::new(), dest: None, tar: true };
    for (key, value) in &pairs {
        reading.field(key, value)?;
    }
    reading.finish()
}

struct Reading<'t> {
    text: &'t str,
    kind: &'static str,
    asked: Asked,
    push: bool,
    names: Vec<Reference>,
    dest: Option<&'t str>,
    tar: bool,
}

impl<'t> Reading<'t> {
    fn is_image(&self) -> bool {
        matches!(self.kind, "image" | "registry")
    }

    fn is_archive(&self) -> bool {
        matches!(self.kind, "oci" | "docker")
    }

    fn field(&mut self, key: &str, value: &'t str) -> Result<(), OutputError> {
        let refused = |instead| Err(OutputError::Refused { text: self.text.to_owned(), key: key.to_owned(), instead });
        let unknown =
            || Err(OutputError::UnknownKey { text: self.text.to_owned(), kind: self.kind, key: key.to_owned() });
        match key {
            "type" => {}
            "dest" if !self.is_image() => self.dest = Some(value).filter(|path| !path.is_empty()),
            "tar" if self.is_archive() => self.tar = self.boolean(key, value)?,
            "name" if self.is_image() || self.is_archive() => {
                for name in value.split(',').filter(|name| !name.is_empty()) {
                    let name = Reference::parse(name)
                        .map_err(|source| OutputError::Name { text: self.text.to_owned(), source })?;
                    self.names.push(name);
                }
            }
            "push" if self.is_image() => self.push = self.boolean(key, value)?,
            "rewrite-timestamp" => self.asked.rewrite_timestamp = self.boolean(key, value)?,
            // There is one platform, which never gets a directory of its own unless it is asked for.
            "platform-split" if self.kind == "local" => {
                if self.boolean(key, value)? {
                    return refused("one platform is built at a time: name a directory for it with dest=");
                }
            }
            "compression" if value == "gzip" => {}
            "compression" | "compression-level" => {
                return refused("--compression and --compression-level say it for all");
            }
            "force-compression" => {
                if self.boolean(key, value)? {
                    return refused("layers of base images stay as they are; leave it out");
                }
            }
            "oci-mediatypes" => {
                if !self.boolean(key, value)? && self.kind != "docker" {
                    return refused("--image-format docker says it for all");
                }
            }
            "push-by-digest" => return refused("push it under a tag: its digest is in --digest-file"),
            "registry.insecure" => return refused("name the registry with --insecure-registry"),
            "unpack" | "store" | "dangling-name-prefix" | "name-canonical" if self.is_image() => {
                return refused("there is no image store here; leave it out");
            }
            "attest" | "attestation-prefix" => return refused("attestations are not made; leave it out"),
            key if key.starts_with("annotation") => return refused("--annotation says it for all"),
            _ => return unknown(),
        }
        Ok(())
    }

    fn boolean(&self, key: &str, value: &str) -> Result<bool, OutputError> {
        values::boolean(value).map_err(|_| OutputError::Boolean { text: self.text.to_owned(), key: key.to_owned() })
    }

    fn finish(self) -> Result<Asked, OutputError> {
        let Self { text, kind, asked, push, names, dest, tar } = self;
        let target = match dest {
            None | Some("-") => Target::Stdout,
            Some(path) => Target::Path(PathBuf::from(path)),
        };
        let kind = match kind {
            "image" | "registry" => {
                if kind == "image" && !push {
                    return Err(OutputError::NoStore { text: text.to_owned() });
                }
                return Ok(Asked { names, push: true, ..asked });
            }
            "oci" if tar => OutputKind::OciArchive,
            "docker" if tar => OutputKind::DockerArchive,
            "oci" | "docker" => OutputKind::OciLayout,
            "tar" => OutputKind::FilesArchive,
            _ => OutputKind::Files,
        };
        if matches!(kind, OutputKind::OciLayout | OutputKind::Files) && target == Target::Stdout {
            return Err(OutputError::NoDestination { text: text.to_owned() });
        }
        let names = Some(names).filter(|names| !names.is_empty());
        Ok(Asked { output: Some(Output { kind, target, names }), ..asked })
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    fn written(kind: OutputKind, path: &str) -> Asked {
        let target = if path == "-" { Target::Stdout } else { Target::Path(path.into()) };
        Asked { output: Some(Output { kind, target, names: None }), ..Asked::default() }
    }

    #[test]
    fn outputs_of_buildx_are_understood() {
        let names = |text: &[&str]| text.iter().map(|name| Reference::parse(name).unwrap()).collect::<Vec<_>>();
        for (text, asked) in [
            ("out", written(OutputKind::Files, "out")),
            ("-", written(OutputKind::FilesArchive, "-")),
            ("type=local,dest=/d", written(OutputKind::Files, "/d")),
            ("type=local,dest=/d,platform-split=false", written(OutputKind::Files, "/d")),
            ("type=tar,dest=a.tar", written(OutputKind::FilesArchive, "a.tar")),
            ("type=tar", written(OutputKind::FilesArchive, "-")),
            ("type=oci,dest=a.tar,compression=gzip,oci-mediatypes=true", written(OutputKind::OciArchive, "a.tar")),
            ("type=oci,tar=false,dest=d", written(OutputKind::OciLayout, "d")),
            ("type=docker,dest=-", written(OutputKind::DockerArchive, "-")),
            ("type=registry,name=a/b:1", Asked { names: names(&["a/b:1"]), push: true, ..Asked::default() }),
            (
                "type=image,\"name=a:1,b:2\",push=true,rewrite-timestamp=1",
                Asked { names: names(&["a:1", "b:2"]), push: true, rewrite_timestamp: true, output: None },
            ),
        ] {
            assert_eq!(parse(text), Ok(asked), "{text}");
        }
        let named = parse("type=docker,dest=f,name=a").unwrap().output.unwrap();
        assert_eq!(named.names, Some(names(&["a"])));
    }

    #[test]
    fn what_cannot_be_had_is_refused_with_what_can() {
        for (text, message) in [
            ("", "expected image, registry, oci, docker, tar or local"),
            ("type=oic,dest=x", "(did you mean oci?)"),
            ("dest=x", "expected image"),
            ("type=local", "needs dest=DIRECTORY"),
            ("type=oci,tar=false", "needs dest=DIRECTORY"),
            ("type=image", "there is none: push=true pushes it"),
            ("type=image,name=a,push=false", "--no-push only builds it"),
            ("type=image,push=yes", "push is true or false"),
            ("type=image,dest=x", "type=image has no field dest"),
            ("type=local,dest=x,name=a", "type=local has no field name"),
            ("type=oci,dest=x,compression=zstd", "--compression and --compression-level"),
            ("type=image,push=true,push-by-digest=true", "--digest-file"),
            ("type=image,push=true,registry.insecure=true", "--insecure-registry"),
            ("type=image,push=true,annotation.a=b", "--annotation"),
            ("type=image,push=true,frob=1", "type=image has no field frob"),
            ("type=oci,dest", "\"dest\" is not of the form key=value"),
            ("type=registry,name=A", "invalid image reference"),
            ("type=oci,\"dest=x", "misplaced or missing \""),
        ] {
            let error = parse(text).unwrap_err();
            let full = format!("{error}: {}", error.source().map(ToString::to_string).unwrap_or_default());
            assert!(full.contains(message), "{text}: {full}");
        }
    }
}
