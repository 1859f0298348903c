//! Retries requests, waits between attempts, and stops on a signal.
//!
//! Every request runs inside [`run`]. The error knows whether another attempt may help ([`Transient`]). Nothing inside
//! an attempt retries by itself, so that attempts do not multiply.

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::diag::interrupt::{self, Interrupted};

/// The interval at which signals are checked.
const INTERRUPT_POLL: Duration = Duration::from_millis(100);

/// The number of attempts of a request, and the pauses between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in total, the first included.
    pub attempts: u32,
    /// The pause after the first attempt; it doubles each time.
    pub first_pause: Duration,
    /// The longest pause, even if the server asks for a longer one.
    pub longest_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 5, first_pause: Duration::from_millis(500), longest_pause: Duration::from_secs(60) }
    }
}

impl RetryPolicy {
    /// Returns the pause after attempt number `attempt` (from 1), if the server asked for `asked`.
    fn pause(&self, attempt: u32, asked: Option<Duration>) -> Duration {
        if let Some(asked) = asked {
            return asked.min(self.longest_pause);
        }
        let doubled = self.first_pause.saturating_mul(1_u32 << (attempt - 1).min(16)).min(self.longest_pause);
        // Pods that failed at the same moment should not retry at the same moment: up to a quarter less.
        let random = u32::try_from(RandomState::new().hash_one(attempt) % 256).unwrap_or(0);
        doubled - doubled / 1024 * random
    }
}

/// An error that knows whether it is temporary.
pub trait Transient: fmt::Display + From<Interrupted> {
    /// Returns `Some` if the same request may succeed soon, with the delay that the server asked for.
    fn transient(&self) -> Option<Option<Duration>>;
}

/// Runs `attempt` until it succeeds, fails permanently, or all attempts are used.
///
/// # Errors
/// The last attempt's error, or [`Interrupted`].
pub async fn run<T, E, A, F>(policy: &RetryPolicy, operation: &str, mut attempt: A) -> Result<T, E>
where
    E: Transient,
    A: FnMut() -> F,
    F: Future<Output = Result<T, E>>,
{
    let mut number = 1;
    loop {
        let error = match interruptible(operation, interrupt::requested, attempt()).await? {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let Some(asked) = error.transient().filter(|_| number < policy.attempts) else {
            return Err(error);
        };
        let pause = policy.pause(number, asked);
        tracing::warn!(
            attempt = number,
            attempts = policy.attempts,
            pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            "{error}; trying again"
        );
        interruptible(operation, interrupt::requested, tokio::time::sleep(pause)).await?;
        number += 1;
    }
}

/// Waits for `future` or a signal.
async fn interruptible<F: Future>(
    operation: &str,
    requested: impl Fn() -> Option<i32>,
    future: F,
) -> Result<F::Output, Interrupted> {
    let mut future = std::pin::pin!(future);
    loop {
        if let Some(signal) = requested() {
            tracing::debug!("{operation}: interrupted by signal {signal}");
            return Err(Interrupted { signal });
        }
        match tokio::time::timeout(INTERRUPT_POLL, future.as_mut()).await {
            Ok(output) => return Ok(output),
            Err(_elapsed) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A status of a server's response.
    #[derive(Debug, PartialEq, Eq, thiserror::Error)]
    enum Answer {
        #[error("{0}")]
        Status(u16),
        #[error(transparent)]
        Interrupted(#[from] Interrupted),
    }

    impl Transient for Answer {
        fn transient(&self) -> Option<Option<Duration>> {
            matches!(self, Self::Status(429 | 500..)).then_some(None)
        }
    }

    fn policy() -> RetryPolicy {
        RetryPolicy { attempts: 3, first_pause: Duration::from_millis(1), longest_pause: Duration::from_millis(8) }
    }

    async fn attempts_until(code: u16, succeed_at: u32) -> (u32, Result<(), Answer>) {
        let count = AtomicU32::new(0);
        let result = run(&policy(), "test", || async {
            if count.fetch_add(1, Ordering::Relaxed) + 1 >= succeed_at { Ok(()) } else { Err(Answer::Status(code)) }
        })
        .await;
        (count.into_inner(), result)
    }

    #[tokio::test]
    async fn only_transient_errors_are_repeated_and_not_for_ever() {
        assert!(matches!(attempts_until(503, 3).await, (3, Ok(()))));
        assert!(matches!(attempts_until(429, 2).await, (2, Ok(()))));
        assert!(matches!(attempts_until(500, 9).await, (3, Err(_))));
        assert!(matches!(attempts_until(404, 9).await, (1, Err(_))));
    }

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let policy = RetryPolicy::default();
        assert!(policy.pause(1, None) <= policy.first_pause);
        assert!(policy.pause(3, None) > policy.first_pause);
        assert_eq!(policy.pause(1, Some(Duration::from_secs(2))), Duration::from_secs(2));
        assert_eq!(policy.pause(1, Some(Duration::from_secs(9999))), policy.longest_pause);
        assert!(policy.pause(60, None) <= policy.longest_pause);
    }

    #[tokio::test]
    async fn a_signal_ends_a_wait_soon() {
        let polls = AtomicU32::new(0);
        let signal = || (polls.fetch_add(1, Ordering::Relaxed) > 1).then_some(15);
        let started = std::time::Instant::now();
        let result = interruptible("pull", signal, std::future::pending::<()>()).await;
        assert!(matches!(result, Err(Interrupted { signal: 15 })));
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
