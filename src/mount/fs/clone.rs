//! Files of a version that are being copied into staging, in parts: the kernel asks for at most 4 GiB at once.
//!
//! The parts make a clone only if nothing else touched the file in between. Each part ends by giving the file an mtime
//! that any write changes, and the next begins by looking whether it is still there.

use parking_lot::Mutex;
use std::collections::HashMap;

use crate::format::entry::{Entry, EntryBody, Mtime};
use crate::format::id::FileHash;

/// A copy that has come so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CopiedPart {
    source: FileHash,
    /// Bytes copied from the front.
    pub done: u64,
    /// The mtime the file was left with; none before the first part.
    pub stamp: Option<Mtime>,
}

impl CopiedPart {
    /// The same copy after a further part.
    pub fn and(self, done: u64, stamp: Mtime) -> Self {
        Self { done, stamp: Some(stamp), ..self }
    }
}

/// Copies in progress by the handle they are written through. The lock is held for look-ups only.
#[derive(Debug, Default)]
pub(super) struct Clones(Mutex<HashMap<u64, CopiedPart>>);

impl Clones {
    fn table(&self) -> parking_lot::MutexGuard<'_, HashMap<u64, CopiedPart>> {
        self.0.lock()
    }

    /// The copy that a part of `entry` goes on with, or begins; none if it is no copy of the whole from the front.
    pub fn begin(&self, handle: u64, entry: &Entry, offset_in: u64, offset_out: u64) -> Option<CopiedPart> {
        let before = self.table().remove(&handle);
        let EntryBody::File(file) = &entry.body else { return None };
        match (offset_in == offset_out, offset_in) {
            (true, 0) => Some(CopiedPart { source: file.hash, done: 0, stamp: None }),
            (true, offset) => before.filter(|part| part.source == file.hash && part.done == offset),
            (false, _) => None,
        }
    }

    /// Remembers how far a copy has come; none forgets it.
    pub fn keep(&self, handle: u64, part: Option<CopiedPart>) {
        match part {
            Some(part) => self.table().insert(handle, part),
            None => self.table().remove(&handle),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::chunk::ChunkRule;
    use crate::format::entry::{FileBody, FileBytes};
    use crate::format::path::TreePath;

    #[test]
    fn only_parts_that_follow_each_other_from_the_front_make_a_clone() {
        let file = |name: &[u8]| Entry {
            path: TreePath::new(name).unwrap(),
            executable: false,
            mtime: Mtime::default(),
            body: EntryBody::File(FileBody {
                size: 10,
                hash: FileHash::of(name),
                sha256: None,
                hole_bytes: 0,
                rule: ChunkRule::Binary,
                content: FileBytes::Inline([0; 10].into()),
            }),
        };
        let (a, b, clones) = (file(b"a"), file(b"b"), Clones::default());
        let first = clones.begin(1, &a, 0, 0).unwrap();
        let so_far = CopiedPart { done: 4, stamp: Some(Mtime { seconds: 5, nanos: 6 }), ..first };
        clones.keep(1, Some(so_far));
        assert_eq!(clones.begin(1, &a, 4, 4), Some(so_far));
        assert_eq!(clones.begin(1, &a, 4, 4), None, "a part is gone on with once");
        for (entry, at_in, at_out) in [(&a, 5, 5), (&a, 4, 5), (&b, 4, 4), (&a, 0, 4)] {
            clones.keep(1, Some(so_far));
            assert_eq!(clones.begin(1, entry, at_in, at_out), None);
        }
    }
}
