//! A plain parallel ranged download to a file, with the client that artfs uses: what cold reads are measured against.
//!
//! `ranged_download s3://bucket/prefix KEY[,KEY…] DEST [REQUESTS [BYTES]]`, or `--list-packs -` for KEY and DEST, which
//! prints the keys of all packs, separated by commas. Settings come from the environment.
//!
//! `ranged_download s3://bucket/prefix KEY[,KEY…] --one-by-one COUNT BYTES` asks for scattered ranges, one after the
//! other, and prints the seconds that each took.

use std::error::Error;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use artfs::store::StoreUrl;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, url, key, dest, rest @ ..] = args.as_slice() else {
        return Err("usage: ranged_download URL KEY[,KEY…] DEST [REQUESTS [BYTES]]".into());
    };
    let requests = rest.first().map_or(Ok(16), |n| n.parse())?;
    let step: u64 = rest.get(1).map_or(Ok(4 << 20), |n| n.parse())?;
    let settings: Vec<(String, String)> = std::env::vars().collect();
    let store: std::sync::Arc<dyn object_store::ObjectStore> =
        url.parse::<StoreUrl>()?.connect(&settings, false)?.into();
    if key == "--list-packs" {
        let packs = object_store::path::Path::from("packs");
        let found: Vec<_> = store.list(Some(&packs)).try_collect().await?;
        let keys: Vec<String> = found.iter().map(|meta| meta.location.to_string()).collect();
        println!("{}", keys.join(","));
        return Ok(());
    }
    if dest == "--one-by-one" {
        return one_by_one(&*store, key, requests, step).await;
    }
    let file = Arc::new(std::fs::File::create(dest)?);
    for key in key.split(',') {
        let path = object_store::path::Path::from(key);
        let size = store.head(&path).await?.size;
        let offset = file.metadata()?.len();
        futures::stream::iter((0..size).step_by(step as usize))
            .map(|start| {
                let (store, path, file) = (store.clone(), path.clone(), file.clone());
                async move {
                    let bytes = store.get_range(&path, start..(start + step).min(size)).await?;
                    let written =
                        tokio::task::spawn_blocking(move || file.write_all_at(&bytes, offset + start));
                    written.await??;
                    Ok::<(), Box<dyn Error>>(())
                }
            })
            .buffer_unordered(requests)
            .try_collect::<Vec<()>>()
            .await?;
    }
    Ok(())
}

async fn one_by_one(
    store: &dyn ObjectStore,
    keys: &str,
    count: usize,
    bytes: u64,
) -> Result<(), Box<dyn Error>> {
    let mut objects = vec![];
    for key in keys.split(',') {
        let path = object_store::path::Path::from(key);
        let size = store.head(&path).await?.size;
        if size > bytes {
            objects.push((path, size - bytes));
        }
    }
    for (i, (path, room)) in objects.iter().cycle().take(count).enumerate() {
        // A stride that has no measure in common with the sizes: hardly any place is asked for twice.
        let start = i as u64 * 7_919 * 4_096 % room;
        let begun = std::time::Instant::now();
        store.get_range(path, start..start + bytes).await?;
        println!("{:.6}", begun.elapsed().as_secs_f64());
    }
    Ok(())
}
