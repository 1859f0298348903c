//! crabwright builds a container image from a Dockerfile inside an ordinary unprivileged container and pushes it.
//!
//! The modules follow the flow of data: a `context` and a `dockerfile` make a `plan`, the `executor` runs its steps in
//! a `sandbox` over a `rootfs`, a `snapshot` turns the result of a step into changes, `layer` turns the changes into a
//! blob, `image` describes the image, and `push` sends it to a registry, an OCI layout or an archive. `registry` is the
//! client for all registries, `remote` fetches everything else that `location`s name, `cache` stores blobs within and
//! between builds, and `builder` connects the modules. A module never imports from a floor above its own;
//! `tests/it/floors.rs` checks it.

#![cfg_attr(
    any(test, fuzzing),
    allow(clippy::disallowed_methods, reason = "no sandbox exchanges the files of unit tests")
)]

pub mod builder;
pub mod cache;
pub mod cli;
pub mod context;
pub mod csv;
pub mod diag;
pub mod dockerfile;
pub mod executor;
pub mod fs;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod http;
pub mod image;
pub mod layer;
pub mod lint;
pub mod location;
pub mod outline;
pub mod plan;
pub mod push;
pub mod registry;
pub mod remote;
pub mod rootfs;
pub mod sandbox;
pub mod secret;
pub mod snapshot;
pub mod ssh;
