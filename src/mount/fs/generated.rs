//! The files of `.artfs` directories, made when they are looked up.
//!
//! A generated file shows the state after one event of the log, and has a number of its own for each: an open file
//! does not change under its reader.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::errno::{Errno, Result};
use super::generated_contents::GeneratedContents;
use super::generated_file::{GeneratedFile, GeneratedKind};
use super::inode::{GeneratedNode, Inodes, NodeKey, Resolved};
use super::known_names::{KnownNames, missing};
use super::reply::AttrReply;
use super::reply_policy::ReplyPolicy;
use super::versions::VersionTrees;
use crate::format::entry::EntryBody;
use crate::format::listing::{ListingHasher, b3sums_line, sha256sums_line};
use crate::format::name::{ArtifactKey, VersionNumber};
use crate::host::process::waiting;
use crate::mount::staging::{Attr, Caller, FileKind, UNKNOWN_INO};
use crate::repo::catalog::{Catalog, FullRecord};
use crate::repo::view::{NestedEntry, VersionView, WholeView};

/// Longest generated file: the sums of 16 million files with paths of usual length. Versions that contain one another can
/// show more files than any disk holds.
const MAX_GENERATED_BYTES: u64 = 2 << 30;

/// The shortest line of sums: hash, blanks, a name of one byte, line end.
const MIN_SUM_BYTES: u64 = 64 + 2 + 1 + 1;

/// How long a look-up waits for a file to be made; then the work is dropped. The blocks of the manifest that were read
/// are in the cache for the next look-up.
const PATIENCE: Duration = Duration::from_secs(60);

/// The record of a version, with the mount's additions.
#[derive(Debug, Serialize)]
struct MountRecord {
    #[serde(flatten)]
    record: FullRecord,
    /// Files that `v7.b3sums` leaves out because `b3sum` cannot name them.
    /// None where there are too many files to walk.
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

/// A source of the mount's status, read for `.artfs/status.json`.
pub(super) type StatusSource = Box<dyn Fn() -> Value + Send>;

/// Finds, makes and lists the files of `.artfs` directories.
pub(super) struct GeneratedFiles {
    catalog: Arc<Catalog>,
    inodes: Arc<Inodes>,
    replies: Arc<ReplyPolicy>,
    known: Arc<KnownNames>,
    versions: Arc<VersionTrees>,
    /// Where contents are written, to files without a name.
    folder: PathBuf,
    contents: GeneratedContents,
    /// How each artifact's last commit ended, with a serial. The lock is held for look-ups only.
    last_commits: Mutex<HashMap<ArtifactKey, (u64, Value)>>,
    status: Mutex<StatusSource>,
}

fn pretty(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).unwrap_or_default()
}

impl GeneratedFiles {
    pub fn new(
        catalog: Arc<Catalog>,
        inodes: Arc<Inodes>,
        replies: Arc<ReplyPolicy>,
        known: Arc<KnownNames>,
        versions: Arc<VersionTrees>,
        folder: PathBuf,
    ) -> Self {
        Self {
            catalog,
            inodes,
            replies,
            known,
            versions,
            folder,
            contents: GeneratedContents::default(),
            last_commits: Mutex::default(),
            status: Mutex::new(Box::new(|| Value::Null)),
        }
    }

    /// Sets what `.artfs/status.json` shows.
    pub fn set_status(&self, status: StatusSource) {
        *self.status.lock() = status;
    }

    /// Sets what an artifact's `.artfs/last-commit.json` shows.
    pub fn set_last_commit(&self, artifact: &ArtifactKey, note: Value) {
        let mut notes = self.last_commits.lock();
        let serial = notes.get(artifact).map_or(1, |(serial, _)| serial + 1);
        notes.insert(artifact.clone(), (serial, note));
    }

    fn last_commit(&self, artifact: &ArtifactKey) -> Option<(u64, Value)> {
        self.last_commits.lock().get(artifact).cloned()
    }

    /// Finds a file of an artifact's `.artfs`, or (none) of the mount's own, and makes it.
    pub async fn lookup(
        &self,
        caller: Caller,
        artifact: Option<&ArtifactKey>,
        name: &[u8],
    ) -> Result<AttrReply> {
        let kind = match artifact {
            None if name == b"status.json" => GeneratedKind::Status,
            None => return Err(Errno::NOT_FOUND),
            Some(_) => GeneratedKind::in_artifact(name).ok_or(Errno::NOT_FOUND)?,
        };
        let text = String::from_utf8_lossy(name).into_owned();
        let serial = self.serial(artifact, kind).await?;
        let key = NodeKey::Generated(artifact.cloned(), text, serial);
        if let Some(ino) = self.inodes.known(&key)
            && let Ok(Resolved::Node(GeneratedNode::Generated(file))) = self.inodes.resolve(ino)
        {
            return Ok(self.reply(ino, &file));
        }
        let content = self.generate(caller, artifact, kind).await?;
        let size = content.metadata()?.len();
        let file =
            Arc::new(GeneratedFile { kind, artifact: artifact.cloned(), size, made: self.replies.now() });
        let ino = self.inodes.number(key.clone(), || GeneratedNode::Generated(file.clone()));
        self.contents.keep(ino, Arc::new(content));
        if let Some(oldest) = self.contents.add_recent(key) {
            self.inodes.remove(&oldest);
        }
        Ok(self.reply(ino, &file))
    }

    pub fn reply(&self, ino: u64, file: &GeneratedFile) -> AttrReply {
        let attr = self.replies.directory(ino, file.made);
        let attr = Attr {
            kind: FileKind::File,
            perm: 0o444,
            size: file.size,
            blocks: file.size.div_ceil(512),
            ..attr
        };
        // The next content has another number. A name kept for a while would show this mount's own last event late.
        let entry_ttl = match file.kind {
            GeneratedKind::B3sums(_) | GeneratedKind::Sha256sums(_) | GeneratedKind::Listing(_) => {
                self.replies.name_ttl()
            }
            GeneratedKind::Status
            | GeneratedKind::Log
            | GeneratedKind::LastCommit
            | GeneratedKind::Record(_) => Duration::ZERO,
        };
        AttrReply { entry_ttl, ..self.replies.name(attr) }
    }

    /// A number that differs between two contents of the same name.
    async fn serial(&self, artifact: Option<&ArtifactKey>, kind: GeneratedKind) -> Result<u64> {
        let Some(artifact) = artifact else { return Ok(self.inodes.next()) };
        match kind {
            GeneratedKind::Status => Ok(self.inodes.next()),
            GeneratedKind::LastCommit => Ok(self.last_commit(artifact).ok_or(Errno::NOT_FOUND)?.0),
            GeneratedKind::Log => Ok(self.known.state(artifact).await?.map_or(0, |state| state.seq())),
            GeneratedKind::Record(version) => {
                let state = self.known.state(artifact).await?.ok_or(Errno::NOT_FOUND)?;
                state.version(version).ok_or_else(|| missing(&state))?;
                Ok(state.seq())
            }
            GeneratedKind::Sha256sums(_) if !self.catalog.store().header().has_sha256() => {
                Err(Errno::NOT_FOUND)
            }
            GeneratedKind::B3sums(version)
            | GeneratedKind::Sha256sums(version)
            | GeneratedKind::Listing(version) => {
                let state = self.known.state(artifact).await?.ok_or(Errno::NOT_FOUND)?;
                Ok(state.version(version).ok_or_else(|| missing(&state))?.seq)
            }
        }
    }

    /// Makes a file's content, within limits of time and length, and for as long as the caller lives.
    async fn generate(
        &self,
        caller: Caller,
        artifact: Option<&ArtifactKey>,
        kind: GeneratedKind,
    ) -> Result<File> {
        // What is not ready is dropped with its temporary file.
        let made = tokio::select! {
            biased;
            made = self.write_generated(artifact, kind) => made,
            () = tokio::time::sleep(PATIENCE) => Err(Errno(libc::ETIMEDOUT)),
            () = waiting::until_ending(caller.pid) => Err(Errno(libc::EINTR)),
        };
        if let Err(Errno(libc::EFBIG | libc::ETIMEDOUT)) = made {
            let artifact = artifact.map(ToString::to_string).unwrap_or_default();
            tracing::warn!(
                artifact,
                ?kind,
                "a file of .artfs was not made: it has more than {MAX_GENERATED_BYTES} bytes, or takes more than {} s; \
                 `artfs verify` checks a version of any size",
                PATIENCE.as_secs()
            );
        }
        made
    }

    async fn write_generated(&self, artifact: Option<&ArtifactKey>, kind: GeneratedKind) -> Result<File> {
        if let (Some(artifact), GeneratedKind::B3sums(version) | GeneratedKind::Sha256sums(version)) =
            (artifact, kind)
            && self.files_shown(artifact, version).await? > MAX_GENERATED_BYTES / MIN_SUM_BYTES
        {
            return Err(Errno(libc::EFBIG));
        }
        let file = tempfile::tempfile_in(&self.folder)?;
        let mut out = Output { file: BufWriter::new(file), bytes: 0 };
        match (artifact, kind) {
            (None, _) | (_, GeneratedKind::Status) => {
                let status = (self.status.lock())();
                out.add(&pretty(&status))?;
                out.add(b"\n")?;
            }
            (Some(artifact), GeneratedKind::Log) => {
                if let Some(state) = self.known.state(artifact).await? {
                    for line in self.catalog.log_lines(&state).await? {
                        out.add(&line)?;
                        out.add(b"\n")?;
                    }
                }
            }
            (Some(artifact), GeneratedKind::LastCommit) => {
                let (_, note) = self.last_commit(artifact).ok_or(Errno::NOT_FOUND)?;
                out.add(&pretty(&note))?;
                out.add(b"\n")?;
            }
            (Some(artifact), GeneratedKind::Record(version)) => {
                let record = self.record(artifact, version).await?;
                out.add(&pretty(&record))?;
                out.add(b"\n")?;
            }
            (Some(artifact), GeneratedKind::B3sums(version)) => {
                self.each_entry(artifact, version, |found| {
                    b3sums_line(&found.entry).map_or(Ok(()), |line| out.add(line.as_bytes()))
                })
                .await?;
            }
            (Some(artifact), GeneratedKind::Sha256sums(version)) => {
                self.each_entry(artifact, version, |found| {
                    sha256sums_line(&found.entry).map_or(Ok(()), |line| out.add(line.as_bytes()))
                })
                .await?;
            }
            (Some(artifact), GeneratedKind::Listing(version)) => {
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
        let state = self.known.state(artifact).await?.ok_or(Errno::NOT_FOUND)?;
        let record = state.version(version).ok_or_else(|| missing(&state))?;
        self.versions.view(&self.inodes.version(artifact, record)).await
    }

    /// How many files a version shows, by its manifest; those that no line of sums can name count too.
    async fn files_shown(&self, artifact: &ArtifactKey, version: VersionNumber) -> Result<u64> {
        Ok(self.view_of(artifact, version).await?.totals().files)
    }

    /// Visits every entry of a version, those of contained versions included.
    async fn each_entry(
        &self,
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

    async fn record(&self, artifact: &ArtifactKey, version: VersionNumber) -> Result<MountRecord> {
        let state = self.known.state(artifact).await?.ok_or(Errno::NOT_FOUND)?;
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
    pub async fn content(&self, caller: Caller, ino: u64, file: &GeneratedFile) -> Result<Arc<File>> {
        if let Some(content) = self.contents.get(ino) {
            return Ok(content);
        }
        let content = Arc::new(self.generate(caller, file.artifact.as_ref(), file.kind).await?);
        self.contents.keep(ino, content.clone());
        Ok(content)
    }

    /// The names in a `.artfs` directory.
    pub async fn list(&self, node: &GeneratedNode) -> Result<Vec<(Vec<u8>, u64, FileKind)>> {
        let file = |name: String| (name.into_bytes(), UNKNOWN_INO, FileKind::File);
        let GeneratedNode::ArtifactControl(artifact) = node else {
            return Ok(vec![file("status.json".into())]);
        };
        let mut names = vec![file("log.jsonl".into())];
        if self.last_commit(artifact).is_some() {
            names.push(file("last-commit.json".into()));
        }
        if let Some(state) = self.known.state(artifact).await? {
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
