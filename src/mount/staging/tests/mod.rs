//! What the overlay promises, on a real local file system with a version held in memory.

mod closing;
mod commit;
mod files;
mod model;
mod names;
mod overlay;
mod registry;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tempfile::TempDir;

use super::*;
use crate::format::chunk::ChunkRule;
use crate::format::codec::Codec;
use crate::format::entry::{
    ChunkLocation as At, ChunkRef, Entry, EntryBody, FileBody, FileBytes as Place, Mtime,
};
use crate::format::id::{FileHash, PackId};
use crate::format::path::TreePath;
use crate::mount::fs::Errno;

pub(super) const ME: Caller = Caller { uid: 0, gid: 0, pid: 0 };
pub(super) const OLD: Mtime = Mtime { seconds: 1_000_000, nanos: 123_456_789 };

/// A version in memory, and the bytes of its files.
#[derive(Default)]
pub(super) struct Version {
    entries: BTreeMap<TreePath, Entry>,
    bytes: HashMap<FileHash, Vec<u8>>,
}

pub(super) fn path(text: &str) -> TreePath {
    TreePath::new(text.as_bytes()).unwrap()
}

/// A file's entry as a version with chunks has it.
pub(super) fn file_entry(name: &str, data: &[u8]) -> Entry {
    let hash = FileHash::of(data);
    let place = At { pack: PackId::of(b"pack"), offset: 0, stored_len: data.len() as u32, codec: Codec::Raw };
    let size = data.len() as u64;
    let one = ChunkRef { id: hash.into(), span: size, raw_len: size as u32, place };
    let refs = if data.is_empty() { Vec::new() } else { vec![one] };
    let body = FileBody {
        size,
        hash,
        sha256: None,
        hole_bytes: 0,
        rule: ChunkRule::from_byte(0).or(ChunkRule::from_byte(1)).unwrap(),
        content: Place::Chunks { level: 0, refs },
    };
    Entry { path: path(name), executable: false, mtime: OLD, body: EntryBody::File(body) }
}

impl Version {
    pub fn file(mut self, name: &str, data: &[u8]) -> Self {
        let entry = file_entry(name, data);
        self.bytes.insert(FileHash::of(data), data.to_vec());
        self.entries.insert(entry.path.clone(), entry);
        self
    }

    pub fn dir(mut self, name: &str) -> Self {
        let entry = Entry { path: path(name), executable: false, mtime: OLD, body: EntryBody::Directory };
        self.entries.insert(entry.path.clone(), entry);
        self
    }

    pub fn link(mut self, name: &str, target: &str) -> Self {
        let body = EntryBody::Symlink { target: target.as_bytes().into() };
        let entry = Entry { path: path(name), executable: false, mtime: OLD, body };
        self.entries.insert(entry.path.clone(), entry);
        self
    }
}

impl Lower for Version {
    fn find(&self, path: &TreePath) -> Result<Option<Entry>, LowerError> {
        Ok(self.entries.get(path).cloned())
    }

    fn children_after(
        &self,
        directory: Option<&TreePath>,
        after: Option<&[u8]>,
    ) -> Result<Vec<Entry>, LowerError> {
        let children = self.entries.values().filter(|e| e.path.parent().as_ref() == directory);
        let behind = children.filter(|e| after.is_none_or(|after| e.path.file_name() > after));
        Ok(behind.take(2).cloned().collect())
    }

    fn subtree(&self, directory: &TreePath) -> Result<Vec<Entry>, LowerError> {
        Ok(self.entries.values().filter(|e| e.path.is_below(directory)).cloned().collect())
    }
}

impl Version {
    fn bytes_of(&self, entry: &Entry) -> Result<&Vec<u8>, LowerError> {
        let EntryBody::File(file) = &entry.body else { return Err(LowerError::NotAFile(entry.path.clone())) };
        self.bytes.get(&file.hash).ok_or_else(|| io::Error::other("no such content").into())
    }
}

impl LowerContent for Version {
    fn copy_out(&self, file: &Entry, dest: &File) -> Result<(), LowerError> {
        let bytes = self.bytes_of(file)?;
        Ok(dest.write_all_at(bytes, 0)?)
    }

    fn read(&self, file: &Entry, offset: u64, buf: &mut [u8]) -> Result<usize, LowerError> {
        let bytes = self.bytes_of(file)?;
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
}

/// A session in a directory of its own, driven by paths.
pub(super) struct Fixture {
    pub dir: TempDir,
    ids: Arc<AtomicU64>,
    version: Arc<Version>,
    has_lower: bool,
    closer: Arc<Closer>,
    session: Option<Session>,
}

impl std::ops::Deref for Fixture {
    type Target = Session;
    fn deref(&self) -> &Session {
        self.session.as_ref().unwrap()
    }
}

impl Fixture {
    pub fn empty() -> Self {
        Self::with(Version::default(), false, Closer::start().unwrap())
    }

    /// An empty session whose files are closed by this.
    pub fn closing_by(closer: Arc<Closer>) -> Self {
        Self::with(Version::default(), false, closer)
    }

    pub fn over(version: Version) -> Self {
        Self::with(version, true, Closer::start().unwrap())
    }

    fn with(version: Version, has_lower: bool, closer: Arc<Closer>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut fixture = Self {
            dir,
            ids: Arc::new(AtomicU64::new(1)),
            version: Arc::new(version),
            has_lower,
            closer,
            session: None,
        };
        fixture.reopen();
        fixture
    }

    /// The process ends without a word, and another opens the session.
    pub fn reopen(&mut self) {
        self.session = None;
        let options = SessionOptions {
            closer: self.closer.clone(),
            directory: self.dir.path().join("s"),
            ids: self.ids.clone(),
            content: self.version.clone(),
            lower: self.has_lower.then(|| self.version.clone() as Arc<dyn Lower>),
        };
        self.session = Some(Session::start(options).unwrap());
    }

    /// The upper tree on disk.
    pub fn upper(&self, path: &str) -> std::path::PathBuf {
        self.dir.path().join("s/tree").join(path)
    }

    /// The node of a path; an intermediate link is taken as dangling.
    pub fn at(&self, path: &str) -> Result<u64> {
        let mut node = self.root();
        let mut kind = FileKind::Directory;
        for part in path.split('/').filter(|p| !p.is_empty()) {
            if kind == FileKind::Symlink {
                return Err(StagingError::Os(libc::ENOENT));
            }
            let attr = self.lookup(node, part.as_bytes())?;
            (node, kind) = (attr.ino, attr.kind);
        }
        Ok(node)
    }

    /// The directory and last component of a path.
    pub fn split<'a>(&self, path: &'a str) -> Result<(u64, &'a [u8])> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let node = self.at(dir)?;
        match self.getattr(node)?.kind {
            FileKind::Directory => Ok((node, name.as_bytes())),
            FileKind::Symlink => Err(StagingError::Os(libc::ENOENT)),
            _ => Err(StagingError::Os(libc::ENOTDIR)),
        }
    }

    pub fn new_dir(&self, path: &str) -> Result<Attr> {
        let (dir, name) = self.split(path)?;
        self.mkdir(ME, dir, name, 0o755, 0)
    }

    pub fn put(&self, path: &str, data: &[u8]) -> Result<()> {
        let (dir, name) = self.split(path)?;
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC;
        let open = match self.lookup(dir, name) {
            Ok(attr) => self.open(attr.ino, flags)?,
            Err(e) if e.errno() == libc::ENOENT => self.create(ME, dir, name, 0o644, 0, flags)?.1,
            Err(e) => return Err(e),
        };
        assert_eq!(self.write(open.handle, 0, data)?, data.len());
        self.release(open.handle)
    }

    pub fn write_at(&self, path: &str, offset: u64, data: &[u8]) -> Result<()> {
        let open = self.open(self.at(path)?, libc::O_WRONLY)?;
        assert_eq!(self.write(open.handle, offset, data)?, data.len());
        self.release(open.handle)
    }

    pub fn get(&self, path: &str) -> Result<Vec<u8>> {
        let node = self.at(path)?;
        let open = self.open(node, libc::O_RDONLY)?;
        let mut buf = vec![0; self.getattr(node)?.size as usize + 10];
        let len = self.read(open.handle, 0, &mut buf)?;
        buf.truncate(len);
        self.release(open.handle)?;
        Ok(buf)
    }

    pub fn mv(&self, from: &str, to: &str, flags: u32) -> Result<()> {
        let (from_dir, from) = self.split(from)?;
        let (to_dir, to) = self.split(to)?;
        self.rename(from_dir, from, to_dir, to, flags)
    }

    pub fn ln(&self, from: &str, to: &str) -> Result<Attr> {
        let node = self.at(from)?;
        let (dir, name) = self.split(to)?;
        self.link(node, dir, name)
    }

    pub fn rm(&self, path: &str) -> Result<()> {
        let (dir, name) = self.split(path)?;
        self.unlink(dir, name)
    }

    pub fn rm_dir(&self, path: &str) -> Result<()> {
        let (dir, name) = self.split(path)?;
        self.rmdir(dir, name)
    }

    pub fn chmod(&self, path: &str, mode: u32) -> Result<Attr> {
        self.setattr(self.at(path)?, &SetAttr { mode: Some(mode), ..SetAttr::default() }, None)
    }

    pub fn names(&self, path: &str) -> Vec<String> {
        let entries = self.readdir(self.at(path).unwrap()).unwrap();
        entries.iter().map(|e| String::from_utf8(e.name.to_vec()).unwrap()).collect()
    }

    pub fn attr(&self, path: &str) -> Attr {
        self.getattr(self.at(path).unwrap()).unwrap()
    }

    /// Everything visible: path, and what a user can tell of it.
    pub fn show(&self) -> BTreeMap<String, Shown> {
        let mut shown = BTreeMap::new();
        let mut queue = vec![String::new()];
        while let Some(dir) = queue.pop() {
            for name in self.names(&dir) {
                let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
                let attr = self.attr(&path);
                let what = match attr.kind {
                    FileKind::File => Shown::File(self.get(&path).unwrap(), attr.perm, attr.nlink),
                    FileKind::Directory => {
                        queue.push(path.clone());
                        Shown::Directory
                    }
                    FileKind::Symlink => Shown::Link(self.readlink(attr.ino).unwrap()),
                    other => panic!("{path}: {other:?}"),
                };
                shown.insert(path, what);
            }
        }
        shown
    }

    /// Everything that a scan tells of, one by one.
    pub fn scan(
        &self,
        visit: &mut dyn FnMut(Staged) -> crate::mount::staging::Result<()>,
    ) -> crate::mount::staging::Result<()> {
        let session: &Session = self;
        session.scan(&mut |scanned| match scanned {
            Scanned::Entry(staged) => visit(*staged),
            Scanned::Unchanged(unchanged) => unchanged.entries(visit),
        })
    }

    /// What a commit would see: path, and the source's kind.
    pub fn scanned(&self) -> Vec<(String, &'static str)> {
        let mut seen = Vec::new();
        self.scan(&mut |staged| {
            let source = match &staged.source {
                ContentSource::Directory => "directory",
                ContentSource::Symlink(_) => "link",
                ContentSource::Local(_) => "local",
                ContentSource::Known(Entry { body: EntryBody::Symlink { .. }, .. }, _) => "link",
                ContentSource::Known(..) => "known",
            };
            seen.push((staged.path.to_string(), source));
            Ok(())
        })
        .unwrap();
        seen
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shown {
    File(Vec<u8>, u32, u32),
    Directory,
    Link(Vec<u8>),
}

/// The errno that the kernel is answered.
pub(super) trait KernelErrno {
    fn errno(&self) -> i32;
}

impl KernelErrno for StagingError {
    fn errno(&self) -> i32 {
        Errno::from(self).0
    }
}

impl KernelErrno for FreezeError {
    fn errno(&self) -> i32 {
        Errno::from(self).0
    }
}

/// The errno of what must fail.
#[track_caller]
pub(super) fn errno<T: std::fmt::Debug>(result: Result<T>) -> i32 {
    result.unwrap_err().errno()
}
