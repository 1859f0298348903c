//! The promises of SECURITY.md: each names the tests that keep it, and these exist.

use std::path::PathBuf;

use crate::support::program::source_directory;

/// Where the test of a path such as `registry::faults::a_name` may stand.
fn places(modules: &[&str]) -> Vec<PathBuf> {
    let below = |directory: &str| {
        let path = source_directory().join(directory).join(modules.join("/"));
        [path.with_extension("rs"), path.join("mod.rs"), path.join("tests.rs")]
    };
    [below("tests/it"), below("src")].concat()
}

fn is_test(path: &str) -> bool {
    let segments: Vec<&str> = path.split("::").collect();
    let Some((name, modules)) = segments.split_last() else { return false };
    places(modules).into_iter().filter_map(|place| std::fs::read_to_string(place).ok()).any(|text| {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let function = lines.iter().position(|line| {
            let line = line.strip_prefix("async ").unwrap_or(line);
            line.strip_prefix("fn ").and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.starts_with('('))
        });
        // The attribute stands above, with others between perhaps.
        function.is_some_and(|at| {
            let mut above =
                lines[..at].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("//"));
            above.any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
        })
    })
}

#[test]
fn every_promise_names_tests_that_exist() {
    let text = std::fs::read_to_string(source_directory().join("SECURITY.md")).unwrap();
    let rows: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.starts_with("| promise "))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    assert!(rows.len() > 10, "the table of promises is gone");
    let mut complaints = Vec::new();
    for row in rows {
        let (promise, tests) = row.trim_matches('|').rsplit_once('|').unwrap();
        let named: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        if named.is_empty() {
            complaints.push(format!("no test: {promise}"));
        }
        complaints
            .extend(named.iter().filter(|test| !is_test(test)).map(|test| format!("{test} is no test: {promise}")));
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn tests_are_found_where_they_are_and_nowhere_else() {
    assert!(is_test("promises::tests_are_found_where_they_are_and_nowhere_else"));
    assert!(is_test("image::docker_archive_reader::what_is_no_image_is_refused"));
    for path in ["promises::is_test", "promises::gone", "gone::tests", "promises"] {
        assert!(!is_test(path), "{path}");
    }
}
