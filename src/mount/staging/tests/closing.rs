use std::os::unix::fs::MetadataExt;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::*;

/// Only what never comes takes this long.
const NEVER: Duration = Duration::from_secs(60);
const LARGE: usize = 2 << 20;

/// Descriptors of this process on a deleted file with this number.
fn held(ino: u64) -> usize {
    let fds = std::fs::read_dir("/proc/self/fd").unwrap();
    let of =
        |path: std::path::PathBuf| std::fs::metadata(path).is_ok_and(|m| m.ino() == ino && m.nlink() == 0);
    fds.filter(|fd| fd.as_ref().is_ok_and(|fd| of(fd.path()))).count()
}

fn create(at: &Session, name: &[u8], len: usize) -> (u64, StagedFile) {
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
    let (attr, open) = at.create(ME, at.root(), name, 0o644, 0, flags).unwrap();
    assert_eq!(at.write(open.handle, 0, &vec![1; len]).unwrap(), len);
    (attr.ino, open)
}

#[test]
fn a_large_file_is_freed_by_the_closing_thread_while_the_session_goes_on() {
    type Removal = fn(&Session, u64, StagedFile);
    let ways: [(&str, Removal); 5] = [
        ("closed, then unlinked", |s, node, open| {
            s.release(open.handle).unwrap();
            s.unlink(s.root(), b"f").unwrap();
            s.forget(node, 1);
        }),
        ("unlinked, then closed", |s, node, open| {
            s.unlink(s.root(), b"f").unwrap();
            s.forget(node, 1);
            s.release(open.handle).unwrap();
        }),
        ("unlinked, closed, then forgotten by the kernel", |s, node, open| {
            s.unlink(s.root(), b"f").unwrap();
            s.release(open.handle).unwrap();
            s.forget(node, 1);
        }),
        ("replaced by a rename", |s, node, open| {
            let (other, small) = create(s, b"g", 10);
            s.release(small.handle).unwrap();
            s.release(open.handle).unwrap();
            s.forget(node, 1);
            s.rename(s.root(), b"g", s.root(), b"f", 0).unwrap();
            s.forget(other, 1);
        }),
        ("replaced while the kernel's copy of the descriptor is the last", |s, node, open| {
            let OpenContent::Local(file) = open.content else { panic!("it is local") };
            s.unlink(s.root(), b"f").unwrap();
            s.forget(node, 1);
            s.release(open.handle).unwrap();
            drop(file);
        }),
    ];
    for (way, remove) in ways {
        let (go, may_close) = mpsc::channel::<()>();
        // Closes nothing before it is told.
        let closer = Closer::closing_by(move |fd| {
            let _ = may_close.recv();
            drop(fd);
        });
        let fixture = Fixture::closing_by(closer.unwrap());
        let (node, open) = create(&fixture, b"f", LARGE);
        let ino = std::fs::metadata(fixture.upper("f")).unwrap().ino();
        // What is closed here and not by that thread is gone when this returns.
        answering(|| remove(&fixture, node, open));
        assert!(held(ino) > 0, "{way}: it was freed by the thread that answers");
        // Nobody else waits meanwhile.
        for name in [&b"a"[..], b"b"] {
            let (node, open) = create(&fixture, name, 10);
            fixture.release(open.handle).unwrap();
            fixture.unlink(fixture.root(), name).unwrap();
            fixture.forget(node, 1);
        }
        drop(go);
        let begun = Instant::now();
        while held(ino) > 0 {
            assert!(begun.elapsed() < NEVER, "{way}: it is never freed");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn small_files_are_freed_at_once_and_what_waits_is_bounded() {
    let (go, may_close) = mpsc::channel::<()>();
    let closer = Closer::closing_by(move |fd| {
        let _ = may_close.recv();
        drop(fd);
    });
    let closer = closer.unwrap();
    let fixture = Fixture::closing_by(closer.clone());
    let (node, open) = create(&fixture, b"small", 1000);
    let ino = std::fs::metadata(fixture.upper("small")).unwrap().ino();
    fixture.unlink(fixture.root(), b"small").unwrap();
    fixture.release(open.handle).unwrap();
    drop(open);
    fixture.forget(node, 1);
    assert_eq!(held(ino), 0);
    let (_, open) = create(&fixture, b"f", LARGE);
    let node = fixture.at("f").unwrap();
    assert!(fixture.is_large(node));
    let many: Vec<StagedFile> = (0..300).map(|_| fixture.open(node, libc::O_RDONLY).unwrap()).collect();
    for opened in &many[..10] {
        fixture.release(opened.handle).unwrap();
    }
    assert!(!closer.is_full());
    fixture.unlink(fixture.root(), b"f").unwrap();
    many[10..].iter().for_each(|opened| fixture.release(opened.handle).unwrap());
    drop((open, many));
    assert!(closer.is_full());
    drop(go);
    let begun = Instant::now();
    while closer.is_full() {
        assert!(begun.elapsed() < NEVER, "what waits is never closed");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
#[should_panic(expected = "a large file is cut on a thread that answers the kernel")]
fn cutting_a_large_file_where_the_kernel_waits_is_noticed() {
    let fixture = Fixture::empty();
    let (node, open) = create(&fixture, b"f", LARGE);
    fixture.release(open.handle).unwrap();
    let cut = SetAttr { size: Some(10), ..SetAttr::default() };
    answering(|| fixture.setattr(node, &cut, None)).unwrap();
}
