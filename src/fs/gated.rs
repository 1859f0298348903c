//! `std::fs` through the gate: each call waits while a sandbox has replaced the container's files by an image's, unless
//! the path is below a directory that stays (see [`super::gate`]). Names, arguments and errors are those of `std`; the
//! functions of [`super`] add the path to the error.
//!
//! A descriptor refers to its file whatever happens to the path, so open files are read without a pass. Code that uses
//! several related paths holds a [`Pass`] itself. clippy.toml forbids `std::fs` and similar functions in the modules
//! above.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions, ReadDir};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use tokio::net::UnixStream;

use super::gate::{self, Pass, pass_for};

macro_rules! gated {
    ($($(#[$documentation:meta])* fn $name:ident($path:ident $(, $argument:ident: $kind:ty)*) -> $result:ty = $call:expr;)*) => {$(
        $(#[$documentation])*
        ///
        /// # Errors
        /// As in `std`; or the container's files could not be restored after a command.
        #[track_caller]
        pub fn $name($path: impl AsRef<Path>, $($argument: $kind),*) -> io::Result<$result> {
            let $path = $path.as_ref();
            let _pass = pass_for($path)?;
            $call
        }
    )*};
}

gated! {
    /// Reads a file.
    fn read(path) -> Vec<u8> = fs::read(path);
    /// Reads a file of UTF-8.
    fn read_to_string(path) -> String = fs::read_to_string(path);
    /// Writes a file, replacing what it held.
    fn write(path, bytes: impl AsRef<[u8]>) -> () = fs::write(path, bytes);
    /// Opens a file for reading.
    fn open(path) -> File = File::open(path);
    /// Creates a file for writing, or empties an existing one.
    fn create(path) -> File = File::create(path);
    /// Creates a file for reading and writing; fails if it exists.
    fn create_new(path) -> File = File::create_new(path);
    /// Opens a file with the given options.
    fn open_with(path, options: &OpenOptions) -> File = options.open(path);
    /// Returns the metadata of a path, following symbolic links.
    fn metadata(path) -> Metadata = fs::metadata(path);
    /// Returns the metadata of a path, without following a symbolic link.
    fn symlink_metadata(path) -> Metadata = fs::symlink_metadata(path);
    /// Returns the absolute path without symbolic links.
    fn canonicalize(path) -> PathBuf = fs::canonicalize(path);
    /// Opens a directory and returns its entries.
    fn read_dir(path) -> ReadDir = fs::read_dir(path);
    /// Creates a directory.
    fn create_dir(path) -> () = fs::create_dir(path);
    /// Creates a directory and its parents.
    fn create_dir_all(path) -> () = fs::create_dir_all(path);
    /// Creates a directory with the given options.
    fn create_dir_with(path, builder: &DirBuilder) -> () = builder.create(path);
    /// Removes a file.
    fn remove_file(path) -> () = fs::remove_file(path);
    /// Removes a directory and everything in it.
    fn remove_dir_all(path) -> () = fs::remove_dir_all(path);
    /// Changes the owner and group of a file.
    fn chown(path, uid: u32, gid: u32) -> () = std::os::unix::fs::chown(path, Some(uid), Some(gid));
    /// Sets a file's permissions.
    fn set_permissions(path, permissions: Permissions) -> () = fs::set_permissions(path, permissions);
}

/// [`read`] for an asynchronous task: does not block its thread.
///
/// # Errors
/// As in `std`; or the container's files could not be restored after a command.
pub async fn read_for_task(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let path = path.as_ref();
    let _pass = gate::passed_for(path).await?;
    fs::read(path)
}

/// Connects to a socket that was opened with [`OFlags::PATH`], whatever happens to its path.
///
/// # Errors
/// It has no listener, or is not a socket.
pub async fn connect(socket: BorrowedFd<'_>) -> io::Result<UnixStream> {
    UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await
}

/// Renames a file or a directory.
///
/// # Errors
/// As in `std`; or the container's files could not be restored after a command.
#[track_caller]
pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let _passes = (pass_for(from.as_ref())?, pass_for(to.as_ref())?);
    fs::rename(from, to)
}

/// Renames with renameat2(2) and `flags`.
///
/// # Errors
/// As for renameat2(2); or the container's files could not be restored after a command.
#[track_caller]
pub fn rename_with(from: impl AsRef<Path>, to: impl AsRef<Path>, flags: RenameFlags) -> io::Result<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    let _passes = (pass_for(from)?, pass_for(to)?);
    Ok(rustix::fs::renameat_with(CWD, from, CWD, to, flags)?)
}

/// Creates a hard link.
///
/// # Errors
/// As in `std`; or the container's files could not be restored after a command.
#[track_caller]
pub fn hard_link(file: impl AsRef<Path>, link: impl AsRef<Path>) -> io::Result<()> {
    let _passes = (pass_for(file.as_ref())?, pass_for(link.as_ref())?);
    fs::hard_link(file, link)
}

/// Opens a path with the flags of open(2); close-on-exec is added.
///
/// # Errors
/// As for open(2); or the container's files could not be restored after a command.
#[track_caller]
pub fn open_flags(path: impl AsRef<Path>, flags: OFlags) -> io::Result<OwnedFd> {
    let path = path.as_ref();
    let _pass = pass_for(path)?;
    Ok(rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty())?)
}

/// Reports whether a path exists and can be inspected.
#[track_caller]
pub fn exists(path: impl AsRef<Path>) -> bool {
    metadata(path).is_ok()
}

/// Reports whether a path is a regular file, following links.
#[track_caller]
pub fn is_file(path: impl AsRef<Path>) -> bool {
    metadata(path).is_ok_and(|found| found.is_file())
}

/// Reports whether a path is a directory, following links.
#[track_caller]
pub fn is_dir(path: impl AsRef<Path>) -> bool {
    metadata(path).is_ok_and(|found| found.is_dir())
}

/// Returns a command for a program, found by its path or in `PATH`. It must be waited for while the pass exists: files
/// that it reads and programs that it starts must be the container's, too.
pub fn command(_pass: &Pass, program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn a_socket_is_reached_after_its_path_has_changed() {
        let directory = tempfile::tempdir().unwrap();
        let (here, there) = (directory.path().join("here"), directory.path().join("there"));
        fs::create_dir(&here).unwrap();
        let own = UnixListener::bind(here.join("agent")).unwrap();
        let socket = open_flags(here.join("agent"), OFlags::PATH).unwrap();
        fs::rename(&here, &there).unwrap();
        fs::create_dir(&here).unwrap();
        let other = UnixListener::bind(here.join("agent")).unwrap();
        let (accepted, connected) = tokio::join!(own.accept(), connect(socket.as_fd()));
        accepted.unwrap();
        connected.unwrap();
        drop((own, other));
        assert!(connect(socket.as_fd()).await.is_err(), "it has no listener any more");
    }
}
