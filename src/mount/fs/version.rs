//! Inside a version: immutable, read-only, kept by the kernel for ever.

use std::fs::File;
use std::sync::Arc;

use super::inode::{Shown, VersionNode};
use super::{
    AttrReply, Errno, FOREVER, Fs, OpenMode, OpenVersionFile, OpenedFile, PASSTHROUGH_MIN_BYTES,
    READ_ONLY_PASSTHROUGH_MIN_BYTES, Result,
};
use crate::format::clock::Timestamp;
use crate::format::entry::{Entry, EntryBody};
use crate::format::id::ManifestId;
use crate::format::name::ArtifactKey;
use crate::mount::staging::{Attr, Caller};
use crate::repo::view::VersionView;

impl Fs {
    /// The version's manifest, opened at first use.
    pub(super) async fn view(&self, version: &Arc<VersionNode>) -> Result<Arc<VersionView>> {
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

    pub(super) async fn entry(&self, version: &Arc<VersionNode>, ordinal: u64) -> Result<Entry> {
        self.view(version).await?.entry_at(ordinal).await?.ok_or(Errno::STALE)
    }

    pub(super) fn version_root_answer(&self, version: &Arc<VersionNode>) -> AttrReply {
        match &version.shown {
            Shown::Named(record) => {
                let attr = self.directory_attr(version.base, record.created);
                let entry_ttl = self.log_ttl(&version.artifact);
                AttrReply { attr: Attr { perm: 0o755, ..attr }, attr_ttl: FOREVER, entry_ttl }
            }
            Shown::Contained { mtime, .. } => {
                let attr = self.directory_attr(version.base, Timestamp::from_unix_millis(0));
                let attr = Attr { perm: 0o755, atime: *mtime, mtime: *mtime, ctime: *mtime, ..attr };
                AttrReply { attr, entry_ttl: FOREVER, attr_ttl: FOREVER }
            }
        }
    }

    /// What an entry is shown as in the directory of number `parent`.
    pub(super) fn entry_answer(
        &self,
        version: &Arc<VersionNode>,
        ordinal: u64,
        entry: &Entry,
        parent: u64,
    ) -> Result<AttrReply> {
        if let EntryBody::Contained(contained) = &entry.body {
            let node = self.inodes.contained(version, ordinal, entry, contained, parent);
            return Ok(self.version_root_answer(&node.ok_or(Errno(libc::ENFILE))?));
        }
        let attr = Attr::of_entry(version.ino(ordinal), entry, self.options.owner);
        Ok(AttrReply { attr, entry_ttl: FOREVER, attr_ttl: FOREVER })
    }

    pub(super) async fn lookup_in_version(
        self: &Arc<Self>,
        version: &Arc<VersionNode>,
        directory: Option<u64>,
        name: &[u8],
    ) -> Result<AttrReply> {
        let path = match directory {
            None => match version.root_path() {
                None => crate::format::path::TreePath::new(name),
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
            crate::format::path::PathError::TooLong { .. } => Errno(libc::ENAMETOOLONG),
            _ => Errno::NOT_FOUND,
        })?;
        let found = self.view(version).await?.find(&path).await?;
        let (ordinal, entry) = found.ok_or(Errno::NOT_FOUND)?;
        let parent = directory.map_or(version.base, |ordinal| version.ino(ordinal));
        self.entry_answer(version, ordinal, &entry, parent)
    }

    pub(super) async fn version_attr(
        self: &Arc<Self>,
        version: &Arc<VersionNode>,
        ordinal: Option<u64>,
    ) -> Result<AttrReply> {
        match ordinal {
            None => Ok(self.version_root_answer(version)),
            Some(ordinal) => {
                let entry = self.entry(version, ordinal).await?;
                self.entry_answer(version, ordinal, &entry, version.base)
            }
        }
    }

    pub(super) async fn version_readlink(
        self: &Arc<Self>,
        version: &Arc<VersionNode>,
        ordinal: u64,
    ) -> Result<Vec<u8>> {
        match self.entry(version, ordinal).await?.body {
            EntryBody::Symlink { target } => Ok(target.into()),
            _ => Err(Errno::INVALID),
        }
    }

    /// A file, ready to be read.
    pub(super) async fn version_file(
        self: &Arc<Self>,
        version: &Arc<VersionNode>,
        ordinal: u64,
    ) -> Result<OpenVersionFile> {
        let entry = self.entry(version, ordinal).await?;
        let view = self.view(version).await?;
        match &entry.body {
            EntryBody::File(body) => {
                let content = view.open_file(ordinal, &entry.path, body).await?;
                self.wait_for_whole(version, &content).await?;
                Ok(OpenVersionFile::Content(content, version.clone()))
            }
            EntryBody::Reference(reference) => {
                Ok(OpenVersionFile::Reference(view.open_reference(&entry.path, reference), version.clone()))
            }
            EntryBody::Directory | EntryBody::Contained(_) => Err(Errno(libc::EISDIR)),
            EntryBody::Symlink { .. } => Err(Errno(libc::ELOOP)),
        }
    }

    pub(super) async fn open_in_version(
        self: &Arc<Self>,
        caller: Caller,
        version: &Arc<VersionNode>,
        ordinal: u64,
    ) -> Result<OpenedFile> {
        let open = self.version_file(version, ordinal).await?;
        let least =
            if self.options.read_only { READ_ONLY_PASSTHROUGH_MIN_BYTES } else { PASSTHROUGH_MIN_BYTES };
        let is_paged = || self.paged.has(version.ino(ordinal), open.size());
        let whole = match &open {
            OpenVersionFile::Content(content, _) if content.size() >= least && !is_paged() => {
                content.whole().await
            }
            _ => None,
        };
        let mode = match whole {
            Some(file) => OpenMode::Local { file: Arc::new(file), immutable: true },
            // A reference is asked for again at every open: its source may change.
            None => OpenMode::Cached { immutable: matches!(open, OpenVersionFile::Content(..)) },
        };
        self.note_read(caller, version, ordinal, open.size()).await;
        let handle = self.inodes.next();
        self.files.lock().insert(handle, open);
        Ok(OpenedFile { handle, mode })
    }

    /// A file of a version with all its bytes on the local disk.
    pub(super) async fn whole_file(&self, version: &Arc<VersionNode>, entry: &Entry) -> Result<File> {
        let EntryBody::File(body) = &entry.body else { return Err(Errno::INVALID) };
        let content = self.context.open_file(body, &version.label(), &entry.path).await?;
        Ok(content.materialize().await?)
    }

    /// The versions of which a file or a directory is open.
    pub fn open_versions(&self) -> Vec<(ArtifactKey, ManifestId)> {
        let name = |version: &Arc<VersionNode>| (version.artifact.clone(), version.manifest());
        let mut open: Vec<(ArtifactKey, ManifestId)> = vec![];
        let files = self.files.lock();
        let versions = files.values().filter_map(OpenVersionFile::version);
        open.extend(versions.map(name));
        drop(files);
        let directories = self.directories.lock();
        open.extend(directories.values().filter_map(|directory| directory.version().map(name)));
        open.sort_unstable();
        open.dedup();
        open
    }
}
