//! The gate in front of the container's own files.
//!
//! own-root puts an image's files in place of the container's while a command runs. A path such as `/root/.aws/config`
//! then leads to the image's file, and a program found by `PATH` is the image's: if this process read or started it,
//! the image would choose the credentials, or run a program with an environment full of them (the class of
//! CVE-2019-14271 and CVE-2026-41567). So all code in this program that follows a path goes through [`super::gated`],
//! which holds a [`Pass`] meanwhile; libraries that open files by themselves are called with one. own-root shuts the
//! gate before it changes `/`: it waits until no pass is out, and new passes then wait until the container's files are
//! back.
//!
//! Files below a directory that stays in place ([`stays`]: the work directory) are always accessible, so that layers
//! are written and uploaded while a command runs.
//!
//! A second pass may be requested while one is held, by the same thread or by one that it waits for: while one is out,
//! the gate is open. Network tasks wait with [`passed`], which blocks no thread. They do not hold a pass while they
//! wait for a server, so that they never delay a command for long; the exception is a library that does both at once.

use std::io;
use std::panic::Location;
use std::path::{Component, Path, PathBuf};
use std::thread::{self, ThreadId};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, RwLock};
use tokio::sync::Notify;

/// After this time, the log names the passes that keep the gate from being shut.
const LONG: Duration = Duration::from_secs(10);

static GATE: Gate = Gate::new();

/// Directories whose files stay in place during an exchange.
static STAYING: RwLock<Vec<PathBuf>> = RwLock::new(Vec::new());

/// The files that paths lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Paths {
    /// The container's own.
    Own,
    /// An image's. Only the thread of this sandbox follows paths.
    Exchanged(ThreadId),
    /// An image's for good: the container's files could not be restored.
    Lost,
}

#[derive(Debug)]
struct State {
    paths: Paths,
    /// The code locations that requested the passes that are out.
    out: Vec<&'static Location<'static>>,
}

#[derive(Debug)]
struct Gate {
    state: Mutex<State>,
    /// For threads: the gate was opened, or the last pass was returned.
    changed: Condvar,
    /// For tasks: the gate was opened.
    opened: Notify,
}

/// While it exists, paths lead to the container's own files.
#[must_use = "paths lead to the container's own files only as long as the pass lives"]
#[derive(Debug)]
pub struct Pass {
    gate: &'static Gate,
    asked: &'static Location<'static>,
}

/// A shut gate. Only [`Shut::open`] opens it again: after an error or a panic in between, no path is followed any more.
#[must_use = "the gate stays shut until it is opened"]
#[derive(Debug)]
pub struct Shut {
    gate: &'static Gate,
    opened: bool,
}

/// Waits until paths lead to the container's own files, and keeps them in place. For threads; a task uses [`passed`].
///
/// # Errors
/// The files could not be restored.
#[track_caller]
pub fn pass() -> io::Result<Pass> {
    GATE.pass()
}

/// Does the same as [`pass`] for a network task, without blocking its thread.
///
/// # Errors
/// The files could not be restored.
#[track_caller]
pub fn passed() -> impl Future<Output = io::Result<Pass>> + Send {
    GATE.passed(Location::caller())
}

/// Calls [`passed`] if `path` needs a pass.
///
/// # Errors
/// The files could not be restored.
pub async fn passed_for(path: &Path) -> io::Result<Option<Pass>> {
    if is_in_place(path) { Ok(None) } else { passed().await.map(Some) }
}

/// Calls [`pass`] if `path` needs a pass.
#[track_caller]
pub(super) fn pass_for(path: &Path) -> io::Result<Option<Pass>> {
    if is_in_place(path) { Ok(None) } else { pass().map(Some) }
}

/// Waits until no pass is out, and shuts the gate, for a sandbox that exchanges the container's files. The thread that
/// shut the gate may follow paths.
///
/// # Errors
/// The files could not be restored after an earlier command.
pub fn shut() -> io::Result<Shut> {
    GATE.shut()
}

/// Declares that the files below `directory` stay in place when a sandbox exchanges the container's files. The path
/// must be absolute, without symbolic links.
pub fn stays(directory: &Path) {
    // The root directory must not open the whole gate.
    if directory.parent().is_none() {
        return;
    }
    let mut staying = STAYING.write();
    if !staying.iter().any(|known| known == directory) {
        staying.push(directory.to_owned());
    }
}

fn is_in_place(path: &Path) -> bool {
    let staying = STAYING.read();
    staying.iter().any(|directory| path.starts_with(directory))
        && !path.components().any(|component| component == Component::ParentDir)
}

fn lost() -> io::Error {
    io::Error::other("the container's files could not be restored after a command: paths lead to an image's files")
}

impl Gate {
    const fn new() -> Self {
        Self {
            state: Mutex::new(State { paths: Paths::Own, out: Vec::new() }),
            changed: Condvar::new(),
            opened: Notify::const_new(),
        }
    }

    #[track_caller]
    fn pass(&'static self) -> io::Result<Pass> {
        let asked = Location::caller();
        let mut state = self.state.lock();
        loop {
            match state.paths {
                Paths::Own => return Ok(self.let_in(&mut state, asked)),
                Paths::Exchanged(thread) if thread == thread::current().id() => {
                    return Ok(self.let_in(&mut state, asked));
                }
                Paths::Lost => return Err(lost()),
                Paths::Exchanged(_) => self.changed.wait(&mut state),
            }
        }
    }

    async fn passed(&'static self, asked: &'static Location<'static>) -> io::Result<Pass> {
        loop {
            // Registered before the check, because the gate may be opened in between.
            let mut opened = std::pin::pin!(self.opened.notified());
            opened.as_mut().enable();
            {
                let mut state = self.state.lock();
                match state.paths {
                    Paths::Own => return Ok(self.let_in(&mut state, asked)),
                    Paths::Lost => return Err(lost()),
                    Paths::Exchanged(_) => {}
                }
            }
            opened.await;
        }
    }

    fn let_in(&'static self, state: &mut State, asked: &'static Location<'static>) -> Pass {
        state.out.push(asked);
        Pass { gate: self, asked }
    }

    fn shut(&'static self) -> io::Result<Shut> {
        let mut state = self.state.lock();
        loop {
            match state.paths {
                Paths::Own if state.out.is_empty() => {
                    state.paths = Paths::Exchanged(thread::current().id());
                    return Ok(Shut { gate: self, opened: false });
                }
                Paths::Lost => return Err(lost()),
                Paths::Own | Paths::Exchanged(_) => {}
            }
            if self.changed.wait_for(&mut state, LONG).timed_out() && !state.out.is_empty() {
                let places: Vec<String> = state.out.iter().map(ToString::to_string).collect();
                tracing::debug!("gate: a command waits for passes that were requested at {}", places.join(", "));
            }
        }
    }

    fn turn(&self, paths: Paths) {
        self.state.lock().paths = paths;
        self.changed.notify_all();
        self.opened.notify_waiters();
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut state = self.gate.state.lock();
        if let Some(position) = state.out.iter().position(|asked| std::ptr::eq(*asked, self.asked)) {
            state.out.swap_remove(position);
        }
        let last = state.out.is_empty();
        drop(state);
        if last {
            self.gate.changed.notify_all();
        }
    }
}

impl Shut {
    /// Opens the gate: the container's own files are back.
    pub fn open(mut self) {
        self.opened = true;
        self.gate.turn(Paths::Own);
    }
}

impl Drop for Shut {
    fn drop(&mut self) {
        if !self.opened {
            self.gate.turn(Paths::Lost);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;

    use super::*;

    /// Returns a gate for one test: all tests share that of the process.
    fn gate() -> &'static Gate {
        Box::leak(Box::new(Gate::new()))
    }

    #[test]
    fn no_pass_is_out_while_the_gate_is_shut() {
        let gate = gate();
        let (inside, most) = (AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let _pass = gate.pass().unwrap();
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
            for _ in 0..200 {
                let shut = gate.shut().unwrap();
                assert_eq!(inside.load(Ordering::SeqCst), 0);
                thread::yield_now();
                assert_eq!(inside.load(Ordering::SeqCst), 0);
                shut.open();
            }
        });
        assert!(most.into_inner() > 0);
    }

    #[test]
    fn a_holder_gets_a_second_pass_while_a_sandbox_waits() {
        let gate = gate();
        let outer = gate.pass().unwrap();
        let (told, waiting) = mpsc::channel();
        let sandbox = thread::spawn(move || {
            told.send(()).unwrap();
            gate.shut().unwrap().open();
        });
        waiting.recv().unwrap();
        for _ in 0..1000 {
            drop(gate.pass().unwrap());
            thread::yield_now();
        }
        assert!(!sandbox.is_finished());
        drop(outer);
        sandbox.join().unwrap();
    }

    #[test]
    fn the_thread_that_shut_the_gate_follows_paths() {
        let gate = gate();
        let shut = gate.shut().unwrap();
        drop(gate.pass().unwrap());
        let other = thread::spawn(|| drop(gate.pass().unwrap()));
        thread::yield_now();
        assert!(!other.is_finished());
        shut.open();
        other.join().unwrap();
    }

    #[tokio::test]
    async fn a_task_waits_without_its_thread() {
        let gate = gate();
        let shut = gate.shut().unwrap();
        let waiting = tokio::spawn(gate.passed(Location::caller()));
        tokio::task::yield_now().await;
        // This thread is the only one, and free.
        assert!(!waiting.is_finished());
        shut.open();
        drop(waiting.await.unwrap().unwrap());
        drop(gate.shut().unwrap());
    }

    #[tokio::test]
    async fn a_cancelled_wait_leaves_no_pass() {
        let gate = gate();
        let shut = gate.shut().unwrap();
        let waiting = tokio::spawn(gate.passed(Location::caller()));
        tokio::task::yield_now().await;
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        shut.open();
        gate.shut().unwrap().open();
    }

    #[tokio::test]
    async fn no_path_is_followed_after_a_failed_restore() {
        let gate = gate();
        let shut = gate.shut().unwrap();
        let (thread, task) = (thread::spawn(|| gate.pass().err()), tokio::spawn(gate.passed(Location::caller())));
        tokio::task::yield_now().await;
        drop(shut);
        assert!(thread.join().unwrap().unwrap().to_string().contains("restored"));
        assert!(task.await.unwrap().is_err());
        assert!(gate.shut().is_err());
    }

    #[test]
    fn directories_in_place_are_recognized_by_path() {
        stays(Path::new("/gate-test/work"));
        for path in ["/gate-test/work", "/gate-test/work/build-1/layer-0", "/gate-test/work/./x"] {
            assert!(is_in_place(Path::new(path)), "{path}");
        }
        for path in ["/gate-test/workshop", "/gate-test/work/../etc/passwd", "gate-test/work/x", "/", "/etc/hosts"] {
            assert!(!is_in_place(Path::new(path)), "{path}");
        }
    }
}
