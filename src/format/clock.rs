//! Time and randomness as values that are passed in, so that a test can choose both.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The end of the year 9999.
const LAST_UNIX_SECONDS: u64 = 253_402_300_799;

/// An instant in UTC, in whole milliseconds, as its text form has them (`2026-01-02T03:04:05.678Z`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    /// From milliseconds since the Unix epoch; instants beyond chrono's range become the epoch.
    pub fn from_unix_millis(millis: i64) -> Self {
        Self(DateTime::from_timestamp_millis(millis).unwrap_or_default())
    }

    /// Milliseconds since the Unix epoch.
    pub fn unix_millis(&self) -> i64 {
        self.0.timestamp_millis()
    }

    /// The instant a span later.
    pub fn after(self, span: Duration) -> Self {
        Self::from_unix_millis(self.unix_millis().saturating_add(millis(span)))
    }

    /// The instant a span before.
    pub fn before(self, span: Duration) -> Self {
        Self::from_unix_millis(self.unix_millis().saturating_sub(millis(span)))
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl FromStr for Timestamp {
    type Err = chrono::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        DateTime::parse_from_rfc3339(text).map(|t| Self::from_unix_millis(t.timestamp_millis()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Where the library takes the time and its random bytes from.
pub trait Environment: Send + Sync + fmt::Debug {
    /// The wall clock.
    fn now(&self) -> Timestamp;
    /// Sixteen unpredictable bytes, never the same twice.
    fn random16(&self) -> [u8; 16];
    /// A random part of a span, for those who should not all come back at once.
    fn part_of(&self, span: Duration) -> Duration {
        let [low, high, ..] = self.random16();
        span.mul_f64(f64::from(u16::from_le_bytes([low, high])) / f64::from(u16::MAX))
    }
}

/// The machine's clock and the kernel's random numbers.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemEnvironment;

#[expect(clippy::disallowed_methods, reason = "this is the one door to the clock and to randomness")]
impl Environment for SystemEnvironment {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(unix_millis(SystemTime::now()))
    }

    fn random16(&self) -> [u8; 16] {
        let mut bytes = [0u8; 16];
        getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
        bytes
    }
}

fn unix_millis(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => millis(since),
        Err(before) => -millis(before.duration()),
    }
}

/// This machine's clock cannot be worked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClockError {
    /// Libraries rely on times after the Unix epoch.
    #[error("this machine's clock says a time before 1970")]
    BeforeEpoch,
    /// Times are written with years of four digits.
    #[error("this machine's clock says a year after 9999")]
    TooLate,
}

/// Checks that this machine's clock can be worked with.
///
/// # Errors
/// [`ClockError`].
pub fn check(now: SystemTime) -> Result<(), ClockError> {
    match now.duration_since(UNIX_EPOCH) {
        Ok(since) if since <= Duration::from_secs(LAST_UNIX_SECONDS) => Ok(()),
        Ok(_) => Err(ClockError::TooLate),
        Err(_) => Err(ClockError::BeforeEpoch),
    }
}

/// A shared [`Environment`].
pub type Env = Arc<dyn Environment>;

/// The real environment, shared.
pub fn system() -> Env {
    Arc::new(SystemEnvironment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the clock itself is tested")]
    fn a_clock_that_cannot_be_worked_with_is_told_and_read_without_a_panic() {
        let day = Duration::from_secs(86_400);
        assert_eq!(unix_millis(UNIX_EPOCH - day), -86_400_000);
        assert_eq!(check(UNIX_EPOCH - day), Err(ClockError::BeforeEpoch));
        assert!(check(UNIX_EPOCH).is_ok() && check(SystemTime::now()).is_ok());
        assert!(check(UNIX_EPOCH + Duration::from_secs(LAST_UNIX_SECONDS) + day).is_err());
    }
}
