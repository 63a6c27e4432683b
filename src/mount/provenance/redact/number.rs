//! Numbers, unless they are long enough to be ids.

use super::mask::WordContext;

/// Digits of a number: longer ones are ids, cards, keys.
const MAX_DIGITS: usize = 12;
/// Digits of a number that no name announces.
pub(super) const MAX_SMALL_DIGITS: usize = 3;

/// Returns whether a word is numbers with `:`, `x` or `*` between them: `16:8`, `224x224`.
pub(super) fn is_ratio(word: &str, place: WordContext) -> bool {
    let mut sides = word.split([':', 'x', 'X', '*']);
    word.len() > 1 && sides.all(|side| is_number(side, place) && !side.contains('e') || side.is_empty())
}

/// Returns whether a word is a number, and too short for that of a card or an account.
pub(super) fn is_number(word: &str, place: WordContext) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let plain = word.trim_start_matches(['-', '+']).replace('_', "");
    let is_float = plain.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
    let is_whole = plain.bytes().all(|b| b.is_ascii_digit());
    let most = if place == WordContext::Unknown && is_whole { MAX_SMALL_DIGITS } else { MAX_DIGITS };
    // A program prints `0.30000000000000004`.
    let most = if plain.starts_with("0.") { 2 * MAX_DIGITS } else { most };
    digits > 0 && digits <= most && is_float && plain.parse::<f64>().is_ok()
}
