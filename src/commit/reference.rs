//! Symbolic links whose target is a URI: they become references, one for each object.
//!
//! What a source says of an object is recorded, and with checksums its bytes are read once, too. They stay where they
//! are. A prefix becomes a directory with one reference for each object below it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{Context, SHA256};
use futures::TryStreamExt;

use super::link::Linker;
use super::{CommitError, Item, What};
use crate::format::entry::{Body, Entry, Mtime};
use crate::format::reference::{MAX_URI_BYTES, ReferenceBody};
use crate::id::{FileHash, Sha256};
use crate::path::{self, TreePath};
use crate::source::{self, Facts, SourceError, Uri};
use crate::view::ReadError;

/// Whether the bytes of references are read at their commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checksums {
    /// Their sources vouch for them.
    None,
    /// Their BLAKE3 is recorded, and in stores that record it their SHA-256.
    Record,
}

/// What single objects were at the first walk of a commit, and what was read of any, so that all walks agree and none is
/// read twice.
pub(super) type Described = Arc<Mutex<HashMap<Uri, ReferenceBody>>>;

impl Linker {
    /// Gives on what a link to a URI stands for.
    pub(super) fn refer(
        &self,
        link: Item,
        target: &[u8],
        visit: &mut dyn FnMut(Item) -> Result<(), CommitError>,
    ) -> Result<(), CommitError> {
        let at = |path: &TreePath, error| CommitError::Reference { path: path.clone(), error };
        let text = std::str::from_utf8(target).map_err(|_| {
            let uri = String::from_utf8_lossy(target).into_owned();
            at(&link.path, SourceError::Uri { uri, problem: "it is not UTF-8".into() })
        })?;
        let uri = Uri::parse(text).map_err(|e| at(&link.path, e))?;
        let known = self.described.lock().expect("no holder of this lock panics").get(&uri).cloned();
        if let Some(known) = known {
            return visit(item(link.path, known, link.mtime));
        }
        let sources = self.context.sources();
        match self.runtime.block_on(sources.describe(&uri)).map_err(|e| at(&link.path, e))? {
            source::Described::Object(facts) => {
                let mtime = facts.modified.unwrap_or(link.mtime);
                let body = self.body(&link.path, &uri, facts)?;
                self.described.lock().expect("no holder of this lock panics").insert(uri, body.clone());
                visit(item(link.path, body, mtime))
            }
            source::Described::Prefix(objects) => {
                let root = link.path.clone();
                visit(Item {
                    path: root.clone(),
                    executable: false,
                    mtime: link.mtime,
                    what: What::Directory,
                })?;
                let mut above: Vec<TreePath> = vec![];
                for (relative, facts) in objects {
                    let bad = |problem: String| {
                        let uri = format!("{uri}{relative}");
                        at(&root, SourceError::Uri { uri, problem })
                    };
                    let path = root.join(relative.as_bytes()).map_err(|e| bad(e.to_string()))?;
                    self.open_directories(&root, &path, link.mtime, &mut above, visit)?;
                    let here = uri.below(&relative).map_err(|e| at(&root, e))?;
                    let mtime = facts.modified.unwrap_or(link.mtime);
                    let body = self.body(&path, &here, facts)?;
                    visit(item(path, body, mtime))?;
                }
                Ok(())
            }
        }
    }

    /// Gives on the directories between `root` and an object that were not given yet; objects come in their order.
    fn open_directories(
        &self,
        root: &TreePath,
        path: &TreePath,
        mtime: Mtime,
        above: &mut Vec<TreePath>,
        visit: &mut dyn FnMut(Item) -> Result<(), CommitError>,
    ) -> Result<(), CommitError> {
        while above.last().is_some_and(|directory| !path.is_below(directory)) {
            above.pop();
        }
        let mut missing = vec![];
        let mut parent = path.parent();
        while let Some(directory) =
            parent.filter(|directory| path::is_below(directory.as_bytes(), root.as_bytes()))
        {
            if above.last() == Some(&directory) {
                break;
            }
            parent = directory.parent();
            missing.push(directory);
        }
        while let Some(directory) = missing.pop() {
            visit(Item { path: directory.clone(), executable: false, mtime, what: What::Directory })?;
            above.push(directory);
        }
        Ok(())
    }

    fn body(&self, path: &TreePath, at: &Uri, facts: Facts) -> Result<ReferenceBody, CommitError> {
        let failed = |error| CommitError::Reference { path: path.clone(), error };
        let uri = at.to_string();
        if uri.len() > MAX_URI_BYTES {
            let problem = format!("it has more than {MAX_URI_BYTES} bytes");
            return Err(failed(SourceError::Uri { uri, problem }));
        }
        let mut body =
            ReferenceBody { uri, size: facts.size, validator: facts.validator, hash: None, sha256: None };
        if self.checksums == Checksums::Record {
            let known = self.described.lock().expect("no holder of this lock panics").get(at).cloned();
            if let Some(known) =
                known.filter(|known| ReferenceBody { hash: None, sha256: None, ..known.clone() } == body)
            {
                return Ok(known);
            }
            let content = self.context.open_reference(&body, "a reference", path);
            let mut sha256 = self.context.store().header().has_sha256().then(|| Context::new(&SHA256));
            let hash = async {
                let (mut hasher, mut parts) = (blake3::Hasher::new(), Box::pin(content.parts()));
                while let Some(part) = parts.try_next().await.map_err(|e| match e {
                    ReadError::Source { error, .. } => failed(error),
                    other => other.into(),
                })? {
                    self.progress.check()?;
                    self.progress.bytes.add(part.len() as u64);
                    hasher.update(&part);
                    if let Some(sha256) = &mut sha256 {
                        sha256.update(&part);
                    }
                }
                Ok::<_, CommitError>(FileHash::from_hash(hasher.finalize()))
            };
            body.hash = Some(self.runtime.block_on(hash)?);
            body.sha256 = sha256.map(Sha256::finish);
            self.described.lock().expect("no holder of this lock panics").insert(at.clone(), body.clone());
        }
        Ok(body)
    }
}

fn item(path: TreePath, body: ReferenceBody, mtime: Mtime) -> Item {
    let body = Body::Reference(Box::new(body));
    let entry = Entry { path: path.clone(), executable: false, mtime, body };
    Item { path, executable: false, mtime, what: What::Known(Box::new(entry), None) }
}
