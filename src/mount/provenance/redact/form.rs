//! Forms that are known to be harmless: numbers, words as people write them, paths, addresses.
//!
//! A word is judged by its spelling alone. No file is looked up: whether one exists is private, and a look could wait for
//! the mount that asks.

use super::address::url;
use super::mask::{HIDDEN, WordContext};
use super::naming::is_known;
use super::number::{MAX_SMALL_DIGITS, is_number, is_ratio};
use super::path::path;
use super::spelling::{MAX_JOINED, is_word, is_words, parts};

/// The longest word of any kind.
const MAX_BYTES: usize = 512;

/// Returns a word as it may be recorded: unchanged, with parts hidden, or [`HIDDEN`].
pub(super) fn shown(word: &str, place: WordContext) -> String {
    if word.len() > MAX_BYTES {
        return HIDDEN.to_owned();
    }
    if word.is_empty() || is_number(word, place) || is_flag(word) {
        return word.to_owned();
    }
    if word.contains("://") {
        return url(word).unwrap_or_else(|| HIDDEN.to_owned());
    }
    if let Some(path) = path(word) {
        return path;
    }
    let is_listed = |part: &str| match place {
        WordContext::Harmless => is_words(part, MAX_JOINED) || is_number(part, place) || is_relative(part),
        WordContext::Unknown => is_number(part, place),
    };
    // Several of a kind: `0,1,2`, `a,b`, `v1+v2`, `16:8`.
    if word.split([',', '+']).all(|part| is_listed(part) || is_ratio(part, place)) {
        return word.to_owned();
    }
    if place == WordContext::Harmless && is_reference(word) {
        return word.to_owned();
    }
    HIDDEN.to_owned()
}

/// Returns whether a text may be the name of an option or a variable: words, and nothing random.
pub(super) fn is_name(text: &str) -> bool {
    let name = text.trim_start_matches('-');
    name.len() <= 64
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && parts(name, &['-', '_', '.', '/']).all(|part| is_word(part) || is_known(part))
}

/// Returns whether a word has the form of a path: by its beginning, or by its extension.
pub(super) fn is_path(word: &str) -> bool {
    path(word).is_some()
}

/// Returns whether a word is like `proj/ds`, `proj/ds:v3` or `python:3.11`.
fn is_reference(word: &str) -> bool {
    let (name, version) = word.split_once(':').map_or((word, None), |(name, version)| (name, Some(version)));
    let is_version = |text: &str| {
        let number = text.strip_prefix('v').unwrap_or(text);
        let most = if number.contains('.') { 2 * MAX_SMALL_DIGITS } else { MAX_SMALL_DIGITS };
        number.parse::<f64>().is_ok() && number.len() <= most || text == "latest"
    };
    is_relative(name)
        && version
            .is_none_or(|version| is_version(version) || name.contains('/') && is_words(version, MAX_JOINED))
}

/// Returns whether a word consists of words separated by slashes.
fn is_relative(word: &str) -> bool {
    !word.is_empty() && word.split('/').all(|part| is_words(part, MAX_JOINED))
}

/// Returns whether a word is one that switches are set to.
fn is_flag(word: &str) -> bool {
    const FLAGS: [&str; 16] = [
        "true", "false", "yes", "no", "on", "off", "none", "auto", "null", "cpu", "cuda", "gpu", "mps",
        "tpu", "all", "default",
    ];
    FLAGS.contains(&word.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::super::path::folder;
    use super::*;

    #[test]
    fn names_of_things_are_words_and_keys_are_not() {
        for word in [
            "bert",
            "resnet50",
            "ResNet",
            "bert-base-uncased",
            "adamw",
            "AdamW",
            "xgboost",
            "gpt2",
            "llama-3.1-8b",
            "fp16",
            "step10000",
            "cosine",
            "imagenet",
            "train_v2",
            "hyperparameters",
            "facebook/opt-1.3b",
            "proj/ds:v3",
            "v3",
            "proj/ds:production",
            "python:3.11",
            "mnist",
            "squad",
            "tokenizer",
            "transformers",
            "nightly",
            "Qwen2.5",
            "preprocess",
            "cifar10",
            "wikitext",
            "openwebtext",
            "deepspeed",
            "x86",
            "a100",
            "sgd",
            "a,b,c",
        ] {
            assert_eq!(shown(word, WordContext::Harmless), word);
        }
        for word in [
            "0123456789abcdef0123456789abcdef01234567",
            "hQz7Rk2mXw9T",
            "Hunter2a",
            "550e8400-e29b-41d4-a716-446655440000",
            "zqxwvkjhgf",
            "aGVsbG8gd29ybGQ=",
            "user:rosebud",
            "ann@host",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "4111111111111111",
            "correct-horse-battery-staple",
            "sk-proj-abcd",
            "QkZyTnPwLmXs",
            "p@ssw0rd",
            "a=b",
            "{}",
        ] {
            assert_eq!(shown(word, WordContext::Harmless), HIDDEN, "{word}");
        }
        for word in ["rosebud", "123456", "user/rosebud", "a,b"] {
            assert_eq!(shown(word, WordContext::Unknown), HIDDEN, "{word}");
        }
        for word in ["3", "0.1", "1e-3", "-1", "true", "./x", "train.py", "data/x.csv", "cuda", "0,1,2"] {
            assert_eq!(shown(word, WordContext::Unknown), word);
        }
    }

    #[test]
    fn paths_and_addresses_lose_what_is_like_a_key() {
        let key = "0123456789abcdef0123456789abcdef01234567";
        for (given, want) in [
            (format!("/tmp/{key}/x.py"), "/tmp/***/x.py"),
            (format!("{key}.json"), "***"),
            (
                format!("https://ann:x@hooks.example.com/services/{key}?a={key}#x"),
                "https://hooks.example.com/services/***",
            ),
            ("/tmp/.tmpzrlqUM/mnt/p".to_owned(), "/tmp/.tmpzrlqUM/mnt/p"),
            ("/9j/4AAQSkZJRgABAQEAYABgAAD".to_owned(), "/9j/***"),
            ("s3://bucket/prefix/x".to_owned(), "s3://bucket/prefix/x"),
            (format!("https://{key}.example.com/x"), "***"),
            ("postgres://u:p/q@h/db".to_owned(), "***"),
            ("file:///data/x.csv".to_owned(), "file:///data/x.csv"),
        ] {
            assert_eq!(shown(&given, WordContext::Unknown), want, "{given}");
        }
        assert_eq!(folder(&format!("/home/ann/{key}/x y")), "/home/ann/***/x y");
    }
}
