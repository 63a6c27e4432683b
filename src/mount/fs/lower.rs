//! A version below a session, and the bytes of its files: what [`crate::mount::staging`] asks for, answered by
//! [`crate::repo::view`]. Calls wait for the store, so they come from threads outside of the runtime.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use futures::TryStreamExt;
use tokio::runtime::Handle;

use crate::format::entry::{Entry, EntryBody, FileBody, Sought};
use crate::format::id::ManifestId;
use crate::format::name::ArtifactKey;
use crate::format::path::TreePath;
use crate::mount::staging::{self, Lower, LowerContent, LowerError, Unchanged};
use crate::repo::commit::UnchangedRange;
use crate::repo::view::{FileContent, ReadContext, ReadError, VersionView, WholeView};

/// What is read, for messages.
pub(super) const LABEL: &str = "a staged file";

/// Bytes of staged files that have no local copy.
#[derive(Debug)]
pub(super) struct SessionContent {
    runtime: Handle,
    context: Arc<ReadContext>,
    gives: Gives,
}

/// When the bytes of a file are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gives {
    /// As its chunks come.
    Chunks,
    /// When all of it is local and verified.
    Whole,
}

impl SessionContent {
    pub fn new(runtime: Handle, context: Arc<ReadContext>, gives: Gives) -> Self {
        Self { runtime, context, gives }
    }

    async fn open(&self, file: &FileBody) -> Result<Arc<FileContent>, ReadError> {
        self.context.open_file(file, LABEL, &label_path()).await
    }

    async fn read_file(&self, file: &FileBody, offset: u64, len: usize) -> Result<bytes::Bytes, ReadError> {
        let content = self.open(file).await?;
        if self.gives == Gives::Whole && !content.is_whole() {
            content.materialize().await?;
        }
        content.read(offset, len).await
    }
}

pub(super) fn label_path() -> TreePath {
    TreePath::new(*b"staged").expect("a plain name is a path")
}

impl LowerContent for SessionContent {
    fn copy_out(&self, entry: &Entry, dest: &std::fs::File) -> Result<(), LowerError> {
        match &entry.body {
            EntryBody::File(file) => {
                let whole = async { self.open(file).await?.materialize().await };
                Ok(staging::copy_file(&self.runtime.block_on(whole)?, dest, file.size)?)
            }
            EntryBody::Reference(reference) => {
                let content = self.context.open_reference(reference, LABEL, &label_path());
                let mut parts = Box::pin(content.parts());
                let mut at = 0;
                while let Some(part) = self.runtime.block_on(parts.try_next())? {
                    dest.write_all_at(&part, at)?;
                    at += part.len() as u64;
                }
                Ok(())
            }
            EntryBody::Directory | EntryBody::Symlink { .. } | EntryBody::Contained(_) => {
                Err(LowerError::NotAFile(entry.path.clone()))
            }
        }
    }

    fn read(&self, entry: &Entry, offset: u64, buf: &mut [u8]) -> Result<usize, LowerError> {
        let read = async {
            match &entry.body {
                EntryBody::File(file) => self.read_file(file, offset, buf.len()).await.map(Some),
                EntryBody::Reference(reference) => {
                    let content = self.context.open_reference(reference, LABEL, &label_path());
                    content.read(offset, buf.len()).await.map(Some)
                }
                EntryBody::Directory | EntryBody::Symlink { .. } | EntryBody::Contained(_) => Ok(None),
            }
        };
        let bytes = self.runtime.block_on(read)?.ok_or_else(|| LowerError::NotAFile(entry.path.clone()))?;
        buf[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn seek(&self, entry: &Entry, offset: u64, sought: Sought) -> Result<Option<u64>, LowerError> {
        match &entry.body {
            EntryBody::File(file) if file.has_holes() => {
                let found = async { self.open(file).await?.seek(offset, sought).await };
                Ok(self.runtime.block_on(found)?)
            }
            _ => Ok(Some(if sought == Sought::Data { offset } else { entry.size() })),
        }
    }
}

/// The version below a session.
#[derive(Debug)]
pub(super) struct SessionLower {
    runtime: Handle,
    context: Arc<ReadContext>,
    artifact: ArtifactKey,
    manifest: ManifestId,
    label: String,
    view: tokio::sync::OnceCell<Arc<WholeView>>,
}

/// Entries of a directory fetched at once.
const PAGE: usize = 4096;

impl SessionLower {
    /// `label` names the version in messages.
    pub fn new(
        runtime: Handle,
        context: Arc<ReadContext>,
        artifact: ArtifactKey,
        manifest: ManifestId,
        label: String,
    ) -> Self {
        Self { runtime, context, artifact, manifest, label, view: tokio::sync::OnceCell::new() }
    }

    fn with<T, F>(&self, work: impl FnOnce(Arc<WholeView>) -> F) -> Result<T, LowerError>
    where
        F: Future<Output = Result<T, ReadError>>,
    {
        let open = || async {
            let own = VersionView::open(&self.context, &self.artifact, self.manifest, &self.label).await?;
            Ok(WholeView::new(own))
        };
        let done = async { work(self.view.get_or_try_init(open).await?.clone()).await };
        Ok(self.runtime.block_on(done)?)
    }
}

impl SessionLower {
    /// What nothing staged touches, if it is in the version's own manifest and not in that of one it contains.
    pub fn range(&self, unchanged: &Unchanged) -> Result<Option<UnchangedRange>, LowerError> {
        self.with(|view| async move {
            let top = view.top();
            let Unchanged { directory, after, before, .. } = unchanged;
            if let Some(directory) = directory {
                let found = top.find(directory).await?;
                if !found.is_some_and(|(_, entry)| entry.body == EntryBody::Directory) {
                    return Ok(None);
                }
            }
            let (directory, runtime) = (directory.as_ref(), self.runtime.clone());
            Ok(Some(UnchangedRange::new(
                top.clone(),
                runtime,
                directory,
                after.as_deref(),
                before.as_deref(),
            )))
        })
    }
}

impl Lower for SessionLower {
    fn find(&self, path: &TreePath) -> Result<Option<Entry>, LowerError> {
        self.with(|view| async move { Ok(view.find(path).await?.map(|found| found.entry)) })
    }

    fn children_after(
        &self,
        directory: Option<&TreePath>,
        after: Option<&[u8]>,
    ) -> Result<Vec<Entry>, LowerError> {
        self.with(|view| async move {
            let page = view.children(directory, after, PAGE).await?;
            Ok(page.into_iter().map(|found| found.entry).collect())
        })
    }

    fn subtree(&self, directory: &TreePath) -> Result<Vec<Entry>, LowerError> {
        self.with(|view| async move {
            let mut entries = view.walk_below(directory).await?;
            let mut all = Vec::new();
            loop {
                let batch = entries.next_batch().await?;
                if batch.is_empty() {
                    return Ok(all);
                }
                all.extend(batch.into_iter().map(|found| found.entry));
            }
        })
    }
}
