//! Listing directories: a snapshot taken when they are opened.
//!
//! A version's directory never changes, so it needs no snapshot: it is read in pieces, and an entry's place in
//! the listing is its place in the manifest.

use std::sync::Arc;

use super::inode::{Node, Resolved, Shown, VersionNode};
use super::{Answer, Errno, Fs, Result};
use crate::format::entry::{Body, Entry};
use crate::path::TreePath;
use crate::staging::Kind;

/// Entries of a version's directory that are fetched at once.
const PAGE: usize = 512;

/// One name of a listing.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Where the listing goes on behind it.
    pub next_offset: u64,
    /// Its inode number; a placeholder where it is not known without a look-up.
    pub ino: u64,
    /// What it is.
    pub kind: ListedKind,
    /// The name.
    pub name: Vec<u8>,
    /// Its attributes, where they are at hand.
    pub answer: Option<Answer>,
}

/// What a name of a listing is.
pub type ListedKind = Kind;

/// An open directory.
#[derive(Debug)]
pub(super) enum DirectoryHandle {
    /// Everything that was there.
    Snapshot { ino: u64, names: Vec<(Vec<u8>, u64, Kind)> },
    /// A version's directory: none is its root.
    Version { version: Arc<VersionNode>, path: Option<TreePath>, ino: u64, parent: u64 },
}

impl DirectoryHandle {
    /// The version it is in.
    pub fn version(&self) -> Option<&Arc<VersionNode>> {
        match self {
            DirectoryHandle::Snapshot { .. } => None,
            DirectoryHandle::Version { version, .. } => Some(version),
        }
    }
}

/// What `readdir` gives as a number where none is known: any but 0, which programs take for "deleted".
const UNKNOWN_INO: u64 = crate::staging::UNKNOWN_INO;
/// Offsets of `.` and `..`; entries follow.
const FIRST_ENTRY: u64 = 2;

impl Fs {
    /// Opens a directory. Returns its handle, and whether the kernel may keep the listing.
    pub async fn opendir(self: &Arc<Self>, ino: u64) -> Result<(u64, bool)> {
        let handle = match self.resolve(ino)? {
            Resolved::Node(node) => DirectoryHandle::Snapshot { ino, names: self.list_names(&node).await? },
            Resolved::Session(session) => {
                let names = self.list_session(&session, ino).await?;
                DirectoryHandle::Snapshot { ino, names }
            }
            Resolved::Version(version, None) => {
                self.view(&version).await?;
                let parent = match &version.shown {
                    Shown::Named(_) => ino,
                    Shown::Contained { parent, .. } => *parent,
                };
                DirectoryHandle::Version { path: version.root_path().cloned(), parent, version, ino }
            }
            Resolved::Version(version, Some(ordinal)) => {
                let entry = self.entry(&version, ordinal).await?;
                if entry.body != Body::Directory {
                    return Err(Errno(libc::ENOTDIR));
                }
                DirectoryHandle::Version { path: Some(entry.path), parent: version.base, version, ino }
            }
        };
        let keep = matches!(handle, DirectoryHandle::Version { .. });
        let number = self.inodes.next();
        self.directories
            .lock()
            .expect("no holder of the directories' lock panics")
            .insert(number, Arc::new(handle));
        Ok((number, keep))
    }

    /// Closes a directory.
    pub fn releasedir(&self, handle: u64) {
        self.directories.lock().expect("no holder of the directories' lock panics").remove(&handle);
    }

    /// Names from `offset` on, as many as are at hand at once; none at the end.
    pub async fn readdir(self: &Arc<Self>, handle: u64, offset: u64) -> Result<Vec<Listed>> {
        let open =
            self.directories.lock().expect("no holder of the directories' lock panics").get(&handle).cloned();
        let open = open.ok_or(Errno(libc::EBADF))?;
        let dot = |name: &[u8], next_offset, ino| Listed {
            next_offset,
            ino,
            kind: Kind::Directory,
            name: name.to_vec(),
            answer: None,
        };
        let mut listed = Vec::new();
        let (ino, parent) = match &*open {
            DirectoryHandle::Snapshot { ino, .. } => (*ino, *ino),
            DirectoryHandle::Version { ino, parent, .. } => (*ino, *parent),
        };
        if offset == 0 {
            listed.push(dot(b".", 1, ino));
        }
        if offset <= 1 {
            listed.push(dot(b"..", FIRST_ENTRY, parent));
        }
        match &*open {
            DirectoryHandle::Snapshot { names, .. } => {
                let skip = offset.saturating_sub(FIRST_ENTRY) as usize;
                for (i, (name, ino, kind)) in names.iter().enumerate().skip(skip) {
                    let next_offset = FIRST_ENTRY + i as u64 + 1;
                    listed.push(Listed {
                        next_offset,
                        ino: *ino,
                        kind: *kind,
                        name: name.clone(),
                        answer: None,
                    });
                }
            }
            DirectoryHandle::Version { version, path, .. } => {
                let page = self.version_page(version, path.as_ref(), offset).await?;
                for (ordinal, entry) in page {
                    let answer = self.entry_answer(version, ordinal, &entry, ino)?;
                    listed.push(Listed {
                        next_offset: FIRST_ENTRY + ordinal + 1,
                        ino: answer.attr.ino,
                        kind: answer.attr.kind,
                        name: entry.path.file_name().to_vec(),
                        answer: Some(answer),
                    });
                }
            }
        }
        Ok(listed)
    }

    /// The entries of a version's directory behind the one that `offset` stands for.
    async fn version_page(
        self: &Arc<Self>,
        version: &Arc<VersionNode>,
        path: Option<&TreePath>,
        offset: u64,
    ) -> Result<Vec<(u64, Entry)>> {
        let view = self.view(version).await?;
        let after = match offset.checked_sub(FIRST_ENTRY + 1) {
            Some(ordinal) => Some(self.entry(version, ordinal).await?.path),
            None => None,
        };
        let after = after.as_ref().map(TreePath::file_name);
        Ok(view.children(path, after, PAGE).await?)
    }

    async fn list_names(self: &Arc<Self>, node: &Node) -> Result<Vec<(Vec<u8>, u64, Kind)>> {
        let directory = |name: &str| (name.as_bytes().to_vec(), UNKNOWN_INO, Kind::Directory);
        let link = |name: &str| (name.as_bytes().to_vec(), UNKNOWN_INO, Kind::Symlink);
        match node {
            Node::Root => Ok(self.list_projects().await?.iter().map(|p| directory(p.as_str())).collect()),
            Node::Project(project) => {
                Ok(self.list_artifacts(project).await?.iter().map(|a| directory(a.as_str())).collect())
            }
            Node::Artifact(artifact) => {
                let mut names = Vec::new();
                if let Some(state) = self.state(artifact).await? {
                    names.extend(state.aliases().map(|(alias, _)| link(alias.as_str())));
                    names.extend(state.latest().map(|_| link("latest")));
                    names.extend(state.versions().map(|v| directory(&v.version.to_string())));
                }
                if !self.options.read_only {
                    names.extend(self.session_names(artifact)?.iter().map(|name| directory(name)));
                }
                names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
                Ok(names)
            }
            Node::Control | Node::ArtifactControl(_) => self.list_generated(node).await,
            Node::Generated(_) | Node::Alias { .. } | Node::Temporary { .. } => Err(Errno(libc::ENOTDIR)),
        }
    }
}
