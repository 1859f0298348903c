//! Turns SIGTERM and SIGINT into a state that long waits check.
//!
//! The signal handler itself does nothing else: the build unwinds as for any other error, so that the sandbox ends its
//! processes, own-root restores the root directory, and a push stops before the manifest is sent. That takes as long as
//! the slowest step between two checks. A second signal ends the process without unwinding. It also waits while
//! own-root has `/` swapped, see [`hold`]: a container with the image's files in its root directory is useless.
//!
//! A signal within [`SAME_REQUEST`] of the first does not count as the second: timeout(1) signals the process and then
//! its group, and with Ctrl-C a process gets the terminal's signal and the one of its parent program.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use rustix::pipe::{PipeFlags, pipe_with};
use signal_hook::consts::{SIGINT, SIGTERM};

static SIGNAL: OnceLock<Arc<AtomicUsize>> = OnceLock::new();
static WAKE: OnceLock<OwnedFd> = OnceLock::new();
/// Locked by code that must not be interrupted, and by the thread that ends the process.
static HELD: Mutex<()> = Mutex::new(());

/// The time after the first signal in which further signals mean the same request.
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// A guard that keeps the process alive through a second signal.
#[must_use = "the hold ends where it is dropped"]
#[derive(Debug)]
pub struct Hold {
    _guard: MutexGuard<'static, ()>,
}

/// Starts watching for SIGTERM and SIGINT.
///
/// # Errors
/// The pipe or the handlers could not be created.
pub fn install() -> io::Result<()> {
    let signal = Arc::clone(SIGNAL.get_or_init(Default::default));
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    if WAKE.set(reader).is_err() {
        return Ok(());
    }
    for number in [SIGTERM, SIGINT] {
        signal_hook::flag::register_usize(number, Arc::clone(&signal), usize::try_from(number).unwrap_or(0))?;
        signal_hook::low_level::pipe::register(number, writer.try_clone()?)?;
    }
    Ok(())
}

/// Makes a second signal, [`SAME_REQUEST`] or more after the first, end the process at once, with the exit code of the
/// first. Starts a thread, so it is not part of [`install`].
///
/// # Errors
/// The pipe, the handlers or the thread could not be created.
pub fn end_at_second_signal() -> io::Result<()> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    for number in [SIGTERM, SIGINT] {
        signal_hook::low_level::pipe::register(number, writer.try_clone()?)?;
    }
    let mut signals = std::fs::File::from(reader);
    std::thread::Builder::new().name("second-signal".to_owned()).spawn(move || {
        if let Err(error) = wait_for_second(&mut signals) {
            return tracing::debug!("a second signal will not end the build at once: {error}");
        }
        let _nobody_holds = hold();
        signal_hook::low_level::exit(128 + requested().unwrap_or(SIGTERM));
    })?;
    Ok(())
}

/// Returns after two signals, each a byte, that are not the same request.
fn wait_for_second(signals: &mut impl io::Read) -> io::Result<()> {
    let mut signal = [0];
    signals.read_exact(&mut signal)?;
    let first = Instant::now();
    loop {
        signals.read_exact(&mut signal)?;
        if first.elapsed() >= SAME_REQUEST {
            return Ok(());
        }
    }
}

/// Prevents a second signal from ending the process until the result is dropped, for the few moments in which that
/// would leave more than files in the work directory. Only one guard exists at a time: a second caller waits.
pub fn hold() -> Hold {
    Hold { _guard: HELD.lock() }
}

/// Returns the signal that requested a stop, if one did.
pub fn requested() -> Option<i32> {
    let signal = SIGNAL.get()?.load(Ordering::Relaxed);
    i32::try_from(signal).ok().filter(|number| *number != 0)
}

/// The error after a request to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted by signal {signal}")]
pub struct Interrupted {
    /// The signal's number.
    pub signal: i32,
}

/// For readers and writers. Not `ErrorKind::Interrupted`, on which copy loops retry.
impl From<Interrupted> for io::Error {
    fn from(interrupted: Interrupted) -> Self {
        Self::other(interrupted)
    }
}

/// Ends a long loop after a request to stop.
///
/// # Errors
/// A stop was requested.
pub fn check() -> Result<(), Interrupted> {
    match requested() {
        Some(signal) => Err(Interrupted { signal }),
        None => Ok(()),
    }
}

/// Returns a descriptor that becomes readable with a request to stop; to be polled, never read. `None` before
/// [`install`].
pub fn wake_fd() -> Option<BorrowedFd<'static>> {
    WAKE.get().map(AsFd::as_fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Signals after these pauses.
    struct Signals(std::vec::IntoIter<Duration>);

    impl io::Read for Signals {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some(pause) = self.0.next() else { return Ok(0) };
            std::thread::sleep(pause);
            buffer[0] = b'X';
            Ok(1)
        }
    }

    #[test]
    fn simultaneous_signals_are_one_request() {
        let now = Duration::ZERO;
        assert!(wait_for_second(&mut Signals(vec![now, now, now].into_iter())).is_err());
        assert!(wait_for_second(&mut Signals(vec![now, now, SAME_REQUEST].into_iter())).is_ok());
    }
}
