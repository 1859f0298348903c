//! Checks the meaning of a mount's fields together.

use super::{MountField, MountFlag, MountKey, MountProblem};
use crate::dockerfile::go::go_quote;
use crate::dockerfile::source::Word;

const TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];

/// A mount with known values. Paths are as written: a relative target is relative to `WORKDIR`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSpec {
    /// The mount point; `None` for the default of secrets and SSH agents.
    pub target: Option<String>,
    /// True if the command may not write to it.
    pub read_only: bool,
    /// The type, with its own fields.
    pub kind: MountKind,
}

/// The types of mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// Files of the build context, or of a stage, an image or a named context.
    Bind {
        /// `from`; `None` for the build context.
        from: Option<Word>,
        /// The path in it; empty for all of it.
        source: String,
    },
    /// A directory that is kept between builds.
    Cache {
        /// `id`; `None` for the target.
        id: Option<String>,
        /// Whether other builds may use it at the same time.
        sharing: Sharing,
        /// The source of its initial content.
        from: Option<Word>,
        /// The path in that source.
        source: String,
        /// Mode and owner of a new directory.
        owner: MountOwner,
    },
    /// A tmpfs.
    Tmpfs {
        /// The most bytes that it may hold.
        size: Option<u64>,
    },
    /// A secret, as a file or as a variable.
    Secret {
        /// Its name.
        id: String,
        /// The variable that is set to it.
        variable: Option<String>,
        /// True if the build fails without it.
        required: bool,
        /// Mode and owner of the file.
        owner: MountOwner,
    },
    /// The socket of an SSH agent.
    Ssh {
        /// Its name.
        id: String,
        /// True if the build fails without it.
        required: bool,
        /// Mode and owner of the socket.
        owner: MountOwner,
    },
}

/// Permission bits of a new cache without `mode`.
pub const CACHE_MODE: u32 = 0o755;

/// The mode and owner of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountOwner {
    /// Permission bits.
    pub mode: u32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// The sharing mode of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// Several builds may use it at the same time.
    #[default]
    Shared,
    /// One build uses it; others get their own directory.
    Private,
    /// One build uses it; others wait.
    Locked,
}

impl MountFlag {
    /// Expands the values and checks their meaning. `expand` is not called for `from`.
    ///
    /// # Errors
    /// The error of `expand`, or an invalid value or combination.
    pub fn resolve<E: From<MountProblem>>(
        &self,
        expand: &mut dyn FnMut(&Word) -> Result<String, E>,
    ) -> Result<MountSpec, E> {
        let mut expanded = self.clone();
        for field in expanded.fields.iter_mut().filter(|field| field.key != MountKey::From) {
            if let Some(value) = &mut field.value {
                value.text = expand(value)?;
            }
        }
        Ok(expanded.specify()?)
    }

    fn specify(&self) -> Result<MountSpec, MountProblem> {
        let kind = self.kind()?;
        for field in &self.fields {
            if !field.key.belongs_to(kind) {
                let name = field.key.name();
                return Err(MountProblem::new(&field.span, format!("unexpected key '{name}' for mount type '{kind}'")));
            }
        }
        let read_only = self.read_only(!matches!(kind, "cache" | "tmpfs"))?;
        let target = self.target(kind)?;
        let required = self.boolean(MountKey::Required)?.unwrap_or(false);
        let source = self.text(MountKey::Source).unwrap_or_default().to_owned();
        let id = self.text(MountKey::Id).filter(|id| !id.is_empty()).map(str::to_owned);
        let from = self.from().cloned();
        let kind = match kind {
            "cache" => MountKind::Cache { id, sharing: self.sharing()?, from, source, owner: self.owner(CACHE_MODE)? },
            "tmpfs" => MountKind::Tmpfs { size: self.size()? },
            "secret" => MountKind::Secret {
                id: self.secret_id(target.as_deref())?,
                variable: self.text(MountKey::Env).filter(|name| !name.is_empty()).map(str::to_owned),
                required,
                owner: self.owner(0o400)?,
            },
            "ssh" => {
                MountKind::Ssh { id: id.unwrap_or_else(|| "default".to_owned()), required, owner: self.owner(0o600)? }
            }
            _ => MountKind::Bind { from, source },
        };
        Ok(MountSpec { target, read_only, kind })
    }

    fn kind(&self) -> Result<&'static str, MountProblem> {
        let Some(field) = self.last(MountKey::Type) else { return Ok("bind") };
        let given = field.value.as_ref().map_or("", |value| value.text.as_str());
        TYPES.into_iter().find(|known| *known == given.to_lowercase()).ok_or_else(|| {
            MountProblem::new(&field.span, format!("unsupported mount type {}", go_quote(given))).suggest(given, TYPES)
        })
    }

    fn target(&self, kind: &str) -> Result<Option<String>, MountProblem> {
        match self.last(MountKey::Target).and_then(|field| Some((field, &field.value.as_ref()?.text))) {
            Some((field, target)) if is_root(target) => {
                Err(MountProblem::new(&field.span, format!("invalid mount target {}", go_quote(target))))
            }
            Some((_, target)) if !target.is_empty() => Ok(Some(target.clone())),
            _ if matches!(kind, "secret" | "ssh") => Ok(None),
            _ => Err(MountProblem::new(&self.span, format!("a mount of type {kind} requires a target"))
                .hint("add target=PATH")),
        }
    }

    /// Returns the flag; of `ro` and `rw` the last one counts.
    fn read_only(&self, default: bool) -> Result<bool, MountProblem> {
        let mut read_only = default;
        for field in &self.fields {
            match field.key {
                MountKey::ReadOnly => read_only = truth(field)?,
                MountKey::ReadWrite => read_only = !truth(field)?,
                _ => {}
            }
        }
        Ok(read_only)
    }

    fn boolean(&self, key: MountKey) -> Result<Option<bool>, MountProblem> {
        self.last(key).map(truth).transpose()
    }

    fn sharing(&self) -> Result<Sharing, MountProblem> {
        let Some(field) = self.last(MountKey::Sharing) else { return Ok(Sharing::default()) };
        let given = field.value.as_ref().map_or("", |value| value.text.as_str());
        match given.to_lowercase().as_str() {
            "shared" => Ok(Sharing::Shared),
            "private" => Ok(Sharing::Private),
            "locked" => Ok(Sharing::Locked),
            _ => Err(MountProblem::new(&field.span, format!("unsupported sharing value {}", go_quote(given)))
                .hint("sharing is shared, private or locked")),
        }
    }

    fn size(&self) -> Result<Option<u64>, MountProblem> {
        self.number(MountKey::Size, bytes, "a number of bytes, or one with a unit such as 64m or 1g")
    }

    fn owner(&self, mode: u32) -> Result<MountOwner, MountProblem> {
        let octal = |text: &str| u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
        let decimal = |text: &str| text.parse::<u32>().ok();
        Ok(MountOwner {
            mode: self.number(MountKey::Mode, octal, "permission bits in octal, such as 0755")?.unwrap_or(mode),
            uid: self.number(MountKey::Uid, decimal, "a number; names are not looked up")?.unwrap_or(0),
            gid: self.number(MountKey::Gid, decimal, "a number; names are not looked up")?.unwrap_or(0),
        })
    }

    fn number<T>(
        &self,
        key: MountKey,
        read: impl Fn(&str) -> Option<T>,
        expected: &str,
    ) -> Result<Option<T>, MountProblem> {
        let Some((field, value)) = self.last(key).and_then(|field| Some((field, field.value.as_ref()?))) else {
            return Ok(None);
        };
        read(&value.text).map(Some).ok_or_else(|| {
            MountProblem::new(&field.span, format!("invalid value {} for {}", value.text, key.name()))
                .hint(format!("{} is {expected}", key.name()))
        })
    }

    /// `id`, or `source`, or the last component of the target.
    fn secret_id(&self, target: Option<&str>) -> Result<String, MountProblem> {
        let given = |key| self.text(key).filter(|text| !text.is_empty());
        match (given(MountKey::Id), given(MountKey::Source)) {
            (Some(_), Some(_)) => {
                let span = self.last(MountKey::Source).map_or(&self.span, |field| &field.span);
                Err(MountProblem::new(span, "a secret has an id or a source, not both"))
            }
            (Some(id), None) | (None, Some(id)) => Ok(id.to_owned()),
            (None, None) => target
                .and_then(|target| target.trim_end_matches('/').rsplit('/').next())
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .ok_or_else(|| {
                    MountProblem::new(&self.span, "a secret requires an id or a target").hint("add id=NAME")
                }),
        }
    }
}

impl MountKey {
    /// Reports whether a mount of this type has the key.
    fn belongs_to(self, kind: &str) -> bool {
        match self {
            Self::Type | Self::Target | Self::ReadOnly | Self::ReadWrite => true,
            Self::From => matches!(kind, "bind" | "cache"),
            Self::Source => matches!(kind, "bind" | "cache" | "secret"),
            Self::Id | Self::Mode | Self::Uid | Self::Gid => matches!(kind, "cache" | "secret" | "ssh"),
            Self::Sharing => kind == "cache",
            Self::Required => matches!(kind, "secret" | "ssh"),
            Self::Size => kind == "tmpfs",
            Self::Env => kind == "secret",
        }
    }
}

/// Parses a boolean; a key without a value is true.
fn truth(field: &MountField) -> Result<bool, MountProblem> {
    match field.value.as_ref().map(|value| value.text.as_str()) {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => {
            let message = format!("invalid value for {}: {other}", field.key.name());
            Err(MountProblem::new(&field.span, message).hint("it is true or false"))
        }
    }
}

/// Reports whether an absolute path is that of the root directory, dots resolved.
fn is_root(path: &str) -> bool {
    let mut depth = 0_usize;
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => depth = depth.saturating_sub(1),
            _ => depth += 1,
        }
    }
    path.starts_with('/') && depth == 0
}

/// Parses a number of bytes: `64`, `64k`, `64kb`, `64KiB`, `1.5g`. Units are powers of 1024, as Docker counts memory.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()));
    let factor: u64 = match unit.trim_start().trim_end_matches('b').trim_end_matches('i') {
        "" if !unit.contains('i') => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        "p" => 1 << 50,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    if fraction.is_empty() {
        return Some(whole);
    }
    let digits = fraction.get(..fraction.len().min(9))?;
    let scale = 10_u128.pow(u32::try_from(digits.len()).ok()?);
    let part = digits.parse::<u128>().ok()? * u128::from(factor) / scale;
    whole.checked_add(u64::try_from(part).ok()?)
}
