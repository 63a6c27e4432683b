//! Checks one file or reference.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt;
use ring::digest::{Context, SHA256};

use super::finding::{Finding, Problem, damage, is_damage};
use super::progress::VerifyProgress;
use crate::format::codec::Codec;
use crate::format::entry::{ChunkRef, FileBody, FileBytes};
use crate::format::id::{FileHash, PackId, Sha256};
use crate::format::path::TreePath;
use crate::format::reference::ReferenceBody;
use crate::repo::view::{ByteSource, ReadError, ReferenceContent, VersionView};

/// Asks a reference's source whether it has changed; with a checksum, reads all of it.
pub(super) async fn check_reference(
    content: &Arc<ReferenceContent>,
    path: &TreePath,
    reference: &ReferenceBody,
    progress: &VerifyProgress,
) -> Result<Vec<Finding>, ReadError> {
    let read = async {
        content.check().await?;
        let mut sha256 = reference.sha256.map(|_| Context::new(&SHA256));
        if reference.hash.is_some() {
            let mut parts = Box::pin(content.parts());
            while let Some(part) = parts.next().await {
                let part = part?;
                if let Some(sha256) = &mut sha256 {
                    sha256.update(&part);
                }
                progress.add(part.len() as u64);
            }
        }
        Ok(sha256)
    };
    match read.await {
        Ok(sha256) => Ok(check_sha256(path, reference.sha256, sha256).into_iter().collect()),
        Err(error) if is_damage(&error) => Ok(vec![damage(path.to_string(), &error)]),
        Err(error) => Err(error),
    }
}

/// The outcome for one file.
#[derive(Default)]
pub(super) struct CheckedFile {
    pub findings: Vec<Finding>,
    /// The packs that its chunks are in, as far as they are known.
    pub packs: BTreeSet<PackId>,
}

/// Reads all of a file from the store; each range of it that cannot be read is a finding.
pub(super) async fn check_file(
    view: &Arc<VersionView>,
    ordinal: u64,
    path: &TreePath,
    body: &FileBody,
    progress: &VerifyProgress,
) -> Result<CheckedFile, ReadError> {
    let CheckedFile { mut findings, mut packs } = CheckedFile::default();
    if let FileBytes::Chunks { refs, .. } = &body.content {
        packs.extend(refs.iter().filter_map(stored_in));
    }
    let mut note = |error: ReadError| {
        if !is_damage(&error) {
            return Err(error);
        }
        let found = damage(path.to_string(), &error);
        if !findings.contains(&found) {
            findings.push(found);
        }
        Ok(())
    };
    let content = match view.open_file(ordinal, path, body).await {
        Ok(content) => content,
        Err(error) => {
            note(error)?;
            return Ok(CheckedFile { findings, packs });
        }
    };
    match content.chunks().await {
        Ok(chunks) => packs.extend(chunks.iter().filter_map(stored_in)),
        Err(error) => note(error)?,
    }
    let mut hasher = blake3::Hasher::new();
    let mut sha256 = body.sha256.map(|_| Context::new(&SHA256));
    let mut parts = Box::pin(content.parts(ByteSource::Store));
    while let Some(part) = parts.next().await {
        match part {
            Ok(bytes) => {
                hasher.update(&bytes);
                if let Some(sha256) = &mut sha256 {
                    sha256.update(&bytes);
                }
                progress.add(bytes.len() as u64);
            }
            Err(error) => note(error)?,
        }
    }
    let found = FileHash::from_hash(hasher.finalize());
    if findings.is_empty() && found != body.hash {
        let detail = format!("{path} has the hash {found}, {} was committed", body.hash);
        findings.push(Finding { path: path.to_string(), problem: Problem::Different, detail });
    }
    if findings.is_empty() {
        findings.extend(check_sha256(path, body.sha256, sha256));
    }
    Ok(CheckedFile { findings, packs })
}

/// Checks a recorded SHA-256 of bytes whose BLAKE3 is right. The digest does not bind it: if it is wrong, it was recorded
/// wrong.
fn check_sha256(path: &TreePath, expected: Option<Sha256>, found: Option<Context>) -> Option<Finding> {
    let (expected, found) = expected.zip(found.map(Sha256::finish))?;
    let detail = format!("{path} does not have the SHA-256 that was recorded, {expected}");
    (found != expected).then(|| Finding { path: path.to_string(), problem: Problem::Different, detail })
}

/// Returns the pack that a chunk is in; none for one of zeros.
fn stored_in(chunk: &ChunkRef) -> Option<PackId> {
    (chunk.place.codec != Codec::Zero).then_some(chunk.place.pack)
}
