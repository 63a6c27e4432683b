//! Freezing, retiring and emptying a session.

use std::os::fd::AsFd;
use std::sync::Arc;

use super::delete::remove_tree;
use super::error::{FreezeError, Result, StagingError};
use super::gate::Gate;
use super::readdir::list_upper;
use super::session::Session;
use crate::host::sys;

/// A frozen session: every change answers EBUSY until this is dropped. Reads go on.
#[derive(Debug)]
pub struct FreezeGuard(Arc<Gate>);

impl Drop for FreezeGuard {
    fn drop(&mut self) {
        self.0.thaw();
    }
}

impl FreezeGuard {
    /// Ends the session for good, after its commit: every call by path or node answers ESTALE; open read handles go
    /// on. Its directory may be deleted.
    pub fn retire(self) {
        self.0.retire();
    }
}

impl Session {
    /// Shuts out changes. Handles that are just being released are waited for, 2 s at most; then the error names
    /// the files that are open for writing.
    ///
    /// # Errors
    /// [`FreezeError::Busy`] while files are open for writing or changes go on; else `Frozen` if it is frozen
    /// already, ESTALE once it has ended.
    pub fn freeze(&self) -> std::result::Result<FreezeGuard, FreezeError> {
        if self.gate.freeze()? {
            return Ok(FreezeGuard(self.gate.clone()));
        }
        let tree = self.tree();
        let writing = tree.nodes.iter().filter(|(_, node)| node.writers > 0);
        let mut paths: Vec<String> = writing
            .map(|(id, _)| match tree.path(*id) {
                Some(path) => String::from_utf8_lossy(&path).into_owned(),
                None => "(a deleted file)".to_owned(),
            })
            .collect();
        paths.sort();
        Err(FreezeError::Busy(paths))
    }

    /// Ends the session for good; see [`FreezeGuard::retire`].
    pub fn retire(&self) {
        self.gate.retire();
    }

    /// Whether it was retired.
    pub fn has_ended(&self) -> bool {
        self.gate.check_alive().is_err()
    }

    /// Empties the session, of the version below too (tell the registry first). Nodes other than the root are
    /// ESTALE then; EBUSY, naming the files, while any is open for writing.
    ///
    /// # Errors
    /// As [`Self::freeze`]; that of the disk where the files cannot be moved away or deleted.
    pub fn discard(&self) -> std::result::Result<(), FreezeError> {
        let _frozen = self.freeze()?;
        let doomed = self.tmp_name();
        self.empty_tree(&doomed)?;
        Ok(remove_tree(self.tmp(), &doomed).map_err(StagingError::from)?)
    }

    fn empty_tree(&self, doomed: &[u8]) -> Result<()> {
        let mut tree = self.tree();
        self.drop_lower();
        tree.cut_lower(self.root);
        sys::mkdir_at(self.tmp(), doomed, 0o700)?;
        let into = sys::open_at(self.tmp(), doomed, libc::O_PATH | libc::O_DIRECTORY, 0)?;
        let top = self.tree_fd.as_fd();
        for entry in list_upper(&self.tree_fd)? {
            sys::rename_at(top, &entry.name, into.as_fd(), &entry.name, 0)?;
        }
        tree.clear();
        Ok(())
    }
}
