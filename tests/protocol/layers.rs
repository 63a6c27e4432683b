//! The folders of `src` are layers, and modules import downwards only.

use std::path::{Path, PathBuf};

/// The folders, from the bottom up. A module may import from its own layer and from those below.
const LAYERS: [&str; 6] = ["format", "host", "store", "repo", "mount", "app"];
/// Bindings for another language stand on top, with imports of their own.
const SKIPPED: &str = "python";
/// The kernel's interface, and the one module that may name it.
const KERNEL_CRATE: (&str, [&str; 2]) = ("fuser", ["mount", "fuse"]);

/// How high a layer stands; the program's own file stands on top.
fn rank(layer: &str) -> Option<usize> {
    if layer == "main" { Some(LAYERS.len()) } else { LAYERS.iter().position(|name| *name == layer) }
}

/// Identifiers and punctuation, without comments and the insides of strings. `::` is one token.
fn tokens(source: &str) -> Vec<String> {
    let chars: Vec<char> = source.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        match at(i) {
            '/' if at(i + 1) == '/' => {
                while i < chars.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            '/' if at(i + 1) == '*' => {
                let mut depth = 0;
                loop {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                    if depth == 0 || i >= chars.len() {
                        break;
                    }
                }
            }
            // r"…", r#"…"#, and the same after b or c.
            c if is_word(c) => {
                let start = i;
                while is_word(at(i)) {
                    i += 1;
                }
                let word: String = chars[start..i].iter().collect();
                let hashes = (i..).take_while(|i| at(*i) == '#').count();
                if matches!(word.as_str(), "r" | "br" | "cr") && at(i + hashes) == '"' {
                    i += hashes + 1;
                    while i < chars.len() && !(at(i) == '"' && (1..=hashes).all(|h| at(i + h) == '#')) {
                        i += 1;
                    }
                    i += 1 + hashes;
                } else {
                    tokens.push(word);
                }
            }
            '"' => {
                i += 1;
                while i < chars.len() && at(i) != '"' {
                    i += if at(i) == '\\' { 2 } else { 1 };
                }
                i += 1;
            }
            '\'' if at(i + 1) == '\\' => {
                i += 3;
                while i < chars.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            '\'' if at(i + 2) == '\'' => i += 3,
            ':' if at(i + 1) == ':' => {
                tokens.push("::".to_owned());
                i += 2;
            }
            c => {
                if !c.is_whitespace() {
                    tokens.push(c.to_string());
                }
                i += 1;
            }
        }
    }
    tokens
}

/// The first names of paths that begin at the root of the crate: `crate::a`, `artfs::a`, `crate::{a, b::c}`, and
/// `super::…` that climbs to the root. `file_module` is the module that the file is.
fn imports(tokens: &[String], file_module: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    // For each open brace, whether it is that of an inline module.
    let mut braces: Vec<bool> = Vec::new();
    for i in 0..tokens.len() {
        let token = tokens[i].as_str();
        match token {
            "{" => braces.push(i >= 2 && tokens[i - 2] == "mod"),
            "}" => {
                braces.pop();
            }
            _ => {}
        }
        let continues = i > 0 && tokens[i - 1] == "::";
        if continues || tokens.get(i + 1).map(String::as_str) != Some("::") {
            continue;
        }
        let mut next = i + 2;
        let reaches_root = match token {
            "crate" | "artfs" => true,
            "super" => {
                let mut climbed = 1;
                while tokens[next..].starts_with(&["super".to_owned(), "::".to_owned()]) {
                    (climbed, next) = (climbed + 1, next + 2);
                }
                climbed >= file_module.len() + braces.iter().filter(|is_module| **is_module).count()
            }
            _ => false,
        };
        if reaches_root {
            found.extend(heads(&tokens[next..]));
        }
    }
    found
}

/// The first names of a use tree: `a::b` has `a`, `{a::b, c::{d, e}}` has `a` and `c`.
fn heads(tokens: &[String]) -> Vec<String> {
    if tokens.first().map(String::as_str) != Some("{") {
        return tokens.first().cloned().into_iter().collect();
    }
    let mut heads = Vec::new();
    let (mut depth, mut begins) = (0, false);
    for token in tokens {
        match token.as_str() {
            "{" => (depth, begins) = (depth + 1, depth == 0),
            "}" if depth == 1 => break,
            "}" => depth -= 1,
            "," if depth == 1 => begins = true,
            _ if begins => {
                heads.push(token.clone());
                begins = false;
            }
            _ => {}
        }
    }
    heads
}

/// What is wrong with one file; `path` is relative to `src`.
fn problems(path: &Path, source: &str) -> Vec<String> {
    let mut module: Vec<String> =
        path.with_extension("").iter().map(|part| part.to_str().expect("UTF-8").to_owned()).collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    let own = module[0].clone();
    let Some(own_rank) = rank(&own) else {
        return vec![format!("{}: {own} is none of the layers", path.display())];
    };
    let tokens = tokens(source);
    let mut problems = Vec::new();
    for import in imports(&tokens, &module) {
        match rank(&import) {
            None => problems.push(format!("{}: imports {import} from the crate's root", path.display())),
            Some(rank) if rank > own_rank => {
                problems.push(format!("{}: {own} imports {import}, which stands above it", path.display()));
            }
            Some(_) => {}
        }
    }
    let (kernel, front) = KERNEL_CRATE;
    let named =
        |i: usize| tokens[i] == kernel && tokens.get(i + 1).is_some_and(|next| next == "::" || next == ";");
    if !module.starts_with(&front.map(str::to_owned)) && (0..tokens.len()).any(named) {
        problems.push(format!("{}: only {} may name {kernel}", path.display(), front.join("/")));
    }
    problems.dedup();
    problems
}

fn source_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for found in std::fs::read_dir(folder).expect("a folder") {
        let path = found.expect("an entry").path();
        if path.is_dir() {
            files.extend(source_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

#[test]
fn every_import_stays_in_its_layer_or_goes_down() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = source_files(&src);
    assert!(files.len() > 200, "{} files were found", files.len());
    let problems: Vec<String> = files
        .iter()
        .map(|path| (path, path.strip_prefix(&src).expect("below src")))
        .filter(|(_, relative)| *relative != Path::new("lib.rs") && !relative.starts_with(SKIPPED))
        .flat_map(|(path, relative)| problems(relative, &std::fs::read_to_string(path).expect("a file")))
        .collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

// The checker itself

fn planted(path: &str, source: &str) -> Vec<String> {
    problems(Path::new(path), source)
}

#[test]
fn a_planted_upward_import_is_found_however_it_is_written() {
    for source in [
        "use crate::repo::Catalog;",
        "use crate::{format::ChunkId, repo::{Catalog, Cell}};",
        "pub(crate) use crate :: repo;",
        "fn f() -> crate::repo::Catalog { loop {} }",
        "fn f() { let x = \"}\"; let c = '{'; crate::repo::new(x, c) }",
        "mod tests { use super::super::super::repo::x; }",
        "use super::super::repo::x;",
        "use artfs::repo::x;",
        "/* crate::format /* nested */ */ fn f<'a>(x: &'a u8) { crate::repo::f(r#\"\"a\"#) }",
    ] {
        let found = planted("store/key.rs", source);
        assert_eq!(found, ["store/key.rs: store imports repo, which stands above it"], "{source}");
    }
    let front = planted("app/cli/mount.rs", "use fuser::Filesystem;");
    assert_eq!(front, ["app/cli/mount.rs: only mount/fuse may name fuser"]);
    assert_eq!(planted("new/mod.rs", ""), ["new/mod.rs: new is none of the layers"]);
    assert_eq!(planted("durable.rs", ""), ["durable.rs: durable is none of the layers"]);
    assert_eq!(planted("store/mod.rs", "use crate::*;"), ["store/mod.rs: imports * from the crate's root"]);
}

#[test]
fn what_is_allowed_or_no_import_is_left_alone() {
    for (path, source) in [
        ("store/mod.rs", "use crate::format::ChunkId; use crate::store::Key; use self::key::Key;"),
        ("store/key.rs", "use super::repo; // a module of store's own"),
        ("store/key.rs", "// use crate::repo\n/* crate::repo */ const X: &str = \"crate::repo\";"),
        (
            "store/key.rs",
            "const X: &str = r#\"\" crate::repo \"#; const Y: char = '\"'; const Z: char = '\\'';",
        ),
        ("store/mod.rs", "mod tests { use super::repo; }"),
        ("app/cli/mount.rs", "use crate::mount::fuse; fn fuser() {}"),
        ("mount/fuse/mod.rs", "use fuser::Filesystem; use crate::mount::fs::x; use crate::repo::y;"),
        ("main.rs", "fn main() { artfs::app::cli::main() }"),
    ] {
        assert_eq!(planted(path, source), [""; 0], "{path}: {source}");
    }
}
