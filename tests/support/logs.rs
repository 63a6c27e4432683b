//! Logs of many events, written without the program and without content.

use std::sync::Arc;

use artfs::format::checkpoint_ref::CheckpointRef;
use artfs::format::clock::Timestamp;
use artfs::format::event::{Commit, CommitSettings, Event, EventBody, Metadata};
use artfs::format::id::{ArtifactId, Digest, EventHash, EventId, ManifestId, StoreId};
use artfs::format::name::{ArtifactKey, VersionNumber};
use artfs::format::signed::SignedEvent;
use artfs::host::signing::{Signer, SshKey};
use artfs::store::Key;
use object_store::{ObjectStore, ObjectStoreExt};

use super::environment::noise;

/// Writes one artifact's log, event by event.
pub struct LogWriter {
    backend: Arc<dyn ObjectStore>,
    store: StoreId,
    key: ArtifactKey,
    seq: u64,
    head: Option<EventHash>,
    versions: u64,
    signer: Option<Arc<SshKey>>,
}

impl LogWriter {
    /// Begins a log with its `create` event.
    pub async fn new(backend: &Arc<dyn ObjectStore>, store: StoreId, key: &ArtifactKey) -> Self {
        Self::signed(backend, store, key, None).await
    }

    /// The same with a signature in every event, if there is a signer.
    pub async fn signed(
        backend: &Arc<dyn ObjectStore>,
        store: StoreId,
        key: &ArtifactKey,
        signer: Option<Arc<SshKey>>,
    ) -> Self {
        let (backend, key) = (backend.clone(), key.clone());
        let mut log = Self { backend, store, key, seq: 0, head: None, versions: 0, signer };
        log.event(EventBody::Create, None).await;
        log
    }

    /// The number of the next event.
    pub fn next_seq(&self) -> u64 {
        self.seq
    }

    /// Appends a commit of a version that has no content.
    pub async fn commit(&mut self, meta: Metadata) {
        let body = EventBody::Commit(self.next_commit(meta));
        self.versions += 1;
        self.event(body, None).await;
    }

    /// Appends `count` commits.
    pub async fn commits(&mut self, count: u64) {
        for _ in 0..count {
            self.commit(Metadata::new()).await;
        }
    }

    fn next_commit(&self, meta: Metadata) -> Commit {
        hollow_commit(self.versions, meta)
    }

    /// Appends any event, which may vouch for a checkpoint.
    pub async fn event(&mut self, body: EventBody, checkpoint: Option<CheckpointRef>) {
        let mut random = [0; 16];
        random.copy_from_slice(&noise(77, self.seq, 16));
        let event = Event {
            store: self.store,
            project: self.key.project.clone(),
            name: self.key.name.clone(),
            artifact: ArtifactId::from_bytes([5; 16]),
            seq: self.seq,
            prev: self.head,
            id: EventId::from_bytes(random),
            time: Timestamp::from_unix_millis(1_767_225_600_000 + 1000 * self.seq as i64),
            actor: "ann".into(),
            host: "h".into(),
            checkpoint,
            body,
        };
        let mut bytes = event.encode();
        if let Some(signer) = &self.signer {
            let signature = signer.sign(&bytes).await.expect("a signature");
            bytes = SignedEvent { payload: bytes, signature }.to_stored();
        }
        self.head = Some(EventHash::of(&bytes));
        let path = Key::Event(self.key.clone(), self.seq).path();
        self.backend.put(&path, bytes.into()).await.expect("put");
        self.seq += 1;
    }
}

/// A commit of version `number` whose digest and manifest are nobody's.
pub fn hollow_commit(number: u64, meta: Metadata) -> Commit {
    let name = number.to_le_bytes();
    Commit {
        version: VersionNumber(number),
        digest: Digest::of(&name),
        manifest: ManifestId::of(&name),
        entries: 3,
        files: 2,
        bytes: 1_000_000 + number,
        stored_bytes: 1000,
        root: None,
        settings: CommitSettings { meta, ..CommitSettings::default() },
    }
}
