//! What a host serves: names that are covered by a rule, only with the signatures that the rule demands.
//!
//! Nothing here believes the store, or who writes to it: a name is admitted when the events that made it what it is
//! were signed by somebody with the rule's role, when the log goes on from what this host has seen of it, and when
//! the version's manifest was shown to yield the signed digest. Names that no rule covers are not looked at.

mod recommits;
mod rules;
mod seen;

use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OnceCell;

use self::recommits::{Again, commits_again};
pub use self::rules::{Floor, Rules, TrustRule};
use self::seen::{LogMark, LogMarks, NameMarks};
use crate::format::entry;
use crate::format::event::{CommitSettings, Event, EventBody};
use crate::format::id::{Digest, EventHash, ManifestId};
use crate::format::listing::ListingHasher;
use crate::format::name::{AliasName, ArtifactKey, Selector, VersionNumber};
use crate::format::signed::SignedEvent;
use crate::format::signers::AllowedSigners;
use crate::repo::catalog::{ArtifactState, Catalog, CatalogError, VersionRecord};
use crate::repo::view::{ReadContext, ReadError, VersionView};

/// How long a look-up waits for the proof of a version's digest; the proof goes on.
const PATIENCE: Duration = Duration::from_secs(60);
/// Names and reasons remembered; beyond it they are found out anew.
const MAX_REMEMBERED: usize = 100_000;

/// Who may sign, and what must be signed.
#[derive(Debug, Clone, Default)]
pub struct TrustPolicy {
    /// Whose keys count as whom.
    pub signers: AllowedSigners,
    /// What must be signed by whom.
    pub rules: Rules,
    /// States that logs must have reached.
    pub floors: Vec<Floor>,
}

/// Why a name is not served.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The rules forbid it.
    #[error("{name} is not served: {reason}")]
    Forbidden {
        /// The artifact and the name in it.
        name: String,
        /// The event, and what is wrong with it.
        reason: String,
    },
    /// The log could not be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The version's manifest could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What this host has seen could not be kept or read.
    #[error("{name} is not served: what was seen of its log cannot be kept: {source}")]
    Local {
        /// The artifact.
        name: String,
        /// What happened.
        source: std::io::Error,
    },
    /// The proof takes longer than a look-up may wait.
    #[error("{name} is not served yet: its digest is still being proved; look again")]
    Late {
        /// The artifact and version.
        name: String,
    },
}

/// What a version is to its proof: all that it depends on.
type Proved = (ArtifactKey, VersionNumber, ManifestId);

/// Decides what is served. One for each mount or command; locks are held for look-ups only.
#[derive(Debug)]
pub struct TrustGate {
    policy: TrustPolicy,
    catalog: Arc<Catalog>,
    context: Arc<ReadContext>,
    seen: LogMarks,
    /// Names that were admitted, with the event that made them what they are: both never change.
    admitted: Mutex<HashSet<(ArtifactKey, String, u64)>>,
    proofs: Mutex<HashMap<Proved, Arc<OnceCell<()>>>>,
    /// The manifests of versions that were proved, and of what they contain.
    proved: Mutex<HashSet<ManifestId>>,
    again: Again,
    /// Refusals that were told of.
    told: Mutex<HashSet<String>>,
}

impl TrustGate {
    /// Decides by `policy`; what was seen of logs is kept in the state folder.
    pub fn new(
        policy: TrustPolicy,
        catalog: Arc<Catalog>,
        context: Arc<ReadContext>,
        state_folder: &std::path::Path,
    ) -> Self {
        let seen = LogMarks::new(state_folder, catalog.store().id());
        let (admitted, proofs) = (Mutex::default(), Mutex::default());
        let (proved, again, told) = (Mutex::default(), Again::default(), Mutex::default());
        Self { policy, catalog, context, seen, admitted, proofs, proved, again, told }
    }

    /// Whether an alias may be served with what `state` says of it. Cost: nothing once it was, until it moves; then
    /// one request for each of two events that are not in this host's copy of the log, and the manifest's blocks.
    pub async fn alias(self: &Arc<Self>, state: &ArtifactState, alias: &AliasName) -> Result<(), Refusal> {
        let Some(roles) = self.policy.rules.alias(alias) else { return Ok(()) };
        let Some(record) = state.alias(alias) else { return Ok(()) };
        let Some(version) = state.version(record.version) else { return Ok(()) };
        self.check_seen(state).await?;
        let name = format!("{}:{alias}", state.key());
        if self.is_admitted(state, alias.as_str(), record.seq) {
            return Ok(());
        }
        self.check_event(state, &name, record.seq, roles, |event| moves(event, alias, version)).await?;
        self.check_version(state, &name, version, roles).await?;
        self.admit(state, alias.as_str(), record.seq);
        Ok(())
    }

    /// Whether `latest` may be served. A deletion that made it an older version than before must be signed, too.
    pub async fn latest(self: &Arc<Self>, state: &ArtifactState) -> Result<(), Refusal> {
        let Some(roles) = self.policy.rules.latest() else { return Ok(()) };
        let Some(version) = state.latest() else { return Ok(()) };
        self.check_seen(state).await?;
        let name = format!("{}:latest", state.key());
        let newer = state.deleted().rev().take_while(|deleted| deleted.record.version > version.version);
        let newer: Vec<(VersionNumber, u64)> = newer.map(|gone| (gone.record.version, gone.seq)).collect();
        let newest = newer.iter().map(|(_, seq)| *seq).max().unwrap_or_default().max(version.seq);
        if self.is_admitted(state, "latest", newest) {
            return Ok(());
        }
        for (gone, seq) in newer {
            let deletes = |event: &Event| matches!(&event.body, EventBody::Delete(body) if body.versions.contains(&gone));
            self.check_event(state, &name, seq, roles, deletes).await?;
        }
        self.check_version(state, &name, version, roles).await?;
        self.admit(state, "latest", newest);
        Ok(())
    }

    /// Whether a version may be served by its number.
    pub async fn version(
        self: &Arc<Self>,
        state: &ArtifactState,
        version: &VersionRecord,
    ) -> Result<(), Refusal> {
        let Some(roles) = self.policy.rules.versions() else { return Ok(()) };
        self.check_seen(state).await?;
        let number = version.version.to_string();
        if self.is_admitted(state, &number, version.seq) {
            return Ok(());
        }
        let name = format!("{}:{number}", state.key());
        self.check_version(state, &name, version, roles).await?;
        self.admit(state, &number, version.seq);
        Ok(())
    }

    /// The version that a reference leads to, if it may be served: by the name in it, and as the version that this is.
    ///
    /// # Errors
    /// [`Refusal::Late`] if the proof of its digest takes long: it goes on, ask again.
    pub async fn resolve(
        self: &Arc<Self>,
        state: &ArtifactState,
        selector: &Selector,
    ) -> Result<VersionRecord, Refusal> {
        let version = state.require(selector)?.clone();
        match selector {
            Selector::Alias(alias) => self.alias(state, alias).await?,
            Selector::Latest => self.latest(state).await?,
            Selector::Version(_) | Selector::Digest(_) => {}
        }
        self.version(state, &version).await?;
        Ok(version)
    }

    /// Whether files of a manifest are served only once they are whole: those of versions that were proved, and of what
    /// they contain.
    pub fn whole_only(&self, manifest: ManifestId) -> bool {
        self.proved.lock().contains(&manifest)
    }

    /// Whether a move of an alias by this host would be served here.
    pub fn may_move(&self, artifact: &ArtifactKey, alias: &AliasName) -> Result<(), Refusal> {
        let Some(roles) = self.policy.rules.alias(alias) else { return Ok(()) };
        let now = self.catalog.store().env().now();
        let problem = match self.catalog.signer() {
            None => "this mount does not sign (mount with --sign)".to_owned(),
            Some(signer) => match self.policy.signers.find(signer.key(), roles, now) {
                Ok(_) => return Ok(()),
                Err(e) => e.to_string(),
            },
        };
        let reason = format!("it was not moved, because it would not be: {problem}");
        Err(Refusal::Forbidden { name: format!("{artifact}:{alias}"), reason })
    }

    /// Tells of a refusal in the log, once.
    pub fn tell(&self, refusal: &Refusal) {
        let text = refusal.to_string();
        let mut told = self.told.lock();
        if told.len() >= MAX_REMEMBERED {
            told.clear();
        }
        if told.insert(text.clone()) {
            tracing::warn!("{text}");
        }
    }

    /// The commit is signed, or a later one of the same content, by who may commit for this rule; and the manifest yields
    /// what it says.
    async fn check_version(
        self: &Arc<Self>,
        state: &ArtifactState,
        name: &str,
        version: &VersionRecord,
        roles: &[String],
    ) -> Result<(), Refusal> {
        let roles = self.policy.rules.commits().unwrap_or(roles);
        let is_commit = |event: &Event| match &event.body {
            EventBody::Commit(commit) => {
                (commit.version, commit.digest, commit.manifest)
                    == (version.version, version.digest, version.manifest)
            }
            _ => false,
        };
        match self.check_event(state, name, version.seq, roles, is_commit).await {
            Err(Refusal::Forbidden { .. }) if self.is_signed_again(state, name, version, roles).await => {}
            done => done?,
        }
        self.prove(state.key(), name, version).await
    }

    /// Whether somebody with one of the roles has signed that the content of a version is that of its digest.
    async fn is_signed_again(
        &self,
        state: &ArtifactState,
        name: &str,
        version: &VersionRecord,
        roles: &[String],
    ) -> bool {
        let says = |event: &Event| commits_again(event, version);
        // What cannot be read admits nothing.
        for seq in self.again.of(&self.catalog, state, version).await.unwrap_or_default() {
            if self.check_event(state, name, seq, roles, says).await.is_ok() {
                return true;
            }
        }
        false
    }

    /// An event that `state` rests on is signed by somebody with one of the roles, and says what `state` says.
    async fn check_event(
        &self,
        state: &ArtifactState,
        name: &str,
        seq: u64,
        roles: &[String],
        says: impl Fn(&Event) -> bool,
    ) -> Result<(), Refusal> {
        let key = state.key();
        let check = |bytes: &Bytes| self.check_bytes(state, seq, roles, bytes, &says);
        if self.catalog.mirrored_event(key, seq).is_some_and(|bytes| check(&bytes).is_ok()) {
            return Ok(());
        }
        let forbidden = |problem| {
            let reason = format!("event {seq} {problem}");
            Refusal::Forbidden { name: name.to_owned(), reason }
        };
        let stored = self.catalog.stored_event(key, seq).await?;
        check(&stored).map_err(forbidden)?;
        // It is looked at again when the mount starts the next time, perhaps without the store.
        self.catalog.mirror_event(key, seq, &stored);
        Ok(())
    }

    fn check_bytes(
        &self,
        state: &ArtifactState,
        seq: u64,
        roles: &[String],
        stored: &[u8],
        says: &impl Fn(&Event) -> bool,
    ) -> Result<(), String> {
        let wrong = |e: crate::format::FormatError| format!("has a wrong signature: {}", e.problem);
        let signed = SignedEvent::from_stored(stored).map_err(wrong)?.ok_or("is not signed")?;
        let event = signed.verify().map_err(wrong)?;
        let place = (event.store, &event.project, &event.name, event.artifact, event.seq);
        let key = state.key();
        if place != (self.catalog.store().id(), &key.project, &key.name, state.artifact_id(), seq) {
            return Err("is that of another place".to_owned());
        }
        if !says(&event) {
            return Err("says something else than what is in the log".to_owned());
        }
        let found = self.policy.signers.find(signed.signature.key(), roles, event.time);
        found.map(drop).map_err(|e| format!("does not count: {e}"))
    }

    /// The log has reached what this host has seen of it, and what it was told to demand; what is new is kept before
    /// anything of it is served.
    async fn check_seen(&self, state: &ArtifactState) -> Result<(), Refusal> {
        if self.seen.is_at(state) {
            return Ok(());
        }
        let key = state.key();
        let turn = self.seen.turn(key);
        let _turn = turn.lock().await;
        // Another look-up may have read on since.
        let known = self.catalog.known(key);
        let state = known.as_deref().filter(|known| known.seq() > state.seq()).unwrap_or(state);
        if self.seen.is_at(state) {
            return Ok(());
        }
        let local = |source| Refusal::Local { name: key.to_string(), source };
        let mark = self.seen.mark(key).map_err(local)?;
        let floors = self.policy.floors.iter().filter(|floor| floor.artifact == *key);
        let floors: Vec<&Floor> = floors.collect();
        let events = match mark {
            Some(LogMark { seq, hash, names, .. }) => {
                Some((names, self.events_behind(state, seq, hash, "this host has seen").await?))
            }
            // Whoever demands something of a log that is new here wants to know what it says.
            None if !floors.is_empty() => Some((NameMarks::default(), self.catalog.log_lines(state).await?)),
            None => None,
        };
        for Floor { seq, hash, .. } in floors {
            self.events_behind(state, *seq, *hash, "this host was told to demand").await?;
        }
        if let Some((mut names, events)) = events {
            for event in &events {
                names.follow(&Event::decode(event).map_err(|e| rolled_back(key, &e.problem))?);
            }
            if let Some(difference) = names.difference(state) {
                return Err(rolled_back(key, &difference));
            }
        }
        self.seen.keep(state).await.map_err(local)
    }

    /// The events of a log behind one that must be in it.
    async fn events_behind(
        &self,
        state: &ArtifactState,
        seq: u64,
        hash: EventHash,
        whose: &str,
    ) -> Result<Vec<Bytes>, Refusal> {
        let reason = match self.catalog.events_behind(state, seq).await? {
            Some((found, events)) if found == hash => return Ok(events),
            Some((found, _)) => format!("its event {seq} is {found}, and {whose} {hash}"),
            None => format!("its log ends at event {}, and {whose} event {seq}", state.seq()),
        };
        Err(rolled_back(state.key(), &reason))
    }

    /// The entries of the manifest add up to the digest, which was signed.
    async fn prove(
        self: &Arc<Self>,
        artifact: &ArtifactKey,
        name: &str,
        version: &VersionRecord,
    ) -> Result<(), Refusal> {
        let proved = (artifact.clone(), version.version, version.manifest);
        let cell = self.proofs().entry(proved).or_default().clone();
        let (this, artifact, version) = (self.clone(), artifact.clone(), version.clone());
        let label = format!("{artifact}:{}", version.version);
        let shown = name.to_owned();
        // In a task of its own: who waits may give up, the work is not lost.
        let proof = tokio::spawn(async move {
            let prove = || async {
                let view = VersionView::open(&this.context, &artifact, version.manifest, &label).await?;
                match manifests(view, version.digest).await? {
                    Ok(manifests) => {
                        this.proved.lock().extend(manifests);
                        Ok(())
                    }
                    Err(reason) => Err(Refusal::Forbidden { name: shown, reason }),
                }
            };
            cell.get_or_try_init(prove).await.copied()
        });
        match tokio::time::timeout(PATIENCE, proof).await {
            Ok(Ok(proved)) => proved,
            Ok(Err(_)) => Err(ReadError::Stopped.into()),
            Err(_) => Err(Refusal::Late { name: name.to_owned() }),
        }
    }

    fn proofs(&self) -> parking_lot::MutexGuard<'_, HashMap<Proved, Arc<OnceCell<()>>>> {
        self.proofs.lock()
    }

    fn is_admitted(&self, state: &ArtifactState, name: &str, seq: u64) -> bool {
        let admitted = self.admitted.lock();
        admitted.contains(&(state.key().clone(), name.to_owned(), seq))
    }

    fn admit(&self, state: &ArtifactState, name: &str, seq: u64) {
        let mut admitted = self.admitted.lock();
        if admitted.len() >= MAX_REMEMBERED {
            admitted.clear();
        }
        admitted.insert((state.key().clone(), name.to_owned(), seq));
    }
}

fn rolled_back(artifact: &ArtifactKey, reason: &str) -> Refusal {
    let reason = format!("the store was rolled back or forked: {reason}");
    Refusal::Forbidden { name: artifact.to_string(), reason }
}

/// Whether an event points an alias to a version.
fn moves(event: &Event, alias: &AliasName, version: &VersionRecord) -> bool {
    let names = |settings: &CommitSettings| settings.aliases.contains(alias);
    match &event.body {
        EventBody::Alias(change) => change.to.as_ref().is_some_and(|to| {
            change.alias == *alias
                && (to.version, to.digest, to.manifest) == (version.version, version.digest, version.manifest)
        }),
        EventBody::Commit(commit) => {
            names(&commit.settings)
                && (commit.version, commit.digest, commit.manifest)
                    == (version.version, version.digest, version.manifest)
        }
        EventBody::Recommit(again) => {
            names(&again.settings) && (again.version, again.digest) == (version.version, version.digest)
        }
        _ => false,
    }
}

/// Reads all entries of a version, and of the versions that it contains; gives their manifests, or which of these does
/// not yield its digest.
async fn manifests(
    view: Arc<VersionView>,
    digest: Digest,
) -> Result<Result<HashSet<ManifestId>, String>, ReadError> {
    let mut proved = HashSet::new();
    let mut open = vec![(view, digest)];
    while let Some((view, stated)) = open.pop() {
        if !proved.insert(view.manifest()) {
            continue;
        }
        let (mut listing, mut contained) = (ListingHasher::default(), vec![]);
        let mut entries = view.entries(0);
        loop {
            let batch = entries.next_batch().await?;
            if batch.is_empty() {
                break;
            }
            for (_, entry) in batch {
                listing.push(&entry);
                if let entry::EntryBody::Contained(inner) = entry.body {
                    contained.push(inner);
                }
            }
        }
        let found = listing.digest();
        if found != stated || view.totals().digest != stated {
            let manifest = view.manifest();
            return Ok(Err(format!(
                "its manifest {manifest} yields the digest {found}, {stated} was signed"
            )));
        }
        for inner in contained {
            if !proved.contains(&inner.manifest) {
                open.push((view.open_contained(&inner).await?, inner.digest));
            }
        }
    }
    Ok(Ok(proved))
}
