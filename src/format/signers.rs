//! OpenSSH's `allowed_signers` file: whose keys may sign, and when.
//!
//! A line is `principals [options] key [comment]`. Principals are patterns with `*` and `?`, separated by commas; one
//! that begins with `!` excludes. Of the options `namespaces`, `valid-after` and `valid-before` are known;
//! `cert-authority` is refused, since certificates are not verified here. Times need a `Z`: without it OpenSSH
//! takes them in the zone of each host, and the same file would mean different things.

use std::path::Path;

use super::error::FormatError;
use super::sshsig::{NAMESPACE, PublicKey};
use crate::format::clock::Timestamp;

const WHAT: &str = "allowed signers";
/// The longest file in bytes.
pub const MAX_SIGNERS_BYTES: usize = 4 << 20;

/// Who may sign.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedSigners(Vec<Line>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    principals: String,
    key: PublicKey,
    namespaces: Option<String>,
    valid_after: Option<Timestamp>,
    valid_before: Option<Timestamp>,
}

/// Why a key does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// No line has the key.
    #[error("the key {0} is not among the allowed signers")]
    Unknown(String),
    /// It is there for others, or for something else.
    #[error("the key {fingerprint} is allowed for {found}, not for {wanted}")]
    Role {
        /// The key.
        fingerprint: String,
        /// The principals of its lines.
        found: String,
        /// Who should have signed.
        wanted: String,
    },
    /// The event's time is outside of the key's.
    #[error("the key {fingerprint} is not valid at {time}, when the event says that it was made")]
    Time {
        /// The key.
        fingerprint: String,
        /// The event's time.
        time: Timestamp,
    },
}

impl AllowedSigners {
    /// Reads a file's text; `path` stands in errors.
    ///
    /// # Errors
    /// The number of the first line that cannot be read, and why: nothing is passed over.
    pub fn parse(text: &str, path: &Path) -> Result<Self, FormatError> {
        let mut lines = vec![];
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let parsed = parse_line(line);
            let at =
                |problem| FormatError::new(WHAT, format!("{}, line {}: {problem}", path.display(), i + 1));
            lines.push(parsed.map_err(at)?);
        }
        Ok(Self(lines))
    }

    /// Every key in it that may sign here, whenever.
    pub fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.iter().filter(|line| line.is_for_artfs()).map(|line| &line.key)
    }

    /// As whom a key counts at a time: the principals of its first line that has one of `roles` (`*`: any).
    ///
    /// # Errors
    /// Why it does not count.
    pub fn find(&self, key: &PublicKey, roles: &[String], time: Timestamp) -> Result<&str, NotAllowed> {
        let fingerprint = key.fingerprint();
        let of_key: Vec<&Line> =
            self.0.iter().filter(|line| line.key == *key && line.is_for_artfs()).collect();
        if of_key.is_empty() {
            return Err(NotAllowed::Unknown(fingerprint));
        }
        let of_role: Vec<&&Line> = of_key.iter().filter(|line| line.has_role(roles)).collect();
        if of_role.is_empty() {
            let found: Vec<&str> = of_key.iter().map(|line| line.principals.as_str()).collect();
            let (found, wanted) = (found.join(", "), roles.join(" or "));
            return Err(NotAllowed::Role { fingerprint, found, wanted });
        }
        let valid = of_role.iter().find(|line| line.is_valid_at(time));
        valid.map(|line| line.principals.as_str()).ok_or(NotAllowed::Time { fingerprint, time })
    }

    /// Whether a principal is named at all: a role that nobody has is a mistake.
    pub fn has_principal(&self, role: &str) -> bool {
        self.0.iter().any(|line| line.has_role(&[role.to_owned()]))
    }
}

impl Line {
    fn is_for_artfs(&self) -> bool {
        self.namespaces.as_deref().is_none_or(|patterns| matches_list(patterns, NAMESPACE))
    }

    fn has_role(&self, roles: &[String]) -> bool {
        roles.iter().any(|role| role == "*" || matches_list(&self.principals, role))
    }

    fn is_valid_at(&self, time: Timestamp) -> bool {
        self.valid_after.is_none_or(|after| time >= after)
            && self.valid_before.is_none_or(|before| time < before)
    }
}

fn parse_line(line: &str) -> Result<Line, String> {
    let (principals, rest) = split_word(line)?;
    let principals = principals.trim_matches('"').to_owned();
    // Where a key may stand, options may.
    let (options, key) = match rest.parse::<PublicKey>() {
        Ok(key) => ("", key),
        Err(no_key) => {
            let (options, rest) = split_word(rest)?;
            let is_option = options.contains('=') || options == "cert-authority";
            let problem = |e: FormatError| if is_option { e.problem } else { no_key.problem };
            (options, rest.parse().map_err(problem)?)
        }
    };
    let mut line = Line { principals, key, namespaces: None, valid_after: None, valid_before: None };
    let mut options = options;
    while !options.is_empty() {
        let (option, rest) = split_outside_quotes(options, |c| c == ',')?;
        options = rest;
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let value = value.trim_matches('"');
        match name.to_ascii_lowercase().as_str() {
            "namespaces" => line.namespaces = Some(value.to_owned()),
            "valid-after" => line.valid_after = Some(parse_time(value)?),
            "valid-before" => line.valid_before = Some(parse_time(value)?),
            "cert-authority" => {
                return Err("certificates are not supported: name the keys themselves".to_owned());
            }
            _ => return Err(format!("the option {name:?} is not known")),
        }
    }
    Ok(line)
}

/// The first word, and what comes behind the space after it.
fn split_word(text: &str) -> Result<(&str, &str), String> {
    let (word, rest) = split_outside_quotes(text, |c| c.is_ascii_whitespace())?;
    Ok((word, rest.trim_start()))
}

fn split_outside_quotes(text: &str, separates: impl Fn(char) -> bool) -> Result<(&str, &str), String> {
    let mut quoted = false;
    for (i, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            c if !quoted && separates(c) => return Ok((&text[..i], &text[i + c.len_utf8()..])),
            _ => {}
        }
    }
    if quoted { Err("a quotation mark is not closed".to_owned()) } else { Ok((text, "")) }
}

/// `YYYYMMDDZ`, `YYYYMMDDHHMMZ` or `YYYYMMDDHHMMSSZ`.
fn parse_time(text: &str) -> Result<Timestamp, String> {
    let wrong = || format!("write the time {text:?} as 20301231Z or 20301231235900Z, in UTC");
    let digits = text.strip_suffix(['Z', 'z']).ok_or_else(wrong)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || ![8, 12, 14].contains(&digits.len()) {
        return Err(wrong());
    }
    let digits = format!("{digits:0<14}");
    let part = |range| digits.get(range).unwrap_or_default();
    let (date, time) = ((part(0..4), part(4..6), part(6..8)), (part(8..10), part(10..12), part(12..14)));
    let text = format!("{}-{}-{}T{}:{}:{}Z", date.0, date.1, date.2, time.0, time.1, time.2);
    text.parse().map_err(|_| wrong())
}

/// Whether a list of patterns has the text, and none that excludes it.
fn matches_list(patterns: &str, text: &str) -> bool {
    let mut found = false;
    for pattern in patterns.split(',').map(str::trim) {
        match pattern.strip_prefix('!') {
            Some(excluded) if matches(excluded.as_bytes(), text.as_bytes()) => return false,
            Some(_) => {}
            None => found |= matches(pattern.as_bytes(), text.as_bytes()),
        }
    }
    found
}

/// `*` stands for anything, `?` for one byte. Cost: the product of the lengths at most.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where the last star was, and up to where it reaches.
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, reach)) => {
                    star = Some((at, reach + 1));
                    (p, t) = (at + 1, reach + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::super::sshsig::tests::key;
    use super::*;

    fn parse(text: &str) -> Result<AllowedSigners, FormatError> {
        AllowedSigners::parse(text, Path::new("signers"))
    }

    fn roles(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_key_counts_for_its_principals_namespace_and_time() {
        let (ann, bob, eve) = (key(1), key(2), key(3));
        let signers = parse(&format!(
            "# who releases\n\nrelease,ann@example.com {ann} a comment\n\
             ci@*,!ci@old namespaces=\"git,artfs\",valid-after=\"20260101Z\",valid-before=\"20270101Z\" {bob}\n\
             release namespaces=\"git\" {eve}\n"
        ))
        .unwrap();
        let now = at("2026-06-01T00:00:00Z");
        assert_eq!(signers.find(&ann, &roles(&["release"]), now), Ok("release,ann@example.com"));
        assert_eq!(signers.find(&bob, &roles(&["release", "ci@new"]), now), Ok("ci@*,!ci@old"));
        assert!(signers.find(&bob, &roles(&["*"]), now).is_ok());
        assert!(matches!(signers.find(&bob, &roles(&["ci@old"]), now), Err(NotAllowed::Role { .. })));
        assert!(matches!(signers.find(&bob, &roles(&["release"]), now), Err(NotAllowed::Role { .. })));
        for time in ["2025-12-31T23:59:59.999Z", "2027-01-01T00:00:00Z"] {
            let found = signers.find(&bob, &roles(&["ci@new"]), at(time));
            assert!(matches!(found, Err(NotAllowed::Time { .. })), "{time}");
        }
        assert!(
            matches!(signers.find(&eve, &roles(&["*"]), now), Err(NotAllowed::Unknown(_))),
            "for git only"
        );
        assert!(matches!(signers.find(&key(4), &roles(&["*"]), now), Err(NotAllowed::Unknown(_))));
        assert!(signers.has_principal("release") && !signers.has_principal("nobody"));
        assert_eq!(signers.keys().count(), 2);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named_and_none_is_passed_over() {
        let key = key(1);
        for (line, why) in [
            ("ann".to_owned(), "write it as"),
            (format!("ann cert-authority {key}"), "certificates"),
            (format!("ann valid-before=\"20260101\" {key}"), "UTC"),
            (format!("ann valid-before=\"20261301Z\" {key}"), "UTC"),
            (format!("ann verify-required {key}"), "not known"),
            (format!("ann namespaces=\"artfs {key}"), "not closed"),
            ("ann ssh-dss AAAAB3NzaC1kc3M=".to_owned(), "not known here"),
        ] {
            let error = parse(&format!("# first\n{line}\n")).unwrap_err().problem;
            assert!(error.starts_with("signers, line 2: ") && error.contains(why), "{line}: {error}");
        }
    }

    #[test]
    fn patterns_match_as_in_openssh() {
        for (pattern, text, is_match) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("*@example.com", "ann@example.com", true),
            ("a?c", "ac", false),
            ("?", "x", true),
            ("*a*b*", "xaxxbx", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), is_match, "{pattern} {text}");
        }
    }
}
