//! A version whose manifest names the hash of one content and the chunks of another: whichever way it is read, nobody
//! is given the other bytes for the file.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use artfs::format::clock;
use artfs::format::codec::Encoder;
use artfs::format::entry::{self, Entry};
use artfs::format::event::{Commit, EventBody};
use artfs::format::id::EventId;
use artfs::format::listing::ListingHasher;
use artfs::format::manifest::{Block, Root, encode_leaf};
use artfs::format::name::ArtifactKey;
use artfs::host::signing::SshKey;
use artfs::repo::catalog::{Actor, AppendStep, Catalog, CatalogError};
use artfs::store::{Key, OnMissing, Store, StoreUrl};

use super::host::{Host, need, refused};
use super::support::environment::noise;
use super::support::ssh::Keys;

pub const TESTS: &[(&str, fn())] = &[
    ("chunks_of_another_content_are_given_to_no_reader_of_a_file", every_way),
    ("what_a_mount_condemned_stays_condemned_whichever_way_it_is_read", condemned),
    ("where_signatures_are_demanded_staging_gives_out_whole_files_only", signed),
    ("what_does_not_verify_is_not_signed", not_signed),
];

const ARTIFACT: &str = "p/a";
/// Files of one version: in one chunk, in some, and with a list of chunks.
const SIZES: [(&str, usize); 4] =
    [("small.bin", 60_000), ("some.bin", 900_000), ("mid.bin", 1_200_000), ("big.bin", 9 << 20)];

fn good(name: &str) -> Vec<u8> {
    noise(1, 0, SIZES.iter().find(|(known, _)| *known == name).unwrap().1)
}

/// `v0` with all files twice: as they should be, and others of the same lengths.
fn write(host: &Host, key: Option<&Path>) {
    let folder = tempfile::tempdir().unwrap();
    for (name, size) in SIZES {
        fs::write(folder.path().join(name), noise(1, 0, size)).unwrap();
        fs::write(folder.path().join(format!("other-{name}")), noise(2, 0, size)).unwrap();
    }
    let mut words = vec!["put".to_owned(), folder.path().to_str().unwrap().to_owned(), ARTIFACT.to_owned()];
    words.extend(key.map(|key| format!("--sign={}", key.display())));
    host.ok(&words);
}

/// Gives each file the chunks of the other of its length.
fn swap_chunks(entries: &mut [Entry]) {
    let content_of = |entries: &[Entry], name: &[u8]| {
        let entry = entries.iter().find(|entry| entry.path.as_bytes() == name).unwrap();
        match &entry.body {
            entry::EntryBody::File(file) => file.content.clone(),
            other => panic!("{other:?}"),
        }
    };
    for (name, _) in SIZES {
        let other = content_of(entries, format!("other-{name}").as_bytes());
        let entry = entries.iter_mut().find(|entry| entry.path.as_bytes() == name.as_bytes()).unwrap();
        let entry::EntryBody::File(file) = &mut entry.body else { panic!("{name} is no file") };
        file.content = other;
    }
}

/// Appends a version with the entries of the latest one, changed.
fn forge(host: &Host, signer: Option<Arc<SshKey>>, change: impl Fn(&mut [Entry])) {
    let append = async {
        let url: StoreUrl = format!("file://{}", host.store_folder().display()).parse().unwrap();
        let backend = url.connect(&[], false).unwrap();
        let store = Store::open(backend, url.to_string(), OnMissing::Fail, clock::system()).await.unwrap();
        let mut catalog = Catalog::new(Arc::new(store), None);
        if let Some(signer) = signer {
            catalog = catalog.signing(signer);
        }
        let key: ArtifactKey = ARTIFACT.parse().unwrap();
        let state = catalog.existing(&key, Duration::ZERO).await.unwrap();
        let before = state.latest().unwrap().clone();
        let bytes = catalog.store().get(&Key::Manifest(key.clone(), before.manifest)).await.unwrap();
        let root = Root::decode(&before.manifest, &bytes).unwrap();
        assert_eq!(root.depth, 0);
        let mut entries: Vec<Entry> = (0..root.top.len()).map(|i| root.top.entry(i).unwrap()).collect();
        change(&mut entries);
        let mut listing = ListingHasher::default();
        for entry in &entries {
            listing.push(entry);
        }
        let digest = listing.digest();
        let root = Root { digest, top: Block::parse(encode_leaf(&entries).into()).unwrap(), ..root };
        let (manifest, bytes) = root.encode([7; 16], &mut Encoder::new().unwrap());
        catalog.store().put(&Key::Manifest(key.clone(), manifest), vec![bytes.into()]).await.unwrap();
        let commit = Commit {
            version: state.next_version(),
            digest,
            manifest,
            entries: root.entries,
            files: root.files,
            bytes: root.bytes,
            stored_bytes: 0,
            root: None,
            settings: Default::default(),
        };
        let plan = |_: &_| Ok::<_, CatalogError>(AppendStep::Append(EventBody::Commit(commit.clone())));
        let actor = Actor { user: "eve".into(), host: "h".into() };
        catalog.append(&key, EventId::from_bytes([7; 16]), &actor, plan).await.unwrap();
    };
    tokio::runtime::Runtime::new().unwrap().block_on(append);
}

fn writer() -> Host {
    let host = Host::unmounted(None, &[]);
    write(&host, None);
    forge(&host, None, swap_chunks);
    host
}

/// Reads a file of the forged version on a host, and checks that it is refused.
type Reading = fn(&Host, &str);

fn is_refused(what: &str, path: &Path) {
    refused(what, fs::read(path), libc::EIO);
}

fn every_way() {
    let writer = writer();
    for (name, _) in SIZES {
        // Each way comes first on a host that knows nothing.
        let ways: [(&str, Reading); 5] = [
            ("by its version", |host, name| is_refused(name, &host.path(ARTIFACT).join("v1").join(name))),
            ("in staging", |host, name| {
                host.ok(&["stage", "p/a", "--from", "v1"]);
                is_refused(name, &host.path("p/a/staging").join(name));
            }),
            ("copied into staging", |host, name| {
                let copy = host.artifact("p/ev").join(name);
                refused(name, fs::copy(host.path(ARTIFACT).join("v1").join(name), &copy), libc::EIO);
                assert!(fs::metadata(&copy).map_or(0, |meta| meta.len()) == 0, "{name} was copied");
            }),
            ("changed in staging", |host, name| {
                host.ok(&["stage", "p/a", "--from", "v1"]);
                let staged = host.path("p/a/staging").join(name);
                refused(name, File::options().append(true).open(staged), libc::EIO);
            }),
            ("in another version", |host, name| {
                let link = host.artifact("p/ev").join("in");
                std::os::unix::fs::symlink(host.path("p/a/v1"), link).unwrap();
                host.commit("p/ev").unwrap();
                is_refused(name, &host.path("p/ev/v0/in").join(name));
            }),
        ];
        for (way, read) in ways {
            eprintln!("{name} {way}");
            read(&writer.beside(&[]), name);
        }
    }
    let target = writer.folder().join("got");
    let failure = writer.failure(&["get", "p/a:v1", target.to_str().unwrap()]);
    assert!(failure.contains("hash"), "{failure}");
    for (name, _) in SIZES {
        assert!(!target.join(name).exists(), "{name} was written");
    }
}

fn condemned() {
    let writer = writer();
    let host = writer.beside(&[]);
    let at = |version: &str, name: &str| host.path(ARTIFACT).join(version).join(name);
    for round in ["at first", "after a restart"] {
        for (name, _) in SIZES {
            is_refused(round, &at("v1", name));
            refused("opened again", File::open(at("v1", name)), libc::EIO);
        }
        if round == "at first" {
            host.ok(&["stage", "p/a", "--from", "v1"]);
            host.remount();
        }
    }
    for (name, _) in SIZES {
        is_refused("staged", &host.path("p/a/staging").join(name));
        // The same hash with its own chunks is another thing.
        assert!(fs::read(at("v0", name)).unwrap() == good(name), "{name}");
        is_refused("beside the true one", &at("v1", name));
    }
    // What has the hash that the version names is its file, wherever it came from.
    host.remount();
    for (name, _) in SIZES {
        assert!(fs::read(at("v1", name)).unwrap() == good(name), "{name}");
    }
}

fn signed() {
    need("ssh-keygen");
    let keys = Keys::new(&["release"]);
    let allowed = keys.allowed_file("allowed", &[("release@x", "", "release")]);
    let allowed = allowed.to_str().unwrap();
    let writer = Host::unmounted(None, &[]);
    write(&writer, Some(&keys.file("release")));
    forge(&writer, Some(keys.signer("release")), swap_chunks);
    let host = writer.beside(&["--allowed-signers", allowed, "--require-signed", "latest"]);
    host.ok(&["stage", "p/a", "--from", "v1"]);
    for (name, _) in SIZES {
        refused(name, File::open(host.path("p/a/staging").join(name)), libc::EIO);
        refused(name, File::open(host.path("p/a/v1").join(name)), libc::EIO);
    }
    // What is true is read, and after a restart, when nothing was looked at yet, nothing else is.
    host.ok(&["stage", "p/a", "--session", "ok", "--from", "v0"]);
    host.remount();
    for (name, _) in SIZES {
        refused(name, File::open(host.path("p/a/staging").join(name)), libc::EIO);
    }
    for (name, _) in SIZES {
        assert!(fs::read(host.path("p/a/staging.ok").join(name)).unwrap() == good(name), "{name}");
    }
    let mut file = File::options().append(true).open(host.path("p/a/staging.ok/mid.bin")).unwrap();
    file.write_all(b"more").unwrap();
}

fn not_signed() {
    need("ssh-keygen");
    let keys = Keys::new(&["release"]);
    let writer = writer();
    let key = format!("--sign={}", keys.file("release").display());
    let before = writer.ok(&["log", ARTIFACT]);
    let failure = writer.failure(&["sign", "p/a:v1", &key]);
    assert!(failure.contains("was not signed") && failure.contains("big.bin"), "{failure}");
    assert!(failure.contains("artfs verify p/a:v1"), "{failure}");
    assert_eq!(writer.ok(&["log", ARTIFACT]), before, "nothing was appended");
    assert!(writer.ok(&["sign", "p/a:v0", &key]).contains("p/a:v0 is signed"));
}
