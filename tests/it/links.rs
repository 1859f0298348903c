//! Pages lead where they say: links to files and headings, paths of the source, names of types.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use crate::support::markdown;
use crate::support::program::source_directory;

/// The page from which a reader sets out.
const FIRST: &str = "README.md";

/// The anchor that a forge gives to a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase().replace(' ', "-");
    kept.chars().filter(|character| character.is_alphanumeric() || "-_".contains(*character)).collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let headings = markdown::outside_code_blocks(text).filter(|(_, line)| line.starts_with('#'));
    headings
        .map(|(_, line)| {
            let anchor = anchor(line.trim_start_matches('#'));
            let times = seen.entry(anchor.clone()).or_default();
            *times += 1;
            if *times == 1 { anchor } else { format!("{anchor}-{}", *times - 1) }
        })
        .collect()
}

/// `target`, as it is written in `page`, below the project's directory.
fn resolve(page: &Path, target: &str) -> PathBuf {
    let mut path = page.parent().unwrap().to_owned();
    for component in Path::new(target).components() {
        match component {
            Component::ParentDir => drop(path.pop()),
            Component::CurDir => {}
            other => path.push(other),
        }
    }
    path
}

/// The links of a page to files of the project: line, file and heading.
fn local_links(page: &Path, text: &str) -> Vec<(usize, PathBuf, Option<String>)> {
    let mut found = Vec::new();
    for (number, line) in markdown::outside_code_blocks(text) {
        let (prose, _) = markdown::without_code_spans(line);
        for target in markdown::links(&prose).filter(|target| !target.contains("://")) {
            let (file, heading) = target.split_once('#').map_or((target, None), |(file, rest)| (file, Some(rest)));
            let file = if file.is_empty() { page.to_owned() } else { resolve(page, file) };
            found.push((number, file, heading.map(str::to_owned)));
        }
    }
    found
}

#[test]
fn links_lead_to_files_and_headings() {
    let mut complaints = Vec::new();
    for page in markdown::pages() {
        for (line, file, heading) in local_links(&page, &markdown::text(&page)) {
            let place = format!("{}:{line}", page.display());
            if !source_directory().join(&file).exists() {
                complaints.push(format!("{place}: there is no {}", file.display()));
            } else if let Some(heading) = heading
                && !anchors(&markdown::text(&file)).contains(&heading)
            {
                complaints.push(format!("{place}: {} has no heading #{heading}", file.display()));
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn every_page_can_be_reached() {
    let documents = |page: &PathBuf| !page.starts_with("testdata");
    let mut waiting = vec![PathBuf::from(FIRST)];
    let mut reached = BTreeSet::new();
    while let Some(page) = waiting.pop() {
        if reached.insert(page.clone()) {
            let links = local_links(&page, &markdown::text(&page)).into_iter().map(|(_, file, _)| file);
            waiting.extend(links.filter(|file| file.extension().is_some_and(|extension| extension == "md")));
        }
    }
    let lost: Vec<_> = markdown::pages().into_iter().filter(documents).filter(|page| !reached.contains(page)).collect();
    assert!(lost.is_empty(), "no link leads from {FIRST} to {lost:?}");
}

/// The map of the code names folders and files; they move more often than pages are read.
#[test]
fn paths_in_pages_exist() {
    let mut complaints = Vec::new();
    for page in markdown::pages() {
        let text = markdown::text(&page);
        for (number, line) in markdown::outside_code_blocks(&text) {
            for span in markdown::without_code_spans(line).1 {
                let is_path = ["src/", "tests/", "docs/", "benches/"].iter().any(|start| span.starts_with(start));
                if is_path && !span.contains([' ', '*', '<', '{', 'N']) && !source_directory().join(span).exists() {
                    complaints.push(format!("{}:{number}: there is no {span}", page.display()));
                }
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// `module::name` in the last column of the glossary: an item, or a module, of that name is below src/module.
#[test]
fn names_in_the_glossary_exist() {
    let text = markdown::text(Path::new("docs/glossary.md"));
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ") && line.contains("::")).collect();
    assert!(rows.len() > 20, "the tables of the glossary are gone");
    let mut complaints = Vec::new();
    for row in rows {
        let cell = row.trim_end_matches('|').rsplit('|').next().unwrap();
        for name in markdown::without_code_spans(cell).1 {
            let (module, item) = name.split_once("::").unwrap();
            if !is_defined(&source_directory().join("src").join(module), item) {
                complaints.push(name.to_owned());
            }
        }
    }
    assert!(complaints.is_empty(), "src/ has no {}", complaints.join(", "));
}

fn is_defined(directory: &Path, item: &str) -> bool {
    std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).any(|path| {
        if path.is_dir() {
            return path.file_name().is_some_and(|name| name == item) || is_defined(&path, item);
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        ["struct", "enum", "trait", "type", "fn", "mod"].iter().any(|kind| defines(&text, kind, item))
    })
}

fn defines(text: &str, kind: &str, item: &str) -> bool {
    let definition = format!("{kind} {item}");
    text.match_indices(&definition).any(|(start, _)| {
        let after = text[start + definition.len()..].chars().next();
        !after.is_some_and(|character| character.is_alphanumeric() || character == '_')
    })
}

/// An item of "What to touch" names files, and the types and constants that are in them.
#[test]
fn names_in_what_to_touch_are_in_the_files_beside_them() {
    let text = markdown::text(Path::new("CONTRIBUTING.md"));
    let section = text.split("\n## ").find(|section| section.starts_with("What to touch")).unwrap();
    let mut items = vec![String::new()];
    for line in section.lines() {
        if line.is_empty() || line.starts_with(|first: char| first.is_ascii_digit()) {
            items.push(String::new());
        }
        let item = items.last_mut().unwrap();
        item.push_str(line);
        item.push('\n');
    }
    let (mut found, mut complaints) = (0, Vec::new());
    for item in items {
        let (_, spans) = markdown::without_code_spans(&item);
        let (files, others): (Vec<&str>, Vec<&str>) = spans.into_iter().partition(|span| span.ends_with(".rs"));
        let read = |file: &&str| std::fs::read_to_string(source_directory().join(file)).unwrap_or_default();
        let sources: Vec<String> = files.iter().map(read).collect();
        let is_name = |span: &&str| {
            span.starts_with(|first: char| first.is_ascii_uppercase())
                && span.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
        };
        for name in others.into_iter().filter(is_name) {
            found += 1;
            let kinds = ["struct", "enum", "const"];
            if !sources.iter().any(|source| kinds.iter().any(|kind| defines(source, kind, name))) {
                complaints.push(format!("CONTRIBUTING.md: there is no {name} in {}", files.join(", ")));
            }
        }
    }
    assert!(found > 8, "the names of the section are gone");
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn anchors_are_those_of_forges() {
    let text = "# A `b` & c\n## RUN --network=none\n```\n# no heading\n```\n## Again\n## Again\n";
    let expected = ["a-b--c", "run---networknone", "again", "again-1"].map(str::to_owned);
    assert_eq!(anchors(text), BTreeSet::from(expected));
    assert_eq!(resolve(Path::new("docs/a.md"), "../SECURITY.md"), Path::new("SECURITY.md"));
    assert_eq!(resolve(Path::new("docs/a.md"), "b/c.md"), Path::new("docs/b/c.md"));
}
