//! Formats times of image configurations and annotations (RFC 3339, UTC, whole seconds).

use time::OffsetDateTime;

/// Seconds of the years 1 to 9999: RFC 3339 has four digits for the year.
const REPRESENTABLE: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// Returns `seconds` since 1970-01-01T00:00:00Z as `YYYY-MM-DDThh:mm:ssZ`. Times outside of the years 1 to 9999 are
/// clamped.
pub fn rfc3339(seconds: i64) -> String {
    let seconds = seconds.clamp(*REPRESENTABLE.start(), *REPRESENTABLE.end());
    // Cannot fail, because the library supports more years.
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let ((year, month, day), (hour, minute, second)) = (time.to_calendar_date(), time.to_hms());
    format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z", u8::from(month))
}

/// Why a text is not a valid `SOURCE_DATE_EPOCH`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EpochError {
    /// It is not a number.
    #[error("expected the seconds since 1970-01-01T00:00:00Z as a whole number")]
    NotNumber(#[source] std::num::ParseIntError),
    /// It is out of range.
    #[error("it is not within the years 1 to 9999")]
    OutOfRange,
}

/// Parses a value of `SOURCE_DATE_EPOCH`.
///
/// # Errors
/// The text is not a number of seconds that an image's configuration can represent.
pub fn parse_epoch(text: &str) -> Result<i64, EpochError> {
    let seconds = text.parse().map_err(EpochError::NotNumber)?;
    if REPRESENTABLE.contains(&seconds) { Ok(seconds) } else { Err(EpochError::OutOfRange) }
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn known_moments() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
            (-62_135_596_800, "0001-01-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
            (i64::MIN, "0001-01-01T00:00:00Z"),
            (i64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }
}
