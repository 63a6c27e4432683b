//! Words as people write them, told from random letters by their spelling.

/// The longest part of a word that is made of letters.
const MAX_LETTERS: usize = 20;
/// From this length on, each pair of letters must occur in words.
const MIN_JUDGED_LETTERS: usize = 5;
/// No word has a longer run of consonants.
const MAX_CONSONANTS: usize = 5;
/// Digits that stand alone: longer numbers are ids.
const MAX_DIGITS: usize = 12;
/// A short mixture of lower-case letters and digits is a name: `p2p`, `x86a`.
const MAX_MIXTURE: usize = 5;
/// Digits after letters, and letters after digits: `resnet50`, `step10000`, `7b`.
const MAX_JOINED_DIGITS: usize = 5;
const MAX_UNIT_LETTERS: usize = 4;
/// Words joined in one; more are likely a pass phrase.
pub(super) const MAX_JOINED: usize = 3;
/// The same in the name of a file.
pub(super) const MAX_JOINED_IN_PATH: usize = 10;

/// The letters that follow each letter in words, `a` first.
const FOLLOWERS: [&str; 26] = [
    "bcdefghiklmnprstuvwxyz",
    "abceijlorstuy",
    "acdehiklorstuvy",
    "abcdefghijlmnoprstuvwy",
    "abcdefghiklmnopqrstuvwxyz",
    "abcefiloprstu",
    "adeghilmnorstuy",
    "acdeimnopqrtuwy",
    "abcdefghklmnopqrstuvxz",
    "aeopsui",
    "aefgilmnostwy",
    "abcdefgikmnloprstuvyw",
    "abdegilmnopstuy",
    "abcdefghiklmnoprstuvyzx",
    "abcdefghijklmnoprstuvwxyz",
    "acdeghiklmnoprstuy",
    "us",
    "abcdefgiklmnoprstuvwy",
    "acdefghiklmnopqrstuvwy",
    "abcdefghilmnoprstuvwxy",
    "abcdefgijklmnoprstux",
    "aeilmo",
    "aeghinors",
    "acegimprty",
    "abcdeglmnoprst",
    "aeioyz",
];

pub(super) fn is_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"._-".contains(&b)
}

/// Returns whether a text consists of at most `most` words, and of short numbers, with marks between them.
pub(super) fn is_words(text: &str, most: usize) -> bool {
    !text.is_empty()
        && !has_key_prefix(text)
        && text.bytes().all(is_name_byte)
        && parts(text, &['.', '_', '-']).filter(|part| part.bytes().any(|b| b.is_ascii_alphabetic())).count()
            <= most
        && parts(text, &['.', '_', '-']).all(is_word)
}

/// Splits a text at any of the marks, without empty parts.
pub(super) fn parts<'a>(text: &'a str, marks: &'static [char]) -> impl Iterator<Item = &'a str> {
    text.split(marks).filter(|part| !part.is_empty())
}

/// Returns whether a text is one word as people write it, perhaps with a number: `bert`, `ResNet50`, `7b`, `20260101`.
pub(super) fn is_word(part: &str) -> bool {
    let letters_before = part.bytes().take_while(u8::is_ascii_alphabetic).count();
    let (letters, rest) = part.split_at(letters_before);
    if rest.is_empty() {
        return are_letters_of_a_word(letters);
    }
    let digits_behind = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = rest.split_at(digits_behind);
    if digits.is_empty() || !unit.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return false;
    }
    let is_small = part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if letters.is_empty() && unit.is_empty() {
        return digits.len() <= MAX_DIGITS;
    }
    if unit.is_empty() {
        return digits.len() <= MAX_JOINED_DIGITS && are_letters_of_a_word(letters);
    }
    let is_unit = unit.len() <= MAX_UNIT_LETTERS && unit.bytes().all(|b| b.is_ascii_alphabetic());
    letters.is_empty() && is_unit && digits.len() <= MAX_JOINED_DIGITS
        || is_small && part.len() <= MAX_MIXTURE
}

fn are_letters_of_a_word(letters: &str) -> bool {
    if letters.len() > MAX_LETTERS {
        return false;
    }
    humps(letters).iter().all(|hump| is_like_a_word(hump))
}

/// Splits `AdamWeightDecay` into its three words, and `BERTModel` into two.
fn humps(letters: &str) -> Vec<String> {
    let bytes = letters.as_bytes();
    let (mut humps, mut begun) = (vec![], 0);
    for at in 1..bytes.len() {
        let (before, here) = (bytes[at - 1], bytes[at]);
        let is_next_small = bytes.get(at + 1).is_some_and(u8::is_ascii_lowercase);
        let is_begin = here.is_ascii_uppercase() && (before.is_ascii_lowercase() || is_next_small);
        if is_begin {
            humps.push(letters[begun..at].to_ascii_lowercase());
            begun = at;
        }
    }
    humps.push(letters[begun..].to_ascii_lowercase());
    // No word changes its case so often.
    if humps.len() > 4 || humps.len() > 1 && humps.iter().filter(|hump| hump.len() < 2).count() > 1 {
        return vec!["qxzqxz".to_owned()];
    }
    humps
}

fn is_like_a_word(word: &str) -> bool {
    if word.len() < MIN_JUDGED_LETTERS {
        return true;
    }
    let is_vowel = |b: u8| b"aeiouy".contains(&b);
    let vowels = word.bytes().filter(|b| is_vowel(*b)).count();
    let longest = word.split(|c: char| c.is_ascii() && is_vowel(c as u8)).map(str::len).max().unwrap_or(0);
    let odd = word.as_bytes().windows(2).filter(|pair| !follows(pair[0], pair[1])).count();
    // Words that are joined may meet in a pair that no word has.
    let is_odd = odd > 1 || odd == 1 && word.len() >= 8 && vowels * 4 < word.len();
    vowels * 5 >= word.len() && longest <= MAX_CONSONANTS && !is_odd
}

fn follows(first: u8, second: u8) -> bool {
    let followers = usize::from(first.wrapping_sub(b'a'));
    first == second || FOLLOWERS.get(followers).is_some_and(|all| all.as_bytes().contains(&second))
}

/// Returns whether a word begins like the keys of a well-known service.
pub(super) fn has_key_prefix(word: &str) -> bool {
    const PREFIXES: [&str; 20] = [
        "sk-",
        "pk-",
        "rk-",
        "sk_",
        "ghp_",
        "gho_",
        "ghs_",
        "ghu_",
        "github_pat_",
        "glpat-",
        "hf_",
        "xoxb-",
        "xoxp-",
        "AKIA",
        "ASIA",
        "AIza",
        "eyJ",
        "ya29.",
        "npm_",
        "dapi",
    ];
    PREFIXES.iter().any(|prefix| word.starts_with(prefix) && word.len() >= prefix.len() + 4)
}
