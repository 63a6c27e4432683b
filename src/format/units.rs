//! Spans of time and numbers of bytes as people write them.

use std::time::Duration;

/// A text is not a span of time, or not a number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// It does not have the form of a span.
    #[error("write it as 500ms, 90s, 15m, 12h, 30d or 2w")]
    NotASpan,
    /// The span does not fit in 64 bits of milliseconds.
    #[error("that is too long")]
    TooLong,
    /// It does not have the form of a size.
    #[error("write it as 10G, 512M or a number of bytes")]
    NotASize,
    /// The size does not fit in 64 bits of bytes.
    #[error("that is too much")]
    TooMuch,
}

/// Reads a span of time: `500ms`, `90s`, `15m`, `12h`, `30d`, `2w`; no unit means seconds.
///
/// # Errors
/// [`QuantityError::NotASpan`], [`QuantityError::TooLong`].
pub fn parse_span(text: &str) -> Result<Duration, QuantityError> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let millis = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 7 * 86_400_000,
        _ => return Err(QuantityError::NotASpan),
    };
    let number: u64 = digits.parse().map_err(|_| QuantityError::NotASpan)?;
    number.checked_mul(millis).map(Duration::from_millis).ok_or(QuantityError::TooLong)
}

/// Reads a number of bytes: `10G`, `512M`, `1.5GiB`, `4096`; units are powers of 1024.
///
/// # Errors
/// [`QuantityError::NotASize`], [`QuantityError::TooMuch`].
pub fn parse_size(text: &str) -> Result<u64, QuantityError> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.to_ascii_uppercase();
    let shift = match unit.strip_suffix("IB").or_else(|| unit.strip_suffix('B')).unwrap_or(&unit) {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(QuantityError::NotASize),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << shift).ok_or(QuantityError::TooMuch);
    }
    let number: f64 = number.parse().map_err(|_| QuantityError::NotASize)?;
    Ok((number * (1u64 << shift) as f64) as u64)
}
