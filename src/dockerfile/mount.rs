//! The value of `RUN --mount`: comma-separated fields (RFC 4180) to a typed mount.
//!
//! Values may hold variables, which only the plan knows. A flag is therefore read in two steps: [`MountFlag::parse`]
//! finds the fields and checks the keys, [`MountFlag::resolve`] takes the values, expanded, and checks what they mean
//! together. The parser does the second step, too, where no value has a variable, so that such a mistake is told with
//! the other errors of the file.

use std::ops::Range;

use crate::csv;
use crate::diag::suggest;

use super::ast::{Span, Word};
use super::expand::has_variable;
use super::go::go_quote;

/// One `--mount`, its keys checked, its values as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    /// The whole value.
    pub span: Span,
    /// In the order given; of fields with one key the last counts.
    pub fields: Vec<MountField>,
}

/// One `key=value` of a mount, or a key alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountField {
    /// What it sets.
    pub key: MountKey,
    /// To what; expanded by the plan, unless the key is [`MountKey::From`].
    pub value: Option<Word>,
    /// The whole field.
    pub span: Span,
}

/// The keys of `--mount` (Dockerfile reference, "RUN --mount"), aliases folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountKey {
    /// `type`.
    Type,
    /// `from`.
    From,
    /// `source`, `src`.
    Source,
    /// `target`, `dst`, `destination`.
    Target,
    /// `readonly`, `ro`.
    ReadOnly,
    /// `readwrite`, `rw`.
    ReadWrite,
    /// `id`.
    Id,
    /// `sharing`.
    Sharing,
    /// `required`.
    Required,
    /// `size`.
    Size,
    /// `mode`.
    Mode,
    /// `uid`.
    Uid,
    /// `gid`.
    Gid,
    /// `env`.
    Env,
}

const KEYS: [(&str, MountKey); 19] = [
    ("type", MountKey::Type),
    ("from", MountKey::From),
    ("source", MountKey::Source),
    ("src", MountKey::Source),
    ("target", MountKey::Target),
    ("dst", MountKey::Target),
    ("destination", MountKey::Target),
    ("readonly", MountKey::ReadOnly),
    ("ro", MountKey::ReadOnly),
    ("readwrite", MountKey::ReadWrite),
    ("rw", MountKey::ReadWrite),
    ("id", MountKey::Id),
    ("sharing", MountKey::Sharing),
    ("required", MountKey::Required),
    ("size", MountKey::Size),
    ("mode", MountKey::Mode),
    ("uid", MountKey::Uid),
    ("gid", MountKey::Gid),
    ("env", MountKey::Env),
];

const TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];

impl MountKey {
    /// The name that the reference uses first.
    #[must_use]
    pub fn name(self) -> &'static str {
        KEYS.iter().find(|(_, key)| *key == self).map_or("", |(name, _)| name)
    }

    /// A flag that may stand without a value.
    fn is_boolean(self) -> bool {
        matches!(self, Self::ReadOnly | Self::ReadWrite | Self::Required)
    }

    /// Whether a mount of this type has the key.
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

/// What is wrong with a mount, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountProblem {
    /// The field, or the whole value; what [`MountField::span`] points into.
    pub span: Span,
    /// What, in BuildKit's words.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl MountProblem {
    fn new(span: &Span, message: impl Into<String>) -> Self {
        Self { span: span.clone(), message: message.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn suggest<'a>(mut self, word: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        self.hint = suggest(word, known).map(|known| format!("did you mean {known}?"));
        self
    }
}

/// A mount whose values are known. Paths are as written: a relative target is relative to `WORKDIR`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSpec {
    /// Where it lies; secrets and SSH agents have places of their own.
    pub target: Option<String>,
    /// The command may not write to it.
    pub read_only: bool,
    /// What it shows.
    pub kind: MountKind,
}

/// The types of mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// Files of the build context, or of a stage, an image or a named context.
    Bind {
        /// `from`; the build context without it.
        from: Option<Word>,
        /// The path there; empty for all of it.
        source: String,
    },
    /// A directory that outlives the build.
    Cache {
        /// `id`; the target without it.
        id: Option<String>,
        /// Who else may use it at the same time.
        sharing: Sharing,
        /// Where its first content comes from.
        from: Option<Word>,
        /// The path there.
        source: String,
        /// Of the directory, when it is new.
        owner: MountOwner,
    },
    /// Memory.
    Tmpfs {
        /// Most bytes it may hold.
        size: Option<u64>,
    },
    /// A secret, as a file or as a variable.
    Secret {
        /// Its name.
        id: String,
        /// The variable that holds it.
        variable: Option<String>,
        /// The build fails without it.
        required: bool,
        /// Of the file.
        owner: MountOwner,
    },
    /// The socket of an SSH agent.
    Ssh {
        /// Its name.
        id: String,
        /// The build fails without it.
        required: bool,
        /// Of the socket.
        owner: MountOwner,
    },
}

/// Whose a mount is, and what others may do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountOwner {
    /// Permission bits.
    pub mode: u32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Who may use a cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// Everybody.
    #[default]
    Shared,
    /// One; others get a directory of their own.
    Private,
    /// One; others wait.
    Locked,
}

impl MountFlag {
    /// Reads the fields of a `--mount` value; spans are bytes of `text`. All that is wrong with it is reported.
    ///
    /// # Errors
    /// It is no record, has an unknown key, a key without its value, or a variable in `from`.
    pub fn parse(text: &str, escape: char) -> Result<Self, Vec<MountProblem>> {
        let span = 0..text.len();
        let record = csv::record(text).map_err(|error| {
            vec![MountProblem::new(&error.range(), "failed to parse csv mounts").hint(error.to_string())]
        })?;
        if record.is_empty() {
            return Err(vec![
                MountProblem::new(&span, "failed to parse csv mounts").hint("write --mount=type=TYPE,target=PATH"),
            ]);
        }
        let (mut fields, mut problems) = (Vec::new(), Vec::new());
        for read in record {
            match field(read, escape) {
                Ok(field) => fields.push(field),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(Self { span, fields }) } else { Err(problems) }
    }

    /// The same flag with its spans translated, from bytes of the value to bytes of the file.
    #[must_use]
    pub fn placed(mut self, place: &dyn Fn(Range<usize>) -> Span) -> Self {
        for field in &mut self.fields {
            field.span = place(field.span.clone());
            if let Some(value) = &mut field.value {
                value.span = place(value.span.clone());
            }
        }
        self.span = place(self.span);
        self
    }

    /// Whether its meaning depends on a variable.
    #[must_use]
    pub fn has_variable(&self, escape: char) -> bool {
        self.fields.iter().filter_map(|field| field.value.as_ref()).any(|value| has_variable(&value.text, escape))
    }

    /// `from`, which is known before anything is expanded.
    #[must_use]
    pub fn from(&self) -> Option<&Word> {
        self.last(MountKey::From).and_then(|field| field.value.as_ref()).filter(|word| !word.text.is_empty())
    }

    /// Expands the values and checks what they mean. `expand` is not called for `from`.
    ///
    /// # Errors
    /// What `expand` fails with, or a value or a combination that means nothing.
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

    /// The words that variables are expanded in.
    pub fn expanded_words(&self) -> impl Iterator<Item = &Word> {
        self.fields.iter().filter(|field| field.key != MountKey::From).filter_map(|field| field.value.as_ref())
    }

    fn last(&self, key: MountKey) -> Option<&MountField> {
        self.fields.iter().rev().find(|field| field.key == key)
    }

    fn text(&self, key: MountKey) -> Option<&str> {
        self.last(key).and_then(|field| field.value.as_ref()).map(|value| value.text.as_str())
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
            "cache" => MountKind::Cache { id, sharing: self.sharing()?, from, source, owner: self.owner(0o755)? },
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

    /// Of `ro` and `rw` the one that stands last counts.
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

fn field(read: csv::Field, escape: char) -> Result<MountField, MountProblem> {
    let csv::Field { text, range: span } = read;
    let (written, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (text.as_str(), None),
    };
    let lower = written.to_lowercase();
    let Some((_, key)) = KEYS.iter().find(|(name, _)| *name == lower) else {
        return Err(MountProblem::new(&span, format!("unexpected key '{written}' in '{text}'"))
            .suggest(written, KEYS.map(|(name, _)| name)));
    };
    let key = *key;
    if value.is_none() && !key.is_boolean() {
        return Err(MountProblem::new(&span, format!("invalid field '{text}' must be a key=value pair")));
    }
    if key == MountKey::From && value.is_some_and(|value| has_variable(value, escape)) {
        let message = "'from' doesn't support variable expansion, define alias stage instead";
        return Err(MountProblem::new(&span, message).hint("write FROM IMAGE AS NAME above, and from=NAME here"));
    }
    let value = value.map(|value| {
        // A quoted field is shown whole: its bytes are not those of the value.
        let start = if span.len() == text.len() { span.end - value.len() } else { span.start };
        Word { text: value.to_owned(), span: start..span.end }
    });
    Ok(MountField { key, value, span })
}

/// A key without a value is true.
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

/// Whether an absolute path is that of the root directory, dots resolved.
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

/// Bytes from `64`, `64k`, `64kb`, `64KiB`, `1.5g`: units are powers of 1024, as Docker counts memory.
fn bytes(text: &str) -> Option<u64> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn resolve(text: &str) -> Result<MountSpec, MountProblem> {
        let flag = MountFlag::parse(text, '\\').map_err(|problems| problems[0].clone())?;
        flag.resolve(&mut |word| Ok::<_, MountProblem>(word.text.replace("$A", "/a")))
    }

    #[test]
    fn defaults_depend_on_the_type() {
        let owner = |mode| MountOwner { mode, uid: 0, gid: 0 };
        let bind = MountKind::Bind { from: None, source: String::new() };
        let target = Some("/a".to_owned());
        for (text, spec) in [
            ("target=$A", MountSpec { target: target.clone(), read_only: true, kind: bind.clone() }),
            ("TYPE=Bind,dst=/a,rw", MountSpec { target: target.clone(), read_only: false, kind: bind }),
            (
                "type=cache,destination=/a",
                MountSpec {
                    target: target.clone(),
                    read_only: false,
                    kind: MountKind::Cache {
                        id: None,
                        sharing: Sharing::Shared,
                        from: None,
                        source: String::new(),
                        owner: owner(0o755),
                    },
                },
            ),
            (
                "type=tmpfs,target=/a,size=1.5m",
                MountSpec { target, read_only: false, kind: MountKind::Tmpfs { size: Some(1_572_864) } },
            ),
            (
                "type=secret,target=/x/tok/",
                MountSpec {
                    target: Some("/x/tok/".to_owned()),
                    read_only: true,
                    kind: MountKind::Secret {
                        id: "tok".to_owned(),
                        variable: None,
                        required: false,
                        owner: owner(0o400),
                    },
                },
            ),
            (
                "type=ssh,required,mode=660,uid=5",
                MountSpec {
                    target: None,
                    read_only: true,
                    kind: MountKind::Ssh {
                        id: "default".to_owned(),
                        required: true,
                        owner: MountOwner { mode: 0o660, uid: 5, gid: 0 },
                    },
                },
            ),
        ] {
            assert_eq!(resolve(text), Ok(spec), "{text}");
        }
    }

    #[test]
    fn mistakes_stand_at_their_field() {
        for (text, at, message) in [
            ("target=/a,sorce=x", "sorce=x", "unexpected key 'sorce' in 'sorce=x'"),
            ("target=/a,source", "source", "invalid field 'source' must be a key=value pair"),
            ("target=/a,from=$X", "from=$X", "'from' doesn't support variable expansion, define alias stage instead"),
            ("target=/a/..", "target=/a/..", "invalid mount target \"/a/..\""),
            ("target=/", "target=/", "invalid mount target \"/\""),
            ("type=volume,target=/a", "type=volume", "unsupported mount type \"volume\""),
            ("source=x", "source=x", "a mount of type bind requires a target"),
            ("target=/a,size=1m", "size=1m", "unexpected key 'size' for mount type 'bind'"),
            ("target=/a,ro=perhaps", "ro=perhaps", "invalid value for readonly: perhaps"),
            ("type=cache,target=/a,sharing=x", "sharing=x", "unsupported sharing value \"x\""),
            ("type=cache,target=/a,mode=9", "mode=9", "invalid value 9 for mode"),
            ("type=cache,target=/a,uid=me", "uid=me", "invalid value me for uid"),
            ("type=tmpfs,target=/a,size=1x", "size=1x", "invalid value 1x for size"),
            ("type=secret,id=a,src=b", "src=b", "a secret has an id or a source, not both"),
            ("type=secret", "type=secret", "a secret requires an id or a target"),
            ("target=/a,\"b", "\"b", "failed to parse csv mounts"),
            ("", "", "failed to parse csv mounts"),
        ] {
            let problem = resolve(text).expect_err(text);
            assert_eq!((&text[problem.span], problem.message.as_str()), (at, message), "{text}");
        }
        let hint = |text| resolve(text).expect_err(text).hint;
        assert_eq!(hint("traget=/a").as_deref(), Some("did you mean target?"));
        assert_eq!(hint("type=chache,target=/a").as_deref(), Some("did you mean cache?"));
    }

    #[test]
    fn sizes_have_units() {
        for (text, size) in [
            ("64", Some(64)),
            ("64b", Some(64)),
            ("2k", Some(2048)),
            ("2KiB", Some(2048)),
            ("1gb", Some(1 << 30)),
            ("0.5m", Some(1 << 19)),
            ("", None),
            ("m", None),
            ("-1", None),
            ("1ib", None),
            ("1.2.3m", None),
            ("99999999999999p", None),
        ] {
            assert_eq!(bytes(text), size, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_inside_it(
            text in "((type|from|src|target|ro|id|size|mode|uid|env|x)?=?(bind|cache|tmpfs|secret|/|[0-9]|\\$é|\")?,?){0,5}",
        ) {
            let check = |span: &Span| text.get(span.clone()).is_some();
            match MountFlag::parse(&text, '\\') {
                Ok(flag) => {
                    prop_assert!(flag.fields.iter().all(|field| check(&field.span)));
                    let resolved = flag.resolve(&mut |word| Ok::<_, MountProblem>(word.text.clone()));
                    if let Err(problem) = resolved { prop_assert!(check(&problem.span)); }
                }
                Err(problems) => prop_assert!(problems.iter().all(|problem| check(&problem.span))),
            }
        }
    }
}
