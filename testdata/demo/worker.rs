//! The program that the demo's RUN steps run: static, so that it works in an image that holds nothing else.
//!
//! `write FILE TEXT` makes a file and its directories, `show FILE...` prints files, `report FILE` writes what a RUN step
//! sees of itself and its surroundings.

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["write", file, text] => write(file, &format!("{text}\n")),
        ["show", files @ ..] => files.iter().try_for_each(|file| show(file)),
        ["report", file] => report().and_then(|text| write(file, &text)),
        _ => Err(io::Error::other("usage: worker write FILE TEXT | show FILE... | report FILE")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("worker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(file: &str, text: &str) -> io::Result<()> {
    if let Some(directory) = Path::new(file).parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(file, text)
}

fn show(file: &str) -> io::Result<()> {
    print!("{file}: {}", fs::read_to_string(file)?);
    Ok(())
}

/// Nothing that differs from one build to the next.
fn report() -> io::Result<String> {
    let mut entries = fs::read_dir("/")?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    let mut variables: Vec<String> = env::vars().map(|(name, value)| format!("{name}={value}")).collect();
    variables.sort();
    Ok(format!(
        "working directory {}; root holds {}; environment {}\n",
        env::current_dir()?.display(),
        entries.join(" "),
        variables.join(" ")
    ))
}
