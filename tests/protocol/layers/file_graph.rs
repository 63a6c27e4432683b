//! Which file of a crate takes names from which: the file that defines a name, whatever re-exports lead to it.
//!
//! It reads tokens, not types. Names made by macros belong to the file of their module; what only tests import does not
//! count, nor does a declaration `mod child;`.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::tokens::tokens;

/// The longest path that is followed.
const MAX_PATH: usize = 16;

/// The names that files take from other files.
pub struct FileGraph {
    edges: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
}

/// What a name in a module stands for: one name can be a module and a function.
#[derive(Default)]
struct Name {
    module: Option<usize>,
    is_item: bool,
    import: Option<Vec<String>>,
}

/// A module: a file, or an inline one of the same file.
struct Module {
    file: String,
    parent: usize,
    names: BTreeMap<String, Name>,
    /// The modules behind `use …::*`.
    globs: Vec<Vec<String>>,
    /// Every path in it.
    paths: Vec<Vec<String>>,
}

impl FileGraph {
    /// Reads the modules of a crate from its `lib.rs`. The names of files are relative to that.
    pub fn of(files: &BTreeMap<String, String>) -> Self {
        let mut modules = Modules { files, all: Vec::new() };
        modules.read_file("lib.rs", 0, "");
        let mut edges: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        for (at, module) in modules.all.iter().enumerate() {
            let from = edges.entry(module.file.clone()).or_default();
            for path in &module.paths {
                if let Some((file, name)) = modules.definition(at, path, &mut HashSet::new())
                    && file != module.file
                {
                    from.entry(file).or_default().insert(name);
                }
            }
        }
        Self { edges }
    }

    /// Returns the files that were read.
    pub fn files(&self) -> impl Iterator<Item = &String> {
        self.edges.keys()
    }

    /// Returns the files that reach each other, a list for each circle, in alphabetical order.
    pub fn circles(&self) -> Vec<Vec<String>> {
        let reached: BTreeMap<&String, BTreeSet<&String>> =
            self.edges.keys().map(|file| (file, self.reached_from(file))).collect();
        let circle = |file: &String| -> Vec<String> {
            let mutual =
                reached[file].iter().filter(|to| reached.get(**to).is_some_and(|r| r.contains(file)));
            mutual.map(|to| (*to).clone()).collect()
        };
        let circles: BTreeSet<Vec<String>> =
            self.edges.keys().map(circle).filter(|circle| circle.len() > 1).collect();
        circles.into_iter().collect()
    }

    fn reached_from(&self, file: &String) -> BTreeSet<&String> {
        let mut reached = BTreeSet::new();
        let mut open: Vec<&String> = self.edges[file].keys().collect();
        while let Some(next) = open.pop() {
            if reached.insert(next) {
                open.extend(self.edges.get(next).into_iter().flat_map(BTreeMap::keys));
            }
        }
        reached
    }

    /// Describes what ties the files of a circle: `from -> to: names`.
    pub fn describe(&self, circle: &[String]) -> String {
        let mut lines = vec![format!("{}:", circle.join(", "))];
        for from in circle {
            for (to, names) in self.edges[from].iter().filter(|(to, _)| circle.contains(to)) {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                lines.push(format!("  {from} -> {to}: {}", names.join(", ")));
            }
        }
        lines.join("\n")
    }
}

/// All modules of a crate; the first is its root.
struct Modules<'a> {
    files: &'a BTreeMap<String, String>,
    all: Vec<Module>,
}

impl Modules<'_> {
    /// Reads a file and the modules that it declares, which are below `folder`.
    fn read_file(&mut self, file: &str, parent: usize, folder: &str) -> usize {
        let at = self.add(file, parent);
        let tokens = without_tests(tokens(&self.files[file]));
        self.read(at, &tokens, folder);
        at
    }

    fn add(&mut self, file: &str, parent: usize) -> usize {
        let (names, globs, paths) = (BTreeMap::new(), Vec::new(), Vec::new());
        self.all.push(Module { file: file.to_owned(), parent, names, globs, paths });
        self.all.len() - 1
    }

    /// Reads the tokens of one module.
    fn read(&mut self, at: usize, tokens: &[String], folder: &str) {
        let token = |i: usize| tokens.get(i).map_or("", String::as_str);
        let (mut i, mut depth) = (0, 0);
        while i < tokens.len() {
            match (token(i), depth) {
                ("{", _) => depth += 1,
                ("}", _) => depth -= 1,
                ("mod", 0) if token(i + 2) == ";" => {
                    let below = format!("{folder}{}", token(i + 1));
                    let candidates = [format!("{below}.rs"), format!("{below}/mod.rs")];
                    if let Some(file) = candidates.iter().find(|file| self.files.contains_key(*file)) {
                        let child = self.read_file(file, at, &format!("{below}/"));
                        self.name(at, token(i + 1)).module = Some(child);
                    }
                }
                ("mod", 0) if token(i + 2) == "{" => {
                    let end = end_of_block(tokens, i + 2);
                    let file = self.all[at].file.clone();
                    let child = self.add(&file, at);
                    self.name(at, token(i + 1)).module = Some(child);
                    self.read(child, &tokens[i + 3..end], &format!("{folder}{}/", token(i + 1)));
                    i = end;
                }
                ("use", _) => {
                    let end = (i..tokens.len()).find(|i| token(*i) == ";").unwrap_or(tokens.len());
                    let mut imports = Vec::new();
                    use_tree(&tokens[i + 1..end], &[], &mut imports);
                    for (path, alias) in imports {
                        match alias.as_str() {
                            "*" if depth == 0 => self.all[at].globs.push(path),
                            "*" => {}
                            _ => {
                                self.all[at].paths.push(path.clone());
                                if depth == 0 {
                                    self.name(at, &alias).import.get_or_insert(path);
                                }
                            }
                        }
                    }
                    i = end;
                }
                ("fn" | "struct" | "enum" | "trait" | "type" | "const" | "static", 0) => {
                    let next = if token(i + 1) == "mut" { i + 2 } else { i + 1 };
                    if is_name(token(next)) && !matches!(token(next), "fn" | "unsafe" | "extern" | "async") {
                        self.name(at, token(next)).is_item = true;
                    }
                }
                (first, _) if is_name(first) && token(i + 1) == "::" => {
                    let is_start = i == 0 || !matches!(token(i - 1), "::" | ".");
                    let mut path = vec![first.to_owned()];
                    while token(i + 1) == "::" && is_name(token(i + 2)) {
                        path.push(token(i + 2).to_owned());
                        i += 2;
                    }
                    if is_start && path.len() > 1 {
                        self.all[at].paths.push(path);
                    }
                }
                _ => {}
            }
            i += 1;
        }
    }

    fn name(&mut self, at: usize, name: &str) -> &mut Name {
        self.all[at].names.entry(name.to_owned()).or_default()
    }

    /// Returns the file that defines the name at the end of a path, and that name; `None` for names of other crates
    /// and for modules.
    fn definition(
        &self,
        from: usize,
        path: &[String],
        seen: &mut HashSet<(usize, Vec<String>)>,
    ) -> Option<(String, String)> {
        // An import of its own name would grow for ever.
        if !seen.insert((from, path.to_vec())) || path.len() > MAX_PATH {
            return None;
        }
        let (mut at, mut rest) = (from, path);
        let mut is_absolute = true;
        match rest.first()?.as_str() {
            "crate" | "artfs" => (at, rest) = (0, &rest[1..]),
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|first| first == "super") {
                    (at, rest) = (self.all[at].parent, &rest[1..]);
                }
            }
            _ => is_absolute = false,
        }
        while let Some((name, behind)) = rest.split_first() {
            let module = &self.all[at];
            match module.names.get(name) {
                Some(Name { module: Some(child), .. }) if !behind.is_empty() => (at, rest) = (*child, behind),
                Some(Name { is_item: true, .. }) => return Some((module.file.clone(), name.clone())),
                Some(Name { import: Some(import), .. }) => {
                    return self.definition(at, &[import, behind].concat(), seen);
                }
                Some(_) => return None,
                None => {
                    let mut globs = module.globs.iter().map(|glob| [glob.as_slice(), rest].concat());
                    let found = globs.find_map(|whole| self.definition(at, &whole, seen));
                    // What no item defines, a macro of the module does.
                    let made = || is_absolute.then(|| (module.file.clone(), name.clone()));
                    return found.or_else(made);
                }
            }
            is_absolute = true;
        }
        None
    }
}

/// Adds the paths of a use tree with the names that they get; a glob gets `*`.
fn use_tree(tree: &[String], before: &[String], imports: &mut Vec<(Vec<String>, String)>) {
    let mut path = before.to_vec();
    let mut i = 0;
    while let Some(token) = tree.get(i) {
        match token.as_str() {
            "::" => {}
            "{" => {
                for branch in branches(&tree[i + 1..end_of_block(tree, i)]) {
                    use_tree(branch, &path, imports);
                }
                return;
            }
            "*" => return imports.push((path, "*".to_owned())),
            "as" => {
                let alias = tree.get(i + 1).cloned().unwrap_or_default();
                return imports.push((path, alias));
            }
            "self" if !path.is_empty() => {}
            name => path.push(name.to_owned()),
        }
        i += 1;
    }
    if let Some(name) = path.last().cloned().filter(|_| path.len() > 1) {
        imports.push((path, name));
    }
}

/// Splits a list at the commas outside of braces.
fn branches(list: &[String]) -> Vec<&[String]> {
    let mut depth = 0;
    let split = list.split(move |token| {
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        token == "," && depth == 0
    });
    split.filter(|branch| !branch.is_empty()).collect()
}

/// Returns the index of the brace that closes the one at `open`.
fn end_of_block(tokens: &[String], open: usize) -> usize {
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match token.as_str() {
            "{" => depth += 1,
            "}" if depth == 1 => return i,
            "}" => depth -= 1,
            _ => {}
        }
    }
    tokens.len()
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_') && token != "_"
}

/// Removes what only tests have: items and fields behind `#[cfg(test)]` and `#[cfg(all(test, …))]`.
fn without_tests(tokens: Vec<String>) -> Vec<String> {
    let begins = |i: usize, with: &[&str]| {
        with.iter().enumerate().all(|(j, w)| tokens.get(i + j).is_some_and(|t| t == w))
    };
    let mut kept = Vec::with_capacity(tokens.len());
    let mut i = 0;
    while i < tokens.len() {
        if begins(i, &["#", "[", "cfg", "(", "test", ")"])
            || begins(i, &["#", "[", "cfg", "(", "all", "(", "test"])
        {
            i = end_of_item(&tokens, i);
        } else {
            kept.push(tokens[i].clone());
            i += 1;
        }
    }
    kept
}

/// Returns the index after the item whose first attribute begins at `at`.
fn end_of_item(tokens: &[String], at: usize) -> usize {
    const NESTED: [&str; 8] = ["fn", "mod", "struct", "enum", "trait", "impl", "macro_rules", "union"];
    const FLAT: [&str; 5] = ["use", "const", "static", "type", "let"];
    let (mut depth, mut kind) = (0i32, "");
    let mut i = at;
    while let Some(token) = tokens.get(i) {
        match token.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" => depth -= 1,
            // The end of what holds it.
            "}" if depth == 0 => return i,
            "}" => {
                depth -= 1;
                if depth == 0 && !FLAT.contains(&kind) {
                    return i + 1;
                }
            }
            ";" if depth == 0 => return i + 1,
            "," if depth == 0 && kind.is_empty() => return i + 1,
            word if depth == 0 && (NESTED.contains(&word) || kind.is_empty() && FLAT.contains(&word)) => {
                kind = if word == "fn" { "fn" } else { word };
            }
            _ => {}
        }
        i += 1;
    }
    i
}
