//! Each promise of `docs/semantics.md` names tests that exist.

use std::collections::HashSet;
use std::path::Path;

/// The names in backquotes behind `test:`, up to the end of the paragraph or the next item.
fn named(page: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_list = false;
    for line in page.lines() {
        let text = line.trim_start();
        is_list = match text.strip_prefix("test: ") {
            Some(_) => true,
            None => is_list && text.starts_with('`'),
        };
        if is_list {
            names.extend(text.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    names
}

fn words_of(folder: &Path, words: &mut HashSet<String>) {
    for found in std::fs::read_dir(folder).expect("a folder") {
        let path = found.expect("an entry").path();
        if path.is_dir() {
            words_of(&path, words);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(path).expect("a file");
            let split = text.split(|c: char| !c.is_alphanumeric() && c != '_');
            words.extend(split.map(str::to_owned));
        }
    }
}

#[test]
fn every_test_that_a_promise_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/semantics.md")).expect("docs/semantics.md");
    let mut words = HashSet::new();
    ["src", "tests"].iter().for_each(|folder| words_of(&root.join(folder), &mut words));
    let names = named(&page);
    assert!(names.len() > 300, "{} names were found", names.len());
    // A whole file of tests may be named, too.
    let exists = |name: &String| words.contains(name) || root.join(name).is_file();
    let missing: Vec<&String> = names.iter().filter(|name| !exists(name)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}

#[test]
fn names_of_tests_are_found_over_several_lines() {
    let page = "* A promise with `code`.\n  test: `a_b`, `c`,\n  `d`\n* Another. test: none\n  `e`\n";
    assert_eq!(named(page), ["a_b", "c", "d"]);
}
