//! What docs/supply-chain.md says the binary is made of.

use std::collections::BTreeSet;
use std::process::Command;

use crate::support::program::source_directory;

/// The crates that have a C compiler run, and their versions, of those that the program is built from on its platform.
fn crates_with_c() -> BTreeSet<String> {
    let mut tree = Command::new(env!("CARGO"));
    tree.current_dir(source_directory()).args(["tree", "--locked", "--offline", "--invert", "cc", "--depth", "1"]);
    tree.args(["--edges", "normal,build", "--target", "x86_64-unknown-linux-gnu", "--prefix", "none"]);
    let output = tree.output().expect("cargo tree");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter_map(|line| line.split_once(" v"))
        // `cc` itself, and what only calls it for others.
        .filter(|(name, _)| !["cc", "cmake", "openssl-sys"].contains(name))
        .map(|(name, version)| format!("`{name}` {version}"))
        .collect()
}

#[test]
fn every_c_library_is_listed_with_its_version() {
    let text = std::fs::read_to_string(source_directory().join("docs/supply-chain.md")).unwrap();
    let rows = text.lines().skip_while(|line| !line.starts_with("| library ")).skip(2);
    let rows: Vec<Vec<&str>> = rows
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let listed: BTreeSet<String> = rows.iter().map(|row| row[2].to_owned()).collect();
    assert_eq!(listed, crates_with_c(), "docs/supply-chain.md lists one, cargo tree --invert cc the other");
    for row in rows {
        // A crate whose version tells that of its library.
        if let Some((_, library)) = row[2].split_once('+') {
            assert_eq!(library.trim_start_matches("zstd."), row[1], "{}", row[0]);
        }
    }
}

#[test]
fn the_compiler_is_the_one_that_cargo_demands() {
    let toolchain = std::fs::read_to_string(source_directory().join("rust-toolchain.toml")).unwrap();
    let manifest = std::fs::read_to_string(source_directory().join("Cargo.toml")).unwrap();
    let value = |text: &str, key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.trim().strip_prefix('=')).expect(key);
        line.trim().trim_matches('"').to_owned()
    };
    let pinned = value(&toolchain, "channel");
    assert!(pinned.starts_with(&value(&manifest, "rust-version")), "{pinned}");
}
