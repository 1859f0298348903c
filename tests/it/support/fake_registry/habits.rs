//! What registries do that is right, and not what was hoped for.

use super::{Authentication, FakeRegistry};

/// How this registry differs from an ideal one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Habits {
    pub(crate) authentication: Authentication,
    /// How many seconds tokens are said to live; 300 if nothing else is wanted.
    pub(crate) token_life: Option<u32>,
    /// With the request of this number all tokens end that were given so far.
    pub(crate) tokens_end_at: Option<usize>,
    /// A mount opens an upload instead.
    pub(crate) no_mount: bool,
    pub(crate) no_head: bool,
    /// Manifests are not deleted.
    pub(crate) no_delete: bool,
    pub(crate) relative_location: bool,
    /// Parts of blobs are not served: always the whole.
    pub(crate) no_range: bool,
    /// Uploads take no pieces.
    pub(crate) no_pieces: bool,
    /// How far an upload is cannot be asked.
    pub(crate) no_upload_status: bool,
    /// Larger requests are answered with 413 before they have been read, as nginx does.
    pub(crate) request_limit: Option<u64>,
    /// Blobs are served by this host.
    pub(crate) blobs_elsewhere: Option<String>,
    /// Uploads continue on this host.
    pub(crate) uploads_elsewhere: Option<String>,
}

type Habit = fn(&FakeRegistry, &mut Habits);

/// Each of these by itself: whatever one does with such a registry succeeds. Whoever has to log in is `robot` with `sesame`.
pub(crate) const HABITS: &[(&str, Habit)] = &[
    ("none", |_, _| ()),
    ("passwords", |_, habits| habits.authentication = Authentication::Basic { user: "robot", password: "sesame" }),
    ("a token server with scopes", |_, habits| habits.authentication = token()),
    ("tokens that end in the middle", |_, habits| {
        habits.authentication = token();
        habits.tokens_end_at = Some(6);
    }),
    ("mounts that open uploads", |_, habits| habits.no_mount = true),
    ("no HEAD", |_, habits| habits.no_head = true),
    ("no Range", |_, habits| habits.no_range = true),
    ("uploads in one piece", |_, habits| habits.no_pieces = true),
    ("uploads that cannot be asked about", |_, habits| habits.no_upload_status = true),
    ("a relative Location", |_, habits| habits.relative_location = true),
    ("blobs on another host", |registry, habits| habits.blobs_elsewhere = Some(registry.other_host())),
    ("uploads to another host", |registry, habits| habits.uploads_elsewhere = Some(registry.other_host())),
    ("blobs on another host, and tokens", |registry, habits| {
        habits.blobs_elsewhere = Some(registry.other_host());
        habits.authentication = token();
    }),
];

fn token() -> Authentication {
    Authentication::Token { user: "robot", password: "sesame", requests: u32::MAX }
}
