//! The stored format of contained versions and references: `tests/golden/v1-linked`, written anew as the others are.

use std::sync::Arc;

use artfs::format::entry::{Entry, EntryBody};
use artfs::format::id::FileHash;
use artfs::format::path::TreePath;
use artfs::format::reference::{ReferenceBody, Validator};
use artfs::repo::catalog::{Actor, Catalog};
use artfs::repo::commit::{
    ChunkIndex, CommitError, CommitProgress, Committer, ItemBody, NewVersion, OwnBytes, Settings, TreeItem,
    TreeLocation, TreeVisitor,
};
use artfs::store::{OnMissing, Store};
use object_store::ObjectStore;
use object_store::memory::InMemory;

use crate::golden::{MTIME, compare, golden, objects};
use crate::read_context;
use crate::support::environment::{FixedEnvironment, noise};
use crate::support::read_back::{Judge, Kind};

const NAME: &str = "v1-linked";
const DATA: &str = "gold/data";
const LINKED: &str = "gold/linked";

fn item(path: &[u8], what: ItemBody) -> TreeItem {
    TreeItem { path: TreePath::new(path).expect("a path"), executable: false, mtime: MTIME, what }
}

fn file(bytes: &[u8]) -> ItemBody {
    let mut file = tempfile::tempfile().expect("a file");
    std::io::Write::write_all(&mut file, bytes).expect("its bytes");
    std::io::Seek::rewind(&mut file).expect("its beginning");
    ItemBody::File(OwnBytes::of(file))
}

fn reference(path: &[u8], uri: &str, validator: Validator, hash: Option<FileHash>) -> TreeItem {
    let (uri, sha256) = (uri.into(), None);
    let body = EntryBody::Reference(Box::new(ReferenceBody { uri, size: 1 << 33, validator, hash, sha256 }));
    let at = TreePath::new(path).expect("a path");
    let entry = Entry { path: at, executable: false, mtime: MTIME, body };
    item(path, ItemBody::Known(Box::new(entry), None))
}

type Tree = fn(TreeVisitor<'_>) -> Result<(), CommitError>;

fn data(visit: TreeVisitor<'_>) -> Result<(), CommitError> {
    visit(item(b"big.bin", file(&noise(300, 1, 10_000))))?;
    visit(item(b"train", ItemBody::Directory))?;
    visit(item(b"train/tiny", file(b"tiny")))
}

fn linked(visit: TreeVisitor<'_>) -> Result<(), CommitError> {
    visit(item(b"all", ItemBody::Symlink((*b"/mnt/gold/data/latest").into())))?;
    visit(item(b"copy.bin", ItemBody::Symlink((*b"../../data/v0/big.bin").into())))?;
    visit(item(b"link", ItemBody::Symlink((*b"all/train").into())))?;
    visit(item(b"part", ItemBody::Symlink((*b"../../data/v0/train").into())))?;
    visit(reference(b"r1", "s3://bucket/a b", Validator::Tag("\"tag\"".into()), Some(FileHash::of(b"r1"))))?;
    visit(reference(b"r2", "https://h/x", Validator::Changed("Wed, 21 Oct 2026 07:28:00 GMT".into()), None))?;
    visit(reference(b"r3", "file:///x", Validator::None, None))
}

async fn write_store(backend: Arc<dyn ObjectStore>) {
    let environment = FixedEnvironment::shared(7);
    let store = Store::open(backend, "golden", OnMissing::Create, environment).await.expect("it opens");
    let store = Arc::new(store);
    let catalog = Arc::new(Catalog::new(store.clone(), None));
    let index = Arc::new(ChunkIndex::open(None, store.id()));
    let (_cache, context) = read_context(&store);
    let place = TreeLocation::in_mount("/mnt".into(), "/mnt/gold/linked/staging".into(), Arc::new(|_| None));
    let committer = Committer::new(catalog, context, index).with_links(Some(place));
    let trees: [(&str, Tree); 2] = [(DATA, data), (LINKED, linked)];
    for (i, (artifact, walk)) in trees.into_iter().enumerate() {
        let request = NewVersion {
            artifact: artifact.parse().expect("a name"),
            origin: [i as u8; 16],
            actor: Actor { user: "ann".into(), host: "golden-host".into() },
            settings: Settings::default(),
            demanded: None,
        };
        let made = committer.commit(&request, Arc::new(CommitProgress::default()), walk, |_| Ok(())).await;
        assert!(made.expect("the commit succeeds").created);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn todays_writer_writes_contained_versions_and_references_byte_for_byte() {
    let backend: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    write_store(backend.clone()).await;
    compare(NAME, &objects(&*backend).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contained_versions_and_references_of_format_1_are_read_as_they_were_written() {
    let backend = golden(NAME).await;
    let data = Judge::new(backend.clone(), DATA).versions().await.remove(0);
    let linked = Judge::new(backend, LINKED).versions().await.remove(0);
    let kind = |path: &[u8]| &linked.tree[path].kind;
    let digest = data.commit.digest;
    assert_eq!(*kind(b"all"), Kind::Contained { bytes: 10_004, digest, path: None });
    assert_eq!(*kind(b"part"), Kind::Contained { bytes: 4, digest, path: Some(b"train".to_vec()) });
    assert_eq!(*kind(b"copy.bin"), data.tree[&b"big.bin"[..]].kind);
    assert_eq!(*kind(b"link"), Kind::Symlink(b"all/train".to_vec()));
    let reference = |proof: &str, uri: &str| Kind::Reference {
        size: 1 << 33,
        proof: proof.to_owned(),
        uri: uri.to_owned(),
    };
    assert_eq!(*kind(b"r1"), reference(&format!("b3:{}", FileHash::of(b"r1")), "s3://bucket/a b"));
    assert_eq!(*kind(b"r2"), reference("changed:Wed, 21 Oct 2026 07:28:00 GMT", "https://h/x"));
    assert_eq!(*kind(b"r3"), reference("-", "file:///x"));
    let counted = (linked.commit.entries, linked.commit.files, linked.commit.bytes);
    assert_eq!(counted, (7, 2 + 1 + 1 + 3, 10_004 + 10_000 + 4 + 3 * (1 << 33)));
}
