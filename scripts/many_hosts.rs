//! Many hosts on one store, each a task with a catalog, an index and a cache of its own: what writers on one artifact
//! cost each other, and logs of any length for others to read.
//!
//! `many_hosts URL writers HOSTS COMMITS` prints commits a second and requests a commit; every host makes COMMITS
//! commits of a small file to `bench/writers-HOSTS`. `many_hosts URL log VERSIONS` makes the artifact
//! `bench/log-VERSIONS` with that many versions. Settings come from the environment.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use artfs::format::clock;
use artfs::format::name::ArtifactKey;
use artfs::repo::cache::{Cache, CacheOptions};
use artfs::repo::catalog::{Actor, Catalog};
use artfs::repo::commit::{ChunkIndex, CommitProgress, Committer, LocalTree, NewVersion, Settings};
use artfs::repo::view::{ReadContext, ReadLimits};
use artfs::store::{OnMissing, Store, StoreUrl};
use futures::future::try_join_all;

type Failed = Box<dyn Error + Send + Sync>;

struct Host {
    store: Arc<Store>,
    committer: Committer,
    actor: Actor,
}

impl Host {
    async fn new(url: &str, number: u64, folder: &Path) -> Result<Self, Failed> {
        let settings: Vec<(String, String)> = std::env::vars().collect();
        let backend = url.parse::<StoreUrl>()?.connect(&settings, true)?;
        let store = Arc::new(Store::open(backend, url, OnMissing::Create, clock::system()).await?);
        let folder = folder.join(number.to_string());
        std::fs::create_dir_all(&folder)?;
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
        let committer = Committer::new(catalog, context, index);
        let actor = Actor { user: "bench".into(), host: format!("host{number}") };
        Ok(Self { store, committer, actor })
    }

    async fn commit(&self, artifact: &ArtifactKey, file: &Path) -> Result<(), Failed> {
        let tree = LocalTree::new(&[file.to_owned()])?;
        let request = NewVersion {
            artifact: artifact.clone(),
            origin: clock::system().random16(),
            actor: self.actor.clone(),
            settings: Settings::default(),
            demanded: None,
        };
        let progress = Arc::new(CommitProgress::default());
        self.committer.commit(&request, progress, tree, |_| Ok(())).await?;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let folder = tempfile::tempdir()?;
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [url, "writers", hosts, commits] => {
            writers(url, hosts.parse()?, commits.parse()?, folder.path()).await
        }
        [url, "log", versions] => log(url, versions.parse()?, folder.path()).await,
        _ => Err("usage: many_hosts URL writers HOSTS COMMITS | many_hosts URL log VERSIONS".into()),
    }
}

async fn writers(url: &str, hosts: u64, commits: u64, folder: &Path) -> Result<(), Failed> {
    let artifact: ArtifactKey = format!("bench/writers-{hosts}").parse()?;
    let all = try_join_all((0..hosts).map(|number| Host::new(url, number, folder))).await?;
    let before: u64 = all.iter().map(requests).sum();
    let started = Instant::now();
    try_join_all(all.iter().enumerate().map(|(number, host)| {
        let (artifact, file) = (&artifact, folder.join(format!("{number}.txt")));
        async move {
            for turn in 0..commits {
                std::fs::write(&file, format!("host {number} turn {turn} {}", "x".repeat(2000)))?;
                host.commit(artifact, &file).await?;
            }
            Ok::<(), Failed>(())
        }
    }))
    .await?;
    let (seconds, made) = (started.elapsed().as_secs_f64(), hosts * commits);
    let spent = all.iter().map(requests).sum::<u64>() - before;
    println!(
        "{hosts} writers: {:.1} commits/s, {:.1} requests a commit",
        made as f64 / seconds,
        spent as f64 / made as f64
    );
    Ok(())
}

fn requests(host: &Host) -> u64 {
    let counts = host.store.counts();
    counts.get + counts.get_range + counts.put + counts.create + counts.list
}

async fn log(url: &str, versions: u64, folder: &Path) -> Result<(), Failed> {
    let artifact: ArtifactKey = format!("bench/log-{versions}").parse()?;
    let host = Host::new(url, 0, folder).await?;
    let file = folder.join("file.txt");
    for turn in 0..versions {
        std::fs::write(&file, format!("turn {turn}"))?;
        host.commit(&artifact, &file).await?;
    }
    println!("bench/log-{versions} has {versions} versions");
    Ok(())
}
