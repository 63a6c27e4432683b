//! A directory as a backend: durable, and never made again where it has vanished.
//!
//! A store on a disk of its own goes away with the disk. The directory's place is still there then, and a backend
//! that makes missing directories as it writes would begin a second store in it, which is lost, with every commit
//! to it, when the disk comes back. So nothing is written unless the store's header is still there.

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
    CopyOptions, Extensions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::Key;
use super::direct::{self, MIN_DIRECT_BYTES};

/// The object that every store has from the beginning.
fn header() -> String {
    Key::Header.to_string()
}

/// A local directory that holds a store, or is about to.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// Set when the directory was there for the first time.
    inner: OnceLock<LocalFileSystem>,
    /// Whether the header has been seen; before that its absence means a store that is yet to be made.
    was_there: AtomicBool,
}

impl Directory {
    /// A directory that is there.
    pub fn open(path: &FsPath) -> Result<Self> {
        let directory = Self::new(path, false);
        directory.inner()?;
        Ok(directory)
    }

    /// The directory of a store that was there before and may be away now.
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
        let opened = opened.map_err(|e| there(&self.path).err().unwrap_or(e))?;
        Ok(self.inner.get_or_init(|| opened.with_fsync(true)))
    }

    /// An error unless the store is there. Cost: one `stat`.
    fn check_presence(&self) -> Result<()> {
        there(&self.path.join(header()))?;
        self.was_there.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Before a write: only the header itself may be written to an empty place.
    fn check_write(&self, location: &Path) -> Result<()> {
        if location.as_ref() == header() { Ok(()) } else { self.check_presence() }
    }

    /// When something was not found: nothing new in a store, and no store any more, must not look the same.
    fn check_read(&self) -> Result<()> {
        let present = self.check_presence();
        if self.was_there.load(Ordering::Relaxed) { present } else { Ok(()) }
    }

    /// What is found below a folder, in order of the names, as buckets give it. The root itself is listed only to see
    /// whether anything is there, which need not wait for everything in it.
    fn listing(
        &self,
        prefix: Option<&Path>,
        list: impl FnOnce(&LocalFileSystem) -> BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let found = match self.check_read().and_then(|()| self.inner()) {
            Ok(inner) => list(inner),
            Err(e) => return failed(e),
        };
        if prefix.is_none_or(|prefix| prefix.as_ref().is_empty()) {
            return found;
        }
        let place = self.was_there.load(Ordering::Relaxed).then(|| self.path.join(header()));
        let sorted = async move {
            let mut all: Vec<ObjectMeta> = found.try_collect().await?;
            // It may have gone while it was listed, and what is not there is passed over.
            place.as_deref().map_or(Ok(()), there)?;
            all.sort_unstable_by(|a, b| a.location.cmp(&b.location));
            Ok::<_, object_store::Error>(futures::stream::iter(all.into_iter().map(Ok)))
        };
        futures::stream::once(sorted).try_flatten().boxed()
    }
}

/// An error unless something is there: what cannot be looked at is no better than what is gone.
fn there(what: &FsPath) -> Result<()> {
    let problem = match std::fs::metadata(what) {
        Ok(_) => return Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            format!("{} is gone: is its disk mounted?", what.display())
        }
        Err(e) => format!("{} cannot be looked at: {e}", what.display()),
    };
    Err(object_store::Error::Generic { store: "LocalFileSystem", source: problem.into() })
}

fn failed<T: Send + 'static>(error: object_store::Error) -> BoxStream<'static, Result<T>> {
    futures::stream::once(async { Err(error) }).boxed()
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Directory({})", self.path.display())
    }
}

#[async_trait]
impl ObjectStore for Directory {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.check_write(location)?;
        if opts.mode != PutMode::Overwrite || payload.content_length() < MIN_DIRECT_BYTES {
            return self.inner()?.put_opts(location, payload, opts).await;
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
        match self.inner()?.get_opts(location, options).await {
            Err(e @ object_store::Error::NotFound { .. }) => {
                self.check_read()?;
                Err(e)
            }
            Ok(header) if location.as_ref() == self::header() => {
                self.was_there.store(true, Ordering::Relaxed);
                Ok(header)
            }
            other => other,
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        match self.inner()?.get_ranges(location, ranges).await {
            Err(e @ object_store::Error::NotFound { .. }) => {
                self.check_read()?;
                Err(e)
            }
            other => other,
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        // Where the store has vanished nothing can be found, and that must not pass for "deleted before".
        match self.check_presence().and_then(|()| self.inner()) {
            Ok(inner) => inner.delete_stream(locations),
            Err(e) => failed(e),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix, |inner| inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix, |inner| inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.check_read()?;
        let found = self.inner()?.list_with_delimiter(prefix).await?;
        // It may have gone while it was listed, and what is not there is passed over.
        self.check_read()?;
        Ok(found)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.check_write(to)?;
        self.inner()?.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::ObjectStoreExt;

    #[tokio::test]
    async fn a_store_that_vanished_is_not_begun_again() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("store");
        std::fs::create_dir(&place).unwrap();
        let backend = Directory::open(&place).unwrap();
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

    #[tokio::test]
    async fn names_below_a_folder_come_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let backend = Directory::open(dir.path()).unwrap();
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
        let backend = Directory::awaited(&place);
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
