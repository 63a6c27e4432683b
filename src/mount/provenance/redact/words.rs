//! The words of a command: options, values and assignments.

use super::form::{is_name, is_path, shown};
use super::mask::{HIDDEN, WordContext};
use super::naming::{Class, class, is_known, is_strong};

/// One-letter options that take users, passwords, keys and headers in well-known programs.
const RISKY_LETTERS: &str = "pukPUKHab";
/// One-letter options that take names of modules and files, and numbers.
const HARMLESS_LETTERS: &str = "mofCinjdlrvxqgNR";

/// What is known about the next word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Next {
    /// Not the value of an option.
    #[default]
    Plain,
    /// The value of an option.
    Value(Class),
    /// The value of a one-letter option that may be anything: only a path is shown.
    Risky,
}

/// Judges words without blanks, one after the other.
#[derive(Debug, Default)]
pub(super) struct WordReader {
    pub next: Next,
    /// From here on only the names of options are shown: `login ann rosebud`.
    pub is_closed: bool,
    /// Whether a shell was among the words.
    pub has_shell: bool,
    /// Whether the next word is the script of a shell.
    pub takes_script: bool,
}

impl WordReader {
    /// Returns the next word as it may be recorded.
    pub fn word(&mut self, word: &str) -> String {
        let was = std::mem::take(&mut self.next);
        if was == Next::Value(Class::Secret) && !(word.starts_with("--") && is_name(word)) {
            // `password = x`, `Bearer x`: the secret is still to come.
            if !word.contains(char::is_alphanumeric) || is_strong(word) && is_name(word.trim_end_matches(':'))
            {
                self.next = was;
            }
            return HIDDEN.to_owned();
        }
        if let Some(shown) = assignment(word) {
            return if self.is_closed { HIDDEN.to_owned() } else { shown };
        }
        if word.starts_with('-') && word.parse::<f64>().is_err() {
            return self.option(word);
        }
        if self.is_closed {
            return HIDDEN.to_owned();
        }
        match was {
            _ if is_strong(word) && !word.contains('/') && !is_path(word) => {
                self.is_closed = true;
                // Show `login`, but not `monkey`, which may be the secret.
                let is_verb = was != Next::Risky
                    && is_name(word)
                    && is_known(word.rsplit(['.', '_', '-']).next().unwrap_or_default());
                if is_verb { word.to_owned() } else { HIDDEN.to_owned() }
            }
            // `Authorization:`
            _ if word.strip_suffix(':').is_some_and(|name| class(name) != Class::Harmless) => {
                self.next = Next::Value(Class::Secret);
                HIDDEN.to_owned()
            }
            Next::Plain | Next::Value(Class::Harmless) => shown(word, WordContext::Harmless),
            Next::Risky => risky(word),
            Next::Value(Class::Secret | Class::Unknown) => shown(word, WordContext::Unknown),
        }
    }

    fn option(&mut self, word: &str) -> String {
        if word == "-" || word == "--" {
            return word.to_owned();
        }
        if word.starts_with("--") {
            if is_name(word) {
                self.next = Next::Value(class(word));
                return word.to_owned();
            }
            self.next = Next::Value(Class::Secret);
            return HIDDEN.to_owned();
        }
        let letters = word.strip_prefix('-').unwrap_or(word);
        let mut chars = letters.chars();
        let first = chars.next().unwrap_or_default();
        let rest = chars.as_str();
        self.takes_script = self.has_shell && letters.ends_with('c') && letters.len() <= 4;
        if rest.is_empty() && first.is_ascii_alphanumeric() {
            self.next = match first {
                _ if RISKY_LETTERS.contains(first) => Next::Risky,
                _ if HARMLESS_LETTERS.contains(first) => Next::Value(Class::Harmless),
                _ => Next::Value(Class::Unknown),
            };
            return word.to_owned();
        }
        // `-lr`, `-passin`, `-learning_rate`: a name behind one dash.
        let is_long =
            is_name(letters) && letters.bytes().all(|b| b.is_ascii_lowercase() || b"_-".contains(&b));
        let is_flags = letters.len() <= 4 && letters.bytes().all(|b| b.is_ascii_lowercase());
        let named = class(letters);
        let joins_risk = RISKY_LETTERS.contains(first);
        if is_long && (is_known(letters) || !joins_risk && (is_flags || named != Class::Unknown)) {
            let ends_in_risk = letters.chars().next_back().is_some_and(|last| RISKY_LETTERS.contains(last));
            self.next =
                if named == Class::Unknown && ends_in_risk { Next::Risky } else { Next::Value(named) };
            return word.to_owned();
        }
        // `-n4`; but `-pSECRET` joins its value.
        if !joins_risk && rest.len() <= 4 && rest.parse::<f64>().is_ok() {
            return word.to_owned();
        }
        // `-sSu ann:x`
        let ends_in_risk = letters.chars().next_back().is_some_and(|last| RISKY_LETTERS.contains(last));
        self.next = match is_strong(letters) {
            true => Next::Value(Class::Secret),
            false if ends_in_risk => Next::Risky,
            false => Next::Plain,
        };
        if first.is_ascii_alphabetic() { format!("-{first}{HIDDEN}") } else { HIDDEN.to_owned() }
    }
}

/// Returns a value that is shown only if it is a path.
fn risky(word: &str) -> String {
    let is_path = ["/", "./", "../", "~/"].iter().any(|start| word.starts_with(start));
    if is_path { shown(word, WordContext::Unknown) } else { HIDDEN.to_owned() }
}

/// Returns `name=value` as it may be recorded, also `--set=a.b=value`; `None` for any other word.
fn assignment(word: &str) -> Option<String> {
    let (name, value) = word.split_once('=')?;
    // `+trainer.x=1`, `++x=1`, `~x=1` of Hydra.
    let bare = name.trim_start_matches(['+', '~']);
    if !is_name(bare) {
        return Some(HIDDEN.to_owned());
    }
    let shown = match class(bare) {
        Class::Secret => HIDDEN.to_owned(),
        // `--set=db.password=x`: the inner name counts.
        _ if value.contains('=') => assignment(value).unwrap_or_else(|| HIDDEN.to_owned()),
        Class::Harmless => shown(value, WordContext::Harmless),
        Class::Unknown => shown(value, WordContext::Unknown),
    };
    Some(format!("{name}={shown}"))
}
