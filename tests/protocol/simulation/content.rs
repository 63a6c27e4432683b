//! The trees that hosts commit: small, of few shared pieces, and known by number.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{Seek, Write};
use std::path::PathBuf;

use artfs::format::entry::Mtime;
use artfs::format::id::Digest;
use artfs::format::path::TreePath;
use artfs::repo::commit::{ItemBody, OwnBytes, TreeItem, TreeSource, TreeVisitor};
use bytes::Bytes;

use crate::support::environment::noise;
use crate::support::random::Random;
use crate::support::read_back::{Kind, Node, Tree, digest_of};

/// Trees of one world. Some are committed again and again.
const CONTENTS: u32 = 24;

/// One tree.
#[derive(Debug, Clone)]
pub struct Content {
    files: BTreeMap<TreePath, Bytes>,
    /// As the judge of the store reads it.
    pub tree: Tree,
    pub digest: Digest,
}

/// All trees of a world.
#[derive(Debug)]
pub struct Contents {
    all: Vec<Content>,
    numbers: HashMap<Digest, u32>,
}

impl Contents {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed, "contents");
        // Inline, one chunk, several chunks; now and then so many that they need a list of their own.
        let longest = if random.per_mille(100) { 90_000 } else { 9_000 };
        let lengths = [40, 700, 2_500, 5_000, longest];
        let pieces: Vec<Bytes> =
            lengths.iter().enumerate().map(|(i, len)| noise(seed, i as u64, *len).into()).collect();
        let all: Vec<Content> = (0..CONTENTS).map(|n| Content::new(seed, n, &pieces, &mut random)).collect();
        let numbers = all.iter().zip(0..).map(|(content, n)| (content.digest, n)).collect();
        Self { all, numbers }
    }

    pub fn count(&self) -> u32 {
        CONTENTS
    }

    pub fn get(&self, number: u32) -> &Content {
        &self.all[number as usize]
    }

    /// Which content has this digest; none if nobody can have committed it.
    pub fn number(&self, digest: &Digest) -> Option<u32> {
        self.numbers.get(digest).copied()
    }
}

impl Content {
    fn new(seed: u64, number: u32, pieces: &[Bytes], random: &mut Random) -> Self {
        let mut files = BTreeMap::from([(path("which"), Bytes::from(format!("{number} of {seed}")))]);
        for name in ["model.bin", "table.csv", "sub/part.bin", "sub/notes.txt"] {
            if random.per_mille(400) {
                files.insert(path(name), random.pick(pieces).clone());
            }
        }
        let folders: BTreeSet<TreePath> = files.keys().filter_map(TreePath::parent).collect();
        let node = |kind| Node { mtime: mtime(number), kind };
        let mut tree: Tree = folders.iter().map(|p| (p.as_bytes().to_vec(), node(Kind::Directory))).collect();
        for (path, bytes) in &files {
            let hash = blake3::hash(bytes).to_hex().to_string();
            let kind = Kind::File { executable: false, size: bytes.len() as u64, hash };
            tree.insert(path.as_bytes().to_vec(), node(kind));
        }
        let digest = digest_of(&tree);
        Self { files, tree, digest }
    }

    /// The bytes of a file.
    pub fn file(&self, path: &TreePath) -> Option<&Bytes> {
        self.files.get(path)
    }

    /// The paths of all entries.
    pub fn paths(&self) -> BTreeSet<TreePath> {
        self.files.keys().cloned().chain(self.files.keys().filter_map(TreePath::parent)).collect()
    }

    /// Gives the tree to a commit; the files are made in `folder` and have no name.
    pub fn walk(&self, folder: PathBuf) -> impl TreeSource + use<> {
        let content = self.clone();
        move |visit: TreeVisitor<'_>| {
            for path in content.paths() {
                let what = match content.files.get(&path) {
                    Some(bytes) => ItemBody::File(OwnBytes::of(nameless_file(&folder, bytes))),
                    None => ItemBody::Directory,
                };
                let mtime = content.tree[path.as_bytes()].mtime;
                visit(TreeItem { path, executable: false, mtime, what })?;
            }
            Ok(())
        }
    }
}

fn path(text: &str) -> TreePath {
    TreePath::new(text.as_bytes()).expect("a path")
}

fn mtime(number: u32) -> Mtime {
    Mtime { seconds: i64::from(number), nanos: 0 }
}

fn nameless_file(folder: &std::path::Path, bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile_in(folder).expect("a file");
    file.write_all(bytes).and_then(|()| file.rewind()).expect("its bytes");
    file
}
