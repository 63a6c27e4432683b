//! A directory as a backend: durable, and never made again where it has vanished.
//!
//! A store on a disk of its own goes away with the disk. The directory's place is still there then, and a backend
//! that makes missing directories as it writes would begin a second store in it, which is lost, with every commit
//! to it, when the disk comes back. So nothing is written unless the store's header is still there.

use std::fmt;
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::Key;

/// The object that every store has from the beginning.
fn header() -> String {
    Key::Header.to_string()
}

/// A local directory that holds a store, or is about to.
#[derive(Debug)]
pub(super) struct Directory {
    inner: LocalFileSystem,
    header: PathBuf,
}

impl Directory {
    pub fn open(path: &FsPath) -> Result<Self> {
        let inner = LocalFileSystem::new_with_prefix(path)?.with_fsync(true);
        Ok(Self { inner, header: path.join(header()) })
    }

    /// An error unless the store is still there; its header itself may be written to an empty place.
    async fn check_presence(&self, location: &Path) -> Result<()> {
        if location.as_ref() == header() || tokio::fs::try_exists(&self.header).await.unwrap_or(false) {
            return Ok(());
        }
        let problem = format!("{} is gone: is its disk mounted?", self.header.display());
        Err(object_store::Error::Generic { store: "LocalFileSystem", source: problem.into() })
    }
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Directory {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.check_presence(location).await?;
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.check_presence(location).await?;
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.inner.get_opts(location, options).await {
            // Nothing new in a log, or no store at all: these must not look the same.
            Err(e @ object_store::Error::NotFound { .. }) => {
                self.check_presence(location).await?;
                Err(e)
            }
            other => other,
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.check_presence(to).await?;
        self.inner.copy_opts(from, to, options).await
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
        assert!(!place.exists());
    }
}
