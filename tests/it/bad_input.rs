//! What is wrong is said: what it is, where, and what to do. Each test names the words a person needs.

use crate::support::archive::Archive;
use crate::support::peers::peers;
use crate::support::pod::Pod;
use crate::support::program::{Ended, Workspace, crabwright, run};
use crate::support::scripted_registry::ScriptedImage;

/// Builds on this machine without pushing.
fn build(workspace: &Workspace, more: &[&str]) -> Ended {
    run(workspace.build().arg("--no-push").args(more))
}

fn build_dockerfile(dockerfile: &str) -> Ended {
    build(&Workspace::new(dockerfile), &[])
}

#[test]
fn missing_dockerfile() {
    let workspace = Workspace::new("FROM scratch\n");
    std::fs::remove_file(workspace.context().join("Dockerfile")).unwrap();
    build(&workspace, &[]).refused(1, &["there is no Dockerfile at", "context/Dockerfile", "--context"]);
}

#[test]
fn unknown_instruction_with_line_and_suggestion() {
    build_dockerfile("FROM scratch\nCPOY a /a\n")
        .refused(1, &["Dockerfile:2", "CPOY a /a", "unknown instruction", "COPY"]);
}

#[test]
fn every_bad_instruction_is_told_in_one_run() {
    build_dockerfile("FROM scratch\nCPOY a /a\nLABLE a=b\n").refused(1, &["Dockerfile:2", "Dockerfile:3", "LABEL"]);
}

#[test]
fn what_is_wrong_with_text_and_meaning_is_told_in_one_run() {
    let text = "FROM scratch AS build\nCPOY a /a\nENV A=${B\nFROM scratch\nCOPY --from=biuld /a /a\nEXPOSE 99999\n\
                COPY --from=last / /\nFROM scratch AS last\nCOPY --from=1 / /\n";
    let ended = build_dockerfile(text);
    ended.refused(1, &["Dockerfile:2", "Dockerfile:6", "Dockerfile:7", "the Dockerfile has 3 errors"]);
}

#[test]
fn a_base_image_that_is_not_there_hides_no_other_error() {
    let registry = peers().registry();
    let text = format!("FROM {registry}/no/such:1\nWORKDIR ${{HOME:?}}\nSTOPSIGNAL SIGNOPE\nLABEL a=${{\n");
    let workspace = Workspace::new(&text);
    let ended = build(&workspace, &["--insecure-pull"]);
    ended.refused(1, &["Dockerfile:1", "no/such", "Dockerfile:3", "SIGNOPE", "Dockerfile:4", "has 3 errors"]);
}

#[test]
fn unknown_flag_with_suggestion() {
    run(crabwright().arg("--destinaton=x")).refused(1, &["--destinaton", "--destination"]);
}

/// Read before anything is built, like everything with credentials.
#[test]
fn configuration_of_azure_that_is_none() {
    let workspace = Workspace::new("FROM scratch\nCOPY nothing-here /\n");
    let flag = "--azure-container-registry-config";
    build(&workspace, &[flag, "/nonexistent"]).refused(1, &[flag, "/nonexistent", "No such file"]);
    workspace.file("azure.json", r#"{"aadClientSecret": "sesame"}"#);
    let path = workspace.context().join("azure.json");
    let refused =
        build(&workspace, &[flag, path.to_str().unwrap()]).refused(1, &[flag, "azure.json", "no aadClientId"]);
    assert!(!refused.said.contains("sesame"), "{}", refused.said);
    build(&workspace, &[flag, "/f", "--credential-helpers=env"]).refused(1, &[flag, "--credential-helpers"]);
}

#[test]
fn no_destination() {
    run(&mut Workspace::new("FROM scratch\n").build()).refused(1, &["--destination", "--no-push"]);
}

#[test]
fn missing_copy_source() {
    build_dockerfile("FROM scratch\nCOPY nothing-here /a\n").refused(1, &["Dockerfile:2", "nothing-here", "not found"]);
}

#[test]
fn copy_source_that_dockerignore_leaves_out() {
    let workspace = Workspace::new("FROM scratch\nCOPY secret.txt /a\n");
    workspace.file("secret.txt", "x").file(".dockerignore", "*.txt\n");
    build(&workspace, &[]).refused(1, &["secret.txt", ".dockerignore"]);
}

#[test]
fn unknown_stage() {
    let workspace = Workspace::new("FROM scratch AS builder\nCOPY Dockerfile /\n");
    build(&workspace, &["--target=bulider"]).refused(1, &["bulider", "builder"]);
}

#[test]
fn copy_from_a_later_stage() {
    build_dockerfile("FROM scratch AS one\nCOPY --from=two /a /a\nFROM scratch AS two\nCOPY --from=one /a /a\n")
        .refused(1, &["Dockerfile:2", "two"]);
}

#[test]
fn stage_that_copies_from_itself() {
    build_dockerfile("FROM scratch AS one\nCOPY --from=one /a /a\n").refused(1, &["Dockerfile:2", "one"]);
}

#[test]
fn base_name_with_capitals() {
    build_dockerfile("FROM Debian:12\n").refused(1, &["Dockerfile:1", "Debian", "lower"]);
}

#[test]
fn base_that_is_not_in_the_registry() {
    let base = format!("{}/no/such/image:1", peers().registry());
    build_dockerfile(&format!("FROM {base}\nCOPY Dockerfile /\n")).refused(1, &[&base, "404"]);
}

#[test]
fn registry_that_is_down() {
    // nothing listens on port 1
    build_dockerfile("FROM 127.0.0.1:1/base:1\nCOPY Dockerfile /\n").refused(1, &["127.0.0.1:1", "refused"]);
}

#[test]
fn registry_that_asks_for_a_password() {
    let base = format!("{}/private/base:1", peers().registry_with_password());
    let dockerfile = format!("FROM {base}\nCOPY Dockerfile /\n");
    build_dockerfile(&dockerfile).refused(1, &[peers().registry_with_password(), "401", "config.json"]);
    let workspace = Workspace::new(&dockerfile);
    run(workspace.build().arg("--no-push").env("DOCKER_CONFIG", peers().docker_config())).success();
}

#[test]
fn push_without_the_password_writes_nothing_and_says_why() {
    let destination = format!("{}/private/denied:1", peers().registry_with_password());
    run(Workspace::new("FROM scratch\nCOPY Dockerfile /\n").build().args(["--destination", &destination]))
        .refused(1, &[peers().registry_with_password(), "private/denied", "401"]);
}

#[test]
fn manifest_that_does_not_match_its_digest() {
    let base = ScriptedImage { change_manifest: true, ..ScriptedImage::default() }.serve();
    build_dockerfile(&format!("FROM {base}\nCOPY Dockerfile /\n")).refused(1, &["digest", "sha256:", "hostile"]);
}

#[test]
fn layer_that_ends_early() {
    let layers = vec![Archive::default().file("a", "x".repeat(4096)).bytes()];
    let base = ScriptedImage { layers, cut_layers_at: Some(1000), ..ScriptedImage::default() }.serve();
    build_dockerfile(&format!("FROM {base}\nRUN [\"/a\"]\n")).refused(1, &["sha256:", "hostile"]);
}

#[test]
fn base_layer_with_a_name_outside_the_root() {
    let outside = tempfile::tempdir().unwrap();
    for name in ["../escaped", "a/../../escaped"] {
        check_confined(vec![Archive::default().file(name, "x").bytes()], name);
    }
    // an absolute name means a place below the root
    let absolute = outside.path().join("escaped").to_string_lossy().into_owned();
    let base =
        ScriptedImage { layers: vec![Archive::default().file(&absolute, "x").bytes()], ..ScriptedImage::default() }
            .serve();
    build_dockerfile(&format!("FROM {base} AS a\nFROM scratch\nCOPY --from=a {absolute} /\n"));
    assert!(!outside.path().join("escaped").exists());
}

#[test]
fn base_layer_that_writes_through_a_symlink() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_string_lossy().into_owned();
    let climbing = format!("../../../../../../../..{target}");
    for link in [&target, &climbing] {
        let door = || Archive::default().symlink("door", link);
        // in one layer, and in the next one
        let together = vec![door().file("door/escaped", "x").bytes()];
        let apart = vec![door().bytes(), Archive::default().file("door/escaped", "x").bytes()];
        for layers in [together, apart] {
            let base = ScriptedImage { layers, ..ScriptedImage::default() }.serve();
            // whether it is refused or lands below the root is the extractor's choice
            build_dockerfile(&format!("FROM {base} AS a\nFROM scratch\nCOPY --from=a / /copy/\n"));
            assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0, "written through {link}");
        }
    }
}

/// A layer that is refused, naming the entry, with nothing written beside the stage's root.
fn check_confined(layers: Vec<Vec<u8>>, name: &str) {
    let base = ScriptedImage { layers, ..ScriptedImage::default() }.serve();
    let workspace = Workspace::new(&format!("FROM {base} AS a\nFROM scratch\nCOPY --from=a / /copy/\n"));
    build(&workspace, &[]).refused(1, &[name, "leads out of the root"]);
    let mut found = Vec::new();
    find(&workspace.out(), "escaped", &mut found);
    assert!(found.is_empty(), "{found:?}");
}

fn find(directory: &std::path::Path, name: &str, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name() == name {
            found.push(entry.path());
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find(&entry.path(), name, found);
        }
    }
}

/// As deep as a path can be long, with fewer descriptors than directories; and deeper, where no system could unpack the layer.
#[test]
fn directories_nested_deep() {
    let deep = |levels: usize| format!("mkdir -p $(yes d/ | head -n {levels} | tr -d '\\n')");
    let build = |command: &str| {
        let workspace = Workspace::new(&format!("FROM {}\nRUN {command}\nRUN touch /done\n", peers().busybox()));
        let program = workspace.build();
        let mut command = std::process::Command::new("prlimit");
        command.arg("--nofile=200:200").arg(program.get_program()).args(program.get_args());
        run(command.args(["--no-push", "--isolation=namespace"]))
    };
    build(&deep(2000)).success();
    let deeper = format!("{deep} && cd $(yes d/ | head -n 2000 | tr -d '\\n') && {deep}", deep = deep(2000));
    build(&deeper).refused(1, &["more than 4095 bytes (d/d/d/", "remove them in the command that makes them"]);
}

#[test]
fn read_only_work_directory() {
    let workspace = Workspace::new(&format!("FROM {}\nRUN true\n", peers().busybox()));
    Pod::for_workspace(&workspace)
        .mount(&workspace.context(), "/readonly:ro")
        .run(&["--context=dir:///workspace", "--insecure-pull", "--no-push", "--work-dir=/readonly/work"])
        .refused(1, &["/readonly/work", "Read-only file system"]);
}

#[test]
fn full_disk() {
    let workspace = Workspace::new(&format!("FROM {}\nRUN true\n", peers().busybox()));
    Pod::for_workspace(&workspace)
        .option("--security-opt=seccomp=unconfined")
        .option("--tmpfs=/small:size=1m,exec")
        .run(&["--context=dir:///workspace", "--insecure-pull", "--no-push", "--work-dir=/small/work"])
        .refused(1, &["/small/work", "No space left on device"]);
}

#[test]
fn failing_run_gives_its_exit_code_and_line() {
    let workspace = Workspace::new(&format!("FROM {}\nRUN echo before\nRUN exit 42\n", peers().busybox()));
    build(&workspace, &["--isolation=namespace"]).refused(42, &["Dockerfile:3", "exit 42"]);
    let arguments = ["--context=dir:///workspace", "--insecure-pull", "--no-push"];
    Pod::for_workspace(&workspace).run(&arguments).refused(42, &["Dockerfile:3", "exit 42"]);
}

#[test]
fn own_root_outside_a_container() {
    let workspace = Workspace::new(&format!("FROM {}\nRUN true\n", peers().busybox()));
    build(&workspace, &["--isolation=own-root"]).refused(1, &["own-root", "container", "--force"]);
}
