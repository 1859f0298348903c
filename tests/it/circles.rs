//! No circle of imports between the files of src/.
//!
//! Files that import each other can only be read together: they are one file in several places. `floors.rs` sees that for
//! the modules of the top level; this test sees each file, inside a module too.
//!
//! A file imports the file that defines a name it uses. A re-export is followed to the definition, so a `mod.rs` that only
//! declares and re-exports its children imports none of them; it does when it uses what they define. Unit tests and fuzz
//! targets do not count.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, Meta, UseTree, Visibility};

use crate::support::program::source_directory;

/// Folders with a circle. A folder leaves the list when it has none, and the list never grows.
const NOT_YET_UNTIED: &[&str] = &[];

#[test]
fn files_do_not_import_each_other_in_a_circle() {
    let imports = Sources::parse(&read_sources()).imports();
    let circles = circles(&imports);
    let arrows: usize = imports.values().map(BTreeSet::len).sum();
    println!("{} files, {arrows} imports, {} circles", imports.len(), circles.len());
    let mut tied = BTreeSet::new();
    let mut complaints = String::new();
    for circle in &circles {
        let folder = common_folder(circle);
        let text = describe(circle, &imports);
        println!("{text}");
        if !NOT_YET_UNTIED.contains(&folder.as_str()) {
            complaints.push_str(&text);
        }
        tied.insert(folder);
    }
    for folder in NOT_YET_UNTIED {
        if !tied.contains(*folder) {
            complaints.push_str(&format!("src/{folder} has no circle any more: take it out of NOT_YET_UNTIED\n"));
        }
    }
    assert!(complaints.is_empty(), "\n{complaints}");
}

#[test]
fn a_circle_is_found_through_a_re_export() {
    let files = sources(&[
        ("lib.rs", "pub mod a;"),
        ("a/mod.rs", "mod one; mod two; pub use one::One; pub use two::Two;"),
        ("a/one.rs", "use super::Two; pub struct One(Two);"),
        ("a/two.rs", "pub struct Two; fn two() { crate::a::One::new(); }"),
    ]);
    let imports = Sources::parse(&files).imports();
    let circles = circles(&imports);
    assert_eq!(circles, [BTreeSet::from(["a/one.rs", "a/two.rs"].map(str::to_owned))]);
    assert_eq!(
        describe(&circles[0], &imports),
        "a: 2 files in a circle\n    a/one.rs -> a/two.rs\n    a/two.rs -> a/one.rs\n"
    );
}

#[test]
fn a_parent_is_in_a_circle_when_it_uses_its_children_and_they_use_it() {
    let child = ("a/one.rs", "use super::Shared; pub(super) fn one(_: Shared) {}");
    let circle_of = |parent: &str| {
        let files = sources(&[("lib.rs", "mod a;"), ("a/mod.rs", parent), child]);
        circles(&Sources::parse(&files).imports())
    };
    let both = [BTreeSet::from(["a/mod.rs", "a/one.rs"].map(str::to_owned))];
    let none: [BTreeSet<String>; 0] = [];
    assert_eq!(circle_of("mod one; pub use one::one; pub struct Shared;"), none);
    assert_eq!(circle_of("mod one; pub struct Shared; fn f() { one::one(Shared) }"), both);
    assert_eq!(circle_of("mod one; pub use one::one; pub struct Shared; fn f() { one(Shared) }"), both);
    assert_eq!(circle_of("mod one; pub struct Shared; fn f() { println!(\"{}\", one::one(Shared)) }"), both);
    assert_eq!(circle_of("mod one; pub struct Shared; #[serde(with = \"one::one\")] struct X;"), both);
    assert_eq!(circle_of("mod one; pub struct Shared; /// [`one::one`]\n struct X;"), none);
    assert_eq!(circle_of("mod one; pub struct Shared; #[cfg(test)] fn f() { one::one(Shared) }"), none);
    assert_eq!(
        circle_of("mod one; pub struct Shared; #[cfg(test)] mod tests { use super::one; fn f() { one::one() } }"),
        none
    );
}

fn sources(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

/// The text of each file below src/, by its path there.
fn read_sources() -> BTreeMap<String, String> {
    let root = source_directory().join("src");
    let mut directories = vec![root.clone()];
    let mut found = BTreeMap::new();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

/// Segments of a path in the code, or of a module from the root of the crate.
type Path = Vec<String>;

/// One module as its text says it.
#[derive(Debug)]
struct Module {
    file: String,
    /// What `use` brings into its scope, by the name there.
    scope: BTreeMap<String, Path>,
    /// The names its code uses.
    used: Vec<Path>,
}

/// The modules of the crate, from `lib.rs` down.
#[derive(Debug, Default)]
struct Sources {
    modules: BTreeMap<Path, Module>,
}

impl Sources {
    fn parse(files: &BTreeMap<String, String>) -> Self {
        let mut sources = Self::default();
        sources.add(files, &[], "lib.rs");
        sources
    }

    fn add(&mut self, files: &BTreeMap<String, String>, module: &[String], file: &str) {
        let parsed = syn::parse_file(&files[file]).unwrap_or_else(|error| panic!("src/{file}: {error}"));
        let mut reader = Reader { scope: BTreeMap::new(), used: Vec::new(), children: Vec::new(), file };
        reader.visit_file(&parsed);
        let Reader { scope, used, children, .. } = reader;
        self.modules.insert(module.to_vec(), Module { file: file.to_owned(), scope, used });
        for child in children {
            let path = joined(module, &[child]);
            let candidates = [format!("{}.rs", path.join("/")), format!("{}/mod.rs", path.join("/"))];
            let found = candidates.iter().find(|candidate| files.contains_key(*candidate));
            let found = found.unwrap_or_else(|| panic!("src/{file}: no file for the module {}", path.join("::")));
            self.add(files, &path, found);
        }
    }

    /// The files that each file imports.
    fn imports(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (path, module) in &self.modules {
            let targets = module.used.iter().filter_map(|used| self.defining_file(path, used, 0));
            let others = targets.filter(|file| *file != module.file).map(str::to_owned).collect();
            imports.insert(module.file.clone(), others);
        }
        imports
    }

    /// The file that defines what `path` names in `module`. `None`: a module, a local name, or a name of another crate.
    fn defining_file(&self, module: &[String], path: &[String], depth: usize) -> Option<&str> {
        let (first, rest) = path.split_first()?;
        let absolute = match first.as_str() {
            "crate" => rest.to_vec(),
            "self" => joined(module, rest),
            "super" => {
                let above = path.iter().take_while(|segment| *segment == "super").count();
                joined(&module[..module.len() - above], &path[above..])
            }
            // A function may have the name of the module it is in, which then is what a longer path begins with.
            name if !rest.is_empty() && self.modules.contains_key(&joined(module, &[name.to_owned()])) => {
                joined(module, path)
            }
            name => match self.modules.get(module)?.scope.get(name) {
                Some(brought) if depth < 16 => return self.defining_file(module, &joined(brought, rest), depth + 1),
                _ => return None,
            },
        };
        let parent = (0..absolute.len()).rev().find(|length| self.modules.contains_key(&absolute[..*length]))?;
        let (name, rest) = absolute[parent..].split_first()?;
        let found = &self.modules[&absolute[..parent]];
        match found.scope.get(name) {
            Some(brought) if depth < 16 => self.defining_file(&absolute[..parent], &joined(brought, rest), depth + 1),
            Some(_) => None,
            None if self.modules.contains_key(&absolute) => None,
            None => Some(&found.file),
        }
    }
}

fn joined(path: &[String], rest: &[String]) -> Path {
    path.iter().chain(rest).cloned().collect()
}

/// Reads one file.
struct Reader<'a> {
    file: &'a str,
    scope: BTreeMap<String, Path>,
    used: Vec<Path>,
    children: Vec<String>,
}

impl Reader<'_> {
    /// Reads a `use`; `is_use`: what it names is used here, and not only handed on.
    fn read_use(&mut self, tree: &UseTree, prefix: &[String], is_use: bool) {
        let (name, path) = match tree {
            UseTree::Path(path) => {
                return self.read_use(&path.tree, &joined(prefix, &[path.ident.to_string()]), is_use);
            }
            UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.read_use(tree, prefix, is_use));
            }
            UseTree::Glob(_) => panic!("src/{}: `use {}::*` hides what is imported", self.file, prefix.join("::")),
            UseTree::Name(name) if name.ident == "self" => (prefix[prefix.len() - 1].clone(), prefix.to_vec()),
            UseTree::Name(name) => (name.ident.to_string(), joined(prefix, &[name.ident.to_string()])),
            UseTree::Rename(rename) if rename.ident == "self" => (rename.rename.to_string(), prefix.to_vec()),
            UseTree::Rename(rename) => (rename.rename.to_string(), joined(prefix, &[rename.ident.to_string()])),
        };
        if is_use {
            self.used.push(path.clone());
        }
        // `use regex;` and the like bring a crate by its own name.
        if path.len() > 1 {
            self.scope.insert(name, path);
        }
    }

    /// Takes the paths out of what a macro is given.
    fn read_tokens(&mut self, tokens: TokenStream) {
        let mut path = Path::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.used.push(std::mem::take(&mut path));
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.used.push(std::mem::take(&mut path));
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.read_tokens(group.stream());
                    }
                }
            }
        }
        self.used.push(path);
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_for_tests(item_attributes(item)) {
            return;
        }
        match item {
            Item::Use(item) => self.read_use(&item.tree, &[], matches!(item.vis, Visibility::Inherited)),
            Item::Mod(item) => {
                assert!(item.content.is_none(), "src/{}: the module {} has no file of its own", self.file, item.ident);
                self.children.push(item.ident.to_string());
            }
            _ => visit::visit_item(self, item),
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes = match item {
            ImplItem::Const(item) => &item.attrs,
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            _ => return visit::visit_impl_item(self, item),
        };
        if !is_for_tests(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            self.used.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.read_tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }

    /// Derives are given paths in strings: `#[serde(with = "hex")]`.
    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        let Meta::List(list) = &attribute.meta else { return };
        self.read_tokens(list.tokens.clone());
        for text in strings(list.tokens.clone()) {
            let path: Path = text.split("::").map(str::to_owned).collect();
            if path.iter().all(|name| syn::parse_str::<syn::Ident>(name).is_ok()) {
                self.used.push(path);
            }
        }
    }
}

fn strings(tokens: TokenStream) -> Vec<String> {
    let literals = tokens.into_iter().filter_map(|token| match token {
        TokenTree::Literal(literal) => syn::parse_str::<syn::LitStr>(&literal.to_string()).ok(),
        _ => None,
    });
    literals.map(|literal| literal.value()).collect()
}

/// Whether an ordinary build leaves it out.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            let condition = list.tokens.to_string().replace(' ', "");
            ["test", "fuzzing", "any(test", "all(test"].iter().any(|start| condition.starts_with(start))
        }
        _ => false,
    })
}

fn item_attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// The largest groups of files each of which reaches every other by imports.
fn circles(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<BTreeSet<String>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        imports.keys().map(|file| (file.as_str(), reached_from(file, imports))).collect();
    let mut circles = BTreeSet::new();
    for (file, others) in &reached {
        let circle: BTreeSet<String> =
            others.iter().filter(|other| reached[*other].contains(file)).map(|other| (*other).to_owned()).collect();
        if !circle.is_empty() {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

fn reached_from<'a>(file: &'a str, imports: &'a BTreeMap<String, BTreeSet<String>>) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next = vec![file];
    while let Some(file) = next.pop() {
        next.extend(imports[file].iter().map(String::as_str).filter(|other| reached.insert(*other)));
    }
    reached
}

/// The deepest folder that all the files are in.
fn common_folder(files: &BTreeSet<String>) -> String {
    let (first, last) = (files.first().unwrap(), files.last().unwrap());
    let same = first.split('/').zip(last.split('/')).take_while(|(one, other)| one == other);
    same.map(|(folder, _)| folder).collect::<Vec<_>>().join("/")
}

fn describe(circle: &BTreeSet<String>, imports: &BTreeMap<String, BTreeSet<String>>) -> String {
    let mut text = format!("{}: {} files in a circle\n", common_folder(circle), circle.len());
    for file in circle {
        let arrows: Vec<&str> = imports[file].intersection(circle).map(String::as_str).collect();
        text.push_str(&format!("    {file} -> {}\n", arrows.join(", ")));
    }
    text
}
