//! Who may import whom. The modules of src/ stand on floors, and a module imports only from floors below its own, so that
//! the way of the data (context, plan, executor, snapshot, layer, image, push) has no arrow back up. Read from the sources,
//! unit tests and fuzz targets excepted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::support::program::source_directory;

/// From the ground up. Modules on one floor do not know each other.
const FLOORS: &[&[&str]] = &[
    &["diag", "csv"],
    &["fs", "image", "dockerfile", "http", "location", "secret", "ssh"],
    &["rootfs", "sandbox", "context", "plan", "registry", "remote"],
    &["snapshot", "cache", "push", "lint"],
    &["layer", "outline"],
    &["executor"],
    &["builder"],
    &["cli"],
];

/// Where `unsafe` may stand, with a reason beside it: what a process does between `fork` and `exec`.
const UNSAFE_PLACE: &str = "sandbox/raw.rs";

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
            has_unsafe && !path.ends_with(UNSAFE_PLACE)
        })
        .map(|(path, _)| path)
        .collect();
    assert!(strays.is_empty(), "{strays:?}");
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

/// Unit tests stand last in a file: everything before them, without comment lines.
fn without_tests(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let is_tests = line == "#[cfg(test)]" && lines.peek().is_some_and(|next| next.starts_with("mod "));
        if is_tests {
            break;
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
