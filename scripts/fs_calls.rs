//! The calls behind a look-up and an open, without a kernel above them: for counting instructions.
//!
//! `fs_calls lookup|open|watched COUNT` makes a version of 4,096 small files in memory, warms it up and repeats the
//! call COUNT times; `watched` is an open with the watch of runs attached, as every mount has it.
//! `scripts/instructions` runs it under callgrind with two counts; the difference is the calls' own.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use artfs::format::clock;
use artfs::mount::fs;
use artfs::mount::fs::{Fs, FsOptions, FsServices, ROOT};
use artfs::mount::provenance::capture::HostNames;
use artfs::mount::provenance::{self, OpenWatch, OpenWatchOptions, RunLedger};
use artfs::mount::staging::{Caller, Closer, SessionRegistry};
use artfs::repo::cache::{Cache, CacheOptions};
use artfs::repo::catalog::{Actor, Catalog};
use artfs::repo::commit::{ChunkIndex, CommitProgress, Committer, LocalTree, NewVersion, Quotas, Settings};
use artfs::repo::view::{ReadContext, ReadLimits};
use artfs::store::{OnMissing, Store};
use object_store::memory::InMemory;

const FILES: usize = 4096;
/// The kernel is not there to give up.
const CALLER: Caller = Caller { uid: 0, gid: 0, pid: 0 };

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, call, count] = args.as_slice() else {
        return Err("usage: fs_calls lookup|open|watched COUNT".into());
    };
    let count: usize = count.parse()?;
    let folder = tempfile::tempdir()?;
    let fs = served(folder.path(), call == "watched").await?;
    let mut parent = ROOT;
    for name in ["p", "a", "v0"] {
        parent = found(fs.lookup(CALLER, parent, name.as_bytes()).await)?;
    }
    let name = |i: usize| format!("{:04}", i * 1801 % FILES).into_bytes();
    let mut files = vec![];
    for i in 0..FILES {
        files.push(found(fs.lookup(CALLER, parent, &name(i)).await)?);
        read(&fs, files[i]).await?;
    }
    for i in 0..count {
        match call.as_str() {
            "lookup" => drop(found(fs.lookup(CALLER, parent, &name(i)).await)?),
            "open" | "watched" => read(&fs, files[i % FILES]).await?,
            other => return Err(format!("{other} is none of lookup, open, watched").into()),
        }
    }
    match fs.lineage_counts() {
        Some(counts) if counts.opens != (FILES + count) as u64 => {
            Err(format!("the watch saw {} opens", counts.opens).into())
        }
        _ => Ok(()),
    }
}

/// What opening, reading and closing a small file asks of the daemon.
async fn read(fs: &Arc<Fs>, ino: u64) -> Result<(), Box<dyn Error>> {
    let failed = |e: fs::Errno| format!("errno {}", e.0);
    let caller = Caller { uid: 0, gid: 0, pid: std::process::id() };
    let opened = fs.open(caller, ino, libc::O_RDONLY).await.map_err(failed)?;
    fs.read(ino, opened.handle, 0, 4096).await.map_err(failed)?;
    fs.release(ino, opened.handle).map_err(failed)?;
    Ok(())
}

fn found(answer: fs::Result<fs::AttrReply>) -> Result<u64, Box<dyn Error>> {
    Ok(answer.map_err(|e| format!("errno {}", e.0))?.attr.ino)
}

/// A watch of this process that writes to a state folder.
fn watch(store: &Store, folder: &std::path::Path) -> Result<Arc<OpenWatch>, Box<dyn Error>> {
    let options = OpenWatchOptions {
        store: store.id(),
        mount_point: None,
        uid: 0,
        names: HostNames { host: "h".into(), user: |uid| format!("uid{uid}") },
        observer: provenance::observer("h", vec![]),
        env: clock::system(),
    };
    Ok(OpenWatch::start(options, Arc::new(RunLedger::open(folder)?))?)
}

/// A file system over a store in memory that holds `p/a:v0`.
async fn served(folder: &std::path::Path, is_watched: bool) -> Result<Arc<Fs>, Box<dyn Error>> {
    let store = Store::open(Arc::new(InMemory::new()), "memory", OnMissing::Create, clock::system()).await?;
    let store = Arc::new(store);
    let database = folder.join("cache.db");
    let cache = Cache::open(CacheOptions {
        folder: folder.join("cache"),
        database: database.clone(),
        limit_bytes: 1 << 30,
        env: clock::system(),
    })?;
    let catalog = Arc::new(Catalog::new(store.clone(), Some(&database)));
    let context = Arc::new(ReadContext::new(store.clone(), cache, ReadLimits::default()));
    let index = Arc::new(ChunkIndex::open(Some(&database), store.id()));
    let committer = Committer::new(catalog.clone(), context.clone(), index);
    let tree = folder.join("tree");
    std::fs::create_dir(&tree)?;
    for i in 0..FILES {
        std::fs::write(tree.join(format!("{i:04}")), i.to_le_bytes().repeat(512))?;
    }
    let request = NewVersion {
        artifact: "p/a".parse()?,
        origin: clock::system().random16(),
        actor: Actor { user: "u".into(), host: "h".into() },
        settings: Settings::default(),
        demanded: None,
    };
    let tree = LocalTree::new(&[tree])?;
    committer.commit(&request, Arc::new(CommitProgress::default()), tree, |_| Ok(())).await?;
    let watch = if is_watched { Some(watch(&store, folder)?) } else { None };
    let services = FsServices {
        catalog,
        context,
        registry: Arc::new(SessionRegistry::open(folder, clock::system())?),
        closer: Closer::start()?,
        committer,
        admission: None,
        watch,
    };
    let options = FsOptions {
        read_only: true,
        refresh: Duration::from_secs(3600),
        owner: (0, 0),
        allow_commit: None,
        state: folder.to_owned(),
        mountpoint: None,
        user_name: |uid| format!("uid{uid}"),
        other_mounts: |_, _| Arc::new(|_| None),
        host: "h".into(),
        rename_wait: Duration::from_secs(60),
        quotas: Quotas::default(),
    };
    Ok(Fs::new(options, services).await.0)
}
