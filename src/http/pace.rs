//! Limits how slowly a body may arrive.
//!
//! A limit for pauses alone would accept a byte a minute, for years. So a server must also reach a minimum rate: low
//! enough for the slowest real connection, measured over minutes, and only while we wait for the server, not it for us.

use std::time::{Duration, Instant};

/// The minimum rate of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The time over which the rate is measured.
    pub window: Duration,
    /// The bytes that must arrive in that time.
    pub least: u64,
}

impl Default for Pace {
    /// A kibibyte a second, over five minutes.
    fn default() -> Self {
        Self { window: Duration::from_secs(300), least: 300 << 10 }
    }
}

/// The measurement of one body.
#[derive(Debug)]
pub struct Flow {
    pace: Pace,
    waited: Duration,
    came: u64,
}

impl Flow {
    /// Starts measuring a body against `pace`.
    pub fn new(pace: Pace) -> Self {
        Self { pace, waited: Duration::ZERO, came: 0 }
    }

    /// Counts a chunk of `bytes` that was waited for since `asked`. Returns false if the body is too slow.
    pub fn keeps_pace(&mut self, asked: Instant, bytes: usize) -> bool {
        self.add(asked.elapsed(), bytes as u64)
    }

    fn add(&mut self, waited: Duration, bytes: u64) -> bool {
        self.waited += waited;
        self.came += bytes;
        if self.waited < self.pace.window {
            return true;
        }
        let enough = self.came >= self.pace.least;
        (self.waited, self.came) = (Duration::ZERO, 0);
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn slow_connections_pass_and_trickles_do_not() {
        let mut line = Flow::new(Pace::default());
        assert!((0..600).all(|_| line.add(Duration::from_secs(1), 2 << 10)), "a modem");
        let mut drip = Flow::new(Pace::default());
        let pieces = (0..).take_while(|_| drip.add(MINUTE - Duration::from_secs(1), 1)).count();
        assert_eq!(pieces, 5, "the sixth is beyond the window");
    }

    #[test]
    fn a_pause_in_a_fast_body_passes() {
        let mut flow = Flow::new(Pace::default());
        assert!(flow.add(Duration::from_secs(1), 1 << 20));
        assert!((0..5).all(|_| flow.add(MINUTE, 0)), "what came before it counts");
        assert!(!(0..6).all(|_| flow.add(MINUTE, 0)));
    }
}
