//! The script of a shell as it may be recorded.

use super::form::is_name;
use super::mask::HIDDEN;
use super::naming::{Class, class, is_strong};
use super::words::{Next, WordReader};

/// The most words of a script that are recorded.
const MAX_WORDS: usize = 256;
/// Words that separate the commands of a script.
const SEPARATORS: [&str; 15] =
    ["&&", "||", "|", "&", ";", "{", "}", "(", ")", "!", "do", "done", "then", "fi", "else"];

/// Returns a script as it may be recorded, up to the first command that names a secret.
pub(super) fn script(text: &str) -> String {
    let mut reader = WordReader::default();
    let mut parts: Vec<String> = vec![];
    // Where the current command begins, including all that is piped into it.
    let mut begun = 0;
    let mut quote: Option<char> = None;
    for part in text.split_whitespace().take(MAX_WORDS) {
        if SEPARATORS.contains(&part) && quote.is_none() {
            reader = WordReader::default();
            parts.push(part.to_owned());
            begun = if part == "|" { begun } else { parts.len() };
            continue;
        }
        if names_a_secret(part) {
            parts.truncate(begun);
            parts.push(HIDDEN.to_owned());
            return parts.join(" ");
        }
        let was_quoted = quote.is_some();
        for c in part.chars() {
            match quote {
                Some(open) if c == open => quote = None,
                None if "'\"`".contains(c) => quote = Some(c),
                _ => {}
            }
        }
        if was_quoted || quote.is_some() {
            reader.next = Next::Plain;
            parts.push(HIDDEN.to_owned());
            continue;
        }
        let ends = part.ends_with(';');
        parts.push(in_script(&mut reader, part));
        if ends {
            reader = WordReader::default();
            begun = parts.len();
        }
    }
    parts.join(" ")
}

/// Returns a word of a script, which may have quotes, a redirection before it and punctuation around it.
fn in_script(reader: &mut WordReader, part: &str) -> String {
    let redirect = part.trim_start_matches(['0', '1', '2', '&']).trim_start_matches(['<', '>', '&']);
    let redirect = if part.contains(['<', '>']) { redirect } else { part };
    let bare = redirect.trim_start_matches(['(', '{']).trim_end_matches([';', ')', '}', ',']);
    let bare = match bare.as_bytes() {
        [open @ (b'\'' | b'"'), inner @ .., close] if open == close => {
            std::str::from_utf8(inner).expect("a quote is one byte")
        }
        _ => bare,
    };
    let is_variable = bare.strip_prefix('$').is_some_and(|name| {
        let name = name.trim_start_matches('{').trim_end_matches('}');
        ["@", "*", "#", "?", "$", "!"].contains(&name)
            || name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    });
    // `2>&1` and the like.
    if bare.is_empty() || is_variable || redirect != part && bare.bytes().all(|b| b.is_ascii_digit()) {
        reader.next = Next::Plain;
        return part.to_owned();
    }
    let shown = reader.word(bare);
    if shown == bare { part.to_owned() } else { shown }
}

/// Returns whether a word of a script, or a name anywhere in it, announces a secret.
fn names_a_secret(word: &str) -> bool {
    let is_in_name = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let is_path = word.trim_start_matches(['<', '>', '&', '2', '1']).starts_with(['/', '.', '~']);
    let is_short =
        ["-p", "-u", "-k"].iter().any(|option| word.starts_with(option) && !word.starts_with("--"));
    is_short
        || !is_path && word.split(|c| !is_in_name(c)).any(|name| !name.is_empty() && is_strong(name))
        || word.contains('=') && word.split('=').any(|name| is_name(name) && class(name) == Class::Secret)
}
