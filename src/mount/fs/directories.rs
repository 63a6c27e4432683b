//! Open directories. A listing is a snapshot taken when the directory is opened.
//!
//! A version's directory never changes, so it needs no snapshot: it is read page by page, and an entry's offset in
//! the listing follows from its place in the manifest.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::errno::{Errno, Result};
use super::inode::{Inodes, Resolved};
use super::names::NameTree;
use super::reply::AttrReply;
use super::sessions::Sessions;
use super::version_node::{Shown, VersionNode};
use super::versions::VersionTrees;
use crate::format::entry::EntryBody;
use crate::format::id::ManifestId;
use crate::format::name::ArtifactKey;
use crate::format::path::TreePath;
use crate::mount::staging::FileKind;

/// Entries of a version's directory that are fetched at once.
const PAGE: usize = 512;

/// One name of a listing.
#[derive(Debug, Clone)]
pub struct ListedName {
    /// Where the listing goes on behind it.
    pub next_offset: u64,
    /// Its inode number; a placeholder where it is not known without a look-up.
    pub ino: u64,
    /// What it is.
    pub kind: ListedKind,
    /// The name.
    pub name: Vec<u8>,
    /// Its attributes, where they are at hand.
    pub answer: Option<AttrReply>,
}

/// The kind of object that a name of a listing stands for.
pub type ListedKind = FileKind;

/// An open directory.
#[derive(Debug)]
pub(super) struct DirectoryHandle {
    of: OpenDirectory,
    page: Mutex<NamePage>,
    /// The next page, and where it begins.
    ahead: Mutex<Option<(u64, JoinHandle<Result<NamePage>>)>>,
}

#[derive(Debug)]
enum OpenDirectory {
    /// Everything that was there is in its one page.
    Snapshot,
    Version(VersionDirectory),
}

/// A version's directory: no path is its root.
#[derive(Debug, Clone)]
struct VersionDirectory {
    version: Arc<VersionNode>,
    path: Option<TreePath>,
    ino: u64,
    parent: u64,
}

/// Names that lie together in a listing. The kernel takes what it has room for, and comes back for the rest.
#[derive(Debug, Clone, Default)]
struct NamePage {
    /// Where in the listing it begins.
    begin: u64,
    names: Arc<Vec<ListedName>>,
    /// Nothing comes behind it.
    is_last: bool,
}

/// Names of a directory, from one on.
#[derive(Debug)]
pub struct DirectoryNames {
    page: Arc<Vec<ListedName>>,
    from: usize,
}

impl std::ops::Deref for DirectoryNames {
    type Target = [ListedName];

    fn deref(&self) -> &[ListedName] {
        &self.page[self.from..]
    }
}

impl NamePage {
    /// What it has from `offset` on; none if the listing goes on elsewhere.
    fn from(&self, offset: u64) -> Option<DirectoryNames> {
        let from = self.names.partition_point(|name| name.next_offset <= offset);
        let is_here = self.begin <= offset && (from < self.names.len() || self.is_last);
        is_here.then(|| DirectoryNames { page: self.names.clone(), from })
    }
}

impl DirectoryHandle {
    fn snapshot(ino: u64, names: Vec<(Vec<u8>, u64, FileKind)>) -> Self {
        let entries = names.into_iter().zip(FIRST_ENTRY + 1..);
        let listed = entries.map(|((name, ino, kind), next_offset)| ListedName {
            next_offset,
            ino,
            kind,
            name,
            answer: None,
        });
        let names = Arc::new(dots(ino, ino).into_iter().chain(listed).collect());
        let page = Mutex::new(NamePage { begin: 0, names, is_last: true });
        Self { of: OpenDirectory::Snapshot, page, ahead: Mutex::default() }
    }

    fn in_version(version: Arc<VersionNode>, path: Option<TreePath>, ino: u64, parent: u64) -> Self {
        let of = OpenDirectory::Version(VersionDirectory { version, path, ino, parent });
        Self { of, page: Mutex::default(), ahead: Mutex::default() }
    }

    /// The version it is in.
    pub fn version(&self) -> Option<&Arc<VersionNode>> {
        match &self.of {
            OpenDirectory::Snapshot => None,
            OpenDirectory::Version(place) => Some(&place.version),
        }
    }

    fn page(&self) -> MutexGuard<'_, NamePage> {
        self.page.lock()
    }
}

fn dots(ino: u64, parent: u64) -> [ListedName; 2] {
    [(b".".as_slice(), ino, 1), (b"..", parent, FIRST_ENTRY)].map(|(name, ino, next_offset)| ListedName {
        next_offset,
        ino,
        kind: FileKind::Directory,
        name: name.to_vec(),
        answer: None,
    })
}

/// Offsets of `.` and `..`; entries follow.
const FIRST_ENTRY: u64 = 2;

/// The open directories of a mount, by handle. The lock is held for look-ups only.
pub(super) struct OpenDirectories {
    inodes: Arc<Inodes>,
    names: Arc<NameTree>,
    sessions: Arc<Sessions>,
    versions: Arc<VersionTrees>,
    runtime: tokio::runtime::Handle,
    open: Mutex<HashMap<u64, Arc<DirectoryHandle>>>,
}

impl OpenDirectories {
    pub fn new(
        inodes: Arc<Inodes>,
        names: Arc<NameTree>,
        sessions: Arc<Sessions>,
        versions: Arc<VersionTrees>,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        Self { inodes, names, sessions, versions, runtime, open: Mutex::default() }
    }

    /// Opens a directory. Returns its handle, and whether the kernel may keep the listing.
    pub async fn open(&self, ino: u64, resolved: Resolved) -> Result<(u64, bool)> {
        let handle = match resolved {
            Resolved::Node(node) => DirectoryHandle::snapshot(ino, self.names.list(&node).await?),
            Resolved::Session(session) => {
                DirectoryHandle::snapshot(ino, self.sessions.list(&session, ino).await?)
            }
            Resolved::Version(version, None) => {
                self.versions.view(&version).await?;
                let parent = match &version.shown {
                    Shown::Named(_) => ino,
                    Shown::Contained { parent, .. } => *parent,
                };
                let path = version.root_path().cloned();
                DirectoryHandle::in_version(version, path, ino, parent)
            }
            Resolved::Version(version, Some(ordinal)) => {
                let entry = self.versions.entry(&version, ordinal).await?;
                if entry.body != EntryBody::Directory {
                    return Err(Errno(libc::ENOTDIR));
                }
                let parent = version.base;
                DirectoryHandle::in_version(version, Some(entry.path), ino, parent)
            }
        };
        let keep = matches!(handle.of, OpenDirectory::Version(_));
        let number = self.inodes.next();
        self.open.lock().insert(number, Arc::new(handle));
        Ok((number, keep))
    }

    /// Closes a directory.
    pub fn release(&self, handle: u64) {
        self.open.lock().remove(&handle);
    }

    /// Names from `offset` on: those of one page, none at the end.
    pub async fn read(&self, handle: u64, offset: u64) -> Result<DirectoryNames> {
        let open = self.open.lock().get(&handle).cloned();
        let open = open.ok_or(Errno(libc::EBADF))?;
        if let Some(names) = open.page().from(offset) {
            return Ok(names);
        }
        let OpenDirectory::Version(place) = &open.of else { return Err(Errno::INVALID) };
        let ahead = open.ahead.lock().take();
        let ahead = match ahead.filter(|(begin, _)| *begin == offset) {
            Some((_, page)) => page.await.ok().and_then(Result::ok),
            None => None,
        };
        let page = match ahead {
            Some(page) => page,
            // Also where reading it ahead failed: the failure may have passed.
            None => version_page(&self.versions, place, offset).await?,
        };
        if let Some(last) = page.names.last().filter(|_| !page.is_last) {
            // Read while the kernel takes in this one.
            let (versions, place, begin) = (self.versions.clone(), place.clone(), last.next_offset);
            let next = self.runtime.spawn(async move { version_page(&versions, &place, begin).await });
            *open.ahead.lock() = Some((begin, next));
        }
        *open.page() = page.clone();
        Ok(DirectoryNames { page: page.names, from: 0 })
    }

    /// The versions of which a directory is open.
    pub fn versions(&self) -> Vec<(ArtifactKey, ManifestId)> {
        let open = self.open.lock();
        open.values().filter_map(|directory| directory.version()).map(|v| v.key()).collect()
    }
}

/// The page of a version's directory that begins at `offset`.
async fn version_page(versions: &VersionTrees, place: &VersionDirectory, offset: u64) -> Result<NamePage> {
    let VersionDirectory { version, path, ino, parent } = place;
    let view = versions.view(version).await?;
    let after = match offset.checked_sub(FIRST_ENTRY + 1) {
        Some(ordinal) => Some(versions.entry(version, ordinal).await?.path),
        None => None,
    };
    let after = after.as_ref().map(TreePath::file_name);
    let entries = view.children(path.as_ref(), after, PAGE).await?;
    let is_last = entries.len() < PAGE;
    let dots = dots(*ino, *parent).into_iter().filter(|dot| dot.next_offset > offset);
    let mut names: Vec<ListedName> = Vec::with_capacity(entries.len() + 2);
    names.extend(dots);
    for (ordinal, entry) in entries {
        let answer = versions.entry_reply(version, ordinal, &entry, *ino)?;
        names.push(ListedName {
            next_offset: FIRST_ENTRY + ordinal + 1,
            ino: answer.attr.ino,
            kind: answer.attr.kind,
            name: entry.path.file_name().to_vec(),
            answer: Some(answer),
        });
    }
    Ok(NamePage { begin: offset, names: Arc::new(names), is_last })
}
