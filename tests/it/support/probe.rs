//! A small static program that tests put into an image, to do what no shell can (testdata/sandbox/probe.rs).

use std::path::PathBuf;
use std::process::Command;

use super::program::{Workspace, run, source_directory};

/// Compiles it into the workspace's context, where it is called `probe`.
#[track_caller]
pub(crate) fn add_probe(workspace: &Workspace) -> PathBuf {
    let program = workspace.context().join("probe");
    let source = source_directory().join("testdata/sandbox/probe.rs");
    run(Command::new("rustc")
        .args(["--edition=2024", "-Copt-level=1", "-Ctarget-feature=+crt-static", "-Cstrip=symbols", "-o"])
        .args([&program, &source]))
    .success();
    program
}
