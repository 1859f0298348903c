//! How slowly a body may come.
//!
//! A limit of silence alone is met by a byte a minute, for years. A server also has to send something worth waiting for: little
//! enough for the slowest honest line, counted over minutes, and only while we wait for the server and not it for us.

use std::time::{Duration, Instant};

/// The least that has to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How long is waited before what came is looked at.
    pub window: Duration,
    /// Bytes that have to come in that time.
    pub least: u64,
}

impl Default for Pace {
    /// A kibibyte a second, over five minutes.
    fn default() -> Self {
        Self { window: Duration::from_secs(300), least: 300 << 10 }
    }
}

/// One body on its way.
#[derive(Debug)]
pub struct Flow {
    pace: Pace,
    waited: Duration,
    came: u64,
}

impl Flow {
    /// A body that has to keep `pace`.
    pub fn new(pace: Pace) -> Self {
        Self { pace, waited: Duration::ZERO, came: 0 }
    }

    /// Takes account of a piece of `bytes` that has been waited for since `asked`. `false`: the body is too slow.
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
    fn slow_lines_are_waited_for_and_drips_are_not() {
        let mut line = Flow::new(Pace::default());
        assert!((0..600).all(|_| line.add(Duration::from_secs(1), 2 << 10)), "a modem");
        let mut drip = Flow::new(Pace::default());
        let pieces = (0..).take_while(|_| drip.add(MINUTE - Duration::from_secs(1), 1)).count();
        assert_eq!(pieces, 5, "the sixth is beyond the window");
    }

    #[test]
    fn a_pause_among_much_is_fine() {
        let mut flow = Flow::new(Pace::default());
        assert!(flow.add(Duration::from_secs(1), 1 << 20));
        assert!((0..5).all(|_| flow.add(MINUTE, 0)), "what came before it counts");
        assert!(!(0..6).all(|_| flow.add(MINUTE, 0)));
    }
}
