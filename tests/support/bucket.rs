//! A strongly consistent store in memory, whose clock is the virtual one, as it is behind any network.
//!
//! Every request takes effect in one instant; a listing is many requests of a page each. A [`Flaw`] breaks that on
//! purpose.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use artfs::format::collection::{Collection, PackFate};
use artfs::format::header::StoreHeader;
use artfs::store::Key;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetResult, ListResult, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    PutPayload, PutResult, Result,
};

use super::environment::BEGIN_UNIX_MILLIS;
use super::virtual_time::VirtualClock;

/// Names in one page of a listing.
pub const PAGE: usize = 4;
/// A defect of a store, for tests that prove that it would be noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// Of two creators of an event within three seconds both succeed, and the later event stays.
    TwoWinners,
    /// For three seconds a new event is invisible to every other lane.
    StaleReads,
    /// One put in five is acknowledged and not kept.
    ForgottenPuts,
    /// One put in five leaves something beside it.
    Litter,
    /// A create whose answer was lost counts as done.
    BlindSuccess,
    /// What a collection condemns disappears at once.
    DeletesAtOnce,
    /// The end of a collection deletes everything that it condemned, even what came into use since.
    DeletesUsed,
    /// One deletion in five is acknowledged and not done.
    ForgottenDeletions,
    /// A deleted artifact loses its log, so that it begins again at v0.
    ForgetsArtifacts,
}

/// The store itself. Its clock, which dates objects, is the virtual one.
#[derive(Debug)]
pub struct Bucket {
    clock: VirtualClock,
    flaw: Flaw,
    objects: Arc<InMemory>,
    created: Mutex<HashMap<Path, u64>>,
    puts: AtomicU64,
    deletions: AtomicU64,
}

impl Bucket {
    pub fn new(clock: VirtualClock, flaw: Flaw) -> Arc<Self> {
        Arc::new(Self {
            clock,
            flaw,
            objects: Arc::default(),
            created: Mutex::default(),
            puts: AtomicU64::new(0),
            deletions: AtomicU64::new(0),
        })
    }

    /// The objects, without network and without flaw, for judges.
    pub fn objects(&self) -> Arc<dyn ObjectStore> {
        self.objects.clone()
    }

    pub fn clock(&self) -> VirtualClock {
        self.clock
    }

    pub fn flaw(&self) -> Flaw {
        self.flaw
    }

    /// The tick in which an object was created; none if it is older than the network, or not there.
    pub fn created(&self, path: &Path) -> Option<u64> {
        self.created.lock().expect("no holder panics").get(path).copied()
    }

    fn is_new_event(&self, path: &Path) -> bool {
        let created = self.created.lock().expect("no holder panics").get(path).copied();
        path.as_ref().contains("/log/") && created.is_some_and(|tick| self.clock.now() - tick < 3000)
    }

    fn dated(&self, meta: &mut ObjectMeta) {
        if let Some(tick) = self.created.lock().expect("no holder panics").get(&meta.location) {
            let millis = BEGIN_UNIX_MILLIS + *tick as i64;
            meta.last_modified = DateTime::<Utc>::from_timestamp_millis(millis).expect("a date in range");
        }
    }

    pub async fn put(&self, path: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        let is_create = options.mode == PutMode::Create;
        let nth = self.puts.fetch_add(1, Ordering::SeqCst);
        match self.flaw {
            Flaw::TwoWinners if is_create && self.is_new_event(path) => options.mode = PutMode::Overwrite,
            Flaw::ForgottenPuts if !is_create && nth % 5 == 4 => {
                return Ok(nothing_done());
            }
            Flaw::Litter if !is_create && nth % 5 == 4 => {
                let beside = Path::from(format!("{path}.part"));
                self.objects.put(&beside, PutPayload::new()).await?;
            }
            _ => {}
        }
        let deletes_artifact = self.flaw == Flaw::ForgetsArtifacts && is_deletion_of_artifact(path, &payload);
        let done = self.objects.put_opts(path, payload, options).await?;
        self.created.lock().expect("no holder panics").insert(path.clone(), self.clock.now());
        if deletes_artifact {
            let log = path.as_ref().rsplit_once('/').map_or("", |(log, _)| log);
            let log = Path::from(log);
            let events: Vec<ObjectMeta> = self.objects.list(Some(&log)).try_collect().await?;
            for event in events {
                self.objects.delete(&event.location).await?;
            }
        }
        let trigger = match self.flaw {
            Flaw::DeletesAtOnce => Some(path.to_string()),
            Flaw::DeletesUsed => path.as_ref().strip_suffix(".done").map(str::to_owned),
            _ => None,
        };
        if let Some(Key::Collection(epoch)) = trigger.and_then(|name| Key::parse(&name)) {
            for key in condemned(&self.record(epoch).await?) {
                self.objects.delete(&key.path()).await?;
            }
        }
        Ok(done)
    }

    async fn record(&self, epoch: u64) -> Result<Collection> {
        let header = self.objects.get(&"artfs.json".into()).await?.bytes().await?;
        let header = StoreHeader::decode(&header).expect("a header");
        let record = self.objects.get(&Key::Collection(epoch).path()).await?.bytes().await?;
        Ok(Collection::decode(header.store, epoch, &record).expect("a record"))
    }

    /// The record of a collection as if it had condemned nothing.
    pub async fn empty_record(&self, epoch: u64) -> Result<GetResult> {
        let record = self.record(epoch).await?;
        let emptied = Collection { packs: vec![], artifacts: vec![], ..record };
        let (aside, path) = (InMemory::new(), Key::Collection(epoch).path());
        aside.put(&path, emptied.encode().into()).await?;
        aside.get(&path).await
    }

    pub async fn get(&self, path: &Path, options: GetOptions, slot: u64) -> Result<GetResult> {
        if self.flaw == Flaw::StaleReads && slot.is_multiple_of(2) && self.is_new_event(path) {
            return Err(Error::NotFound { path: path.to_string(), source: "not replicated yet".into() });
        }
        let mut answer = self.objects.get_opts(path, options).await?;
        self.dated(&mut answer.meta);
        Ok(answer)
    }

    /// The next names of a listing; fewer than [`PAGE`] at its end.
    pub async fn page(&self, prefix: Option<&Path>, after: Option<&Path>) -> Result<Vec<ObjectMeta>> {
        let names = match after {
            Some(after) => self.objects.list_with_offset(prefix, after),
            None => self.objects.list(prefix),
        };
        let mut page: Vec<ObjectMeta> = names.take(PAGE).try_collect().await?;
        page.iter_mut().for_each(|meta| self.dated(meta));
        Ok(page)
    }

    pub async fn folders(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut found = self.objects.list_with_delimiter(prefix).await?;
        found.objects.iter_mut().for_each(|meta| self.dated(meta));
        Ok(found)
    }

    pub async fn delete(&self, path: &Path) -> Result<()> {
        let nth = self.deletions.fetch_add(1, Ordering::SeqCst);
        if self.flaw == Flaw::ForgottenDeletions && nth % 5 == 4 {
            return Ok(());
        }
        self.created.lock().expect("no holder panics").remove(path);
        self.objects.delete(path).await
    }
}

fn is_deletion_of_artifact(path: &Path, payload: &PutPayload) -> bool {
    let text: Vec<u8> = payload.iter().flat_map(|piece| piece.to_vec()).collect();
    path.as_ref().contains("/log/") && String::from_utf8_lossy(&text).contains("\"cause\":\"artifact\"")
}

/// What a collection condemned, tables of moves left out.
fn condemned(record: &Collection) -> Vec<Key> {
    let packs = record.packs.iter().filter(|(_, fate)| *fate != PackFate::Forgotten);
    let manifests = record.artifacts.iter().flat_map(|condemned| {
        condemned.manifests.iter().map(|id| Key::Manifest(condemned.artifact.clone(), *id))
    });
    packs.map(|(id, _)| Key::Pack(*id)).chain(manifests).collect()
}

/// The answer to a write that was not done.
pub fn nothing_done() -> PutResult {
    PutResult { e_tag: None, version: None, extensions: Default::default() }
}
