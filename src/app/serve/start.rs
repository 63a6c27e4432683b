//! Starting a mount: the file system over its services.

use std::io;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::control::{MountControl, status};
use crate::app::daemon::{self, DaemonServices, MountedFs};
use crate::app::error::WireError;
use crate::host::process;
use crate::host::sys;
use crate::mount::fs::{Fs, FsOptions};
use crate::mount::fuse::{self, MountOptions};
use crate::mount::provenance::{
    self, LedgerError, OpenWatch, OpenWatchOptions, RunLedger, capture::HostNames,
};
use crate::mount::staging::{Closer, SessionRegistry};
use crate::repo::cache::{Cache, CacheOptions};
use crate::repo::commit::{ChunkIndex, Committer, OtherMounts};
use crate::repo::trust::{TrustGate, TrustPolicy};
use crate::repo::view::{ReadContext, ReadLimits};
use crate::store::source::Sources;

/// Mounts the file system that `services` describe.
///
/// # Errors
/// The cache, the staging area or `/dev/fuse` cannot be used, or the kernel refuses the mount.
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

/// Why no lineage is recorded.
#[derive(Debug, thiserror::Error)]
enum WatchStartError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("cannot start the threads that follow runs: {0}")]
    Threads(#[from] io::Error),
}

/// Starts recording which run reads what below the mount.
fn watch(services: &DaemonServices) -> Result<Arc<OpenWatch>, WatchStartError> {
    let options = &services.options;
    let env = services.catalog.store().env().clone();
    let ledger = RunLedger::open(&options.state)?;
    ledger.prune(env.now())?;
    let watched = OpenWatchOptions {
        store: services.catalog.store().id(),
        mount_point: Some(options.mountpoint.clone()),
        uid: sys::effective_uid(),
        names: HostNames { host: services.actor.host.clone(), user: user_name },
        observer: provenance::observer(&services.actor.host, process::own_ancestors()),
        env,
    };
    Ok(OpenWatch::start(watched, Arc::new(ledger))?)
}

fn other_mounts(mountpoint: &Path, store: &str) -> OtherMounts {
    let others = daemon::mounts::StoreMounts::of(mountpoint, store);
    Arc::new(move |path| others.names_of(path))
}

fn user_name(uid: u32) -> String {
    sys::user_name(uid).unwrap_or_else(|| format!("uid{uid}"))
}

fn mount_error(shown: &str, error: &io::Error) -> WireError {
    let hint = match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV) => "is the fuse module loaded, and fuse3 installed?",
        Some(libc::EACCES | libc::EPERM) => {
            "an ordinary user needs fusermount3 (package fuse3) and a readable /dev/fuse; --allow-other also needs \
             user_allow_other in /etc/fuse.conf"
        }
        _ => "run `artfs doctor` to find the cause",
    };
    WireError::new(format!("cannot mount on {shown}: {error}")).with_hint(hint)
}
