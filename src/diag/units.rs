//! Formats sizes and durations for users.

use std::fmt;
use std::time::Duration;

/// A number of bytes, shown in decimal units.
#[derive(Debug, Clone, Copy)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
        for (size, unit) in UNITS {
            if self.0 >= size {
                return write!(f, "{}.{} {unit}", self.0 / size, self.0 % size / (size / 10));
            }
        }
        write!(f, "{} B", self.0)
    }
}

/// A duration, shown in seconds with one decimal.
#[derive(Debug, Clone, Copy)]
pub struct Seconds(pub Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}s", self.0.as_secs(), self.0.subsec_millis() / 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!(Bytes(999).to_string(), "999 B");
        assert_eq!(Bytes(1_000).to_string(), "1.0 kB");
        assert_eq!(Bytes(12_345_678).to_string(), "12.3 MB");
        assert_eq!(Bytes(1_234_567_890).to_string(), "1.2 GB");
        assert_eq!(Seconds(Duration::from_millis(1234)).to_string(), "1.2s");
    }
}
