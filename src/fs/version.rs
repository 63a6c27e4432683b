//! Inside a version: immutable, read-only, kept by the kernel for ever.

use std::fs::File;
use std::sync::Arc;

use super::inode::VersionNode;
use super::{Answer, Errno, FOREVER, Fs, OpenMode, OpenVersionFile, Opened, PASSTHROUGH_MIN_BYTES, Result};
use crate::format::entry::{Body, Entry};
use crate::id::ManifestId;
use crate::name::ArtifactKey;
use crate::staging::Attr;
use crate::view::VersionView;

impl Fs {
    /// The version's manifest, opened at first use.
    pub(super) async fn view(&self, version: &Arc<VersionNode>) -> Result<Arc<VersionView>> {
        let open = || async {
            let record = &version.record;
            let view = VersionView::open(&self.context, &version.artifact, record.manifest, &version.label())
                .await?;
            let totals = view.totals();
            if totals.digest != record.digest || totals.entries != record.entries {
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

    pub(super) fn version_root_answer(&self, version: &Arc<VersionNode>) -> Answer {
        let attr = self.directory_attr(version.base, version.record.created);
        let entry_ttl = self.log_ttl(&version.artifact);
        Answer { attr: Attr { perm: 0o755, ..attr }, attr_ttl: FOREVER, entry_ttl }
    }

    pub(super) fn entry_answer(&self, version: &Arc<VersionNode>, ordinal: u64, entry: &Entry) -> Answer {
        let attr = Attr::of_entry(version.ino(ordinal), entry, self.options.owner);
        Answer { attr, entry_ttl: FOREVER, attr_ttl: FOREVER }
    }

    pub(super) async fn lookup_in_version(
        self: &Arc<Self>,
        version: &Arc<VersionNode>,
        directory: Option<u64>,
        name: &[u8],
    ) -> Result<Answer> {
        let path = match directory {
            None => crate::path::TreePath::new(name),
            Some(ordinal) => {
                let parent = self.entry(version, ordinal).await?;
                if parent.body != Body::Directory {
                    return Err(Errno(libc::ENOTDIR));
                }
                parent.path.join(name)
            }
        };
        let path = path.map_err(|e| match e {
            crate::path::PathError::TooLong { .. } => Errno(libc::ENAMETOOLONG),
            _ => Errno::NOT_FOUND,
        })?;
        let found = self.view(version).await?.find(&path).await?;
        let (ordinal, entry) = found.ok_or(Errno::NOT_FOUND)?;
        Ok(self.entry_answer(version, ordinal, &entry))
    }

    pub(super) async fn version_attr(
        self: &Arc<Self>,
        version: &Arc<VersionNode>,
        ordinal: Option<u64>,
    ) -> Result<Answer> {
        match ordinal {
            None => Ok(self.version_root_answer(version)),
            Some(ordinal) => Ok(self.entry_answer(version, ordinal, &self.entry(version, ordinal).await?)),
        }
    }

    pub(super) async fn version_readlink(
        self: &Arc<Self>,
        version: &Arc<VersionNode>,
        ordinal: u64,
    ) -> Result<Vec<u8>> {
        match self.entry(version, ordinal).await?.body {
            Body::Symlink { target } => Ok(target.into()),
            _ => Err(Errno::INVALID),
        }
    }

    pub(super) async fn open_in_version(
        self: &Arc<Self>,
        version: &Arc<VersionNode>,
        ordinal: u64,
    ) -> Result<Opened> {
        let entry = self.entry(version, ordinal).await?;
        let body = match &entry.body {
            Body::File(body) => body,
            Body::Directory => return Err(Errno(libc::EISDIR)),
            Body::Symlink { .. } => return Err(Errno(libc::ELOOP)),
        };
        let content = self.view(version).await?.open_file(ordinal, &entry.path, body).await?;
        self.wait_for_whole(version, &content).await?;
        let mode = match content.whole().filter(|_| body.size >= PASSTHROUGH_MIN_BYTES) {
            Some(file) => OpenMode::Local { file: Arc::new(file), immutable: true },
            None => OpenMode::Cached { immutable: true },
        };
        let handle = self.inodes.next();
        let open = OpenVersionFile::Content(content, version.clone());
        self.files.lock().expect("no holder of the files' lock panics").insert(handle, open);
        Ok(Opened { handle, mode })
    }

    /// A file of a version with all its bytes on the local disk.
    pub(super) async fn whole_file(&self, version: &Arc<VersionNode>, entry: &Entry) -> Result<File> {
        let Body::File(body) = &entry.body else { return Err(Errno::INVALID) };
        let content = self.context.open_file(body, &version.label(), &entry.path).await?;
        Ok(content.materialize().await?)
    }

    /// The versions of which a file or a directory is open.
    pub fn open_versions(&self) -> Vec<(ArtifactKey, ManifestId)> {
        let name = |version: &Arc<VersionNode>| (version.artifact.clone(), version.record.manifest);
        let mut open: Vec<(ArtifactKey, ManifestId)> = vec![];
        for file in self.files.lock().expect("no holder of the files' lock panics").values() {
            match file {
                OpenVersionFile::Content(_, version) => open.push(name(version)),
                OpenVersionFile::Generated(_) => {}
            }
        }
        let directories = self.directories.lock().expect("no holder of the directories' lock panics");
        open.extend(directories.values().filter_map(|directory| directory.version().map(name)));
        open.sort_unstable();
        open.dedup();
        open
    }
}
