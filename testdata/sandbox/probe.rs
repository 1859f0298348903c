//! What tests run inside of a RUN: static, so that it works in any image.
//!
//! `sockets` says which kinds of sockets there are. `exchange A B MILLISECONDS` exchanges two entries of directories for
//! each other, over and over. `open FILE` opens a file to read. `user` says as whom it acts, `keyring`
//! the number of its session keyring; `threads` starts one,
//! `namespace` makes a user namespace.

use std::ffi::{CString, c_char};
use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

unsafe extern "C" {
    fn geteuid() -> u32;
    fn syscall(number: i64, ...) -> i64;
    fn unshare(flags: i32) -> i32;
    fn socket(domain: i32, kind: i32, protocol: i32) -> i32;
    fn renameat2(from: i32, old: *const c_char, to: i32, new: *const c_char, flags: u32) -> i32;
}

const AT_FDCWD: i32 = -100;
const RENAME_EXCHANGE: u32 = 2;
#[cfg(target_arch = "x86_64")]
const SYS_KEYCTL: i64 = 250;
#[cfg(target_arch = "aarch64")]
const SYS_KEYCTL: i64 = 219;
const CLONE_NEWUSER: i32 = 0x1000_0000;
const KEYCTL_GET_KEYRING_ID: i32 = 0;
const KEY_SPEC_SESSION_KEYRING: i32 = -3;
const SOCK_STREAM: i32 = 1;
const SOCK_RAW: i32 = 3;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["sockets"] => {
            for (name, domain, kind) in [
                ("unix", 1, SOCK_STREAM),
                ("inet", 2, SOCK_STREAM),
                ("inet6", 10, SOCK_STREAM),
                ("netlink", 16, SOCK_RAW),
            ] {
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
        ["keyring"] => {
            // SAFETY: the call takes numbers only.
            match unsafe { syscall(SYS_KEYCTL, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0) } {
                -1 => Err(io::Error::last_os_error()),
                number => {
                    println!("{number}");
                    Ok(())
                }
            }
        }
        ["namespace"] => {
            // SAFETY: the call takes a number only.
            if unsafe { unshare(CLONE_NEWUSER) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
        }
        ["threads"] => std::thread::spawn(|| Ok(())).join().unwrap_or_else(|_| Err(io::Error::other("it panicked"))),
        ["open", file] => std::fs::File::open(file).map(drop),
        _ => Err(io::Error::other(
            "usage: probe sockets | exchange A B MILLISECONDS | open FILE | user | keyring | threads | namespace",
        )),
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
