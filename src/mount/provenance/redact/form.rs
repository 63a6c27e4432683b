//! Forms that are known to be harmless: numbers, words as people write them, paths, addresses.
//!
//! A word is judged by how it is written alone. No file is looked for: whether one is there is nobody's business, and
//! a look could wait for the mount that asks.

use super::naming::is_known;

/// What stands for a word, or for the part of a path, that is not recorded.
pub const HIDDEN: &str = "***";

/// The longest part of a word that is made of letters.
const MAX_LETTERS: usize = 20;
/// From this length on, letters must be such as follow each other in words.
const MIN_JUDGED_LETTERS: usize = 5;
/// A longer run of consonants is in no word.
const MAX_CONSONANTS: usize = 5;
/// Digits of a number: longer ones are ids, cards, keys.
const MAX_DIGITS: usize = 12;
/// Digits of a number of which nothing is known, not even by the name before it.
const MAX_SMALL_DIGITS: usize = 3;
/// A short mixture of small letters and digits is a name: `p2p`, `x86a`.
const MAX_MIXTURE: usize = 5;
/// Digits behind letters and letters behind digits: `resnet50`, `step10000`, `7b`.
const MAX_JOINED_DIGITS: usize = 5;
const MAX_UNIT_LETTERS: usize = 4;
/// Words joined in one; more are rather a pass phrase.
const MAX_JOINED: usize = 3;
/// The same in the name of a file.
const MAX_JOINED_IN_PATH: usize = 10;
/// The longest name in a path that may be random letters: what programs call their temporary folders.
const MAX_TEMPORARY: usize = 15;
/// The longest word of any kind.
const MAX_BYTES: usize = 512;

/// Pairs of letters that follow each other in words, by the first.
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

/// Ends of names that say what is in a file.
const EXTENSIONS: [&str; 81] = [
    "arrow",
    "avro",
    "bash",
    "bin",
    "bmp",
    "bz2",
    "c",
    "cc",
    "cfg",
    "ckpt",
    "conf",
    "cpp",
    "csv",
    "cu",
    "db",
    "feather",
    "flac",
    "gguf",
    "gif",
    "go",
    "gz",
    "h",
    "h5",
    "hdf5",
    "hpp",
    "html",
    "ini",
    "ipynb",
    "java",
    "jl",
    "joblib",
    "jpeg",
    "jpg",
    "js",
    "json",
    "jsonl",
    "lock",
    "log",
    "md",
    "mmap",
    "mp3",
    "mp4",
    "nc",
    "ndjson",
    "npy",
    "npz",
    "onnx",
    "orc",
    "parquet",
    "pb",
    "pdf",
    "pickle",
    "pkl",
    "png",
    "pt",
    "pth",
    "py",
    "r",
    "rs",
    "safetensors",
    "scala",
    "sh",
    "slurm",
    "so",
    "sql",
    "sqlite",
    "tar",
    "tfrecord",
    "tgz",
    "tif",
    "tiff",
    "toml",
    "ts",
    "tsv",
    "txt",
    "wav",
    "webp",
    "xml",
    "yaml",
    "yml",
    "zip",
];

/// How much is known of the place where a word stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WordContext {
    /// Its name, or the lack of one, says that words and numbers are harmless there.
    Harmless,
    /// Nothing: only what cannot be a secret by its form is shown.
    Unknown,
}

/// A word as it may be recorded: itself, itself with parts hidden, or [`HIDDEN`].
pub fn shown(word: &str, place: WordContext) -> String {
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

/// A URL without user, query and fragment, its path with what may be secret hidden; none if it is not understood.
pub fn url(text: &str) -> Option<String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        // git@host:path
        let (host, path) = text.split_once(':')?;
        let host = host.rsplit('@').next()?;
        let is_ok = is_host(host) && path.split('/').all(|part| is_words(part, MAX_JOINED_IN_PATH));
        return is_ok.then(|| format!("{host}:{path}"));
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
    // A password may hold a slash, and then its user's `@` comes behind it.
    if path.is_some_and(|path| path.contains('@')) {
        return None;
    }
    let host = host.rsplit('@').next().unwrap_or_default();
    let is_scheme = scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'+');
    if scheme.is_empty() || !is_scheme || !(is_host(host) || scheme == "file" && host.is_empty()) {
        return None;
    }
    Some(match path {
        None => format!("{scheme}://{host}"),
        Some(path) => format!("{scheme}://{host}/{}", names(path, TemporaryNames::Hidden)),
    })
}

/// A folder as it may be recorded: names in it that are like keys are hidden, all others stay.
pub fn folder(path: &str) -> String {
    let name = |name: &str| if is_like_key(name) { HIDDEN.to_owned() } else { name.to_owned() };
    path.split('/').map(name).collect::<Vec<_>>().join("/")
}

/// Whether a text may be the name of an option or a variable: words, without anything random.
pub fn is_name(text: &str) -> bool {
    let name = text.trim_start_matches('-');
    name.len() <= 64
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && parts(name, &['-', '_', '.', '/']).all(|part| is_word(part) || is_known(part))
}

/// Whether a word is a path by its form: by how it begins, or by how it ends.
pub fn is_path(word: &str) -> bool {
    path(word).is_some()
}

fn path(word: &str) -> Option<String> {
    let is_rooted = ["/", "./", "../", "~/"].iter().any(|start| word.starts_with(start));
    if is_rooted || [".", "..", "~"].contains(&word) {
        return Some(names(word, TemporaryNames::Shown));
    }
    let (stem, extension) = word.rsplit_once('.')?;
    let is_known = EXTENSIONS.binary_search(&extension.to_ascii_lowercase().as_str()).is_ok();
    (is_known && !stem.is_empty() && !word.contains([':', '@'])).then(|| names(word, TemporaryNames::Hidden))
}

/// Whether short random names, of temporary folders, are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TemporaryNames {
    Shown,
    Hidden,
}

/// The names of a path, those that may be secret hidden.
fn names(path: &str, temporary: TemporaryNames) -> String {
    let all: Vec<&str> = path.split('/').collect();
    let is_plain = |name: &str| {
        let name = name.trim_matches(['*', '{', '}']);
        name.is_empty() || is_words(name, MAX_JOINED_IN_PATH)
    };
    let is_short =
        |name: &str| name.len() <= MAX_TEMPORARY && name.bytes().all(is_name_byte) && !has_key_prefix(name);
    // Bytes in base64 have slashes as well: beside a long random part a short one is of the same kind.
    let may_be_random =
        temporary == TemporaryNames::Shown && all.iter().all(|name| is_plain(name) || is_short(name));
    let shown = all.iter().map(|name| if is_plain(name) || may_be_random { *name } else { HIDDEN });
    shown.collect::<Vec<_>>().join("/")
}

fn is_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"._-".contains(&b)
}

/// `proj/ds`, `proj/ds:v3`, `python:3.11`.
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

/// Words with slashes between them.
fn is_relative(word: &str) -> bool {
    !word.is_empty() && word.split('/').all(|part| is_words(part, MAX_JOINED))
}

fn is_ratio(word: &str, place: WordContext) -> bool {
    let mut sides = word.split([':', 'x', 'X', '*']);
    word.len() > 1 && sides.all(|side| is_number(side, place) && !side.contains('e') || side.is_empty())
}

/// Whether a word is a number that is none of a card, an account or the like.
fn is_number(word: &str, place: WordContext) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let plain = word.trim_start_matches(['-', '+']).replace('_', "");
    let is_float = plain.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
    let is_whole = plain.bytes().all(|b| b.is_ascii_digit());
    let most = if place == WordContext::Unknown && is_whole { MAX_SMALL_DIGITS } else { MAX_DIGITS };
    // `0.30000000000000004` is one that a program printed.
    let most = if plain.starts_with("0.") { 2 * MAX_DIGITS } else { most };
    digits > 0 && digits <= most && is_float && plain.parse::<f64>().is_ok()
}

/// Words that a switch is set to.
fn is_flag(word: &str) -> bool {
    const FLAGS: [&str; 16] = [
        "true", "false", "yes", "no", "on", "off", "none", "auto", "null", "cpu", "cuda", "gpu", "mps",
        "tpu", "all", "default",
    ];
    FLAGS.contains(&word.to_ascii_lowercase().as_str())
}

/// Names of hosts and addresses, with a port.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_port =
        |port: &str| !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    let is_v6 = host.starts_with('[')
        && host.ends_with(']')
        && host[1..host.len() - 1].bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
    port.is_none_or(is_port) && !host.is_empty() && (is_v6 || is_words(host, MAX_JOINED_IN_PATH))
}

/// Whether a text is made of at most `most` words and short numbers with marks between them.
fn is_words(text: &str, most: usize) -> bool {
    !text.is_empty()
        && !has_key_prefix(text)
        && text.bytes().all(is_name_byte)
        && parts(text, &['.', '_', '-']).filter(|part| part.bytes().any(|b| b.is_ascii_alphabetic())).count()
            <= most
        && parts(text, &['.', '_', '-']).all(is_word)
}

fn parts<'a>(text: &'a str, marks: &'static [char]) -> impl Iterator<Item = &'a str> {
    text.split(marks).filter(|part| !part.is_empty())
}

/// One word as people write it, perhaps with a number: `bert`, `ResNet50`, `7b`, `20260101`.
fn is_word(part: &str) -> bool {
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

/// `AdamWeightDecay` in its three words; `BERTModel` in two.
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
    // Case that goes up and down is of no word.
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
    // Words that were put together meet in a pair that no word has.
    let is_odd = odd > 1 || odd == 1 && word.len() >= 8 && vowels * 4 < word.len();
    vowels * 5 >= word.len() && longest <= MAX_CONSONANTS && !is_odd
}

fn follows(first: u8, second: u8) -> bool {
    let followers = usize::from(first.wrapping_sub(b'a'));
    first == second || FOLLOWERS.get(followers).is_some_and(|all| all.as_bytes().contains(&second))
}

/// Whether a name in a path is like a key: long, and of letters and digits without order.
fn is_like_key(name: &str) -> bool {
    name.len() > MAX_TEMPORARY && !is_words(name, MAX_JOINED_IN_PATH) || has_key_prefix(name)
}

/// Prefixes that services give their keys.
fn has_key_prefix(word: &str) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extensions_can_be_searched() {
        assert!(EXTENSIONS.is_sorted());
    }

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

    #[test]
    fn remotes_lose_their_credentials() {
        for (given, want) in [
            ("https://ann:pw@git.example.org/team/x.git?a=b", Some("https://git.example.org/team/x.git")),
            ("https://oauth2:glpat-1234567@gitlab.com/t/x", Some("https://gitlab.com/t/x")),
            ("git@github.com:team/x.git", Some("github.com:team/x.git")),
            ("ssh://git@host:22/x", Some("ssh://host:22/x")),
            ("/srv/git/x", None),
        ] {
            assert_eq!(url(given).as_deref(), want, "{given}");
        }
    }
}
