//! Verifying: is what the store holds of a version, or what a directory has of it, what was committed?
//!
//! Neither stops at the first thing that is wrong: all of it is named. Only what leaves the question open (no
//! connection, no permission) ends it early.

mod copy;
mod details;
mod local;
mod repair;
mod signatures;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt;
use ring::digest::{Context, SHA256};
use serde::Serialize;
use tokio::task::JoinSet;

pub use self::copy::{CopyCheckError, copy, digest_of, listed_copy};
pub use self::details::details;
pub use self::repair::{Copies, RepairError, Repaired, repair};
pub use self::signatures::{EventFinding, SignedBy, signatures, signed_by};
use crate::format::codec::Codec;
use crate::format::contained::Contained;
use crate::format::entry::{ChunkRef, Entry, EntryBody, FileBody, FileBytes};
use crate::format::id::{FileHash, PackId, Sha256};
use crate::format::listing::ListingHasher;
use crate::format::path::TreePath;
use crate::format::reference::ReferenceBody;
use crate::repo::catalog::VersionRecord;
use crate::repo::view::{ByteSource, ReadError, ReferenceContent, Totals, VersionView};

/// Files checked at once.
const FILES_AT_ONCE: usize = 16;
/// Packs whose tables are read at once.
const PACKS_AT_ONCE: usize = 16;
/// Entries looked at one by one where a batch of them cannot be read; the batch is of one block, and holds fewer.
const MAX_SINGLE_STEPS: u64 = 16_384;

/// Something that is not as it was committed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Where: a path of the version, or the version itself.
    pub path: String,
    /// What is wrong.
    pub problem: Problem,
    /// The same in words, with what is known of it.
    pub detail: String,
}

/// What is wrong with something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// It cannot be had as it was committed.
    Damaged,
    /// It is not there.
    Missing,
    /// It is there, and the version does not have it.
    Extra,
    /// Its content differs.
    Different,
    /// The source of a reference is not what it was.
    Changed,
    /// It is of another kind: a file, a directory, a symbolic link.
    Kind,
    /// Its exec bit differs.
    Mode,
    /// What is there could not be checked.
    Unchecked,
}

/// What becomes of references, whose bytes are outside of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum References {
    /// Their sources are asked.
    Asked,
    /// They are taken as they are recorded.
    PassedOver,
}

/// Bytes looked at so far.
#[derive(Debug, Default)]
pub struct VerifyProgress(AtomicU64);

impl VerifyProgress {
    /// Reads it.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Whether an error says that the store's content is wrong, not that it cannot be read now.
pub fn is_damage(error: &ReadError) -> bool {
    match error {
        ReadError::Corrupt { .. } | ReadError::Missing { .. } => true,
        ReadError::Source { error, .. } => error.is_change(),
        ReadError::Denied { .. }
        | ReadError::Unavailable { .. }
        | ReadError::Local { .. }
        | ReadError::Exhausted { .. }
        | ReadError::Stopped => false,
    }
}

/// What damage came to, as a finding.
pub fn damage(path: impl Into<String>, error: &ReadError) -> Finding {
    let problem = match error {
        ReadError::Missing { .. } => Problem::Missing,
        ReadError::Source { .. } => Problem::Changed,
        _ => Problem::Damaged,
    };
    Finding { path: path.into(), problem, detail: error.to_string() }
}

/// Checks every block of the manifest and every chunk of every file, by reading all of them from the store, and the
/// tables of all packs that they are in; `view` must be opened over an empty cache. Gives what is wrong, in order of path.
///
/// # Errors
/// What cannot be read now, or is not allowed to be.
pub async fn stored(
    view: &Arc<VersionView>,
    recorded: &VersionRecord,
    references: References,
    progress: &Arc<VerifyProgress>,
) -> Result<Vec<Finding>, ReadError> {
    let version = recorded.version.to_string();
    let logged = Totals {
        entries: recorded.entries,
        files: recorded.files,
        bytes: recorded.bytes,
        digest: recorded.digest,
    };
    let mut findings = BTreeSet::new();
    let mut packs = BTreeSet::new();
    let mut seen = HashSet::from([view.manifest()]);
    let check = VersionCheck::new(view, references, progress, None, &mut packs);
    let mut open = check.run(&version, "the log", logged, &mut findings).await?;
    while let Some((path, contained)) = open.pop() {
        if !seen.insert(contained.manifest) {
            continue;
        }
        let inner = match view.open_contained(&contained).await {
            Ok(inner) => inner,
            Err(error) if is_damage(&error) => {
                findings.insert(damage(path.to_string(), &error));
                continue;
            }
            Err(error) => return Err(error),
        };
        let logged = Totals { digest: contained.digest, ..inner.totals() };
        let shown = path.to_string();
        let check = VersionCheck::new(&inner, references, progress, Some(path), &mut packs);
        open.extend(check.run(&shown, "the version that contains it", logged, &mut findings).await?);
    }
    check_packs(view, packs, &mut findings).await?;
    Ok(findings.into_iter().collect())
}

/// Checks the tables of packs, and of those that they were moved to.
async fn check_packs(
    view: &Arc<VersionView>,
    packs: BTreeSet<PackId>,
    findings: &mut BTreeSet<Finding>,
) -> Result<(), ReadError> {
    let mut seen = packs.clone();
    let mut open: Vec<PackId> = packs.into_iter().collect();
    while !open.is_empty() {
        let proofs = futures::stream::iter(std::mem::take(&mut open))
            .map(|pack| async move { (pack, view.prove_pack(&pack).await) });
        let mut proofs = std::pin::pin!(proofs.buffered(PACKS_AT_ONCE));
        while let Some((pack, proof)) = proofs.next().await {
            match proof {
                Ok(moved_to) => open.extend(moved_to.into_iter().filter(|pack| seen.insert(*pack))),
                Err(error) if is_damage(&error) => {
                    findings.insert(damage(format!("pack {pack}"), &error));
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

struct VersionCheck<'a> {
    view: &'a Arc<VersionView>,
    references: References,
    progress: &'a Arc<VerifyProgress>,
    /// The packs that anything of it is in.
    packs: &'a mut BTreeSet<PackId>,
    jobs: JoinSet<Result<CheckedFile, ReadError>>,
    findings: BTreeSet<Finding>,
    listing: ListingHasher,
    /// Ordinal of the next entry.
    next: u64,
    files: u64,
    bytes: u64,
    /// Where it is contained; none for the version itself.
    at: Option<TreePath>,
    /// What it contains, with the paths that it is seen at.
    contained: Vec<(TreePath, Contained)>,
}

impl<'a> VersionCheck<'a> {
    fn new(
        view: &'a Arc<VersionView>,
        references: References,
        progress: &'a Arc<VerifyProgress>,
        at: Option<TreePath>,
        packs: &'a mut BTreeSet<PackId>,
    ) -> Self {
        Self {
            view,
            references,
            progress,
            packs,
            jobs: JoinSet::new(),
            findings: BTreeSet::new(),
            listing: ListingHasher::default(),
            next: 0,
            files: 0,
            bytes: 0,
            at,
            contained: vec![],
        }
    }

    /// Checks all of one manifest, and gives the versions that it contains. `version` stands in findings, `stated` is
    /// what it should be by somebody.
    async fn run(
        mut self,
        version: &str,
        by: &str,
        stated: Totals,
        findings: &mut BTreeSet<Finding>,
    ) -> Result<Vec<(TreePath, Contained)>, ReadError> {
        let mut is_complete = true;
        let mut entries = self.view.entries(0);
        loop {
            match entries.next_batch().await {
                Ok(batch) if batch.is_empty() => break,
                Ok(batch) => {
                    for (ordinal, entry) in batch {
                        self.take(ordinal, entry).await?;
                    }
                }
                Err(error) if is_damage(&error) => {
                    is_complete = false;
                    if !self.pass(version, &error).await? {
                        break;
                    }
                    entries = self.view.entries(self.next);
                }
                Err(error) => return Err(error),
            }
        }
        while !self.jobs.is_empty() {
            self.join_one().await?;
        }
        if is_complete {
            self.compare(version, by, stated);
            self.packs.extend(self.view.block_packs().await?);
        }
        findings.extend(self.findings);
        Ok(self.contained)
    }

    async fn take(&mut self, ordinal: u64, entry: Entry) -> Result<(), ReadError> {
        self.listing.push(&entry);
        self.next = ordinal + 1;
        let (files, bytes) = entry.body.sums();
        self.files = self.files.saturating_add(files);
        self.bytes = self.bytes.saturating_add(bytes);
        if let EntryBody::Contained(contained) = entry.body {
            let seen_at = match &self.at {
                None => entry.path,
                // Of a long path the end is enough to be found by.
                Some(at) => at.append(&entry.path).unwrap_or(entry.path),
            };
            self.contained.push((seen_at, *contained));
        } else if let EntryBody::Reference(reference) = entry.body {
            if self.references == References::PassedOver {
                return Ok(());
            }
            if self.jobs.len() >= FILES_AT_ONCE {
                self.join_one().await?;
            }
            let content = self.view.open_reference(&entry.path, &reference);
            let progress = self.progress.clone();
            self.jobs.spawn(async move {
                let findings = check_reference(&content, &entry.path, &reference, &progress).await?;
                Ok(CheckedFile { findings, packs: BTreeSet::new() })
            });
        } else if let EntryBody::File(body) = entry.body {
            if self.jobs.len() >= FILES_AT_ONCE {
                self.join_one().await?;
            }
            let (view, progress) = (self.view.clone(), self.progress.clone());
            self.jobs.spawn(async move { check_file(&view, ordinal, &entry.path, &body, &progress).await });
        }
        Ok(())
    }

    /// Gets past a part of the manifest that cannot be read: takes what comes before it and finds what comes
    /// after. Says whether there is more.
    async fn pass(&mut self, version: &str, error: &ReadError) -> Result<bool, ReadError> {
        let total = self.view.totals().entries;
        for _ in 0..MAX_SINGLE_STEPS {
            match self.view.entry_at(self.next).await {
                Ok(Some(entry)) => self.take(self.next, entry).await?,
                Ok(None) => break,
                Err(error) if is_damage(&error) => {
                    self.findings.insert(damage(version, &error));
                    return self.leap(total).await;
                }
                Err(error) => return Err(error),
            }
        }
        // All can be read, and contradicts itself.
        self.findings.insert(damage(version, error));
        Ok(self.next < total)
    }

    /// Goes on behind entries that cannot be read.
    async fn leap(&mut self, total: u64) -> Result<bool, ReadError> {
        let first_bad = self.next;
        let (mut bad, mut step) = (self.next, 1);
        let mut good = loop {
            let probe = bad.saturating_add(step);
            if probe >= total {
                // The last one decides whether any is left.
                match total.checked_sub(1).filter(|last| *last > bad) {
                    Some(last) if self.is_readable(last).await? => break last,
                    _ => {
                        self.note_unread(first_bad, total);
                        return Ok(false);
                    }
                }
            }
            if self.is_readable(probe).await? {
                break probe;
            }
            (bad, step) = (probe, step * 2);
        };
        while good - bad > 1 {
            let middle = bad + (good - bad) / 2;
            if self.is_readable(middle).await? { good = middle } else { bad = middle }
        }
        self.note_unread(first_bad, good);
        self.next = good;
        Ok(true)
    }

    fn note_unread(&mut self, from: u64, to: u64) {
        let version = self.view.manifest();
        let detail = format!("{} entries of manifest {version} cannot be known", to - from);
        self.findings.insert(Finding {
            path: format!("entries {from} to {}", to.saturating_sub(1)),
            problem: Problem::Missing,
            detail,
        });
    }

    async fn is_readable(&self, ordinal: u64) -> Result<bool, ReadError> {
        match self.view.entry_at(ordinal).await {
            Ok(entry) => Ok(entry.is_some()),
            Err(error) if is_damage(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Compares the whole with what the log and the manifest's root say of it.
    fn compare(&mut self, version: &str, by: &str, stated: Totals) {
        let totals = self.view.totals();
        let digest = self.listing.digest();
        let mut differs = |what: &str, found: String, stated: String| {
            if found != stated {
                let detail = format!("{what} should be {stated} and is {found}");
                self.findings.insert(Finding {
                    path: version.to_owned(),
                    problem: Problem::Different,
                    detail,
                });
            }
        };
        differs(&format!("the digest by {by}"), digest.to_string(), stated.digest.to_string());
        differs("the digest in the manifest", digest.to_string(), totals.digest.to_string());
        for (by, entries, files, bytes) in [
            (by, stated.entries, stated.files, stated.bytes),
            ("the manifest", totals.entries, totals.files, totals.bytes),
        ] {
            let shown = |entries, files, bytes| format!("{entries} entries, {files} files, {bytes} bytes");
            let found = shown(self.next, self.files, self.bytes);
            differs(&format!("the count by {by}"), found, shown(entries, files, bytes));
        }
    }

    async fn join_one(&mut self) -> Result<(), ReadError> {
        match self.jobs.join_next().await {
            None => Ok(()),
            Some(Ok(checked)) => {
                let CheckedFile { findings, packs } = checked?;
                self.findings.extend(findings);
                self.packs.extend(packs);
                Ok(())
            }
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Some(Err(_)) => Err(ReadError::Stopped),
        }
    }
}

/// Asks a reference's source whether it has changed; with a checksum, reads all of it.
async fn check_reference(
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

/// What came out of one file.
#[derive(Default)]
struct CheckedFile {
    findings: Vec<Finding>,
    /// The packs that its chunks are in, as far as they are known.
    packs: BTreeSet<PackId>,
}

/// Reads all of a file from the store; every stretch of it that cannot be read is a finding of its own.
async fn check_file(
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

/// What is wrong with a recorded SHA-256, where all bytes were read and have the BLAKE3 they should. The digest does not
/// bind it: only who recorded it can have been wrong.
fn check_sha256(path: &TreePath, expected: Option<Sha256>, found: Option<Context>) -> Option<Finding> {
    let (expected, found) = expected.zip(found.map(Sha256::finish))?;
    let detail = format!("{path} does not have the SHA-256 that was recorded, {expected}");
    (found != expected).then(|| Finding { path: path.to_string(), problem: Problem::Different, detail })
}

/// The pack that a chunk is in; none for one of zeros.
fn stored_in(chunk: &ChunkRef) -> Option<PackId> {
    (chunk.place.codec != Codec::Zero).then_some(chunk.place.pack)
}
