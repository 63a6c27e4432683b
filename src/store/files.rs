//! The files of a directory store: opened without blocking, and listed as objects.
//!
//! Opening a FIFO, socket or device could hang the reader or trigger the device, so these are reported and never opened.
//! A listing leaves out everything that cannot be an object: such files, names that no key can have, and unfinished
//! files of other writers (`<name>#<number>`).

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path as FsPath, PathBuf};

use chrono::DateTime;
use object_store::path::Path;
use object_store::{Error, ObjectMeta, Result};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Directories below each other that are listed; keys have six parts at the most.
const MAX_DEPTH: usize = 16;
/// Objects that a listing sends at once.
const BATCH: usize = 1000;
/// Batches that wait to be taken.
const BATCHES: usize = 2;

/// Something that is not a file, in the place of an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is {0}, where a file should be")]
pub struct NotAFile(&'static str);

impl NotAFile {
    fn of(meta: &Metadata) -> Option<Self> {
        let kind = meta.file_type();
        match () {
            () if kind.is_file() => None,
            () if kind.is_dir() => Some(Self("a directory")),
            () if kind.is_fifo() => Some(Self("a FIFO")),
            () if kind.is_socket() => Some(Self("a socket")),
            () => Some(Self("a device")),
        }
    }
}

/// Opens a file without blocking. Anything else is an error and is not opened.
pub(super) fn open(path: &FsPath) -> io::Result<(File, Metadata)> {
    let check = |meta: &Metadata| NotAFile::of(meta).map_or(Ok(()), |other| Err(io::Error::other(other)));
    check(&fs::metadata(path)?)?;
    // It may have been replaced in between.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let meta = file.metadata()?;
    check(&meta)?;
    Ok((file, meta))
}

/// The metadata of an object.
pub(super) fn describe(location: Path, meta: &Metadata) -> ObjectMeta {
    let nanos = u32::try_from(meta.mtime_nsec()).unwrap_or(0);
    let last_modified = DateTime::from_timestamp(meta.mtime(), nanos).unwrap_or_default();
    ObjectMeta { location, last_modified, size: meta.len(), e_tag: None, version: None }
}

/// The client's error for one of the system.
pub(super) fn failed(path: &FsPath, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::NotFound => {
            Error::NotFound { path: path.display().to_string(), source: source.into() }
        }
        _ => Error::Generic { store: "Directory", source: source.into() },
    }
}

/// Lists the objects below a directory in name order, those after `after` only.
pub(super) fn list(root: PathBuf, prefix: Path, after: Option<Path>) -> Receiver<Result<Vec<ObjectMeta>>> {
    let (out, batches) = channel(BATCHES);
    tokio::task::spawn_blocking(move || {
        let mut walk = FolderWalk { after, batch: vec![], out };
        let from = root.join(prefix.as_ref());
        let walked = walk.directory(&from, prefix.as_ref(), &mut vec![]);
        let last = match walked {
            Ok(()) => Ok(walk.batch),
            Err(Stop::Failed(e)) => Err(e),
            Err(Stop::NobodyListens) => return,
        };
        // A receiver that is gone needs no last batch.
        let _ = walk.out.blocking_send(last);
    });
    batches
}

/// Returns the directories directly below a directory.
pub(super) fn folders(root: &FsPath, prefix: &Path) -> Result<BTreeSet<Path>> {
    let at = root.join(prefix.as_ref());
    let mut found = BTreeSet::new();
    for (name, meta) in entries(&at)? {
        if let Some(location) = location(prefix.as_ref(), &name).filter(|_| meta.is_dir()) {
            found.insert(location);
        }
    }
    Ok(found)
}

enum Stop {
    Failed(Error),
    NobodyListens,
}

struct FolderWalk {
    after: Option<Path>,
    batch: Vec<ObjectMeta>,
    out: Sender<Result<Vec<ObjectMeta>>>,
}

impl FolderWalk {
    /// Walks a directory. `above` has the directories on the way down, so that links cannot loop.
    fn directory(&mut self, at: &FsPath, prefix: &str, above: &mut Vec<(u64, u64)>) -> Result<(), Stop> {
        let mut entries = entries(at).map_err(Stop::Failed)?;
        // In the order of whole keys: a directory's name sorts with its slash.
        entries
            .sort_by_cached_key(|(name, meta)| if meta.is_dir() { format!("{name}/") } else { name.clone() });
        for (name, meta) in entries {
            let Some(location) = location(prefix, &name) else { continue };
            if meta.is_dir() {
                let id = (meta.dev(), meta.ino());
                if above.len() < MAX_DEPTH && !above.contains(&id) {
                    above.push(id);
                    self.directory(&at.join(&name), location.as_ref(), above)?;
                    above.pop();
                }
                continue;
            }
            if NotAFile::of(&meta).is_some() || self.after.as_ref().is_some_and(|after| location <= *after) {
                continue;
            }
            self.batch.push(describe(location, &meta));
            if self.batch.len() == BATCH {
                let batch = std::mem::take(&mut self.batch);
                self.out.blocking_send(Ok(batch)).map_err(|_| Stop::NobodyListens)?;
            }
        }
        Ok(())
    }
}

/// Returns the entries of a directory, links followed; none if it does not exist.
fn entries(at: &FsPath) -> Result<Vec<(String, Metadata)>> {
    let names = match fs::read_dir(at) {
        Ok(names) => names,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(vec![]);
        }
        Err(e) => return Err(failed(at, e)),
    };
    let mut found = vec![];
    for name in names {
        let name = name.map_err(|e| failed(at, e))?;
        let Ok(text) = name.file_name().into_string() else { continue };
        match fs::metadata(name.path()) {
            Ok(meta) => found.push((text, meta)),
            // Removed meanwhile, or a dangling link.
            Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ELOOP) => {}
            Err(e) => return Err(failed(&name.path(), e)),
        }
    }
    Ok(found)
}

/// Returns the key of a name in a folder, if it can be one.
fn location(prefix: &str, name: &str) -> Option<Path> {
    let is_unfinished = name
        .rsplit_once('#')
        .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()));
    if is_unfinished || name.chars().any(char::is_control) {
        return None;
    }
    Path::parse(if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") }).ok()
}
