//! Time and randomness as values that are passed in, so that a test can choose both.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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

impl Environment for SystemEnvironment {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(Utc::now().timestamp_millis())
    }

    fn random16(&self) -> [u8; 16] {
        let mut bytes = [0u8; 16];
        getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
        bytes
    }
}

/// A shared [`Environment`].
pub type Env = Arc<dyn Environment>;

/// The real environment, shared.
pub fn system() -> Env {
    Arc::new(SystemEnvironment)
}
