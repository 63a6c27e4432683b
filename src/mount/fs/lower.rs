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
use crate::mount::staging::{self, Lower, LowerContent, Unchanged};
use crate::repo::commit::Stretch;
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

fn to_io(e: ReadError) -> std::io::Error {
    tracing::warn!("{e}");
    std::io::Error::from_raw_os_error(libc::EIO)
}

impl SessionContent {
    pub fn new(runtime: Handle, context: Arc<ReadContext>, gives: Gives) -> Self {
        Self { runtime, context, gives }
    }

    async fn open(&self, file: &FileBody) -> std::result::Result<Arc<FileContent>, ReadError> {
        self.context.open_file(file, LABEL, &label_path()).await
    }

    async fn read_file(
        &self,
        file: &FileBody,
        offset: u64,
        len: usize,
    ) -> std::result::Result<bytes::Bytes, ReadError> {
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

/// Neither a file nor a reference is ever staged without its bytes.
fn no_file() -> std::io::Error {
    std::io::Error::from_raw_os_error(libc::EIO)
}

impl LowerContent for SessionContent {
    fn copy_out(&self, entry: &Entry, dest: &std::fs::File) -> std::io::Result<()> {
        match &entry.body {
            EntryBody::File(file) => {
                let whole = async { self.open(file).await?.materialize().await };
                staging::copy_file(&self.runtime.block_on(whole).map_err(to_io)?, dest, file.size)
            }
            EntryBody::Reference(reference) => {
                let content = self.context.open_reference(reference, LABEL, &label_path());
                let mut parts = Box::pin(content.parts());
                let mut at = 0;
                while let Some(part) = self.runtime.block_on(parts.try_next()).map_err(to_io)? {
                    dest.write_all_at(&part, at)?;
                    at += part.len() as u64;
                }
                Ok(())
            }
            EntryBody::Directory | EntryBody::Symlink { .. } | EntryBody::Contained(_) => Err(no_file()),
        }
    }

    fn read(&self, entry: &Entry, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
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
        let bytes = self.runtime.block_on(read).map_err(to_io)?.ok_or_else(no_file)?;
        buf[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn seek(&self, entry: &Entry, offset: u64, sought: Sought) -> std::io::Result<Option<u64>> {
        match &entry.body {
            EntryBody::File(file) if file.has_holes() => {
                let found = async { self.open(file).await?.seek(offset, sought).await };
                self.runtime.block_on(found).map_err(to_io)
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

    fn with<T, F>(&self, work: impl FnOnce(Arc<WholeView>) -> F) -> std::io::Result<T>
    where
        F: Future<Output = std::result::Result<T, ReadError>>,
    {
        let open = || async {
            let own = VersionView::open(&self.context, &self.artifact, self.manifest, &self.label).await?;
            Ok(WholeView::new(own))
        };
        let done = async { work(self.view.get_or_try_init(open).await?.clone()).await };
        self.runtime.block_on(done).map_err(to_io)
    }
}

impl SessionLower {
    /// What nothing staged touches, if it is in the version's own manifest and not in that of one it contains.
    pub fn stretch(&self, unchanged: &Unchanged) -> std::io::Result<Option<Stretch>> {
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
            Ok(Some(Stretch::new(top.clone(), runtime, directory, after.as_deref(), before.as_deref())))
        })
    }
}

impl Lower for SessionLower {
    fn find(&self, path: &TreePath) -> std::io::Result<Option<Entry>> {
        self.with(|view| async move { Ok(view.find(path).await?.map(|found| found.entry)) })
    }

    fn children_after(
        &self,
        directory: Option<&TreePath>,
        after: Option<&[u8]>,
    ) -> std::io::Result<Vec<Entry>> {
        self.with(|view| async move {
            let page = view.children(directory, after, PAGE).await?;
            Ok(page.into_iter().map(|found| found.entry).collect())
        })
    }

    fn subtree(&self, directory: &TreePath) -> std::io::Result<Vec<Entry>> {
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
