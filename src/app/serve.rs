//! A mount put together: the file system over its services, mounted, and the answers to the control socket.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::app::cli::error::{CliError, over_quota};
use crate::app::cli::progress::telling;
use crate::app::daemon::wire::{
    self, CommitOutcome, CommitReply, CommitRequest, ControlRequest, PinListed, PinReply, StageAction,
    StageRequest, UnpinReply, VersionSettings, WireError, WorkProgress,
};
use crate::app::daemon::{self, DaemonServices, Handler, MountedFs, Peer, ProgressSender};
use crate::format::name::{Reference, Selector, session_directory};
use crate::host::process;
use crate::host::sys;
use crate::mount::fs::{Fs, FsOptions, RecordedLineage, SessionCommit, SessionCommitError, StageError};
use crate::mount::fuse::{self, MountOptions};
use crate::mount::provenance::{self, OpenWatch, OpenWatchOptions, RunLedger, capture::HostNames};
use crate::mount::staging::{self, Closer, SessionRecord, SessionRegistry};
use crate::repo::cache::{Cache, CacheOptions, Pin, PinnedVersion};
use crate::repo::catalog::{Actor, Catalog, SyncScope};
use crate::repo::commit::{ChunkIndex, CommitError, CommitProgress, Committer, OtherMounts, Settings};
use crate::repo::gc::InUseVersion;
use crate::repo::pin::{self, PinError, Pinned};
use crate::repo::trust::{TrustGate, TrustPolicy};
use crate::repo::view::{ReadContext, ReadLimits};
use crate::store::source::Sources;

/// How often a client that waits for a commit is told how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Mounts what `services` describe.
pub fn start(services: &DaemonServices) -> Result<MountedFs, WireError> {
    let options = &services.options;
    let store = services.catalog.store();
    let database = options.state.join("cache.db");
    let cache = Cache::open(CacheOptions {
        folder: options.state.join("cache"),
        database: database.clone(),
        limit_bytes: options.cache_bytes,
        env: store.env().clone(),
    })
    .map_err(|e| WireError::new(e.to_string()))?;
    let registry = SessionRegistry::open(&options.state, store.env().clone())
        .map_err(|e| WireError::new(e.to_string()))?;
    let context = Arc::new(ReadContext::new(store.clone(), cache.clone(), ReadLimits::default()));
    let sources = Sources::new(options.references.clone(), Some(options.mountpoint.clone()));
    context.set_sources(Arc::new(sources));
    let index = Arc::new(ChunkIndex::open(Some(&database), store.id()));
    let owner = (sys::effective_uid(), sys::effective_gid());
    let fs_options = FsOptions {
        read_only: options.read_only,
        refresh: options.refresh,
        rename_wait: options.rename_wait,
        quotas: options.quotas.clone(),
        owner,
        allow_commit: options.allow_commit,
        state: options.state.clone(),
        mountpoint: Some(options.mountpoint.clone()),
        user_name,
        host: services.actor.host.clone(),
        other_mounts,
    };
    let admit = |policy: &TrustPolicy| {
        let (catalog, context) = (services.catalog.clone(), context.clone());
        Arc::new(TrustGate::new(policy.clone(), catalog, context, &options.state))
    };
    let admission = options.policy.as_ref().map(admit);
    let watch = watch(services).inspect_err(|e| tracing::warn!("no lineage is recorded: {e}")).ok();
    let fs_services = crate::mount::fs::FsServices {
        catalog: services.catalog.clone(),
        context: context.clone(),
        registry: Arc::new(registry),
        closer: Closer::start().map_err(|e| WireError::new(format!("cannot start a thread: {e}")))?,
        committer: Committer::new(services.catalog.clone(), context.clone(), index),
        admission,
        watch: watch.clone(),
    };
    let (fs, invalidations) = services.runtime.block_on(Fs::new(fs_options, fs_services));
    let mount_options = MountOptions {
        allow_other: options.allow_other || options.allow_commit.is_some(),
        read_only: options.read_only,
        passthrough: options.passthrough,
        no_open: options.no_open,
    };
    let mounted =
        fuse::mount(fs.clone(), invalidations, &options.mountpoint, &mount_options, services.runtime.clone())
            .map_err(|e| mount_error(&options.mountpoint.display().to_string(), &e))?;
    cache.remember_limit();
    let control = MountControl {
        fs: fs.clone(),
        cache: cache.clone(),
        reader: context.clone(),
        actor: services.actor.clone(),
    };
    let status_of = (Arc::downgrade(&fs), cache.clone(), services.clone());
    fs.set_status(move || {
        let (fs, cache, services) = &status_of;
        let more = fs.upgrade().map_or(Value::Null, |fs| status(&fs, cache));
        daemon::merged(daemon::status(services), more)
    });
    let runtime = services.runtime.clone();
    let serve = move || {
        let ended = mounted.wait();
        runtime.block_on(context.shutdown());
        if let Some(watch) = watch {
            watch.close();
        }
        cache.shutdown();
        ended
    };
    Ok(MountedFs { serve: Box::new(serve), handler: Arc::new(control) })
}

/// Sees which run reads what below the mount.
fn watch(services: &DaemonServices) -> Result<Arc<OpenWatch>, String> {
    let options = &services.options;
    let env = services.catalog.store().env().clone();
    let ledger = RunLedger::open(&options.state).map_err(|e| e.to_string())?;
    ledger.prune(env.now()).map_err(|e| e.to_string())?;
    let watched = OpenWatchOptions {
        store: services.catalog.store().id(),
        mount_point: Some(options.mountpoint.clone()),
        uid: sys::effective_uid(),
        names: HostNames { host: services.actor.host.clone(), user: user_name },
        observer: provenance::observer(&services.actor.host, process::own_ancestors()),
        env,
    };
    OpenWatch::start(watched, Arc::new(ledger)).map_err(|e| e.to_string())
}

fn other_mounts(mountpoint: &Path, store: &str) -> OtherMounts {
    let others = daemon::mounts::StoreMounts::of(mountpoint, store);
    Arc::new(move |path| others.names_of(path))
}

fn user_name(uid: u32) -> String {
    sys::user_name(uid).unwrap_or_else(|| format!("uid{uid}"))
}

fn mount_error(shown: &str, error: &std::io::Error) -> WireError {
    let hint = match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV) => "is the fuse module loaded, and fuse3 installed?",
        Some(libc::EACCES | libc::EPERM) => {
            "an ordinary user needs fusermount3 (package fuse3) and a readable /dev/fuse; --allow-other also needs \
             user_allow_other in /etc/fuse.conf"
        }
        _ => "`artfs doctor` looks for the cause",
    };
    WireError::new(format!("cannot mount on {shown}: {error}")).with_hint(hint)
}

/// What the file system adds to [`daemon::status`].
fn status(fs: &Fs, cache: &Cache) -> Value {
    let sessions = fs.sessions().unwrap_or_default();
    json!({
        "cache": cache.stats(),
        "staging": sessions,
        "set_aside": staging::set_aside(&fs.options().state),
        "quota_bytes": fs.options().quotas,
        "signer": fs.catalog().signer().map(|signer| signer.key().fingerprint()),
        "kernel_requests": fs.kernel_requests(),
        "lineage": fs.lineage_counts(),
    })
}

struct MountControl {
    fs: Arc<Fs>,
    cache: Arc<Cache>,
    reader: Arc<ReadContext>,
    actor: Actor,
}

impl Handler for MountControl {
    fn handle(
        &self,
        caller: Peer,
        request: ControlRequest,
        progress: ProgressSender,
    ) -> BoxFuture<'_, Result<Value, WireError>> {
        Box::pin(async move {
            match request {
                ControlRequest::Status => Ok(status(&self.fs, &self.cache)),
                ControlRequest::Commit(commit) => self.commit(caller, commit, progress).await,
                ControlRequest::Stage(stage) => self.stage(stage).await,
                ControlRequest::Pin { reference } => self.pin(&reference, progress).await,
                ControlRequest::Unpin { reference } => {
                    let done = unpin(self.fs.catalog(), &self.cache, &reference).await;
                    done.map(|reply| json!(reply)).map_err(|e| CliError::from(e).into_wire())
                }
                ControlRequest::Pins => Ok(json!(pins(self.fs.catalog(), &self.cache))),
                ControlRequest::Sync => {
                    let synced = self.fs.sync_all().await;
                    synced
                        .map(|()| json!({}))
                        .map_err(|e| WireError::new(format!("cannot sync the state folder: {e}")))
                }
                ControlRequest::FlushRuns => {
                    let done = self.fs.flush_runs().await;
                    done.map(|()| json!({})).map_err(|e| WireError::new(e.to_string()))
                }
                ControlRequest::Refresh { artifact } => {
                    self.fs.refresh(&artifact).await;
                    Ok(json!({}))
                }
                ControlRequest::ReadLogs { store, scope } => self.read_logs(&store, &scope).await,
                ControlRequest::InUse { store } => self.in_use(&store),
                ControlRequest::Unmount { .. } => Err(WireError::new("unmounting is not this layer's")),
            }
        })
    }
}

/// Asks a commit to end when the client that waits for it goes away.
struct InterruptOnDrop(Arc<CommitProgress>);

impl Drop for InterruptOnDrop {
    fn drop(&mut self) {
        self.0.interrupt();
    }
}

impl MountControl {
    /// Versions that a collection must not take away under this mount.
    fn in_use(&self, store: &str) -> Result<Value, WireError> {
        if self.fs.catalog().store().url() != store {
            return Ok(Value::Null);
        }
        let open = self.fs.open_versions().into_iter();
        let open = open.map(|(artifact, manifest)| InUseVersion { artifact, manifest });
        let staged = self.fs.session_records().map_err(|e| WireError::new(e.to_string()))?;
        let staged = staged.iter().filter_map(SessionRecord::in_use);
        Ok(json!(open.chain(staged).collect::<Vec<_>>()))
    }

    async fn commit(
        &self,
        caller: Peer,
        request: CommitRequest,
        sender: ProgressSender,
    ) -> Result<Value, WireError> {
        let followed = Arc::new(CommitProgress::default());
        let user = sys::user_name(caller.uid).unwrap_or_else(|| self.actor.user.clone());
        let lineage = match request.settings.lineage {
            wire::LineageMode::Omit => RecordedLineage::Omit,
            wire::LineageMode::Record if request.run.is_some() => RecordedLineage::Record(request.run),
            wire::LineageMode::Record => RecordedLineage::Record(self.fs.run_of(caller.pid).await),
        };
        let commit = SessionCommit {
            artifact: request.artifact.clone(),
            session: request.session,
            actor: Actor { user, host: self.actor.host.clone() },
            demanded: request.number,
            lineage,
            settings: settings(request.settings),
            quota_bytes: request.quota_bytes,
            // Only root and the mounter reach the control socket.
            reader: None,
            progress: followed.clone(),
        };
        let _interrupt = InterruptOnDrop(followed.clone());
        let tell = || {
            let now = followed.snapshot();
            sender.send(WorkProgress { step: "committing".into(), done_bytes: now.bytes, total_bytes: None });
        };
        let done = telling(PROGRESS_INTERVAL, self.fs.commit_session(commit), tell).await;
        let outcome = done.map_err(|e| commit_error(&request.artifact.to_string(), &e))?;
        let reply = CommitReply {
            artifact: outcome.artifact,
            version: outcome.version,
            outcome: if outcome.created { CommitOutcome::Created } else { CommitOutcome::Identical },
            digest: outcome.digest,
            files: outcome.files,
            bytes: outcome.bytes,
            stored_bytes: outcome.stored_bytes,
        };
        Ok(json!(reply))
    }

    async fn read_logs(&self, store: &str, scope: &SyncScope) -> Result<Value, WireError> {
        if store != self.fs.catalog().store().url() {
            return Ok(Value::Null);
        }
        let read = self.fs.sync_logs(scope).await;
        read.map(|artifacts| json!(artifacts)).map_err(|e| CliError::from(e).into_wire())
    }

    async fn pin(&self, reference: &Reference, sender: ProgressSender) -> Result<Value, WireError> {
        let progress = pin::PinProgress::default();
        let work = pin(self.fs.catalog(), &self.reader, reference, &progress);
        let tell = || sender.send(pin_progress(reference, &progress, &self.cache));
        let done = telling(PROGRESS_INTERVAL, work, tell).await;
        done.map(|reply| json!(reply)).map_err(|e| CliError::from(e).into_wire())
    }

    async fn stage(&self, request: StageRequest) -> Result<Value, WireError> {
        let StageRequest { artifact, session, action } = request;
        let done = match action {
            StageAction::From(version) => {
                let from = Selector::Version(version);
                self.fs.stage_from(&artifact, session.as_ref(), &from).await.map(|_| ())
            }
            StageAction::Discard => self.fs.discard(&artifact, session.as_ref()).await,
            StageAction::Open => self.fs.open_session(&artifact, session.as_ref()),
        };
        done.map_err(|e: StageError| WireError::new(e.to_string()))?;
        Ok(json!({ "path": format!("{artifact}/{}", session_directory(session.as_ref())) }))
    }
}

/// Pins a version, as a reply to whoever asked, with a daemon or without.
pub async fn pin(
    catalog: &Catalog,
    reader: &ReadContext,
    reference: &Reference,
    progress: &pin::PinProgress,
) -> Result<PinReply, PinError> {
    let Pinned { version, fetched_bytes } = pin::pin(catalog, reader, reference, progress).await?;
    let PinnedVersion { artifact, version, digest, files, bytes, .. } = version;
    Ok(PinReply { artifact, version, digest, files, bytes, fetched_bytes })
}

/// How far pinning is.
pub fn pin_progress(reference: &Reference, progress: &pin::PinProgress, cache: &Cache) -> WorkProgress {
    let (done_bytes, total_bytes) = progress.bytes(cache);
    WorkProgress { step: format!("pinning {reference}"), done_bytes, total_bytes }
}

/// Lets a pinned version go.
pub async fn unpin(catalog: &Catalog, cache: &Cache, reference: &Reference) -> Result<UnpinReply, PinError> {
    let (version, was_pinned) = pin::unpin(catalog, cache, reference).await?;
    Ok(UnpinReply { artifact: reference.artifact.clone(), version, was_pinned })
}

/// The pinned versions of a store.
pub fn pins(catalog: &Catalog, cache: &Cache) -> Vec<PinListed> {
    let listed = |pin: Pin| {
        let missing_bytes = cache.missing_bytes(&pin);
        let PinnedVersion { artifact, version, digest, files, bytes, since, .. } = pin.version;
        PinListed { artifact, version, digest, files, bytes, missing_bytes, since }
    };
    cache.pins(catalog.store().id()).into_iter().map(listed).collect()
}

fn commit_error(artifact: &str, error: &SessionCommitError) -> WireError {
    if let SessionCommitError::Commit(CommitError::Quota(over)) = error {
        return over_quota(artifact, over).into_wire();
    }
    let hint = match error {
        SessionCommitError::Busy(_) => "close them, or wait for the program that writes them; then repeat",
        _ => "what is staged is untouched; mend the cause and repeat the commit",
    };
    WireError::new(format!("{artifact} was not committed: {error}")).with_hint(hint)
}

/// What the command line says of a version, as a commit takes it.
pub fn settings(said: VersionSettings) -> Settings {
    let VersionSettings {
        message,
        artifact_type,
        aliases,
        tags,
        meta,
        ttl_seconds,
        inputs,
        checksum,
        lineage: _,
    } = said;
    Settings {
        message,
        artifact_type,
        aliases,
        tags,
        meta,
        ttl_seconds,
        inputs,
        checksum,
        ..Settings::default()
    }
}
