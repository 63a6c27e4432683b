//! Numbers of JSON compared by their value, however they are spelled and however long they are.

use std::cmp::Ordering;

use serde_json::Number;

/// Larger powers of ten are taken for this one: no text that is kept is so long that its digits could make up for it.
const MAX_POWER: i64 = i64::MAX / 4;

/// Less, equal or greater. Cost: linear in the lengths of the two.
pub(super) fn compare(a: &Number, b: &Number) -> Ordering {
    let (a, b) = (a.to_string(), b.to_string());
    Decimal::of(&a).compare(&Decimal::of(&b))
}

/// `0.DIGITS` times a power of ten; the first digit is not zero, nor the last. Zero has no digits.
struct Decimal {
    is_negative: bool,
    digits: Vec<u8>,
    power: i64,
}

impl Decimal {
    /// Of a number in JSON: `-?INT(.FRACTION)?([eE][+-]?POWER)?`.
    fn of(text: &str) -> Self {
        let (is_negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let is_small = power.starts_with('-');
        let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
        let end = digits.iter().rposition(|digit| *digit != b'0').map_or(zeros, |last| last + 1);
        let power = power.parse::<i64>().unwrap_or(if is_small { -MAX_POWER } else { MAX_POWER });
        let places = whole.len() as i64 - zeros as i64;
        let power = power.clamp(-MAX_POWER, MAX_POWER) + places;
        let digits = digits[zeros..end].to_vec();
        Self { is_negative: is_negative && !digits.is_empty(), digits, power }
    }

    fn compare(&self, other: &Self) -> Ordering {
        let sign = |n: &Self| match (n.digits.is_empty(), n.is_negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        };
        let (own, others) = (sign(self), sign(other));
        if own != others || own == 0 {
            return own.cmp(&others);
        }
        let size = self.power.cmp(&other.power).then_with(|| self.digits.cmp(&other.digits));
        if self.is_negative { size.reverse() } else { size }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_ordered_by_value_whatever_their_length_and_spelling() {
        let rising: [&[&str]; 14] = [
            &["-1e999999999999999999999", "-2e999999999999999999999"],
            &["-123456789012345678902"],
            &["-123456789012345678901"],
            &["-1.5", "-15e-1", "-0.15E+1"],
            &["0", "-0", "0.0", "0e5", "-0.000"],
            &["1e-999999999999999999999"],
            &["1e-3", "0.001", "0.0010"],
            &["0.9", "0.90", "9e-1"],
            &["1", "1.0", "10e-1"],
            &["2.1", "2.10"],
            &["18446744073709551615"],
            &["18446744073709551616", "18446744073709551616.0", "1.8446744073709551616e19"],
            &["123456789012345678901"],
            &["1234e56", "1.234e59", "1234000e53"],
        ];
        let numbers = |texts: &[&str]| -> Vec<Number> {
            texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
        };
        for (i, same) in rising.iter().enumerate() {
            for (j, other) in rising.iter().enumerate() {
                for a in &numbers(same)[..if i == 0 { 1 } else { same.len() }] {
                    for b in &numbers(other)[..if j == 0 { 1 } else { other.len() }] {
                        assert_eq!(compare(a, b), i.cmp(&j), "{a} and {b}");
                    }
                }
            }
        }
    }
}
