//! The folders of `src` are layers, modules import downwards only, and no files import each other in a circle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use self::file_graph::FileGraph;
use self::tokens::tokens;

mod file_graph;
mod tokens;

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

#[test]
fn no_files_import_each_other_in_a_circle() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let read = |path: PathBuf| {
        let source = std::fs::read_to_string(&path).expect("a file");
        (path.strip_prefix(&src).expect("below src").to_str().expect("UTF-8").to_owned(), source)
    };
    let files: BTreeMap<String, String> = source_files(&src).into_iter().map(read).collect();
    let graph = FileGraph::of(&files);
    let seen = graph.files().count();
    assert!(seen > 200, "{seen} files were reached from lib.rs");
    let circles: Vec<String> = graph.circles().iter().map(|circle| graph.describe(circle)).collect();
    assert!(circles.is_empty(), "{} circles:\n{}", circles.len(), circles.join("\n"));
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

fn planted_circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let files = files.iter().map(|(path, source)| ((*path).to_owned(), (*source).to_owned())).collect();
    FileGraph::of(&files).circles()
}

#[test]
fn a_front_whose_child_imports_its_type_is_a_circle() {
    let child = ("a/child.rs", "use super::Error; pub fn f() -> Result<(), Error> { Ok(()) }");
    for front in [
        "mod child; pub struct Error; pub fn g() { child::f().ok(); }",
        "mod child; pub use self::child::f; pub enum Error {}",
        "mod child; pub use child::{f as g}; #[derive(Debug)] pub enum Error {}",
        "mod child; use crate::a::child::f; pub type Error = u8;",
    ] {
        let circles = planted_circles(&[("lib.rs", "pub mod a;"), ("a/mod.rs", front), child]);
        assert_eq!(circles, [["a/child.rs", "a/mod.rs"]], "{front}");
    }
}

#[test]
fn a_loop_of_three_files_across_folders_is_found() {
    let circles = planted_circles(&[
        ("lib.rs", "pub mod a; pub mod b; pub mod c;"),
        ("a/mod.rs", "pub mod x;"),
        ("a/x.rs", "use crate::b::{self, y::Y}; pub struct X(Y); pub fn f() { b::z() }"),
        ("b/mod.rs", "pub mod y; pub fn z() {}"),
        ("b/y.rs", "pub struct Y; fn f() { let c = '{'; crate::c::g(c) }"),
        ("c.rs", "pub fn g(c: char) -> artfs::a::x::X { loop {} }"),
    ]);
    assert_eq!(circles, [["a/x.rs", "b/y.rs", "c.rs"]]);
}

#[test]
fn a_loop_only_through_re_exports_is_found() {
    let circles = planted_circles(&[
        ("lib.rs", "pub mod a; pub mod b;"),
        ("a/mod.rs", "mod x; pub use self::x::X;"),
        ("a/x.rs", "use crate::b; pub struct X(b::Z);"),
        ("b/mod.rs", "mod y; mod z; pub use y::*; pub use self::z::Z as W; pub use W as Z;"),
        ("b/y.rs", "pub struct Y;"),
        ("b/z.rs", "use super::super::a; pub struct Z(Box<a::X>);"),
    ]);
    assert_eq!(circles, [["a/x.rs", "b/z.rs"]]);
}

#[test]
fn tests_declarations_and_fronts_that_hand_on_make_no_circle() {
    for files in [
        // A front that only declares and re-exports, and siblings that import each other through it.
        [
            ("a/mod.rs", "mod x; mod y; pub use self::x::X; pub use self::y::Y;"),
            ("a/x.rs", "use super::Y; pub struct X(Y);"),
            ("a/y.rs", "pub struct Y;"),
        ],
        // Imports of tests.
        [
            ("a/mod.rs", "mod x; mod y; pub struct A; pub fn f() { x::g() }"),
            ("a/x.rs", "pub fn g() {} #[cfg(test)] mod tests { use super::super::A; }"),
            ("a/y.rs", "#[cfg(test)] use super::A;"),
        ],
        // A module for tests, which imports the front that only tests use it from.
        [
            ("a/mod.rs", "#[cfg(test)] mod x; mod y; pub struct A; #[cfg(test)] fn f() { x::g() }"),
            ("a/x.rs", "use super::A; pub fn g() {}"),
            ("a/y.rs", "pub fn h(x: &str) { x.len(); std::mem::drop(x) } // super::A"),
        ],
        // A name of a module is no import of what it declares.
        [
            ("a/mod.rs", "pub mod x; mod y; pub fn f() { y::h() }"),
            ("a/x.rs", "pub struct X;"),
            ("a/y.rs", "use super::x; pub fn h() -> x::X { loop {} }"),
        ],
    ] {
        let all: Vec<(&str, &str)> = [("lib.rs", "pub mod a;")].into_iter().chain(files).collect();
        assert_eq!(planted_circles(&all), Vec::<Vec<String>>::new(), "{files:?}");
    }
}
