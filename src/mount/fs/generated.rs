//! The files of `.artfs`: made when they are looked up, of what is known then.
//!
//! A generated file is true of one event of the log and has a number of its own for each: what was opened does
//! not change under its reader.

use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lru::LruCache;
use serde::Serialize;
use serde_json::Value;

use super::inode::{GeneratedNode, NodeKey};
use super::names::missing;
use super::{AttrReply, Errno, Fs, OpenMode, OpenVersionFile, OpenedFile, Result};
use crate::format::clock::Timestamp;
use crate::format::entry::EntryBody;
use crate::format::listing::{ListingHasher, b3sums_line, sha256sums_line};
use crate::format::name::{ArtifactKey, VersionNumber};
use crate::host::process::waiting;
use crate::mount::staging::{Attr, Caller, FileKind};
use crate::repo::catalog::FullRecord;
use crate::repo::view::{NestedEntry, VersionView, WholeView};

/// Generated files whose content is kept.
const KEPT: NonZeroUsize = NonZeroUsize::new(64).expect("64 is not 0");

/// Longest generated file: the sums of 16 million files with paths of usual length. Versions that contain one another can
/// show more than any disk holds.
const MAX_GENERATED_BYTES: u64 = 2 << 30;

/// Bytes of all whose content is kept; they are on the disk of the state folder.
const MAX_KEPT_BYTES: u64 = 4 << 30;

/// The shortest line of sums: hash, blanks, a name of one byte, line end.
const MIN_SUM_BYTES: u64 = 64 + 2 + 1 + 1;

/// How long a look-up waits for a file to be made; then it ends, and the work with it. What was read of the manifest is
/// in the cache for the next.
const PATIENCE: Duration = Duration::from_secs(60);

/// Generated files whose numbers are remembered; those before them answer ESTALE.
const REMEMBERED: usize = 4096;

/// A generated file.
#[derive(Debug)]
pub(super) struct Generated {
    what: GeneratedFile,
    artifact: Option<ArtifactKey>,
    size: u64,
    made: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GeneratedFile {
    Status,
    Log,
    LastCommit,
    Record(VersionNumber),
    B3sums(VersionNumber),
    Sha256sums(VersionNumber),
    Listing(VersionNumber),
}

/// The record of a version, with what the mount adds to it.
#[derive(Debug, Serialize)]
struct MountRecord {
    #[serde(flatten)]
    record: FullRecord,
    /// Files that `v7.b3sums` leaves out because `b3sum` cannot name them.
    /// None where there are more files than are gone through.
    files_not_in_b3sums: Option<u64>,
}

/// A generated file that is being written, up to [`MAX_GENERATED_BYTES`].
struct Output {
    file: BufWriter<File>,
    bytes: u64,
}

impl Output {
    fn add(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.bytes += bytes.len() as u64;
        if self.bytes > MAX_GENERATED_BYTES {
            return Err(too_long());
        }
        self.file.write_all(bytes)
    }
}

fn too_long() -> std::io::Error {
    std::io::Error::from_raw_os_error(libc::EFBIG)
}

/// Contents at hand. The locks are held for look-ups only.
#[derive(Debug)]
pub(super) struct GeneratedFiles {
    contents: Mutex<LruCache<u64, (Arc<File>, u64)>>,
    /// The newest files' keys, oldest first: older ones are forgotten, so that polling does not add up.
    recent: Mutex<VecDeque<NodeKey>>,
    last_commits: Mutex<HashMap<ArtifactKey, (u64, Value)>>,
}

impl Default for GeneratedFiles {
    fn default() -> Self {
        Self {
            contents: Mutex::new(LruCache::new(KEPT)),
            recent: Mutex::default(),
            last_commits: Mutex::default(),
        }
    }
}

impl GeneratedFiles {
    pub fn set_last_commit(&self, artifact: &ArtifactKey, note: Value) {
        let mut notes = self.last_commits.lock();
        let serial = notes.get(artifact).map_or(1, |(serial, _)| serial + 1);
        notes.insert(artifact.clone(), (serial, note));
    }

    fn last_commit(&self, artifact: &ArtifactKey) -> Option<(u64, Value)> {
        self.last_commits.lock().get(artifact).cloned()
    }

    /// Takes in a new file's key and gives one that is to be forgotten.
    fn add_recent(&self, key: NodeKey) -> Option<NodeKey> {
        let mut recent = self.recent.lock();
        recent.push_back(key);
        if recent.len() > REMEMBERED { recent.pop_front() } else { None }
    }

    fn keep(&self, ino: u64, file: Arc<File>) {
        let size = file.metadata().map_or(0, |meta| meta.len());
        let mut contents = self.contents.lock();
        contents.put(ino, (file, size));
        while contents.len() > 1 && contents.iter().map(|(_, (_, size))| size).sum::<u64>() > MAX_KEPT_BYTES {
            contents.pop_lru();
        }
    }

    fn get(&self, ino: u64) -> Option<Arc<File>> {
        self.contents.lock().get(&ino).map(|(file, _)| file.clone())
    }
}

fn pretty(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).unwrap_or_default()
}

fn parse(name: &[u8]) -> Option<GeneratedFile> {
    let name = std::str::from_utf8(name).ok()?;
    match name {
        "log.jsonl" => return Some(GeneratedFile::Log),
        "last-commit.json" => return Some(GeneratedFile::LastCommit),
        _ => {}
    }
    let (version, kind) = name.split_once('.')?;
    let version = version.parse().ok()?;
    match kind {
        "json" => Some(GeneratedFile::Record(version)),
        "b3sums" => Some(GeneratedFile::B3sums(version)),
        "sha256sums" => Some(GeneratedFile::Sha256sums(version)),
        "listing" => Some(GeneratedFile::Listing(version)),
        _ => None,
    }
}

impl Fs {
    /// Finds, and makes, a file of `.artfs`; none is the mount's own.
    pub(super) async fn lookup_generated(
        self: &Arc<Self>,
        caller: Caller,
        artifact: Option<&ArtifactKey>,
        name: &[u8],
    ) -> Result<AttrReply> {
        let what = match artifact {
            None if name == b"status.json" => GeneratedFile::Status,
            None => return Err(Errno::NOT_FOUND),
            Some(_) => parse(name).ok_or(Errno::NOT_FOUND)?,
        };
        let text = String::from_utf8_lossy(name).into_owned();
        let serial = self.serial(artifact, what).await?;
        let key = NodeKey::Generated(artifact.cloned(), text, serial);
        if let Some(ino) = self.inodes.known(&key)
            && let Some(super::Resolved::Node(GeneratedNode::Generated(file))) = self.inodes.resolve(ino)
        {
            return Ok(self.generated_answer(ino, &file));
        }
        let content = self.generate(caller, artifact, what).await?;
        let size = content.metadata()?.len();
        let file = Arc::new(Generated { what, artifact: artifact.cloned(), size, made: self.now() });
        let ino = self.inodes.number(key.clone(), || GeneratedNode::Generated(file.clone()));
        self.generated.keep(ino, Arc::new(content));
        if let Some(oldest) = self.generated.add_recent(key) {
            self.inodes.remove(&oldest);
        }
        Ok(self.generated_answer(ino, &file))
    }

    pub(super) fn generated_answer(&self, ino: u64, file: &Generated) -> AttrReply {
        let attr = self.directory_attr(ino, file.made);
        let attr = Attr {
            kind: FileKind::File,
            perm: 0o444,
            size: file.size,
            blocks: file.size.div_ceil(512),
            ..attr
        };
        // The next content has another number. A name kept for a while would show this mount's own last event late.
        let entry_ttl = match file.what {
            GeneratedFile::B3sums(_) | GeneratedFile::Sha256sums(_) | GeneratedFile::Listing(_) => {
                self.name_ttl()
            }
            GeneratedFile::Status
            | GeneratedFile::Log
            | GeneratedFile::LastCommit
            | GeneratedFile::Record(_) => Duration::ZERO,
        };
        AttrReply { entry_ttl, ..self.name_answer(attr) }
    }

    /// What tells two contents of the same name apart.
    async fn serial(&self, artifact: Option<&ArtifactKey>, what: GeneratedFile) -> Result<u64> {
        let Some(artifact) = artifact else { return Ok(self.inodes.next()) };
        match what {
            GeneratedFile::Status => Ok(self.inodes.next()),
            GeneratedFile::LastCommit => Ok(self.generated.last_commit(artifact).ok_or(Errno::NOT_FOUND)?.0),
            GeneratedFile::Log => Ok(self.state(artifact).await?.map_or(0, |state| state.seq())),
            GeneratedFile::Record(version) => {
                let state = self.state(artifact).await?.ok_or(Errno::NOT_FOUND)?;
                state.version(version).ok_or_else(|| missing(&state))?;
                Ok(state.seq())
            }
            GeneratedFile::Sha256sums(_) if !self.catalog.store().header().has_sha256() => {
                Err(Errno::NOT_FOUND)
            }
            GeneratedFile::B3sums(version)
            | GeneratedFile::Sha256sums(version)
            | GeneratedFile::Listing(version) => {
                let state = self.state(artifact).await?.ok_or(Errno::NOT_FOUND)?;
                Ok(state.version(version).ok_or_else(|| missing(&state))?.seq)
            }
        }
    }

    /// Makes a file's content for a caller, within limits of time and length, and for as long as the caller lives.
    async fn generate(
        self: &Arc<Self>,
        caller: Caller,
        artifact: Option<&ArtifactKey>,
        what: GeneratedFile,
    ) -> Result<File> {
        // What is not ready is dropped with its temporary file.
        let made = tokio::select! {
            biased;
            made = self.write_generated(artifact, what) => made,
            () = tokio::time::sleep(PATIENCE) => Err(Errno(libc::ETIMEDOUT)),
            () = waiting::until_ending(caller.pid) => Err(Errno(libc::EINTR)),
        };
        if let Err(Errno(libc::EFBIG | libc::ETIMEDOUT)) = made {
            let artifact = artifact.map(ToString::to_string).unwrap_or_default();
            tracing::warn!(
                artifact,
                ?what,
                "a file of .artfs was not made: it has more than {MAX_GENERATED_BYTES} bytes, or takes more than {} s; \
                 `artfs verify` checks a version of any size",
                PATIENCE.as_secs()
            );
        }
        made
    }

    async fn write_generated(
        self: &Arc<Self>,
        artifact: Option<&ArtifactKey>,
        what: GeneratedFile,
    ) -> Result<File> {
        if let (Some(artifact), GeneratedFile::B3sums(version) | GeneratedFile::Sha256sums(version)) =
            (artifact, what)
            && self.files_shown(artifact, version).await? > MAX_GENERATED_BYTES / MIN_SUM_BYTES
        {
            return Err(Errno(libc::EFBIG));
        }
        let file = tempfile::tempfile_in(&self.options.state)?;
        let mut out = Output { file: BufWriter::new(file), bytes: 0 };
        match (artifact, what) {
            (None, _) | (_, GeneratedFile::Status) => {
                let status = (self.status.lock())();
                out.add(&pretty(&status))?;
                out.add(b"\n")?;
            }
            (Some(artifact), GeneratedFile::Log) => {
                if let Some(state) = self.state(artifact).await? {
                    for line in self.catalog.log_lines(&state).await? {
                        out.add(&line)?;
                        out.add(b"\n")?;
                    }
                }
            }
            (Some(artifact), GeneratedFile::LastCommit) => {
                let (_, note) = self.generated.last_commit(artifact).ok_or(Errno::NOT_FOUND)?;
                out.add(&pretty(&note))?;
                out.add(b"\n")?;
            }
            (Some(artifact), GeneratedFile::Record(version)) => {
                let record = self.record(artifact, version).await?;
                out.add(&pretty(&record))?;
                out.add(b"\n")?;
            }
            (Some(artifact), GeneratedFile::B3sums(version)) => {
                self.each_entry(artifact, version, |found| {
                    b3sums_line(&found.entry).map_or(Ok(()), |line| out.add(line.as_bytes()))
                })
                .await?;
            }
            (Some(artifact), GeneratedFile::Sha256sums(version)) => {
                self.each_entry(artifact, version, |found| {
                    sha256sums_line(&found.entry).map_or(Ok(()), |line| out.add(line.as_bytes()))
                })
                .await?;
            }
            (Some(artifact), GeneratedFile::Listing(version)) => {
                let mut listing = ListingHasher::default();
                let mut entries = self.view_of(artifact, version).await?.entries(0);
                loop {
                    let batch = entries.next_batch().await?;
                    if batch.is_empty() {
                        break;
                    }
                    for (_, entry) in &batch {
                        out.add(listing.push(entry).as_bytes())?;
                    }
                    tokio::task::yield_now().await;
                }
            }
        }
        out.file.into_inner().map_err(|e| e.into_error().into())
    }

    async fn view_of(&self, artifact: &ArtifactKey, version: VersionNumber) -> Result<Arc<VersionView>> {
        let state = self.state(artifact).await?.ok_or(Errno::NOT_FOUND)?;
        let record = state.version(version).ok_or_else(|| missing(&state))?;
        self.view(&self.inodes.version(artifact, record)).await
    }

    /// How many files a version shows, by its manifest; what it cannot name in a sum is counted, too.
    async fn files_shown(&self, artifact: &ArtifactKey, version: VersionNumber) -> Result<u64> {
        Ok(self.view_of(artifact, version).await?.totals().files)
    }

    /// Everything that is seen in a version, what it contains too.
    async fn each_entry(
        self: &Arc<Self>,
        artifact: &ArtifactKey,
        version: VersionNumber,
        mut take: impl FnMut(&NestedEntry) -> std::io::Result<()>,
    ) -> Result<()> {
        let mut entries = WholeView::new(self.view_of(artifact, version).await?).walk();
        loop {
            let batch = entries.next_batch().await?;
            if batch.is_empty() {
                return Ok(());
            }
            batch.iter().try_for_each(&mut take)?;
            // What is in memory would go on without a pause, and nothing could end it.
            tokio::task::yield_now().await;
        }
    }

    async fn record(self: &Arc<Self>, artifact: &ArtifactKey, version: VersionNumber) -> Result<MountRecord> {
        let state = self.state(artifact).await?.ok_or(Errno::NOT_FOUND)?;
        let record = state.version(version).ok_or_else(|| missing(&state))?;
        let record = self.catalog.record(&state, record).await?;
        if self.files_shown(artifact, version).await? > MAX_GENERATED_BYTES / MIN_SUM_BYTES {
            return Ok(MountRecord { record, files_not_in_b3sums: None });
        }
        let (mut files, mut listed) = (0, 0);
        self.each_entry(artifact, version, |found| {
            files += u64::from(matches!(found.entry.body, EntryBody::File(_) | EntryBody::Reference(_)));
            listed += u64::from(b3sums_line(&found.entry).is_some());
            Ok(())
        })
        .await?;
        Ok(MountRecord { record, files_not_in_b3sums: Some(files - listed) })
    }

    /// A generated file's content, made again if it is no longer kept.
    pub(super) async fn generated_content(
        self: &Arc<Self>,
        caller: Caller,
        ino: u64,
        file: &Generated,
    ) -> Result<Arc<File>> {
        if let Some(content) = self.generated.get(ino) {
            return Ok(content);
        }
        let content = Arc::new(self.generate(caller, file.artifact.as_ref(), file.what).await?);
        self.generated.keep(ino, content.clone());
        Ok(content)
    }

    pub(super) async fn open_generated(
        self: &Arc<Self>,
        caller: Caller,
        ino: u64,
        file: &Generated,
    ) -> Result<OpenedFile> {
        let content = self.generated_content(caller, ino, file).await?;
        let handle = self.inodes.next();
        let open = OpenVersionFile::Generated(content);
        self.files.lock().insert(handle, open);
        Ok(OpenedFile { handle, mode: OpenMode::Direct })
    }

    /// The names of a `.artfs` that there are now.
    pub(super) async fn list_generated(
        self: &Arc<Self>,
        node: &GeneratedNode,
    ) -> Result<Vec<(Vec<u8>, u64, FileKind)>> {
        let file = |name: String| (name.into_bytes(), crate::mount::staging::UNKNOWN_INO, FileKind::File);
        let GeneratedNode::ArtifactControl(artifact) = node else {
            return Ok(vec![file("status.json".into())]);
        };
        let mut names = vec![file("log.jsonl".into())];
        if self.generated.last_commit(artifact).is_some() {
            names.push(file("last-commit.json".into()));
        }
        if let Some(state) = self.state(artifact).await? {
            for record in state.versions() {
                let version = record.version;
                names.extend(["json", "b3sums", "listing"].map(|kind| file(format!("{version}.{kind}"))));
                if self.catalog.store().header().has_sha256() {
                    names.push(file(format!("{version}.sha256sums")));
                }
            }
        }
        names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(names)
    }
}

/// Reads of a generated file's content.
pub(super) fn read(file: &File, offset: u64, len: u32) -> Result<Bytes> {
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
