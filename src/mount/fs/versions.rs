//! Inside versions: immutable, read-only, kept by the kernel for ever.

use std::fs::File;
use std::sync::Arc;

use super::admission::Admission;
use super::errno::{Errno, Result};
use super::inode::Inodes;
use super::open_version_file::OpenVersionFile;
use super::reply::{AttrReply, FOREVER};
use super::reply_policy::ReplyPolicy;
use super::version_node::{Shown, VersionNode};
use crate::format::clock::Timestamp;
use crate::format::entry::{Entry, EntryBody};
use crate::format::path::{PathError, TreePath};
use crate::mount::staging::Attr;
use crate::repo::view::{FileContent, ReadContext, VersionView};

/// Opens manifests, and answers what is in them.
pub(super) struct VersionTrees {
    context: Arc<ReadContext>,
    inodes: Arc<Inodes>,
    replies: Arc<ReplyPolicy>,
    admission: Arc<Admission>,
    owner: (u32, u32),
}

impl VersionTrees {
    pub fn new(
        context: Arc<ReadContext>,
        inodes: Arc<Inodes>,
        replies: Arc<ReplyPolicy>,
        admission: Arc<Admission>,
        owner: (u32, u32),
    ) -> Self {
        Self { context, inodes, replies, admission, owner }
    }

    /// The version's manifest, opened at first use; EIO if it is not what its commit describes.
    pub async fn view(&self, version: &Arc<VersionNode>) -> Result<Arc<VersionView>> {
        let open = || async {
            let (artifact, manifest) = (&version.artifact, version.manifest());
            if let Shown::Named(record) = &version.shown
                && let Some(copy) = &record.root
            {
                self.context.offer_root(&manifest, copy);
            }
            let view = VersionView::open(&self.context, artifact, manifest, &version.label()).await?;
            let totals = view.totals();
            let is_as_described = match &version.shown {
                Shown::Named(record) => totals.entries == record.entries,
                Shown::Contained { contained, .. } => view.check_is(contained).is_ok(),
            };
            if !is_as_described || totals.digest != version.digest() {
                tracing::error!("{}: its manifest is not the one that its commit describes", version.label());
                return Err(Errno::IO);
            }
            Ok(view)
        };
        version.view.get_or_try_init(open).await.cloned()
    }

    pub async fn entry(&self, version: &Arc<VersionNode>, ordinal: u64) -> Result<Entry> {
        self.view(version).await?.entry_at(ordinal).await?.ok_or(Errno::STALE)
    }

    pub fn root_reply(&self, version: &Arc<VersionNode>) -> AttrReply {
        match &version.shown {
            Shown::Named(record) => {
                let attr = self.replies.directory(version.base, record.created);
                let entry_ttl = self.replies.log_ttl(&version.artifact);
                AttrReply { attr: Attr { perm: 0o755, ..attr }, attr_ttl: FOREVER, entry_ttl }
            }
            Shown::Contained { mtime, .. } => {
                let attr = self.replies.directory(version.base, Timestamp::from_unix_millis(0));
                let attr = Attr { perm: 0o755, atime: *mtime, mtime: *mtime, ctime: *mtime, ..attr };
                AttrReply::forever(attr)
            }
        }
    }

    /// The reply for an entry in the directory of number `parent`.
    pub fn entry_reply(
        &self,
        version: &Arc<VersionNode>,
        ordinal: u64,
        entry: &Entry,
        parent: u64,
    ) -> Result<AttrReply> {
        if let EntryBody::Contained(contained) = &entry.body {
            let node = self.inodes.contained(version, ordinal, entry, contained, parent);
            return Ok(self.root_reply(&node.ok_or(Errno(libc::ENFILE))?));
        }
        let attr = Attr::of_entry(version.ino(ordinal), entry, self.owner);
        Ok(AttrReply::forever(attr))
    }

    pub async fn lookup(
        &self,
        version: &Arc<VersionNode>,
        directory: Option<u64>,
        name: &[u8],
    ) -> Result<AttrReply> {
        let path = match directory {
            None => match version.root_path() {
                None => TreePath::new(name),
                Some(root) => root.join(name),
            },
            Some(ordinal) => {
                let parent = self.entry(version, ordinal).await?;
                if parent.body != EntryBody::Directory {
                    return Err(Errno(libc::ENOTDIR));
                }
                parent.path.join(name)
            }
        };
        let path = path.map_err(|e| match e {
            PathError::TooLong { .. } => Errno(libc::ENAMETOOLONG),
            _ => Errno::NOT_FOUND,
        })?;
        let found = self.view(version).await?.find(&path).await?;
        let (ordinal, entry) = found.ok_or(Errno::NOT_FOUND)?;
        let parent = directory.map_or(version.base, |ordinal| version.ino(ordinal));
        self.entry_reply(version, ordinal, &entry, parent)
    }

    pub async fn getattr(&self, version: &Arc<VersionNode>, ordinal: Option<u64>) -> Result<AttrReply> {
        match ordinal {
            None => Ok(self.root_reply(version)),
            Some(ordinal) => {
                let entry = self.entry(version, ordinal).await?;
                self.entry_reply(version, ordinal, &entry, version.base)
            }
        }
    }

    pub async fn readlink(&self, version: &Arc<VersionNode>, ordinal: u64) -> Result<Vec<u8>> {
        match self.entry(version, ordinal).await?.body {
            EntryBody::Symlink { target } => Ok(target.into()),
            _ => Err(Errno::INVALID),
        }
    }

    /// Opens a file for reading.
    pub async fn open_file(&self, version: &Arc<VersionNode>, ordinal: u64) -> Result<OpenVersionFile> {
        let entry = self.entry(version, ordinal).await?;
        let view = self.view(version).await?;
        match &entry.body {
            EntryBody::File(body) => {
                let content = view.open_file(ordinal, &entry.path, body).await?;
                self.admission.wait_for_whole(version.manifest(), &content).await?;
                Ok(OpenVersionFile::Content(content, version.clone()))
            }
            EntryBody::Reference(reference) => {
                Ok(OpenVersionFile::Reference(view.open_reference(&entry.path, reference), version.clone()))
            }
            EntryBody::Directory | EntryBody::Contained(_) => Err(Errno(libc::EISDIR)),
            EntryBody::Symlink { .. } => Err(Errno(libc::ELOOP)),
        }
    }

    /// A file of a version with all its bytes on the local disk.
    pub async fn whole_file(&self, version: &Arc<VersionNode>, entry: &Entry) -> Result<File> {
        let EntryBody::File(body) = &entry.body else { return Err(Errno::INVALID) };
        let content = self.context.open_file(body, &version.label(), &entry.path).await?;
        Ok(content.materialize().await?)
    }

    /// The content of a file that has holes; none for every other entry.
    pub async fn sparse_file(
        &self,
        version: &Arc<VersionNode>,
        ordinal: u64,
    ) -> Result<Option<Arc<FileContent>>> {
        let entry = self.entry(version, ordinal).await?;
        match &entry.body {
            EntryBody::File(body) if body.has_holes() => {
                Ok(Some(self.context.open_file(body, &version.label(), &entry.path).await?))
            }
            _ => Ok(None),
        }
    }
}
