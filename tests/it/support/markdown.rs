//! The project's Markdown files, and what in them is prose.

use std::path::{Path, PathBuf};

use super::program::source_directory;

/// Directories without pages: what builds write, and inputs of tests.
const WITHOUT_PAGES: [&str; 5] = [".git", "target", "testdata/conformance", "fuzz/corpus", "fuzz/artifacts"];

/// Every Markdown file of the project, as a path below its directory.
pub(crate) fn pages() -> Vec<PathBuf> {
    fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(source_directory().join(directory)).unwrap() {
            let entry = entry.unwrap();
            let path = directory.join(entry.file_name());
            if WITHOUT_PAGES.iter().any(|skipped| path == Path::new(skipped)) {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    collect(Path::new(""), &mut found);
    found.sort();
    assert!(found.len() > 20, "{found:?}");
    found
}

/// The text of a page.
pub(crate) fn text(page: &Path) -> String {
    std::fs::read_to_string(source_directory().join(page)).unwrap()
}

/// The lines of `text` with their numbers, without those of code blocks.
pub(crate) fn outside_code_blocks(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !is_fence && !in_code
    })
}

/// The line with blanks in place of its code spans, and those spans.
pub(crate) fn without_code_spans(line: &str) -> (String, Vec<&str>) {
    let (mut prose, mut spans) = (String::new(), Vec::new());
    for (number, part) in line.split('`').enumerate() {
        if number % 2 == 0 {
            prose.push_str(part);
        } else {
            spans.push(part);
            prose.push(' ');
        }
    }
    (prose, spans)
}

/// The targets of the links on a line of prose.
pub(crate) fn links(prose: &str) -> impl Iterator<Item = &str> {
    prose.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// Compares a generated file with what it should be, or writes it.
pub(crate) fn generated(path: &str, text: &str) {
    let file = source_directory().join(path);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, text).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == text, "{path} is not what the flags say: UPDATE_DOCS=1 cargo test --test it documents");
}
