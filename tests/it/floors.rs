//! Who may import whom. The modules of src/ stand on floors, and a module imports only from floors below its own, so that
//! the way of the data (context, plan, executor, snapshot, layer, image, push) has no arrow back up. Read from the sources,
//! unit tests and fuzz targets excepted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::support::markdown;
use crate::support::program::source_directory;

/// From the ground up. Modules on one floor do not know each other.
const FLOORS: &[&[&str]] = &[
    &["diag", "csv"],
    &["fs"],
    &["image", "dockerfile", "http", "location", "secret", "ssh"],
    &["rootfs", "sandbox", "context", "plan", "registry", "remote"],
    &["snapshot", "push", "lint"],
    &["cache", "layer", "outline"],
    &["executor"],
    &["builder"],
    &["cli"],
];

/// Where `unsafe` may stand, with a reason beside it: what a process does between `fork` and `exec`, and the one call that gives
/// libgit2 a transport.
const UNSAFE_PLACES: &[&str] = &["sandbox/raw.rs", "remote/git/transport/mod.rs"];

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

#[test]
fn modules_import_only_from_floors_below() {
    let mut complaints = Vec::new();
    for (path, code) in sources() {
        let Some(module) = module_of(&path) else { continue };
        let Some(own) = floor(&module) else {
            complaints.push(format!("{}: the module {module} stands on no floor", path.display()));
            continue;
        };
        for imported in imports(&code) {
            if imported == module {
                continue;
            }
            match floor(&imported) {
                Some(other) if other < own => {}
                Some(_) => complaints.push(format!("{}: {module} must not import {imported}", path.display())),
                None => complaints.push(format!("{}: crate::{imported} stands on no floor", path.display())),
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn unsafe_code_stays_in_its_place() {
    let strays: Vec<_> = sources()
        .into_iter()
        .filter(|(path, code)| {
            let has_unsafe =
                ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"].iter().any(|word| code.contains(word));
            has_unsafe && !UNSAFE_PLACES.iter().any(|place| path.ends_with(place))
        })
        .map(|(path, _)| path)
        .collect();
    assert!(strays.is_empty(), "{strays:?}");
}

/// Who may open a path or start a program by itself: the gate and what is before it (`src/fs/gate.rs` says why nobody else may).
/// The lint that keeps the others from it is in clippy.toml; this is the list of those it does not bind.
#[test]
fn paths_are_taken_behind_the_gate_only() {
    let exempt = [
        "fs/mod.rs",
        "http/amazon.rs",
        "http/tls.rs",
        "lib.rs",
        "main.rs",
        "remote/git/fetch.rs",
        "sandbox/mod.rs",
        "ssh/mod.rs",
    ];
    let holding = |text: &str| -> Vec<String> {
        let found = sources().into_iter().filter(|(_, code)| code.contains(text));
        found.map(|(path, _)| path.to_string_lossy().into_owned()).collect()
    };
    assert_eq!(holding("clippy::disallowed_methods"), exempt);
    // Calls with a directory that may be the current one, which the lint cannot tell from others.
    let strays = |text: &str| -> Vec<String> {
        holding(text).into_iter().filter(|path| !path.starts_with("fs/") && !path.starts_with("sandbox/")).collect()
    };
    for call in
        ["CWD", "AT_FDCWD", "fs::open(", "fs::stat(", "fs::lstat(", "fs::access(", "fs::statfs(", "fs::statvfs("]
    {
        let call = if call.starts_with("fs::") { format!("rustix::{call}") } else { call.to_owned() };
        assert_eq!(strays(&call), Vec::<String>::new(), "{call}");
    }
    assert_eq!(holding("gate::shut("), ["sandbox/own_root/mod.rs"], "who may exchange the container's files");
    assert_eq!(holding("gate::stays("), ["builder/work_directory.rs"], "who says what stays in place");
    // The lint itself, which covers what is used by everybody.
    let lint = std::fs::read_to_string(source_directory().join("clippy.toml")).unwrap();
    for call in ["std::fs::read", "std::fs::File::open", "std::path::Path::exists", "std::process::Command::new"] {
        assert!(lint.contains(&format!("path = \"{call}\"")), "{call}");
    }
}

#[test]
fn the_map_has_these_floors_and_every_folder() {
    let map = markdown::text(Path::new("docs/architecture.md"));
    let floors: Vec<String> = FLOORS.iter().rev().map(|floor| floor.join(" ")).collect();
    assert!(map.contains(&format!("```text\n{}\n```", floors.join("\n"))), "docs/architecture.md has other floors");
    for module in FLOORS.iter().flat_map(|floor| floor.iter()) {
        assert!(map.contains(&format!("| `src/{module}/` | ")), "docs/architecture.md does not say what {module} does");
    }
}

#[test]
fn imports_are_found_in_every_form() {
    let code = "use crate::fs::Error;\nuse crate::{diag, image::{Digest, Blob}, plan};\nlet x = crate::layer::write();";
    let expected = ["diag", "fs", "image", "layer", "plan"].map(str::to_owned);
    assert_eq!(imports(code), BTreeSet::from(expected));
}

/// The sources below src/, by their path there, without comments, unit tests and fuzz targets.
fn sources() -> BTreeMap<PathBuf, String> {
    fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = source_directory().join("src");
    let mut found = Vec::new();
    collect(&root, &mut found);
    found
        .into_iter()
        .filter(|path| !path.ends_with("tests.rs") && !path.ends_with("fuzzing.rs"))
        .map(|path| {
            let code = without_tests(&std::fs::read_to_string(&path).unwrap());
            (path.strip_prefix(&root).unwrap().to_owned(), code)
        })
        .collect()
}

/// Unit tests stand last in a file: everything before them, without comment lines. A module of its own file is no part of it.
fn without_tests(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let is_tests = line == "#[cfg(test)]" && lines.peek().is_some_and(|next| next.starts_with("mod "));
        if is_tests && lines.peek().is_some_and(|next| next.ends_with('{')) {
            break;
        }
        if is_tests {
            lines.next();
            continue;
        }
        if !line.trim_start().starts_with("//") {
            code.push_str(line);
            code.push('\n');
        }
    }
    code
}

/// The top module a source belongs to; none for lib.rs and main.rs, which join everything.
fn module_of(path: &Path) -> Option<String> {
    let first = path.components().next()?.as_os_str().to_string_lossy().into_owned();
    let module = first.trim_end_matches(".rs");
    (module != "lib" && module != "main").then(|| module.to_owned())
}

/// The top modules that a source names behind `crate::`.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (position, prefix) in code.match_indices("crate::") {
        // `$crate::` in a macro is the same crate; `some_crate::` is another
        let before = code[..position].chars().next_back();
        if before.is_some_and(|character| character.is_alphanumeric() || character == '_') {
            continue;
        }
        let rest = &code[position + prefix.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut name = String::new();
            for character in group.chars() {
                match character {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        found.insert(first_word(&std::mem::take(&mut name)));
                    }
                    _ if depth == 0 => name.push(character),
                    _ => {}
                }
            }
            found.insert(first_word(&name));
        } else {
            found.insert(first_word(rest));
        }
    }
    found.remove("");
    found
}

fn first_word(text: &str) -> String {
    text.trim_start().chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect()
}
