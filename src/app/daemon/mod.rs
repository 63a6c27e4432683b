//! The process that serves a mount: started in the background, found again by its lock and its socket, ended by
//! signal, by `artfs umount` or by an outside `umount`.
//!
//! [`run`] is the daemon's whole life: lock on the state folder, mount point cleared and checked, store opened,
//! file system started, readiness told, requests served, and at the end the lock given back as the very last
//! thing, so that whoever waits for it finds nothing of this daemon left. What is mounted is not known here:
//! [`StartMount`] brings it in.

pub mod client;
pub mod guard;
pub mod holder;
pub mod lock;
pub mod mounts;
mod server;
pub mod signals;
mod socket;
pub mod spawn;
pub mod wire;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::oneshot;

use self::guard::DaemonGuard;
use self::holder::MountVisibility;
use self::lock::{DaemonLock, Holder, LockError};
use self::mounts::MountEntry;
use self::server::Server;
pub use self::server::{Handler, Peer, ProgressSender};
use self::signals::{Asked, WaitedSignals};
use self::spawn::Ready;
use self::wire::{ControlRequest, WireError};
use crate::format::clock::Timestamp;
use crate::host::process::limits;
use crate::host::sys::{self, Detach, FreedMemory};
use crate::repo::catalog::{Actor, Catalog};
use crate::repo::commit::Quotas;
use crate::repo::trust::TrustPolicy;
use crate::store::source::Allowed;

/// How long a mount may take to answer its first question.
const FIRST_ANSWER: Duration = Duration::from_secs(30);

/// What the user asked of a mount.
#[derive(Debug, Clone)]
pub struct DaemonOptions {
    /// The state folder; it exists.
    pub state: PathBuf,
    /// Where to mount, as [`mounts::resolve`] gives it.
    pub mountpoint: PathBuf,
    /// Whether anything can be staged and committed.
    pub read_only: bool,
    /// Whether other users can read.
    pub allow_other: bool,
    /// The group whose members can also stage, commit and move aliases.
    pub allow_commit: Option<u32>,
    /// The cache is kept below this.
    pub cache_bytes: u64,
    /// How old what is shown of names may be.
    pub refresh: Duration,
    /// How long a rename waits for its commit.
    pub rename_wait: Duration,
    /// What projects may take in the store.
    pub quotas: Quotas,
    /// What must be signed to be served.
    pub policy: Option<TrustPolicy>,
    /// Where references may be read.
    pub references: Allowed,
    /// Whether files may be handed to the kernel.
    pub passthrough: bool,
    /// Whether the kernel opens files without asking; only where nothing can be written.
    pub no_open: bool,
}

/// What a file system is started with.
#[derive(Debug, Clone)]
pub struct DaemonServices {
    /// What the user asked for.
    pub options: DaemonOptions,
    /// The catalog and, in it, the store.
    pub catalog: Arc<Catalog>,
    /// Who mounts.
    pub actor: Actor,
    /// When the daemon started.
    pub started: Timestamp,
    /// Where asynchronous work runs. [`StartMount`] is called outside of it and may block on it.
    pub runtime: Handle,
}

/// A file system that is mounted.
pub struct MountedFs {
    /// Serves until the mount is gone, however that happens, and returns when nothing is left of it. Runs on a
    /// thread of its own.
    pub serve: Box<dyn FnOnce() -> io::Result<()> + Send>,
    /// Answers `Status` (what it says is added to [`status`]), `Commit`, `Stage`, `Sync` and `Refresh`.
    /// `Unmount` never reaches it.
    pub handler: Arc<dyn Handler>,
}

/// Mounts on `options.mountpoint`, under the name [`mounts::FS_NAME`], and returns at once.
pub type StartMount = fn(&DaemonServices) -> Result<MountedFs, WireError>;

/// Runs a daemon until its mount is gone. `open` opens the store; it is called when the lock is held. `guard` ends the
/// mount of a daemon that was killed.
pub fn run(
    guard: Option<DaemonGuard>,
    options: DaemonOptions,
    actor: Actor,
    runtime: &Runtime,
    open: impl FnOnce() -> Result<Arc<Catalog>, WireError>,
    start: StartMount,
    ready: Ready,
) -> Result<(), WireError> {
    sys::tune_allocator(FreedMemory::Returned);
    match begin(options, actor, runtime, open, start) {
        Ok(life) => life.live(guard, runtime, ready),
        Err(error) => {
            ready.failed(&error);
            Err(error)
        }
    }
}

/// A daemon that is mounted.
struct DaemonLife {
    services: DaemonServices,
    mounted: MountedFs,
    server: Server,
    signals: WaitedSignals,
    lock: DaemonLock,
}

fn begin(
    options: DaemonOptions,
    actor: Actor,
    runtime: &Runtime,
    open: impl FnOnce() -> Result<Arc<Catalog>, WireError>,
    start: StartMount,
) -> Result<DaemonLife, WireError> {
    let lock = DaemonLock::acquire(&options.state, &options.mountpoint).map_err(|e| refusal(&options, e))?;
    mounts::prepare(&options.mountpoint)?;
    let catalog = open()?;
    let _in_runtime = runtime.enter();
    let failed = |what: &str| {
        let what = what.to_owned();
        move |e: io::Error| WireError::new(format!("cannot {what}: {e}"))
    };
    // Before the mount, so that a signal cannot end the process between the two and leave a dead mount.
    let signals = WaitedSignals::of_daemon().map_err(failed("watch for signals"))?;
    let place = options.state.display();
    let server =
        Server::bind(&options.state).map_err(failed(&format!("listen on the control socket in {place}")))?;
    drop(_in_runtime);
    let started = catalog.store().env().now();
    let services = DaemonServices { options, catalog, actor, started, runtime: runtime.handle().clone() };
    let mounted = start(&services)?;
    Ok(DaemonLife { services, mounted, server, signals, lock })
}

fn refusal(options: &DaemonOptions, error: LockError) -> WireError {
    let state = options.state.display();
    let another = "for a second mount, give it a state folder of its own with --state";
    match error {
        LockError::Io(e) => WireError::new(format!("cannot lock the state folder {state}: {e}")),
        LockError::Held(Some(holder)) => {
            let Holder { pid, mountpoint } = &holder;
            let what =
                format!("a daemon (pid {pid}) already serves {mountpoint} from the state folder {state}");
            match holder::place_of(&holder) {
                MountVisibility::Here => {
                    WireError::new(what).with_hint(format!("`artfs umount {mountpoint}` ends it; {another}"))
                }
                MountVisibility::OtherNamespace => WireError::new(format!(
                    "{what}, in another mount namespace"
                ))
                .with_hint(format!("`artfs umount --state {state}` ends it, or `kill {pid}`; {another}")),
                MountVisibility::Unknown => WireError::new(format!("{what}, where this process cannot look"))
                    .with_hint(format!(
                        "`artfs umount --state {state}` ends it, or who started it; {another}"
                    )),
                MountVisibility::Gone(elsewhere) => match holder::holders_hint(&elsewhere, mountpoint) {
                    None => {
                        WireError::new(format!("{what}: it is unmounted, but files in it are still open"))
                            .with_hint(format!(
                                "`kill {pid}` ends it at once, for their users too; {another}"
                            ))
                    }
                    Some((held, command)) => WireError::new(format!(
                        "{what}: it is unmounted here, but {held}"
                    ))
                    .with_hint(format!(
                        "{command} takes it away there, `kill {pid}` ends the daemon at once; {another}"
                    )),
                },
            }
        }
        LockError::Held(None) => {
            WireError::new(format!("a daemon already serves from the state folder {state}"))
                .with_hint(another)
        }
    }
}

impl DaemonLife {
    fn live(self, mut guard: Option<DaemonGuard>, runtime: &Runtime, ready: Ready) -> Result<(), WireError> {
        let DaemonLife { services, mounted, server, mut signals, lock } = self;
        let mountpoint = services.options.mountpoint.clone();
        let ours = mounts::mount_at(&mountpoint).ok().flatten().filter(MountEntry::is_artfs);
        if let (Some(guard), Some(ours)) = (&mut guard, &ours) {
            guard.watch(ours);
        }
        let in_background = matches!(ready, Ready::Pipe(_));
        let state = services.options.state.clone();
        let (ended, mut end) = oneshot::channel();
        let serve = mounted.serve;
        let session = std::thread::Builder::new().name("session".into()).spawn(move || {
            // The receiver lives until the session ends.
            let _ = ended.send(serve());
        });
        let session = session.map_err(|e| WireError::new(format!("cannot start the session: {e}")))?;
        let store = services.catalog.store().clone();
        let handler: Arc<dyn Handler> = Arc::new(ProcessControl { services, inner: mounted.handler });

        let outcome = runtime.block_on(async {
            let requests = server.serve(handler);
            tokio::pin!(requests);
            let answers = first_answer(mountpoint.clone());
            tokio::pin!(answers);
            let mut ready = Some(ready);
            let mut signalled = false;
            loop {
                tokio::select! {
                    result = &mut end => {
                        let result = result.unwrap_or_else(|_| Err(io::Error::other("it panicked")));
                        break result.map(|()| Ended::Served);
                    }
                    () = &mut requests => {}
                    answer = &mut answers, if ready.is_some() => {
                        let Some(ready) = ready.take() else { continue };
                        match answer {
                            Ok(()) => ready.serving(&mountpoint, store.outage()),
                            Err(error) => {
                                ready.failed(&error);
                                detach(&mountpoint);
                            }
                        }
                    }
                    signal = signals.next() => match signals::meaning(signal) {
                        Asked::HangUp if in_background => match spawn::reopen_log(&state) {
                            Ok(()) => tracing::info!("the log was opened anew"),
                            Err(error) => tracing::warn!(%error, "the log cannot be opened anew"),
                        },
                        Asked::Nothing => tracing::info!(signal, "a signal that means nothing here"),
                        Asked::HangUp if !io::stdin().is_terminal() => {
                            tracing::info!("a hang-up: the log is standard error, and is not opened anew");
                        }
                        Asked::HangUp | Asked::End if signalled => {
                            tracing::warn!("a second signal: ending at once");
                            break Ok(Ended::Cut);
                        }
                        Asked::HangUp | Asked::End if !is_there(&mountpoint, ours.as_ref()) => {
                            tracing::warn!("a signal, and the mount was taken away before: ending at once");
                            break Ok(Ended::Cut);
                        }
                        Asked::HangUp | Asked::End => {
                            signalled = true;
                            detach(&mountpoint);
                        }
                    }
                }
            }
        });
        if !matches!(outcome, Ok(Ended::Cut)) {
            // It has sent its result, or panicked; either way nothing of it goes on.
            let _ = session.join();
        }
        if outcome.is_err() {
            clear_away(&mountpoint, ours.as_ref());
        }
        drop(server);
        if let Some(guard) = guard {
            guard.dismiss();
        }
        // Given back by the end of the process, when nothing of this daemon is left.
        std::mem::forget(lock);
        let shown = mountpoint.display();
        tracing::info!(mountpoint = %shown, "unmounted");
        outcome.map(|_| ()).map_err(|e| WireError::new(format!("serving {shown} failed: {e}")))
    }
}

/// How serving ended.
enum Ended {
    /// The mount is gone and the last open file closed.
    Served,
    /// Before that, by a second signal.
    Cut,
}

/// Whether a mount is still in this process's mount table. If that cannot be read, it is.
fn is_there(mountpoint: &std::path::Path, ours: Option<&MountEntry>) -> bool {
    mounts::mounts().map_or(true, |table| {
        table.iter().any(|entry| entry.mount_point == mountpoint && ours.is_none_or(|ours| ours == entry))
    })
}

/// After a session that failed: leaves no dead mount behind. Asks nothing of the mount, for nobody answers.
fn clear_away(mountpoint: &std::path::Path, ours: Option<&MountEntry>) {
    if ours.is_none() || mounts::mount_at(mountpoint).ok().flatten().as_ref() != ours {
        return;
    }
    if let Err(e) = sys::unmount(mountpoint, Detach::Lazily) {
        tracing::error!(mountpoint = %mountpoint.display(), error = %e, "left a dead mount");
    }
}

/// Asks the new mount a question that goes all the way to the daemon.
async fn first_answer(mountpoint: PathBuf) -> Result<(), WireError> {
    let shown = mountpoint.display().to_string();
    let failed = |problem: String| WireError::new(format!("the mount on {shown} does not serve: {problem}"));
    let question = tokio::task::spawn_blocking(move || sys::space(&mountpoint));
    match tokio::time::timeout(FIRST_ANSWER, question).await {
        Ok(Ok(Ok(_))) => Ok(()),
        Ok(Ok(Err(e))) => Err(failed(e.to_string())),
        Ok(Err(e)) => Err(failed(e.to_string())),
        Err(_) => Err(failed(format!("no answer in {} s", FIRST_ANSWER.as_secs()))),
    }
}

/// Unmounts for a signal. A mount in use loses its name now and is served until its last open file is closed.
fn detach(mountpoint: &std::path::Path) {
    let shown = mountpoint.display();
    match sys::unmount(mountpoint, Detach::Now) {
        Ok(()) => {}
        Err(e) if sys::is_busy(&e) => {
            tracing::warn!(mountpoint = %shown, "in use: unmounted for new users, ending when the last is done");
            if let Err(e) = sys::unmount(mountpoint, Detach::Lazily) {
                tracing::error!(mountpoint = %shown, error = %e, "cannot unmount");
            }
        }
        Err(e) => tracing::error!(mountpoint = %shown, error = %e, "cannot unmount"),
    }
}

/// What every mount says of itself; the file system adds to it.
pub fn status(services: &DaemonServices) -> Value {
    let options = &services.options;
    let store = services.catalog.store();
    let (counts, outage) = (store.counts(), store.outage());
    json!({
        "pid": std::process::id(),
        "mountpoint": options.mountpoint.to_string_lossy(),
        "store": store.url(),
        "store_offline_since": outage.as_ref().map(|outage| outage.since),
        "store_offline_reason": outage.as_ref().map(|outage| outage.cause.to_string()),
        "state": options.state.to_string_lossy(),
        "read_only": options.read_only,
        "allow_other": options.allow_other,
        "version": env!("CARGO_PKG_VERSION"),
        "since": services.started,
        "open_files": {
            "open": limits::open_files(),
            "limit": limits::raise().now,
            "hard_limit": limits::raise().hard,
        },
        "requests": counts,
        "bytes_fetched": counts.bytes_fetched,
    })
}

/// Members of two objects in one; those of `more` count.
pub fn merged(mut status: Value, more: Value) -> Value {
    if let (Value::Object(status), Value::Object(more)) = (&mut status, more) {
        status.extend(more);
    }
    status
}

/// Answers what concerns the process and hands on the rest.
struct ProcessControl {
    services: DaemonServices,
    inner: Arc<dyn Handler>,
}

impl Handler for ProcessControl {
    fn handle(
        &self,
        caller: Peer,
        request: ControlRequest,
        progress: ProgressSender,
    ) -> BoxFuture<'_, Result<Value, WireError>> {
        Box::pin(async move {
            match request {
                ControlRequest::Status => {
                    let more = self.inner.handle(caller, ControlRequest::Status, progress).await?;
                    Ok(merged(status(&self.services), more))
                }
                ControlRequest::Unmount { lazy } => {
                    let mountpoint = self.services.options.mountpoint.clone();
                    let how = if lazy { Detach::Lazily } else { Detach::Now };
                    let shown = mountpoint.display().to_string();
                    let done = tokio::task::spawn_blocking(move || sys::unmount(&mountpoint, how)).await;
                    match done.unwrap_or_else(|e| Err(io::Error::other(e))) {
                        Ok(()) => Ok(json!({ "mountpoint": shown })),
                        Err(e) => Err(unmount_error(&shown, &e)),
                    }
                }
                other => self.inner.handle(caller, other, progress).await,
            }
        })
    }
}

/// Why a mount could not be taken away, in words.
pub fn unmount_error(shown: &str, error: &io::Error) -> WireError {
    if sys::is_busy(error) {
        return WireError::new(format!(
            "{shown} is in use: a file below it is open, or a shell stands in it"
        ))
        .with_hint(format!(
            "`fuser -vm {shown}` names the processes; `artfs umount --lazy {shown}` takes the name away now \
                 and the rest when they are done"
        ));
    }
    WireError::new(format!("cannot unmount {shown}: {error}"))
}
