//! A directory as a backend: durable, and never recreated where it has vanished.
//!
//! A store on a disk of its own goes away with the disk. Its mount point remains, and a backend that makes missing
//! directories as it writes would begin a second store there, hidden with every commit to it when the disk comes back.
//! So nothing is written unless the store's header is still there.

use std::fmt;
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Extensions, GetOptions, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result,
};

use super::backend_error::io_error;
use super::direct::{self, MIN_DIRECT_BYTES};
use super::files;
use super::key::Key;

/// The name of the object that every store has from the beginning.
fn header() -> String {
    Key::Header.to_string()
}

/// A local directory that holds a store, or is about to.
#[derive(Debug)]
pub(super) struct StoreDirectory {
    path: PathBuf,
    /// Set when the directory is first found.
    inner: OnceLock<LocalFileSystem>,
    /// Whether the header has been seen; before that its absence means a store that is yet to be made.
    was_there: AtomicBool,
}

impl StoreDirectory {
    /// Opens a directory that exists.
    pub fn open(path: &FsPath) -> Result<Self> {
        let directory = Self::new(path, false);
        directory.inner()?;
        Ok(directory)
    }

    /// Returns the directory of a store that was there before and may be away now.
    pub fn awaited(path: &FsPath) -> Self {
        Self::new(path, true)
    }

    fn new(path: &FsPath, was_there: bool) -> Self {
        Self { path: path.to_owned(), inner: OnceLock::new(), was_there: was_there.into() }
    }

    fn inner(&self) -> Result<&LocalFileSystem> {
        if let Some(inner) = self.inner.get() {
            return Ok(inner);
        }
        let opened = LocalFileSystem::new_with_prefix(&self.path);
        let opened = opened.map_err(|e| check_exists(&self.path).err().unwrap_or(e))?;
        Ok(self.inner.get_or_init(|| opened.with_fsync(true)))
    }

    /// Fails unless the store is there. Cost: one `stat`.
    fn check_presence(&self) -> Result<()> {
        check_exists(&self.path.join(header()))?;
        self.was_there.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Checks before a write: only the header itself may be written to an empty place.
    fn check_write(&self, location: &Path) -> Result<()> {
        if location.as_ref() == header() { Ok(()) } else { self.check_presence() }
    }

    /// Checks after something was not found: a store without it and a vanished store must not look the same.
    fn check_read(&self) -> Result<()> {
        let present = self.check_presence();
        if self.was_there.load(Ordering::Relaxed) { present } else { Ok(()) }
    }

    /// Lists the objects below a folder in name order, as buckets do.
    fn listing(&self, prefix: Option<&Path>, after: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let root = match self.check_read().and_then(|()| self.root()) {
            Ok(root) => root,
            Err(e) => return failed(e),
        };
        let batches = files::list(root, prefix.cloned().unwrap_or_default(), after.cloned());
        let batches = futures::stream::unfold(batches, |mut batches| async {
            let batch = batches.recv().await?;
            Some((batch.map(|batch| futures::stream::iter(batch.into_iter().map(Ok))), batches))
        });
        let place = self.was_there.load(Ordering::Relaxed).then(|| self.path.join(header()));
        // The store may have vanished while it was listed, and a listing skips what is gone.
        let gone = async move { place.as_deref().map_or(Ok(()), check_exists) };
        let gone = futures::stream::once(gone).filter_map(async |checked: Result<()>| checked.err().map(Err));
        batches.try_flatten().chain(gone).boxed()
    }

    /// Returns the directory, once it exists.
    fn root(&self) -> Result<PathBuf> {
        self.inner()?;
        Ok(self.path.clone())
    }

    /// Turns the error of a creation into [`object_store::Error::NotImplemented`] if the file system has no hard links. A
    /// denied write has another number (EACCES).
    fn without_links(&self, error: object_store::Error) -> object_store::Error {
        let number = io_error(&error).and_then(std::io::Error::raw_os_error);
        if !matches!(number, Some(libc::EPERM | libc::EOPNOTSUPP | libc::ENOSYS)) {
            return error;
        }
        object_store::Error::NotImplemented {
            operation: "hard links, by which objects are created only if they are absent".to_owned(),
            implementer: format!("the file system of {}", self.path.display()),
        }
    }
}

/// Fails unless a path exists. One that cannot be looked at is no better than one that is gone.
fn check_exists(what: &FsPath) -> Result<()> {
    let problem = match std::fs::metadata(what) {
        Ok(_) => return Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            format!("{} is gone: is its disk mounted?", what.display())
        }
        Err(e) => format!("{} cannot be accessed: {e}", what.display()),
    };
    Err(object_store::Error::Generic { store: "LocalFileSystem", source: problem.into() })
}

fn failed<T: Send + 'static>(error: object_store::Error) -> BoxStream<'static, Result<T>> {
    futures::stream::once(async { Err(error) }).boxed()
}

impl fmt::Display for StoreDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Directory({})", self.path.display())
    }
}

#[async_trait]
impl ObjectStore for StoreDirectory {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.check_write(location)?;
        if opts.mode != PutMode::Overwrite || payload.content_length() < MIN_DIRECT_BYTES {
            let is_creation = opts.mode == PutMode::Create;
            let written = self.inner()?.put_opts(location, payload, opts).await;
            return written.map_err(|e| if is_creation { self.without_links(e) } else { e });
        }
        let path = self.inner()?.path_to_filesystem(location)?;
        let pieces: Vec<Bytes> = payload.into_iter().collect();
        let written = tokio::task::spawn_blocking(move || direct::write(&path, &pieces)).await;
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| object_store::Error::Generic {
            store: "LocalFileSystem",
            source,
        };
        match written {
            Ok(Ok(())) => Ok(PutResult { e_tag: None, version: None, extensions: Extensions::default() }),
            Ok(Err(e)) => Err(failed(e.into())),
            Err(e) => Err(failed(e.into())),
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.check_write(location)?;
        self.inner()?.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let path = self.inner()?.path_to_filesystem(location)?;
        let at = path.clone();
        let opened = tokio::task::spawn_blocking(move || files::open(&at)).await;
        let opened =
            opened.map_err(|e| object_store::Error::Generic { store: "Directory", source: e.into() })?;
        let (file, meta) = match opened {
            Ok(opened) => {
                if location.as_ref() == header() {
                    self.was_there.store(true, Ordering::Relaxed);
                }
                opened
            }
            Err(e) => {
                if e.kind() == std::io::ErrorKind::NotFound {
                    self.check_read()?;
                }
                return Err(files::failed(&path, e));
            }
        };
        let meta = files::describe(location.clone(), &meta);
        options.check_preconditions(&meta)?;
        let range = match options.range {
            Some(range) => range
                .as_range(meta.size)
                .map_err(|e| object_store::Error::Generic { store: "Directory", source: e.into() })?,
            None => 0..meta.size,
        };
        Ok(GetResult {
            payload: GetResultPayload::File(file, path),
            meta,
            range,
            attributes: Attributes::default(),
            extensions: Extensions::default(),
        })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let mut parts = vec![];
        for range in ranges {
            parts.push(self.get_range(location, range.clone()).await?);
        }
        Ok(parts)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        // Nothing is found in a vanished store, and that must not pass for "deleted before".
        match self.check_presence().and_then(|()| self.inner()) {
            Ok(inner) => inner.delete_stream(locations),
            Err(e) => failed(e),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix, None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix, Some(offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.check_read()?;
        let (root, prefix) = (self.root()?, prefix.cloned().unwrap_or_default());
        let found = tokio::task::spawn_blocking(move || files::folders(&root, &prefix)).await;
        let found =
            found.map_err(|e| object_store::Error::Generic { store: "Directory", source: e.into() })??;
        // The store may have vanished while it was listed, and a listing skips what is gone.
        self.check_read()?;
        let common_prefixes = found.into_iter().collect();
        Ok(ListResult { common_prefixes, objects: vec![], extensions: Extensions::default() })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.check_write(to)?;
        self.inner()?.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::classify::classify_error;
    use crate::store::error::StoreError;

    #[tokio::test]
    async fn a_store_that_vanished_is_not_begun_again() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("store");
        std::fs::create_dir(&place).unwrap();
        let backend = StoreDirectory::open(&place).unwrap();
        assert!(backend.put(&"log/0".into(), "x".into()).await.is_err());
        backend.put(&header().into(), "{}".into()).await.unwrap();
        backend.put(&"log/0".into(), "x".into()).await.unwrap();
        std::fs::rename(&place, dir.path().join("elsewhere")).unwrap();
        assert!(backend.put(&"log/1".into(), "x".into()).await.is_err());
        let missing = backend.get(&"log/1".into()).await.unwrap_err();
        assert!(matches!(missing, object_store::Error::Generic { .. }), "{missing}");
        assert!(backend.list_with_delimiter(None).await.is_err());
        assert!(backend.list(None).next().await.unwrap().is_err());
        let gone = backend.delete(&"log/0".into()).await.unwrap_err();
        assert!(matches!(gone, object_store::Error::Generic { .. }), "{gone}");
        assert!(!place.exists());
    }

    #[test]
    fn a_file_system_without_hard_links_is_told_from_one_that_may_not_be_written_to() {
        let backend = StoreDirectory::awaited(FsPath::new("/srv/store"));
        let told = |number| {
            let source = Box::new(std::io::Error::from_raw_os_error(number));
            let error = object_store::Error::Generic { store: "LocalFileSystem", source };
            classify_error(&"log/0", backend.without_links(error))
        };
        for number in [libc::EPERM, libc::EOPNOTSUPP] {
            let text = told(number).to_string();
            assert!(text.contains("the file system of /srv/store does not support hard links"), "{text}");
        }
        assert!(matches!(told(libc::EACCES), StoreError::Denied { .. }));
        assert!(matches!(told(libc::ENOSPC), StoreError::Full { .. }));
    }

    #[tokio::test]
    async fn names_below_a_folder_come_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let backend = StoreDirectory::open(dir.path()).unwrap();
        backend.put(&header().into(), "{}".into()).await.unwrap();
        let names: Vec<String> = (0..300).map(|i| format!("log/{:03}", i * 7 % 300)).collect();
        for name in &names {
            backend.put(&name.as_str().into(), "x".into()).await.unwrap();
        }
        let folder = Path::from("log");
        let after = Path::from("log/099");
        let found = backend.list_with_offset(Some(&folder), &after).take(3);
        let found: Vec<String> = found.map_ok(|m| m.location.to_string()).try_collect().await.unwrap();
        assert_eq!(found, ["log/100", "log/101", "log/102"]);
    }

    #[tokio::test]
    async fn a_store_whose_disk_is_away_is_there_when_the_disk_is() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("store");
        let backend = StoreDirectory::awaited(&place);
        for _ in 0..2 {
            let missing = backend.get(&header().into()).await.unwrap_err();
            assert!(matches!(missing, object_store::Error::Generic { .. }), "{missing}");
            assert!(backend.put(&"log/0".into(), "x".into()).await.is_err());
            assert!(backend.list(None).next().await.unwrap().is_err());
            // The same for its empty mount point.
            let _ = std::fs::create_dir(&place);
        }
        std::fs::write(place.join(header()), "{}").unwrap();
        backend.put(&"log/0".into(), "x".into()).await.unwrap();
        assert_eq!(backend.get(&"log/0".into()).await.unwrap().bytes().await.unwrap(), "x");
    }
}
