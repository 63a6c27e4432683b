//! The mount table, and whether a directory can become a mount point.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use crate::app::error::WireError;
use crate::host::sys::{self, Detach};

/// The source of our mounts in the mount table; the file system is mounted under this name.
pub const FS_NAME: &str = "artfs";
/// Mounts of dead daemons on top of each other that are cleared away.
const MAX_STACKED: usize = 16;

/// One line of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// Where.
    pub mount_point: PathBuf,
    /// What of the file system stands there: `/`, or a directory in it (a bind mount).
    pub root: PathBuf,
    /// The number of its device, as `major:minor`: two mounts that are there at once differ in it.
    pub device: String,
    /// `ext4`, `fuse`, `fuse.artfs`, ….
    pub fs_type: String,
    /// The device, or the name the file system gave itself.
    pub source: String,
}

/// How long a daemon may take to answer before it counts as alive but stuck.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

impl MountEntry {
    /// Whether it is one of ours.
    pub fn is_artfs(&self) -> bool {
        self.fs_type == "fuse.artfs" || (self.fs_type == "fuse" && self.source == FS_NAME)
    }

    /// Whether the daemon behind it is gone.
    pub fn is_dead(&self) -> bool {
        life_of(&[self]) == [MountHealth::Dead]
    }
}

/// How a mount answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountHealth {
    /// Its daemon answers, or it needs none.
    Alive,
    /// Its daemon is gone.
    Dead,
    /// Its daemon has not answered in time.
    Silent,
}

/// Asks all these mounts at once whether they answer; takes as long as the slowest, at most 5 s (`ANSWER_LIMIT`).
pub fn life_of(entries: &[&MountEntry]) -> Vec<MountHealth> {
    let question = |entry: &&MountEntry| {
        let needs_daemon = entry.fs_type.starts_with("fuse");
        let place = entry.mount_point.clone();
        // Attributes may come from the kernel's cache; this question always goes to the daemon.
        move || match sys::space(&place) {
            Err(e) if needs_daemon && sys::is_dead_mount(&e) => MountHealth::Dead,
            Ok(_) | Err(_) => MountHealth::Alive,
        }
    };
    let answers = ask_all(entries.iter().map(question), ANSWER_LIMIT);
    answers.into_iter().map(|answer| answer.unwrap_or(MountHealth::Silent)).collect()
}

/// Asks all questions at once and returns the answers that arrive in time. A question that is never answered
/// would block its thread for ever, so each has its own thread, which may be abandoned.
fn ask_all<T: Send + 'static, Q: FnOnce() -> T + Send + 'static>(
    questions: impl Iterator<Item = Q>,
    limit: Duration,
) -> Vec<Option<T>> {
    let asked: Vec<mpsc::Receiver<T>> = questions
        .map(|question| {
            let (tell, told) = mpsc::channel();
            std::thread::spawn(move || {
                // Nobody listens any more when the answer comes too late.
                let _ = tell.send(question());
            });
            told
        })
        .collect();
    let end = Instant::now() + limit;
    asked.iter().map(|told| told.recv_timeout(end.saturating_duration_since(Instant::now())).ok()).collect()
}

/// All mounts that this process sees, in the order they were made.
///
/// # Errors
/// The mount table cannot be read.
pub fn mounts() -> io::Result<Vec<MountEntry>> {
    Ok(parse(&fs::read("/proc/self/mountinfo")?))
}

/// All mounts that another process sees.
///
/// # Errors
/// The process has ended, or may not be looked at.
pub fn mounts_of(pid: u32) -> io::Result<Vec<MountEntry>> {
    Ok(parse(&fs::read(format!("/proc/{pid}/mountinfo"))?))
}

/// The topmost mount on a directory.
///
/// # Errors
/// The mount table cannot be read.
pub fn mount_at(path: &Path) -> io::Result<Option<MountEntry>> {
    Ok(mounts()?.into_iter().rev().find(|entry| entry.mount_point == path))
}

/// The other mount points of a store, by the mount table at first use.
#[derive(Debug)]
pub struct StoreMounts {
    mountpoint: PathBuf,
    store: String,
    table: OnceLock<Vec<MountEntry>>,
    /// By device, whether a mount is of this store; a mount that did not answer in time is not.
    same: Mutex<HashMap<String, bool>>,
}

impl StoreMounts {
    /// Those of the store with this URL besides `mountpoint`.
    pub fn of(mountpoint: &Path, store: &str) -> Self {
        let (mountpoint, store) = (mountpoint.to_owned(), store.to_owned());
        Self { mountpoint, store, table: OnceLock::new(), same: Mutex::default() }
    }

    /// The names of an absolute path below the top of the store's tree; none if it is in no other mount of it.
    pub fn names_of(&self, path: &Path) -> Option<PathBuf> {
        let table = self.table.get_or_init(|| mounts().unwrap_or_default());
        // The last of those made on the nearest directory above is the one that is seen.
        let above = table.iter().filter(|entry| path.starts_with(&entry.mount_point));
        let entry = above.max_by_key(|entry| entry.mount_point.as_os_str().len())?;
        if !entry.is_artfs() || !self.is_of_store(table, entry) {
            return None;
        }
        let below = path.strip_prefix(&entry.mount_point).ok()?;
        Some(entry.root.strip_prefix("/").unwrap_or(&entry.root).join(below))
    }

    fn is_of_store(&self, table: &[MountEntry], entry: &MountEntry) -> bool {
        let own = table.iter().rev().find(|own| own.mount_point == self.mountpoint);
        if own.is_some_and(|own| own.device == entry.device) {
            return true;
        }
        let mut same = self.same.lock();
        *same.entry(entry.device.clone()).or_insert_with(|| {
            // Another daemon: asking it cannot deadlock with this one.
            let top = table.iter().find(|top| top.device == entry.device && top.root == Path::new("/"));
            let Some(status) = top.map(|top| top.mount_point.join(".artfs/status.json")) else {
                return false;
            };
            let read = move || serde_json::from_slice::<serde_json::Value>(&fs::read(status).ok()?).ok();
            let told = ask_all([read].into_iter(), ANSWER_LIMIT).pop().flatten().flatten();
            told.is_some_and(|status| status["store"] == self.store)
        })
    }
}

fn parse(table: &[u8]) -> Vec<MountEntry> {
    table.split(|b| *b == b'\n').filter_map(parse_line).collect()
}

/// `36 35 98:0 /root /mnt/point rw,noatime shared:1 - ext3 /dev/root rw`: any number of optional fields before
/// the lone hyphen.
fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|b| *b == b' ');
    let device = String::from_utf8_lossy(fields.nth(2)?).into_owned();
    let root = PathBuf::from(unescape(fields.next()?));
    let mount_point = PathBuf::from(unescape(fields.next()?));
    fields.find(|field| *field == b"-")?;
    let text = |field: &[u8]| unescape(field).to_string_lossy().into_owned();
    let (fs_type, source) = (text(fields.next()?), text(fields.next()?));
    Some(MountEntry { mount_point, root, device, fs_type, source })
}

/// Blanks and backslashes stand as three octal digits.
fn unescape(field: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|_| byte == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match octal {
            Some(value) => {
                out.push(value);
                rest = &tail[3..];
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    OsString::from_vec(out)
}

/// The path under which the mount table names a directory. Works on dead mounts too.
///
/// # Errors
/// There is no such directory; its parent cannot be read.
pub fn resolve(dir: &Path) -> io::Result<PathBuf> {
    let error = match fs::canonicalize(dir) {
        Ok(path) => return Ok(path),
        Err(error) => error,
    };
    if error.kind() == io::ErrorKind::NotFound {
        return Err(error);
    }
    // The directory itself may belong to a dead daemon or to another user; its parent does not.
    let absolute = std::path::absolute(dir)?;
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => Ok(fs::canonicalize(parent)?.join(name)),
        _ => Err(error),
    }
}

/// Makes sure that a resolved path can be mounted on: an empty directory on which nothing is mounted. Mounts that
/// dead daemons left there are cleared away.
///
/// # Errors
/// The path is not an empty directory; something is mounted there; a dead mount cannot be cleared.
pub fn prepare(mountpoint: &Path) -> Result<(), WireError> {
    let shown = mountpoint.display();
    let table = |e: io::Error| WireError::new(format!("cannot read the mount table: {e}"));
    for _ in 0..MAX_STACKED {
        let Some(entry) = mount_at(mountpoint).map_err(table)? else { return check_empty(mountpoint) };
        if !entry.is_dead() {
            let what = if entry.is_artfs() { "artfs".to_owned() } else { entry.fs_type.clone() };
            // Mounting over a mounted file system is fine as long as it is not another daemon's.
            if !entry.fs_type.starts_with("fuse") {
                return check_empty(mountpoint);
            }
            return Err(WireError::new(format!("{shown} is already a mount point ({what})"))
                .with_hint(format!("unmount it with `artfs umount {shown}`, or choose another directory")));
        }
        if !entry.is_artfs() {
            let message = format!("{shown} holds a dead mount of another program ({})", entry.source);
            return Err(WireError::new(message).with_hint(format!("unmount it with `umount -l {shown}`")));
        }
        tracing::warn!(mountpoint = %shown, "clearing the mount of a daemon that is gone");
        sys::unmount(mountpoint, Detach::Lazily).map_err(|e| {
            WireError::new(format!("cannot clear the dead mount on {shown}: {e}"))
                .with_hint(format!("as root: `umount -l {shown}`"))
        })?;
    }
    Err(WireError::new(format!("too many dead mounts on {shown}"))
        .with_hint(format!("as root: `umount -l {shown}`, repeatedly")))
}

fn check_empty(mountpoint: &Path) -> Result<(), WireError> {
    let shown = mountpoint.display();
    let meta = fs::metadata(mountpoint)
        .map_err(|e| WireError::new(format!("cannot use {shown} as mount point: {e}")))?;
    if !meta.is_dir() {
        return Err(WireError::new(format!("{shown} is not a directory"))
            .with_hint("a mount point is an empty directory".to_owned()));
    }
    let mut entries = fs::read_dir(mountpoint)
        .map_err(|e| WireError::new(format!("cannot read the directory {shown}: {e}")))?;
    if entries.next().is_some() {
        return Err(WireError::new(format!("{shown} is not empty"))
            .with_hint("mounting there would hide its contents: choose or create an empty directory"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Barrier};

    use super::*;

    #[test]
    fn the_mount_table_is_read_with_its_escapes_and_optional_fields() {
        let table = b"36 35 98:0 / / rw - ext4 /dev/root rw\n\
            40 36 0:50 / /mnt/a\\040b\\134c rw shared:1 master:2 - fuse artfs rw,user_id=0\n\
            41 36 0:51 / /mnt/x rw - fuse.artfs whatever rw\n\
            garbage\n\n";
        let entries = parse(table);
        assert_eq!(entries.len(), 3);
        assert_eq!(entries[1].mount_point, Path::new("/mnt/a b\\c"));
        assert_eq!(entries[1].device, "0:50");
        let ours: Vec<bool> = entries.iter().map(MountEntry::is_artfs).collect();
        assert_eq!(ours, [false, true, true]);
        assert!(!mounts().unwrap().is_empty());
    }

    #[test]
    fn questions_are_asked_at_once_and_not_waited_for_without_end() {
        let all = Arc::new(Barrier::new(3));
        let together = (0..3).map(|i| {
            let all = all.clone();
            // Answered only when all are asked.
            move || (all.wait(), i).1
        });
        assert_eq!(ask_all(together, Duration::from_secs(60)), [Some(0), Some(1), Some(2)]);
        let (never, told) = mpsc::channel::<()>();
        let told = Arc::new(Mutex::new(told));
        let silent = (0..2).map(|_| {
            let told = told.clone();
            move || told.lock().recv().is_ok()
        });
        assert_eq!(ask_all(silent, Duration::from_millis(10)), [None, None]);
        drop(never);
    }

    #[test]
    fn only_an_empty_directory_becomes_a_mount_point() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m");
        assert!(resolve(&path).is_err());
        fs::create_dir(&path).unwrap();
        let resolved = resolve(&path).unwrap();
        prepare(&resolved).unwrap();
        fs::write(path.join("x"), "").unwrap();
        assert!(prepare(&resolved).unwrap_err().message.contains("not empty"));
        assert!(prepare(&resolved.join("x")).unwrap_err().message.contains("not a directory"));
    }
}
