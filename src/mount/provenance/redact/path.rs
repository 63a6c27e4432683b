//! Paths, whose names are shown unless they are like keys.

use super::mask::HIDDEN;
use super::spelling::{MAX_JOINED_IN_PATH, has_key_prefix, is_name_byte, is_words};

/// The longest name in a path that may be random letters: programs name temporary folders so.
const MAX_TEMPORARY: usize = 15;

/// Extensions of files.
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

/// Returns a folder as it may be recorded: names in it that are like keys are hidden.
pub fn folder(path: &str) -> String {
    let name = |name: &str| if is_like_key(name) { HIDDEN.to_owned() } else { name.to_owned() };
    path.split('/').map(name).collect::<Vec<_>>().join("/")
}

/// Returns a path as it may be recorded; `None` if neither its beginning nor its extension is that of a path.
pub(super) fn path(word: &str) -> Option<String> {
    let is_rooted = ["/", "./", "../", "~/"].iter().any(|start| word.starts_with(start));
    if is_rooted || [".", "..", "~"].contains(&word) {
        return Some(names(word, TemporaryNames::Shown));
    }
    let (stem, extension) = word.rsplit_once('.')?;
    let is_known = EXTENSIONS.binary_search(&extension.to_ascii_lowercase().as_str()).is_ok();
    (is_known && !stem.is_empty() && !word.contains([':', '@'])).then(|| names(word, TemporaryNames::Hidden))
}

/// Whether short random names, which temporary folders have, are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TemporaryNames {
    Shown,
    Hidden,
}

/// Returns the names of a path, with those hidden that may be secret.
pub(super) fn names(path: &str, temporary: TemporaryNames) -> String {
    let all: Vec<&str> = path.split('/').collect();
    let is_plain = |name: &str| {
        let name = name.trim_matches(['*', '{', '}']);
        name.is_empty() || is_words(name, MAX_JOINED_IN_PATH)
    };
    let is_short =
        |name: &str| name.len() <= MAX_TEMPORARY && name.bytes().all(is_name_byte) && !has_key_prefix(name);
    // Base64 contains slashes: a short name beside a long random one may belong to the same secret.
    let may_be_random =
        temporary == TemporaryNames::Shown && all.iter().all(|name| is_plain(name) || is_short(name));
    let shown = all.iter().map(|name| if is_plain(name) || may_be_random { *name } else { HIDDEN });
    shown.collect::<Vec<_>>().join("/")
}

/// Returns whether a name in a path is like a key: long, and of letters and digits without order.
fn is_like_key(name: &str) -> bool {
    name.len() > MAX_TEMPORARY && !is_words(name, MAX_JOINED_IN_PATH) || has_key_prefix(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extensions_can_be_searched() {
        assert!(EXTENSIONS.is_sorted());
    }
}
