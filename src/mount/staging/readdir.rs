//! Listings: what is in the upper directory and what shows through it.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};

use super::attr::{DirEntry, FileKind, UNKNOWN_INO};
use super::error::Result;
use super::marks;
use super::nodes::{NodeLocation, StagedTree};
use super::session::{Session, child_path};
use crate::format::path::TreePath;
use crate::host::sys::{self, insist};

impl Session {
    /// A snapshot of a directory without `.` and `..`, in name order. Entries are not counted as looked up.
    ///
    /// # Errors
    /// ENOTDIR if it is no directory; ESTALE for an unknown node or once the session has ended; `Lower` if the
    /// version cannot be read.
    pub fn readdir(&self, directory: u64) -> Result<Vec<DirEntry>> {
        self.gate.check_alive()?;
        let below = {
            let tree = self.tree();
            tree.directory(directory)?.lower.clone()
        };
        if let (Some(dir), Some(lower)) = (below, self.lower()) {
            // Brings the answer near before the tree is locked; an error comes again below.
            let _ = lower.children(TreePath::new(dir).ok().as_ref());
        }
        let mut tree = self.tree();
        let mut entries = self.list(&mut tree, directory)?;
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// The parent of a directory, for `..`; the root's is itself.
    ///
    /// # Errors
    /// ESTALE for an unknown node; ENOTDIR if it is no directory.
    pub fn parent(&self, directory: u64) -> Result<u64> {
        let tree = self.tree();
        Ok(tree.directory(directory)?.names.first().map_or(directory, |(parent, _)| *parent))
    }

    /// Everything visible in a directory, in no order.
    pub(super) fn list(&self, tree: &mut StagedTree, id: u64) -> Result<Vec<DirEntry>> {
        let node = tree.directory(id)?;
        let below = node.lower.clone();
        let mut entries = Vec::new();
        let mut hidden: HashSet<Box<[u8]>> = HashSet::new();
        if let NodeLocation::Upper(_) = node.place {
            let fd = self.dir_fd(tree, id)?;
            for entry in list_upper(&fd)? {
                if below.is_some() {
                    hidden.insert(entry.name.clone());
                }
                if entry.kind_bits == libc::S_IFREG && self.overlaid {
                    let stat = sys::stat_at(fd.as_fd(), &entry.name)?;
                    if marks::is_whiteout(fd.as_fd(), &entry.name, &stat)? {
                        continue;
                    }
                }
                let ino = tree.by_backing.get(&entry.ino).copied().unwrap_or(UNKNOWN_INO);
                entries.push(DirEntry { kind: FileKind::from_bits(entry.kind_bits), name: entry.name, ino });
            }
        }
        if let (Some(dir), Some(lower)) = (below, self.lower()) {
            let path = TreePath::new(dir.clone()).ok();
            let children = &tree.node(id)?.children;
            for entry in lower.children(path.as_ref())?.iter() {
                let name = entry.path.file_name();
                if hidden.contains(name) || child_path(&dir, name).is_none() {
                    continue;
                }
                let ino = children.get(name).copied().unwrap_or(UNKNOWN_INO);
                entries.push(DirEntry { name: name.into(), kind: FileKind::of(entry), ino });
            }
        }
        Ok(entries)
    }
}

/// The raw names of an upper directory given by an `O_PATH` descriptor.
pub(super) fn list_upper(dir: &OwnedFd) -> Result<Vec<sys::RawEntry>> {
    let at = dir.as_fd();
    Ok(insist(at, || sys::list_dir(at))?)
}
