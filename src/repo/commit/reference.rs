//! Symbolic links whose target is a URI: they become references, one for each object.
//!
//! The reference records what the source says of the object; with checksums its bytes are read once, too. The bytes stay
//! where they are. A prefix becomes a directory with one reference for each object below it.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt;
use parking_lot::{Mutex, MutexGuard};
use ring::digest::{Context, SHA256};
use tokio::runtime::Handle;

use super::described_objects::DescribedObjects;
use super::error::CommitError;
use super::item::TreeVisitor;
use super::item::{ItemBody, TreeItem};
use super::progress::CommitProgress;
use super::sorted::Sorter;
use crate::format::entry::{Entry, EntryBody, Mtime};
use crate::format::id::{FileHash, Sha256};
use crate::format::path::TreePath;
use crate::format::reference::{MAX_URI_BYTES, ReferenceBody};
use crate::host::steady::Reads;
use crate::repo::view::{ReadContext, ReadError};
use crate::store::source::{self, Facts, ListingSink, SourceError, Uri, UriError};

/// Whether the bytes of references are read at their commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checksums {
    /// Their sources vouch for them.
    None,
    /// Their BLAKE3 is recorded, and in stores that record it their SHA-256.
    Record,
}

/// Turns a listing into entries of the tree.
struct Below<'a> {
    uri: Uri,
    root: &'a TreePath,
    link_mtime: Mtime,
    folder: Option<&'a Path>,
    sorter: Sorter,
    /// Why it stopped.
    failed: Option<CommitError>,
}

impl Below<'_> {
    fn entry(&self, relative: &str, facts: Facts) -> Result<Entry, CommitError> {
        let at_root = |source| CommitError::Reference { path: self.root.clone(), source };
        let (name, is_folder) = relative.strip_suffix('/').map_or((relative, false), |name| (name, true));
        let path = self.root.join(name.as_bytes()).map_err(|e| {
            at_root(SourceError::Uri { uri: format!("{}{relative}", self.uri), source: e.into() })
        })?;
        let here = self.uri.below(relative).map_err(at_root)?;
        if is_folder {
            return Ok(Entry { path, executable: false, mtime: self.link_mtime, body: EntryBody::Directory });
        }
        let mtime = facts.modified.unwrap_or(self.link_mtime);
        let body = unread(&path, &here, facts)?;
        Ok(entry(path, body, mtime))
    }
}

impl ListingSink for Below<'_> {
    fn begin(&mut self) {
        self.sorter = Sorter::new(self.folder);
    }

    fn take(&mut self, relative: &str, facts: Facts) -> ControlFlow<()> {
        match self.entry(relative, facts).and_then(|entry| self.sorter.push(&entry)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => {
                self.failed = Some(e);
                ControlFlow::Break(())
            }
        }
    }
}

/// Turns links to URIs into references.
pub(super) struct ReferenceMaker {
    pub context: Arc<ReadContext>,
    pub runtime: Handle,
    pub progress: Arc<CommitProgress>,
    pub checksums: Checksums,
    pub described: Mutex<DescribedObjects>,
    /// The folder for what does not fit in memory.
    pub folder: Option<PathBuf>,
}

impl ReferenceMaker {
    /// Visits what a link to a URI stands for. Memory does not grow with the objects below a prefix, but for the
    /// checksums of those that are read. Waits for sources; not called from within the runtime.
    pub fn refer(&self, link: TreeItem, target: &[u8], visit: TreeVisitor<'_>) -> Result<(), CommitError> {
        let at = |path: &TreePath, source| CommitError::Reference { path: path.clone(), source };
        let text = std::str::from_utf8(target).map_err(|_| {
            let uri = String::from_utf8_lossy(target).into_owned();
            at(&link.path, SourceError::Uri { uri, source: UriError::NotUtf8 })
        })?;
        let uri = Uri::parse(text).map_err(|e| at(&link.path, e))?;
        let question = format!("what is {uri}");
        if let Some(known) = self.described().find(&question)? {
            return visit(item(link.path, known, link.mtime));
        }
        let folder = self.folder.as_deref();
        let mut below = Below {
            uri: uri.as_prefix(),
            root: &link.path,
            link_mtime: link.mtime,
            folder,
            sorter: Sorter::new(folder),
            failed: None,
        };
        let described = self.runtime.block_on(self.context.sources().describe(&uri, &mut below));
        let Below { uri: prefix, sorter, failed, .. } = below;
        if let Some(error) = failed {
            return Err(error);
        }
        match described.map_err(|e| at(&link.path, e))? {
            source::DescribedUri::Object(facts) => {
                let mtime = facts.modified.unwrap_or(link.mtime);
                let (body, mtime) = self.proved(&link.path, unread(&link.path, &uri, facts)?, mtime)?;
                self.described().add(&question, &link.path, &body)?;
                visit(item(link.path, body, mtime))
            }
            source::DescribedUri::Prefix => self.refer_below(&link, &prefix, sorter, visit),
        }
    }

    fn refer_below(
        &self,
        link: &TreeItem,
        prefix: &Uri,
        sorter: Sorter,
        visit: TreeVisitor<'_>,
    ) -> Result<(), CommitError> {
        let directory =
            |path| TreeItem { path, executable: false, mtime: link.mtime, what: ItemBody::Directory };
        visit(directory(link.path.clone()))?;
        let (mut above, mut last): (Vec<TreePath>, Option<TreePath>) = (vec![], None);
        sorter.each(&mut |found| {
            let Entry { path, mtime, body, .. } = found;
            let both = |path: TreePath| {
                let below = path.as_bytes().get(link.path.as_bytes().len() + 1..).unwrap_or_default();
                let uri = format!("{prefix}{}", String::from_utf8_lossy(below));
                let source = SourceError::Uri { uri, source: UriError::FileAndDirectory };
                CommitError::Reference { path, source }
            };
            for missing in missing_directories(&link.path, &path, &mut above) {
                if last.as_ref() == Some(&missing) {
                    return Err(both(missing));
                }
                visit(directory(missing))?;
            }
            if last.as_ref() == Some(&path) {
                return Err(both(path));
            }
            last = Some(path.clone());
            match body {
                EntryBody::Reference(body) => {
                    let (body, mtime) = self.proved(&path, *body, mtime)?;
                    visit(item(path, body, mtime))
                }
                _ => {
                    above.push(path.clone());
                    visit(directory(path))
                }
            }
        })
    }

    fn described(&self) -> MutexGuard<'_, DescribedObjects> {
        self.described.lock()
    }

    /// Adds the hash of the object's bytes if checksums are wanted. The bytes are read, again if they change meanwhile.
    fn proved(
        &self,
        path: &TreePath,
        mut body: ReferenceBody,
        mut mtime: Mtime,
    ) -> Result<(ReferenceBody, Mtime), CommitError> {
        if self.checksums == Checksums::None {
            return Ok((body, mtime));
        }
        let mut reads = Reads::default();
        loop {
            match self.hashed(path, body.clone()) {
                Err(CommitError::Reference { source, .. }) if source.is_change() && reads.again() => {
                    let failed = |source| CommitError::Reference { path: path.clone(), source };
                    let uri = Uri::parse(&body.uri).map_err(failed)?;
                    let facts = self.runtime.block_on(self.context.sources().facts(&uri)).map_err(failed)?;
                    mtime = facts.modified.unwrap_or(mtime);
                    body = unread(path, &uri, facts)?;
                }
                other => return other.map(|body| (body, mtime)),
            }
        }
    }

    fn hashed(&self, path: &TreePath, mut body: ReferenceBody) -> Result<ReferenceBody, CommitError> {
        let validator = body.validator.to_string();
        let question = format!("bytes of {} {} {validator} {}", body.size, validator.len(), body.uri);
        if let Some(known) = self.described().find(&question)? {
            return Ok(known);
        }
        let content = self.context.open_reference(&body, "a reference", path);
        let mut sha256 = self.context.store().header().has_sha256().then(|| Context::new(&SHA256));
        let hash = async {
            let (mut hasher, mut parts) = (blake3::Hasher::new(), Box::pin(content.parts()));
            while let Some(part) = parts.try_next().await.map_err(|e| match e {
                ReadError::Source { error, .. } => {
                    CommitError::Reference { path: path.clone(), source: error }
                }
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
        self.described().add(&question, path, &body)?;
        Ok(body)
    }
}

/// Returns the directories between `root` and an object that were not visited yet, topmost first. Objects come in path
/// order; `above` has the directories on the way to the object before.
fn missing_directories(root: &TreePath, path: &TreePath, above: &mut Vec<TreePath>) -> Vec<TreePath> {
    while above.last().is_some_and(|directory| !path.is_below(directory)) {
        above.pop();
    }
    let mut missing = vec![];
    let mut parent = path.parent();
    while let Some(directory) = parent.filter(|directory| directory.is_below(root)) {
        if above.last() == Some(&directory) {
            break;
        }
        parent = directory.parent();
        missing.push(directory);
    }
    missing.reverse();
    above.extend(missing.iter().cloned());
    missing
}

/// Makes the reference to an object from what its source says, without reading it.
fn unread(path: &TreePath, at: &Uri, facts: Facts) -> Result<ReferenceBody, CommitError> {
    let uri = at.to_string();
    if uri.len() > MAX_URI_BYTES {
        let source = SourceError::Uri { uri, source: UriError::TooLong { max: MAX_URI_BYTES } };
        return Err(CommitError::Reference { path: path.clone(), source });
    }
    Ok(ReferenceBody { uri, size: facts.size, validator: facts.validator, hash: None, sha256: None })
}

fn entry(path: TreePath, body: ReferenceBody, mtime: Mtime) -> Entry {
    Entry { path, executable: false, mtime, body: EntryBody::Reference(Box::new(body)) }
}

fn item(path: TreePath, body: ReferenceBody, mtime: Mtime) -> TreeItem {
    let what = ItemBody::Known(Box::new(entry(path.clone(), body, mtime)), None);
    TreeItem { path, executable: false, mtime, what }
}
