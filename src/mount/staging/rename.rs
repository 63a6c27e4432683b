//! Rename, within one session.
//!
//! Where the old name exists in the lower version, it needs a whiteout in the same instant as the object goes. No
//! system call does both in general, so the intent is written down first: `intent` names the directory and the
//! name, and the next open after a crash puts the whiteout if the object is gone.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use super::attr::FileKind;
use super::error::{Result, StagingError};
use super::nodes::{NodeLocation, StagedTree};
use super::session::Session;
use crate::host::sys;

const INTENT: &[u8] = b"intent";
/// Ends an intent that was written whole.
const INTENT_END: &[u8] = b"\0end";

/// One name: a directory's node and a component.
type NameAt<'a> = (u64, &'a [u8]);

impl Session {
    /// Renames with the flags of `renameat2`: 0, `RENAME_NOREPLACE` or `RENAME_EXCHANGE`. EXCHANGE takes only
    /// objects without anything of a lower version, else EINVAL. A directory with more than 200,000 entries
    /// of the lower version is EXDEV.
    ///
    /// # Errors
    /// ENOENT without the old name, or for EXCHANGE the new one; EEXIST, EISDIR, ENOTDIR or ENOTEMPTY for what stands
    /// at the new name; EINVAL for a move into itself; `Frozen` during a commit, ESTALE once the session has ended.
    pub fn rename(
        &self,
        parent: u64,
        name: &[u8],
        new_parent: u64,
        new_name: &[u8],
        flags: u32,
    ) -> Result<()> {
        let fail = |errno| Err(StagingError::Os(errno));
        if !matches!(flags, 0 | libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE) {
            return fail(libc::EINVAL);
        }
        let _change = self.gate.change()?;
        self.warm(parent, name);
        self.warm(new_parent, new_name);
        let mut tree = self.tree();
        let tree = &mut *tree;
        let source = self.resolve(tree, parent, name)?;
        let target = self.resolve_opt(tree, new_parent, new_name)?;
        match target {
            None if flags == libc::RENAME_EXCHANGE => return fail(libc::ENOENT),
            Some(_) if flags == libc::RENAME_NOREPLACE => return fail(libc::EEXIST),
            _ => {}
        }
        if tree.node(new_parent)?.names.is_empty() && new_parent != self.root {
            return fail(libc::ENOENT);
        }
        let source_is_dir = tree.node(source)?.kind == FileKind::Directory;
        if source_is_dir && tree.is_within(new_parent, source) {
            return fail(libc::EINVAL);
        }
        if target == Some(source) {
            return Ok(());
        }
        if flags == libc::RENAME_EXCHANGE {
            let target = target.ok_or_else(|| StagingError::Os(libc::ENOENT))?;
            return self.exchange(tree, (parent, name, source), (new_parent, new_name, target));
        }
        if let Some(target) = target {
            let target_is_dir = tree.node(target)?.kind == FileKind::Directory;
            match (source_is_dir, target_is_dir) {
                (_, true) if tree.is_within(parent, target) => return fail(libc::ENOTEMPTY),
                (true, false) => return fail(libc::ENOTDIR),
                (false, true) => return fail(libc::EISDIR),
                (true, true) if !self.list(tree, target)?.is_empty() => return fail(libc::ENOTEMPTY),
                _ => {}
            }
        }
        self.move_over(tree, (parent, name), source, (new_parent, new_name), target)
    }

    fn move_over(
        &self,
        tree: &mut StagedTree,
        from: NameAt<'_>,
        source: u64,
        to: NameAt<'_>,
        target: Option<u64>,
    ) -> Result<()> {
        let is_dir = tree.node(source)?.kind == FileKind::Directory;
        let shows_below = self.lower_at(tree, from.0, from.1)?.is_some();
        if is_dir {
            self.detach_from_lower(tree, source)?;
        } else {
            self.ensure_upper(tree, source)?;
        }
        self.ensure_upper(tree, to.0)?;
        let (mut target_goes, mut _held) = (false, None);
        if let Some(target) = target {
            if tree.node(target)?.kind == FileKind::Directory {
                if let NodeLocation::Upper(_) = tree.node(target)?.place {
                    self.clear_whiteouts(tree, target)?;
                    let fd = self.dir_fd(tree, target)?;
                    tree.pin(target, fd);
                }
                target_goes = true;
            } else {
                (target_goes, _held) = self.before_unlink(tree, target)?;
            }
        }
        let (from_fd, to_fd) = (self.dir_fd(tree, from.0)?, self.dir_fd(tree, to.0)?);
        let (from_dir, to_dir) = (from_fd.as_fd(), to_fd.as_fd());
        let over_whiteout = self.overlaid && target.is_none() && sys::stat_at(to_dir, to.1).is_ok();
        if over_whiteout && (is_dir || shows_below) {
            sys::rename_at(from_dir, from.1, to_dir, to.1, libc::RENAME_EXCHANGE)?;
            if !shows_below {
                sys::unlink_at(from_dir, from.1)?;
            }
        } else if shows_below {
            self.write_intent(tree, from)?;
            sys::rename_at(from_dir, from.1, to_dir, to.1, 0)?;
            self.white_out(from_dir, from.1)?;
            sys::unlink_at(self.session_fd.as_fd(), INTENT)?;
        } else {
            sys::rename_at(from_dir, from.1, to_dir, to.1, 0)?;
        }
        if let Some(target) = target {
            self.after_removal(tree, to.0, to.1, target, target_goes);
        }
        tree.remove_name(source, from.0, from.1);
        tree.add_name(source, to.0, to.1);
        Ok(())
    }

    fn exchange(&self, tree: &mut StagedTree, a: (u64, &[u8], u64), b: (u64, &[u8], u64)) -> Result<()> {
        for (id, other_parent) in [(a.2, b.0), (b.2, a.0)] {
            let node = tree.node(id)?;
            if matches!(node.place, NodeLocation::Lower(_)) || node.lower.is_some() {
                return Err(StagingError::NotExchangeable);
            }
            if node.kind == FileKind::Directory && tree.is_within(other_parent, id) {
                return Err(StagingError::Os(libc::EINVAL));
            }
        }
        for id in [a.2, b.2] {
            if tree.node(id)?.kind == FileKind::Directory {
                self.detach_from_lower(tree, id)?;
            }
        }
        let (a_dir, b_dir) = (self.dir_fd(tree, a.0)?, self.dir_fd(tree, b.0)?);
        sys::rename_at(a_dir.as_fd(), a.1, b_dir.as_fd(), b.1, libc::RENAME_EXCHANGE)?;
        tree.remove_name(a.2, a.0, a.1);
        tree.remove_name(b.2, b.0, b.1);
        tree.add_name(a.2, b.0, b.1);
        tree.add_name(b.2, a.0, a.1);
        Ok(())
    }

    fn write_intent(&self, tree: &StagedTree, from: NameAt<'_>) -> Result<()> {
        let dir = tree.path(from.0).ok_or_else(|| StagingError::Os(libc::ENOENT))?;
        let flags = libc::O_CREAT | libc::O_TRUNC | libc::O_WRONLY;
        let mut file = File::from(sys::open_at(self.session_fd.as_fd(), INTENT, flags, 0o600)?);
        file.write_all(&[&dir, &b"\0"[..], from.1, INTENT_END].concat())?;
        Ok(file.sync_all()?)
    }

    /// Ends a rename that a crash interrupted.
    pub(super) fn finish_rename(&self) -> Result<()> {
        let at = self.session_fd.as_fd();
        let intent = match sys::open_at(at, INTENT, libc::O_RDONLY, 0) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => {
                let mut bytes = Vec::new();
                File::from(other?).read_to_end(&mut bytes)?;
                bytes
            }
        };
        // One that was not written whole was not acted upon.
        if let Some((dir, name)) = parse_intent(&intent) {
            let flags = libc::O_PATH | libc::O_DIRECTORY;
            match sys::open_beneath(self.tree_fd.as_fd(), dir, flags) {
                Ok(dir) => match sys::stat_at(dir.as_fd(), name) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {
                        self.white_out(dir.as_fd(), name)?;
                    }
                    other => drop(other?),
                },
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(sys::unlink_at(at, INTENT)?)
    }
}

fn parse_intent(intent: &[u8]) -> Option<(&[u8], &[u8])> {
    let whole = intent.strip_suffix(INTENT_END)?;
    let cut = whole.iter().position(|b| *b == 0)?;
    Some((&whole[..cut], &whole[cut + 1..]))
}
