//! One part of a build at a given size, for tables of growth and for counting instructions:
//!
//! ```text
//! cargo bench --bench growth -- walk 100000     # files: finds that nothing changed, then one edit
//! cargo bench --bench growth -- flat 100000     # the same, all files in one directory
//! cargo bench --bench growth -- edit 100000     # all of that but the finding
//! cargo bench --bench growth -- unpack 100000
//! cargo bench --bench growth -- layers 127      # a base of so many layers, each with 100 files
//! cargo bench --bench growth -- whiteouts 5000  # a layer that hides so many files
//! ```

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program whose output is its result")]
#![allow(clippy::disallowed_methods, reason = "no sandbox exchanges the files of benchmarks")]

mod material;

use std::time::{Duration, Instant};

use crabwright::rootfs::Tree;
use crabwright::snapshot::{Options, compare};

fn main() {
    // cargo adds a flag of its own.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let [part, count] = words.as_slice() else {
        eprintln!("growth: nothing to do: give edit, walk, flat, unpack, layers or whiteouts, and a number");
        return;
    };
    let count: usize = count.parse().expect("a number");
    let directory = tempfile::tempdir().expect("directory");
    let mut tree = Tree::create(directory.path().join("tree")).expect("tree");
    let took = match part.as_str() {
        "edit" => timed(|| edit(&mut tree, count, 100)),
        "walk" => walk(&mut tree, count, 100),
        "flat" => walk(&mut tree, count, count),
        "unpack" => {
            let archive = material::archive(count, 2_000, 100);
            timed(|| apply(&mut tree, &archive))
        }
        "layers" => {
            let archives: Vec<_> = (0..count).map(|number| material::archive(100, number + 1, 10)).collect();
            timed(|| archives.iter().for_each(|archive| apply(&mut tree, archive)))
        }
        "whiteouts" => {
            apply(&mut tree, &material::archive(count, 10, count));
            let names: Vec<String> = (0..count).map(|number| format!("usr/share/d0/.wh.file-{number}")).collect();
            let mut archive = tar::Builder::new(Vec::new());
            for name in &names {
                let mut header = tar::Header::new_ustar();
                header.set_size(0);
                archive.append_data(&mut header, name, std::io::empty()).expect("memory");
            }
            let archive = archive.into_inner().expect("memory");
            timed(|| apply(&mut tree, &archive))
        }
        other => panic!("there is no part {other}"),
    };
    println!("{part} {count}: {:.1} ms", took.as_secs_f64() * 1000.0);
}

fn edit(tree: &mut Tree, files: usize, in_directory: usize) {
    apply(tree, &material::archive(files, 10, in_directory));
    // What was unpacked within the last tick of the clock is read, which is not what is measured.
    std::thread::sleep(Duration::from_millis(50));
    std::fs::write(tree.path().join("usr/share/new"), "x").expect("file");
}

fn walk(tree: &mut Tree, files: usize, in_directory: usize) -> Duration {
    edit(tree, files, in_directory);
    timed(|| assert_eq!(compare(tree, &Options::default()).expect("compared").len(), 3))
}

fn apply(tree: &mut Tree, archive: &[u8]) {
    tree.apply_layer("layer", archive).expect("unpacked");
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}
