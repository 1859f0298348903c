//! Everything that needs more than one module: the real program, real registries, real containers.
//!
//! One binary, so that it is linked once. What the tests talk to is started by `tests/setup`; a test that misses a peer
//! fails and says so, it never passes by not running. `make test` does all of it in order.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the test runner shows what a failed test printed")]
#![allow(clippy::disallowed_methods, reason = "no sandbox exchanges the files of tests")]

mod agent_image;
mod bad_input;
mod cache;
mod cache_fuzz;
mod cache_mounts;
mod circles;
mod cli;
mod cli_sessions;
mod conformance;
mod contexts;
mod contexts_buckets;
mod contract;
mod deep_trees;
mod drop_in;
mod early_uploads;
mod everyday;
mod exchanged_root;
mod flag_reference;
mod floors;
mod git_ssh;
mod graphs;
mod growing_file;
mod hints;
mod kaniko_contract;
mod layers;
mod links;
mod lint;
mod main_job;
mod memory;
mod metadata_only;
mod mounts;
mod offline;
mod own_root;
mod own_root_faults;
mod pipelines;
mod promises;
mod readers;
mod registry;
mod registry_flags;
mod registry_peers;
mod remote;
mod remote_git;
mod reproducible;
mod rootfs;
mod sandbox;
mod secrets;
mod signals;
mod snapshot;
mod ssh;
mod supply_chain;
mod support;
mod surroundings;
mod warmer;
mod wording;
