use std::fs::File;
use std::io::Seek;
use std::sync::mpsc::channel;

use super::super::item::TreeVisitor;
use super::super::item::{ItemBody, TreeItem};
use super::super::own_bytes::{OwnBytes, Writers};
use super::reader::BATCH_BYTES;
use super::*;
use crate::format::codec::Codec;
use crate::format::entry::Mtime;
use crate::format::path::TreePath;
use crate::host::steady::StatIdentity;
use std::os::unix::fs::FileExt;

fn item(file: File) -> TreeItem {
    TreeItem {
        path: TreePath::new(*b"f.bin").unwrap(),
        executable: false,
        mtime: Mtime { seconds: 0, nanos: 0 },
        what: ItemBody::File(OwnBytes::of(file)),
    }
}

fn chunks_of(file: File) -> Vec<(ChunkId, usize, Codec)> {
    let mut chunks = vec![];
    let known = |_: &ChunkId| false;
    ingest(
        &|visit: TreeVisitor<'_>| visit(item(file.try_clone().unwrap())),
        |_, _, _| Ok(Renewal::NotNeeded),
        known,
        &CommitProgress::default(),
        |done| {
            if let Done::Chunk { raw, id, codec, .. } = done {
                assert_eq!(ChunkId::of(raw), id);
                chunks.push((id, raw.len(), codec));
            }
            Ok(())
        },
    )
    .unwrap();
    chunks
}

/// Far more than the queues hold is to be read when the collector gives up, as when the store does.
#[test]
fn the_first_error_ends_all_parts() {
    let mut file = tempfile::tempfile().unwrap();
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    for i in 0..2 * IN_FLIGHT + 2 * workers + 4 {
        std::io::Write::write_all(&mut file, &vec![i as u8 | 1; BATCH_BYTES]).unwrap();
    }
    file.rewind().unwrap();
    let (done, wait) = channel();
    std::thread::spawn(move || {
        let result = ingest(
            &|visit: TreeVisitor<'_>| visit(item(file.try_clone().unwrap())),
            |_, _, _| Ok(Renewal::NotNeeded),
            |_| true,
            &CommitProgress::default(),
            |done| match done {
                Done::Chunk { .. } => Err(CommitError::Empty),
                Done::Begin(_) | Done::Again | Done::End => Ok(()),
            },
        );
        let _ = done.send(result);
    });
    let result = wait.recv_timeout(std::time::Duration::from_secs(300)).expect("it hangs");
    assert!(matches!(result, Err(CommitError::Empty)), "{result:?}");
}

/// The collector changes the file when it is given its first chunk, which is long before the last is read.
#[test]
fn a_long_file_that_changes_is_begun_anew_and_nothing_else_is_taken_twice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.bin");
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let len = (2 * IN_FLIGHT + 2 * workers + 4) * BATCH_BYTES;
    std::fs::write(&path, vec![1; len]).unwrap();
    let at = path.clone();
    let long = move || {
        let at = at.clone();
        let seen = StatIdentity::of_file(&File::open(&at).unwrap()).unwrap();
        let bytes = OwnBytes::new(Writers::Anybody(seen), move || Ok(File::open(&at).unwrap()));
        TreeItem { what: ItemBody::File(bytes), ..item(tempfile::tempfile().unwrap()) }
    };
    for is_steady_at_last in [true, false] {
        let (mut begun, mut again, mut bytes, mut entries) = (0, 0, vec![], 0);
        let result = ingest(
            &|visit: TreeVisitor<'_>| {
                visit(item(tempfile::tempfile().unwrap()))?;
                visit(long())?;
                visit(item(tempfile::tempfile().unwrap()))
            },
            |_, _, _| Ok(Renewal::NotNeeded),
            |_| true,
            &CommitProgress::default(),
            |done| {
                match done {
                    Done::Begin(_) => begun += 1,
                    Done::Chunk { raw, .. } => {
                        if bytes.is_empty() && (again == 0 || !is_steady_at_last) {
                            let file = File::options().write(true).open(&path).unwrap();
                            file.write_all_at(&[7 + again], 0).unwrap();
                            file.set_len(len as u64 - 5).unwrap();
                        }
                        bytes.extend_from_slice(raw);
                    }
                    Done::Again => {
                        again += 1;
                        bytes.clear();
                    }
                    Done::End => entries += 1,
                }
                Ok(())
            },
        );
        if is_steady_at_last {
            result.unwrap();
            assert_eq!((begun, again, entries), (4, 1, 3));
            assert!(bytes == std::fs::read(&path).unwrap());
        } else {
            let error = result.unwrap_err().to_string();
            assert!(error.contains("f.bin") && error.contains("changed while it was read"), "{error}");
            assert_eq!(entries, 1);
        }
    }
}

#[test]
fn holes_are_cut_as_the_zeros_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let mut noise = vec![0; 3_000_000];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    for islands in [
        &[][..],
        &[(0, 3_000_000)],
        &[(20_000_000, 1_000_000), (33_333_333, 5_000), (60_000_001, 77)],
        &[(4 << 20, 1 << 20), (79_999_990, 10)],
    ] {
        let [sparse, dense] = ["sparse", "dense"].map(|n| File::create_new(dir.path().join(n)).unwrap());
        sparse.set_len(80_000_000).unwrap();
        dense.write_all_at(&vec![0; 80_000_000], 0).unwrap();
        for (offset, len) in islands {
            sparse.write_all_at(&noise[..*len], *offset).unwrap();
            dense.write_all_at(&noise[..*len], *offset).unwrap();
        }
        let [sparse, dense] = ["sparse", "dense"].map(|n| {
            let path = dir.path().join(n);
            let chunks = chunks_of(File::open(&path).unwrap());
            std::fs::remove_file(path).unwrap();
            chunks
        });
        assert!(sparse == dense, "{islands:?}");
        assert_eq!(sparse.iter().map(|(_, len, _)| len).sum::<usize>(), 80_000_000);
    }
}
