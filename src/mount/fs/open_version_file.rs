//! An open file of a version or of a `.artfs` directory.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;

use super::errno::Result;
use super::version_node::VersionNode;
use crate::repo::view::{FileContent, ReferenceContent};

/// An open file of a version or of a `.artfs` directory.
#[derive(Clone)]
pub(super) enum OpenVersionFile {
    /// A file, and its version.
    Content(Arc<FileContent>, Arc<VersionNode>),
    /// A file outside of the store, and the version that refers to it.
    Reference(Arc<ReferenceContent>, Arc<VersionNode>),
    Generated(Arc<File>),
}

impl OpenVersionFile {
    pub fn version(&self) -> Option<&Arc<VersionNode>> {
        match self {
            OpenVersionFile::Content(_, version) | OpenVersionFile::Reference(_, version) => Some(version),
            OpenVersionFile::Generated(_) => None,
        }
    }

    /// The length in bytes; 0 for a generated file, whose size the kernel does not know.
    pub fn size(&self) -> u64 {
        match self {
            OpenVersionFile::Content(content, _) => content.size(),
            OpenVersionFile::Reference(content, _) => content.size(),
            OpenVersionFile::Generated(_) => 0,
        }
    }

    pub async fn read(&self, offset: u64, len: u32) -> Result<Bytes> {
        match self {
            OpenVersionFile::Generated(file) => read_local(file, offset, len),
            OpenVersionFile::Content(content, _) => Ok(content.read(offset, len as usize).await?),
            OpenVersionFile::Reference(content, _) => Ok(content.read(offset, len as usize).await?),
        }
    }
}

fn read_local(file: &File, offset: u64, len: u32) -> Result<Bytes> {
    let mut bytes = vec![0; len as usize];
    let mut got = 0;
    while got < bytes.len() {
        match file.read_at(&mut bytes[got..], offset + got as u64)? {
            0 => break,
            n => got += n,
        }
    }
    bytes.truncate(got);
    Ok(bytes.into())
}
