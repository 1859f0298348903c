//! How long a large context takes against a long ignore file: 100,000 files, 200 patterns.
//!
//! `cargo bench --bench ignore` prints the seconds of the best of five rounds.
#![expect(clippy::print_stdout, reason = "the figure is the output")]
#![allow(clippy::disallowed_methods, reason = "no sandbox exchanges the files of benchmarks")]

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crabwright::context::IgnoreMatcher;

fn main() -> Result<(), Box<dyn Error>> {
    let patterns = (0..200).map(|number| match number % 5 {
        0 => format!("**/*.ext{number}"),
        1 => format!("dir{number}/sub/*"),
        2 => format!("**/name{number}"),
        3 => format!("!keep{number}/**/x"),
        _ => format!("file{number}"),
    });
    let matcher = IgnoreMatcher::new(patterns)?;
    let directories: Vec<(PathBuf, Vec<PathBuf>)> = (0..100)
        .map(|directory| PathBuf::from(format!("packages/module-{directory}/src")))
        .map(|directory| {
            // One file in a hundred is ignored, so that expressions are evaluated too.
            let name = |file| if file % 100 == 0 { format!("{file}.ext5") } else { format!("component-{file}.ts") };
            let files = (0..1000).map(|file| directory.join(name(file))).collect();
            (directory, files)
        })
        .collect();
    let mut best = Duration::MAX;
    let mut ignored = 0;
    for _ in 0..5 {
        let start = Instant::now();
        ignored = 0;
        for (directory, files) in &directories {
            let above = matcher.verdict_from_root(directory);
            ignored += files.iter().filter(|file| matcher.verdict(file, above).is_ignored()).count();
        }
        best = best.min(start.elapsed());
    }
    println!("100000 files, 200 patterns, {ignored} ignored: {:.3} s", best.as_secs_f64());
    Ok(())
}
