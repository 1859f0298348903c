//! What tests run inside of a RUN: static, so that it works in any image.
//!
//! `sockets` says which kinds of sockets there are. `exchange A B MILLISECONDS` exchanges two entries of directories for
//! each other, over and over. `open FILE` opens a file to read. `user` says as whom it acts.

use std::ffi::CString;
use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

unsafe extern "C" {
    fn geteuid() -> u32;
    fn socket(domain: i32, kind: i32, protocol: i32) -> i32;
    fn renameat2(from: i32, old: *const i8, to: i32, new: *const i8, flags: u32) -> i32;
}

const AT_FDCWD: i32 = -100;
const RENAME_EXCHANGE: u32 = 2;
const SOCK_STREAM: i32 = 1;
const SOCK_RAW: i32 = 3;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["sockets"] => {
            for (name, domain, kind) in
                [("unix", 1, SOCK_STREAM), ("inet", 2, SOCK_STREAM), ("inet6", 10, SOCK_STREAM), ("netlink", 16, SOCK_RAW)]
            {
                // SAFETY: the call takes numbers only.
                let made = unsafe { socket(domain, kind, 0) };
                match made {
                    -1 => println!("{name}: {}", io::Error::last_os_error()),
                    _ => println!("{name}: made"),
                }
            }
            Ok(())
        }
        ["exchange", one, other, time] => exchange(one, other, time.parse().unwrap_or(0)),
        ["user"] => {
            // SAFETY: the call takes nothing and cannot fail.
            println!("{}", unsafe { geteuid() });
            Ok(())
        }
        ["open", file] => std::fs::File::open(file).map(drop),
        _ => Err(io::Error::other("usage: probe sockets | exchange A B MILLISECONDS | open FILE | user")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn exchange(one: &str, other: &str, milliseconds: u64) -> io::Result<()> {
    let (one, other) = (CString::new(one)?, CString::new(other)?);
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(milliseconds) {
        for _ in 0..64 {
            // SAFETY: both strings end with NUL.
            if unsafe { renameat2(AT_FDCWD, one.as_ptr(), AT_FDCWD, other.as_ptr(), RENAME_EXCHANGE) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(())
}
