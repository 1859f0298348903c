//! The gate before the container's own files.
//!
//! own-root puts an image's files in the place of the container's while a command runs. A path such as `/root/.aws/config` then leads to what
//! the image has there, and a program found by `PATH` is the image's: read or started by this process, it would choose the credentials
//! that are used, or run with an environment full of them (the class of CVE-2019-14271 and CVE-2026-41567). So everything in this
//! program that goes by a path goes through [`super::gated`], which has a [`Pass`] for that moment; libraries that open files by
//! themselves are called with one. own-root shuts the gate before it touches `/`, which waits until no pass is out; who
//! wants one then waits until the container's files are back.
//!
//! Files below a directory that stays in place ([`stays`]: the work directory) are reached at any time, so that layers are written
//! and uploaded while a command runs.
//!
//! A pass may be asked for while another is held, by the same thread or by one that it waits for: as long as one is out the gate is
//! open to everybody. Tasks of the network wait with [`passed`], which holds up no thread; so that they never hold up a command
//! for long, a pass is not kept while a server is waited for, except where a library does both at once.

use std::io;
use std::panic::Location;
use std::path::{Component, Path, PathBuf};
use std::thread::{self, ThreadId};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, RwLock};
use tokio::sync::Notify;

/// After this time it is said who keeps the gate from being shut.
const LONG: Duration = Duration::from_secs(10);

static GATE: Gate = Gate::new();

/// Directories whose files stay where they are whatever a sandbox does.
static STAYING: RwLock<Vec<PathBuf>> = RwLock::new(Vec::new());

/// Whether paths lead to the container's own files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Paths {
    /// They do.
    Own,
    /// Not now. The sandbox that this thread runs knows where they lead.
    Exchanged(ThreadId),
    /// Not any more: the files could not be given back.
    Lost,
}

#[derive(Debug)]
struct State {
    paths: Paths,
    /// Where the passes that are out were asked for.
    out: Vec<&'static Location<'static>>,
}

#[derive(Debug)]
struct Gate {
    state: Mutex<State>,
    /// For threads: the gate was opened, or the last pass came back.
    changed: Condvar,
    /// For tasks: the gate was opened.
    opened: Notify,
}

/// As long as it lives, paths lead to the container's own files.
#[must_use = "paths lead to the container's own files only as long as the pass lives"]
#[derive(Debug)]
pub struct Pass {
    gate: &'static Gate,
    asked: &'static Location<'static>,
}

/// The gate, shut. Only [`Shut::open`] opens it again: after an error or a panic in between, paths lead nowhere.
#[must_use = "the gate stays shut until it is opened"]
#[derive(Debug)]
pub struct Shut {
    gate: &'static Gate,
    opened: bool,
}

/// Waits until paths lead to the container's own files, and keeps it so. For threads; a task uses [`passed`].
///
/// # Errors
/// The files could not be given back.
#[track_caller]
pub fn pass() -> io::Result<Pass> {
    GATE.pass()
}

/// The same for a task of the network, whose thread does not wait.
///
/// # Errors
/// The files could not be given back.
#[track_caller]
pub fn passed() -> impl Future<Output = io::Result<Pass>> + Send {
    GATE.passed(Location::caller())
}

/// [`passed`], if `path` is one that needs it.
///
/// # Errors
/// The files could not be given back.
pub async fn passed_for(path: &Path) -> io::Result<Option<Pass>> {
    if is_in_place(path) { Ok(None) } else { passed().await.map(Some) }
}

/// [`pass`], if `path` is one that needs it.
#[track_caller]
pub(super) fn pass_for(path: &Path) -> io::Result<Option<Pass>> {
    if is_in_place(path) { Ok(None) } else { pass().map(Some) }
}

/// For a sandbox that is about to put other files in the place of the container's: waits until no pass is out. The thread that has
/// shut the gate goes by paths meanwhile, and knows what it finds there.
///
/// # Errors
/// The files could not be given back an earlier time.
pub fn shut() -> io::Result<Shut> {
    GATE.shut()
}

/// Says that the files below `directory` stay where they are while a sandbox puts others in the place of the container's. It has to
/// be absolute, without symbolic links on the way.
pub fn stays(directory: &Path) {
    // That of the root directory is no way around the gate.
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
    io::Error::other("the container's files could not be given back after a command: paths lead to those of an image")
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
            // Listens before it looks: the gate may be opened in between.
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
                tracing::debug!("a command waits for those who use the container's files: {}", places.join(", "));
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
    /// The container's own files are back.
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

    /// A gate of the test's own: the one of the process is used by all tests at once.
    fn gate() -> &'static Gate {
        Box::leak(Box::new(Gate::new()))
    }

    #[test]
    fn nobody_is_inside_while_it_is_shut() {
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
    fn who_is_inside_may_ask_again_while_a_sandbox_waits() {
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
    fn who_has_shut_it_goes_by_paths() {
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
    async fn a_task_that_no_longer_waits_leaves_no_pass_behind() {
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
    async fn files_that_were_not_given_back_are_nobodys() {
        let gate = gate();
        let shut = gate.shut().unwrap();
        let (thread, task) = (thread::spawn(|| gate.pass().err()), tokio::spawn(gate.passed(Location::caller())));
        tokio::task::yield_now().await;
        drop(shut);
        assert!(thread.join().unwrap().unwrap().to_string().contains("given back"));
        assert!(task.await.unwrap().is_err());
        assert!(gate.shut().is_err());
    }

    #[test]
    fn what_stays_is_known_by_its_path_alone() {
        stays(Path::new("/gate-test/work"));
        for path in ["/gate-test/work", "/gate-test/work/build-1/layer-0", "/gate-test/work/./x"] {
            assert!(is_in_place(Path::new(path)), "{path}");
        }
        for path in ["/gate-test/workshop", "/gate-test/work/../etc/passwd", "gate-test/work/x", "/", "/etc/hosts"] {
            assert!(!is_in_place(Path::new(path)), "{path}");
        }
    }
}
