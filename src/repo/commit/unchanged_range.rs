//! Consecutive entries of a version that a tree has as they are there: their blocks are kept, not written again.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::error::CommitError;
use super::item::{ItemBody, TreeItem};
use crate::format::entry::{Entry, EntryBody};
use crate::format::path::TreePath;
use crate::repo::view::{Bound, Leaf, Leaves, VersionView};

/// See the module's text. Its calls wait for the store and are not made from within the runtime.
#[derive(Debug, Clone)]
pub struct Stretch {
    view: Arc<VersionView>,
    runtime: Handle,
    from: Bound,
    to: Option<Bound>,
}

/// Stretches of few versions in little memory.
#[derive(Debug, Default)]
pub(super) struct Stretches(Vec<(Arc<VersionView>, Handle)>);

impl Stretch {
    /// Of the version's own entries, what is in `directory` (none: the root) behind the child `after` (none: from its
    /// first on) and before the child `before` (none: up to its last), with all below.
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

    /// What stands for it in a walk; none if there is no entry in it.
    pub fn item(self) -> Result<Option<TreeItem>, CommitError> {
        let Some(entry) = self.leaves().next_entry()? else { return Ok(None) };
        let Entry { path, executable, mtime, .. } = entry;
        Ok(Some(TreeItem { path, executable, mtime, what: ItemBody::Unchanged(self) }))
    }

    pub(super) fn leaves(&self) -> StretchLeaves<'_> {
        StretchLeaves { leaves: self.view.leaves(&self.from, self.to.as_ref()), runtime: &self.runtime }
    }

    /// Gives its entries one by one.
    pub(super) fn items(
        &self,
        visit: &mut dyn FnMut(TreeItem) -> Result<(), CommitError>,
    ) -> Result<(), CommitError> {
        self.leaves().entries(&mut |entry| {
            let (path, executable, mtime) = (entry.path.clone(), entry.executable, entry.mtime);
            let what = match entry.body {
                EntryBody::Directory => ItemBody::Directory,
                _ => ItemBody::Known(Box::new(entry), None),
            };
            visit(TreeItem { path, executable, mtime, what })
        })
    }
}

/// Gives the entries of stretches one by one, and other items as they are.
pub(super) fn expand(
    item: TreeItem,
    visit: &mut dyn FnMut(TreeItem) -> Result<(), CommitError>,
) -> Result<(), CommitError> {
    match &item.what {
        ItemBody::Unchanged(stretch) => stretch.items(visit),
        ItemBody::Directory | ItemBody::Symlink(_) | ItemBody::File(_) | ItemBody::Known(..) => visit(item),
    }
}

/// Reads the leaves of a stretch.
pub(super) struct StretchLeaves<'a> {
    leaves: Leaves,
    runtime: &'a Handle,
}

impl StretchLeaves<'_> {
    pub fn next(&mut self) -> Result<Option<Leaf>, CommitError> {
        let runtime = self.runtime;
        runtime.block_on(self.fetch())
    }

    /// The same from within the runtime.
    pub async fn fetch(&mut self) -> Result<Option<Leaf>, CommitError> {
        Ok(self.leaves.next().await?)
    }

    pub fn entry(&self, leaf: &Leaf, row: usize) -> Result<Entry, CommitError> {
        Ok(self.leaves.entry(leaf, row)?)
    }

    fn next_entry(&mut self) -> Result<Option<Entry>, CommitError> {
        match self.next()? {
            Some(leaf) => self.entry(&leaf, leaf.rows().start).map(Some),
            None => Ok(None),
        }
    }

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

impl Stretches {
    /// A stretch as bytes.
    pub fn encode(&mut self, stretch: &Stretch) -> Vec<u8> {
        let known = self.0.iter().position(|(view, _)| view.manifest() == stretch.view.manifest());
        let number = known.unwrap_or_else(|| {
            self.0.push((stretch.view.clone(), stretch.runtime.clone()));
            self.0.len() - 1
        });
        let from = stretch.from.as_bytes();
        let mut out = (number as u32).to_le_bytes().to_vec();
        out.extend_from_slice(&(from.len() as u32).to_le_bytes());
        out.extend_from_slice(from);
        out.push(stretch.to.is_some().into());
        out.extend_from_slice(stretch.to.as_ref().map_or(&[], Bound::as_bytes));
        out
    }

    /// The inverse of [`Stretches::encode`]; none for other bytes.
    pub fn decode(&self, bytes: &[u8]) -> Option<Stretch> {
        let (number, rest) = bytes.split_first_chunk()?;
        let (from_len, rest) = rest.split_first_chunk()?;
        let (from, rest) = rest.split_at_checked(u32::from_le_bytes(*from_len) as usize)?;
        let (has_end, to) = rest.split_first()?;
        let (view, runtime) = self.0.get(u32::from_le_bytes(*number) as usize)?;
        Some(Stretch {
            view: view.clone(),
            runtime: runtime.clone(),
            from: Bound::from_bytes(from),
            to: (*has_end != 0).then(|| Bound::from_bytes(to)),
        })
    }
}
