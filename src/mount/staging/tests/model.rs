//! Random operations on a session and on a plain directory: same answers, same trees, after every step and after
//! ends without a shutdown.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Op {
    Create(String, Vec<u8>),
    WriteAt(String, u64, Vec<u8>),
    Append(String, Vec<u8>),
    Truncate(String, u64),
    Rename(String, String),
    RenameNoReplace(String, String),
    Unlink(String),
    Mkdir(String),
    Rmdir(String),
    Link(String, String),
    Symlink(String),
    Chmod(String, u32),
    /// Opens (to write, or only to read) and keeps the handle, in place of one held before.
    Hold(String, bool),
    HeldWrite(u64, Vec<u8>),
    HeldTruncate(u64),
    Reopen,
}

/// A handle that outlives operations on its file's names.
struct Held {
    node: u64,
    handle: u64,
    plain: fs::File,
    writes: bool,
}

fn any_path() -> impl Strategy<Value = String> {
    vec(prop::sample::select(vec!["a", "b", "c"]), 1..4).prop_map(|parts| parts.join("/"))
}

fn any_op() -> impl Strategy<Value = Op> {
    let p = any_path;
    let bytes = || vec(any::<u8>(), 0..20);
    prop_oneof![
        3 => (p(), bytes()).prop_map(|(a, b)| Op::Create(a, b)),
        1 => (p(), 0u64..30, bytes()).prop_map(|(a, o, b)| Op::WriteAt(a, o, b)),
        1 => (p(), bytes()).prop_map(|(a, b)| Op::Append(a, b)),
        1 => (p(), 0u64..30).prop_map(|(a, n)| Op::Truncate(a, n)),
        4 => (p(), p()).prop_map(|(a, b)| Op::Rename(a, b)),
        1 => (p(), p()).prop_map(|(a, b)| Op::RenameNoReplace(a, b)),
        3 => p().prop_map(Op::Unlink),
        3 => p().prop_map(Op::Mkdir),
        3 => p().prop_map(Op::Rmdir),
        2 => (p(), p()).prop_map(|(a, b)| Op::Link(a, b)),
        1 => p().prop_map(Op::Symlink),
        1 => (p(), prop::sample::select(vec![0o644u32, 0o755])).prop_map(|(a, m)| Op::Chmod(a, m)),
        2 => (p(), any::<bool>()).prop_map(|(a, w)| Op::Hold(a, w)),
        1 => (0u64..30, bytes()).prop_map(|(o, b)| Op::HeldWrite(o, b)),
        1 => (0u64..30).prop_map(Op::HeldTruncate),
        1 => Just(Op::Reopen),
    ]
}

const TARGET: &str = "no/such/place";

fn apply(fixture: &mut Fixture, op: &Op) -> Result<()> {
    match op {
        Op::Create(path, data) => {
            let (dir, name) = fixture.split(path)?;
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
            let (_, open) = fixture.create(ME, dir, name, 0o644, 0, flags)?;
            fixture.write(open.handle, 0, data)?;
            fixture.release(open.handle)
        }
        Op::WriteAt(path, offset, data) => fixture.write_at(path, *offset, data),
        Op::Append(path, data) => {
            let open = fixture.open(fixture.at(path)?, libc::O_WRONLY | libc::O_APPEND)?;
            fixture.write(open.handle, 0, data)?;
            fixture.release(open.handle)
        }
        Op::Truncate(path, size) => {
            let node = fixture.at(path)?;
            let open = fixture.open(node, libc::O_WRONLY)?;
            let set = SetAttr { size: Some(*size), ..SetAttr::default() };
            fixture.setattr(node, &set, Some(open.handle))?;
            fixture.release(open.handle)
        }
        Op::Rename(from, to) => fixture.mv(from, to, 0),
        Op::RenameNoReplace(from, to) => fixture.mv(from, to, libc::RENAME_NOREPLACE),
        Op::Unlink(path) => fixture.rm(path),
        Op::Mkdir(path) => fixture.new_dir(path).map(drop),
        Op::Rmdir(path) => fixture.rm_dir(path),
        Op::Link(from, to) => fixture.ln(from, to).map(drop),
        Op::Symlink(path) => {
            let (dir, name) = fixture.split(path)?;
            fixture.symlink(ME, dir, name, TARGET.as_bytes()).map(drop)
        }
        Op::Chmod(path, mode) => {
            let open = fixture.open(fixture.at(path)?, libc::O_RDONLY)?;
            let done = fixture.chmod(path, *mode);
            fixture.release(open.handle)?;
            done.map(drop)
        }
        Op::Reopen => {
            fixture.reopen();
            Ok(())
        }
        Op::Hold(..) | Op::HeldWrite(..) | Op::HeldTruncate(_) => Ok(()),
    }
}

/// Operations on the held handle, on both sides at once.
fn apply_held(
    fixture: &Fixture,
    plain: &Path,
    held: &mut Option<Held>,
    op: &Op,
) -> std::result::Result<(), TestCaseError> {
    match (op, held.as_mut()) {
        (Op::Hold(path, writes), _) => {
            if let Some(old) = held.take() {
                fixture.release(old.handle).unwrap();
            }
            let mut options = OpenOptions::new();
            let file = open_plain(&plain.join(path), options.read(true).write(*writes));
            let flags = if *writes { libc::O_RDWR } else { libc::O_RDONLY };
            let opened = fixture.at(path).and_then(|node| Ok((node, fixture.open(node, flags)?.handle)));
            match (opened, file) {
                (Ok((node, handle)), Ok(plain)) => {
                    *held = Some(Held { node, handle, plain, writes: *writes });
                }
                (opened, file) => {
                    let got = opened.map(drop).map_err(|e| e.errno());
                    // A directory may be opened to read, but not by this call.
                    prop_assert_eq!(got, file.map(drop).map_err(|e| e.raw_os_error().unwrap()));
                }
            }
        }
        (Op::HeldWrite(offset, data), Some(held)) if held.writes => {
            fixture.write(held.handle, *offset, data).unwrap();
            held.plain.write_all_at(data, *offset).unwrap();
        }
        (Op::HeldTruncate(size), Some(held)) if held.writes => {
            let set = SetAttr { size: Some(*size), ..SetAttr::default() };
            fixture.setattr(held.node, &set, Some(held.handle)).unwrap();
            held.plain.set_len(*size).unwrap();
        }
        (Op::Reopen, _) => *held = None,
        _ => {}
    }
    let Some(held) = held else { return Ok(()) };
    let (meta, attr) = (held.plain.metadata().unwrap(), fixture.getattr(held.node).unwrap());
    prop_assert_eq!((attr.size, u64::from(attr.nlink)), (meta.len(), meta.nlink()));
    let mut expected = vec![0; meta.len() as usize];
    held.plain.read_exact_at(&mut expected, 0).unwrap();
    let mut got = vec![0; expected.len() + 1];
    let len = fixture.read(held.handle, 0, &mut got).unwrap();
    got.truncate(len);
    prop_assert_eq!(got, expected);
    Ok(())
}

fn open_plain(path: &Path, options: &mut OpenOptions) -> io::Result<fs::File> {
    let file = options.custom_flags(libc::O_NOFOLLOW).open(path)?;
    if file.metadata()?.is_dir() { Err(io::Error::from_raw_os_error(libc::EISDIR)) } else { Ok(file) }
}

fn apply_plain(root: &Path, op: &Op) -> io::Result<()> {
    let mut options = OpenOptions::new();
    match op {
        Op::Create(path, data) => {
            options.write(true).create_new(true).mode(0o644);
            open_plain(&root.join(path), &mut options)?.write_all(data)
        }
        Op::WriteAt(path, offset, data) => {
            open_plain(&root.join(path), options.write(true))?.write_all_at(data, *offset)
        }
        Op::Append(path, data) => open_plain(&root.join(path), options.append(true))?.write_all(data),
        Op::Truncate(path, size) => open_plain(&root.join(path), options.write(true))?.set_len(*size),
        Op::Rename(from, to) => fs::rename(root.join(from), root.join(to)),
        Op::RenameNoReplace(from, to) => {
            let open = |p: &Path| -> io::Result<fs::File> { fs::File::open(p) };
            let here = open(root)?;
            use std::os::fd::AsFd;
            let fd = here.as_fd();
            crate::host::sys::rename_at(fd, from.as_bytes(), fd, to.as_bytes(), libc::RENAME_NOREPLACE)
        }
        Op::Unlink(path) => fs::remove_file(root.join(path)),
        Op::Mkdir(path) => fs::create_dir(root.join(path)),
        Op::Rmdir(path) => fs::remove_dir(root.join(path)),
        Op::Link(from, to) => fs::hard_link(root.join(from), root.join(to)),
        Op::Symlink(path) => std::os::unix::fs::symlink(TARGET, root.join(path)),
        Op::Chmod(path, mode) => open_plain(&root.join(path), options.read(true))?
            .set_permissions(fs::Permissions::from_mode(*mode)),
        Op::Reopen | Op::Hold(..) | Op::HeldWrite(..) | Op::HeldTruncate(_) => Ok(()),
    }
}

fn show_plain(root: &Path) -> BTreeMap<String, Shown> {
    let mut shown = BTreeMap::new();
    let mut queue = vec![root.to_owned()];
    while let Some(dir) = queue.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let what = if meta.is_dir() {
                queue.push(path.clone());
                Shown::Directory
            } else if meta.is_symlink() {
                Shown::Link(fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec())
            } else {
                let mut data = Vec::new();
                fs::File::open(&path).unwrap().read_to_end(&mut data).unwrap();
                Shown::File(data, meta.mode() & 0o7777, meta.nlink() as u32)
            };
            shown.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), what);
        }
    }
    shown
}

fn run(mut fixture: Fixture, ops: &[Op]) -> std::result::Result<(), TestCaseError> {
    let plain = tempfile::tempdir().unwrap();
    for (path, what) in fixture.show() {
        let at = plain.path().join(&path);
        match what {
            Shown::Directory => fs::create_dir(at).unwrap(),
            Shown::Link(target) => {
                std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(&target), at).unwrap();
            }
            Shown::File(data, mode, _) => {
                fs::write(&at, data).unwrap();
                fs::set_permissions(&at, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
    }
    let mut held = None;
    for (step, op) in ops.iter().enumerate() {
        let expected = apply_plain(plain.path(), op).map_err(|e| e.raw_os_error().unwrap());
        let got = apply(&mut fixture, op).map_err(|e| e.errno());
        prop_assert_eq!(got, expected, "step {}: {:?}", step, op);
        apply_held(&fixture, plain.path(), &mut held, op)?;
        prop_assert_eq!(fixture.show(), show_plain(plain.path()), "after step {}: {:?}", step, op);
    }
    let shown: Vec<String> = fixture.show().into_keys().collect();
    let mut scanned: Vec<String> = fixture.scanned().into_iter().map(|(p, _)| p).collect();
    prop_assert!(scanned.iter().map(|p| path(p)).is_sorted(), "{:?}", scanned);
    scanned.sort();
    prop_assert_eq!(scanned, shown);
    fixture.reopen();
    prop_assert_eq!(fixture.show(), show_plain(plain.path()));
    Ok(())
}

fn version() -> Version {
    Version::default()
        .dir("a")
        .file("a/a", b"first")
        .dir("a/b")
        .file("a/b/c", b"deep")
        .file("a/c", b"")
        .file("b", b"second file")
        .dir("c")
        .dir("c/a")
        .file("c/a/b", b"other")
        .link("c/b", TARGET)
        .dir("c/c")
}

/// `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok());
    ProptestConfig { cases: asked.unwrap_or(64), failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn an_empty_session_behaves_as_a_directory_does(ops in vec(any_op(), 1..40)) {
        run(Fixture::empty(), &ops)?;
    }

    #[test]
    fn a_session_over_a_version_behaves_as_a_copy_of_it_does(ops in vec(any_op(), 1..40)) {
        run(Fixture::over(version()), &ops)?;
    }
}
