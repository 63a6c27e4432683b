//! Consecutive entries of a version that a tree has unchanged: their blocks are kept, not written again.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::error::CommitError;
use crate::format::entry::Entry;
use crate::format::path::TreePath;
use crate::repo::view::{Bound, Leaf, Leaves, VersionView};

/// Consecutive entries of a version. Reading them waits for the store and is not done from within the runtime.
#[derive(Debug, Clone)]
pub struct UnchangedRange {
    view: Arc<VersionView>,
    runtime: Handle,
    from: Bound,
    to: Option<Bound>,
}

/// Encodes ranges of a few versions in little memory.
#[derive(Debug, Default)]
pub(super) struct UnchangedRanges(Vec<(Arc<VersionView>, Handle)>);

impl UnchangedRange {
    /// Takes the version's own entries in `directory` (none: the root), with everything below them, that lie behind
    /// its child `after` (none: from the first child on) and before its child `before` (none: up to the last).
    pub fn new(
        view: Arc<VersionView>,
        runtime: Handle,
        directory: Option<&TreePath>,
        after: Option<&[u8]>,
        before: Option<&[u8]>,
    ) -> Self {
        let from = match after {
            None => Bound::begin_of(directory),
            Some(name) => Bound::behind(directory, name),
        };
        let to = match before {
            None => Bound::end_of(directory),
            Some(name) => Some(Bound::before(directory, name)),
        };
        Self { view, runtime, from, to }
    }

    pub(super) fn leaves(&self) -> RangeLeaves<'_> {
        RangeLeaves { leaves: self.view.leaves(&self.from, self.to.as_ref()), runtime: &self.runtime }
    }
}

/// Reads the leaf blocks of a range.
pub(super) struct RangeLeaves<'a> {
    leaves: Leaves,
    runtime: &'a Handle,
}

impl RangeLeaves<'_> {
    /// Reads the next leaf; for callers outside of the runtime.
    pub fn next(&mut self) -> Result<Option<Leaf>, CommitError> {
        let runtime = self.runtime;
        runtime.block_on(self.fetch())
    }

    /// Reads the next leaf; for callers within the runtime.
    pub async fn fetch(&mut self) -> Result<Option<Leaf>, CommitError> {
        Ok(self.leaves.next().await?)
    }

    pub fn entry(&self, leaf: &Leaf, row: usize) -> Result<Entry, CommitError> {
        Ok(self.leaves.entry(leaf, row)?)
    }

    /// Reads the first entry; none if the range is empty.
    pub fn first_entry(&mut self) -> Result<Option<Entry>, CommitError> {
        match self.next()? {
            Some(leaf) => self.entry(&leaf, leaf.rows().start).map(Some),
            None => Ok(None),
        }
    }

    /// Gives the entries one by one.
    pub fn entries(
        &mut self,
        visit: &mut dyn FnMut(Entry) -> Result<(), CommitError>,
    ) -> Result<(), CommitError> {
        while let Some(leaf) = self.next()? {
            leaf.rows().try_for_each(|row| visit(self.entry(&leaf, row)?))?;
        }
        Ok(())
    }
}

impl UnchangedRanges {
    /// Encodes a range.
    pub fn encode(&mut self, range: &UnchangedRange) -> Vec<u8> {
        let known = self.0.iter().position(|(view, _)| view.manifest() == range.view.manifest());
        let number = known.unwrap_or_else(|| {
            self.0.push((range.view.clone(), range.runtime.clone()));
            self.0.len() - 1
        });
        let from = range.from.as_bytes();
        let mut out = (number as u32).to_le_bytes().to_vec();
        out.extend_from_slice(&(from.len() as u32).to_le_bytes());
        out.extend_from_slice(from);
        out.push(range.to.is_some().into());
        out.extend_from_slice(range.to.as_ref().map_or(&[], Bound::as_bytes));
        out
    }

    /// The inverse of [`UnchangedRanges::encode`]; none for other bytes.
    pub fn decode(&self, bytes: &[u8]) -> Option<UnchangedRange> {
        let (number, rest) = bytes.split_first_chunk()?;
        let (from_len, rest) = rest.split_first_chunk()?;
        let (from, rest) = rest.split_at_checked(u32::from_le_bytes(*from_len) as usize)?;
        let (has_end, to) = rest.split_first()?;
        let (view, runtime) = self.0.get(u32::from_le_bytes(*number) as usize)?;
        Some(UnchangedRange {
            view: view.clone(),
            runtime: runtime.clone(),
            from: Bound::from_bytes(from),
            to: (*has_end != 0).then(|| Bound::from_bytes(to)),
        })
    }
}
