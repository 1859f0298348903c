//! What the tests stand on: the peers and their addresses, pods that run the executor, readers that are not ours.

pub(crate) mod archive;
pub(crate) mod caches;
pub(crate) mod contexts;
pub(crate) mod fake_registry;
pub(crate) mod git;
pub(crate) mod images;
pub(crate) mod kube;
pub(crate) mod leaks;
pub(crate) mod markdown;
pub(crate) mod names;
pub(crate) mod peers;
pub(crate) mod pod;
pub(crate) mod probe;
pub(crate) mod program;
pub(crate) mod scripted_registry;
pub(crate) mod sshd;
pub(crate) mod tls;
pub(crate) mod web;
