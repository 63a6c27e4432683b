//! The life of a daemon, from its lock to its end.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::control::ProcessControl;
use super::guard::DaemonGuard;
use super::holder::{self, MountVisibility};
use super::lock::{DaemonLock, Holder, LockError};
use super::mounts::{self, MountEntry};
use super::options::{DaemonOptions, DaemonServices, MountedFs, StartMount};
use super::server::{Handler, Server};
use super::signals::{self, Asked, WaitedSignals};
use super::spawn::{self, Ready};
use crate::app::error::WireError;
use crate::host::sys::{self, Detach, FreedMemory};
use crate::repo::catalog::{Actor, Catalog};

/// How long a mount may take to answer its first question.
const FIRST_ANSWER: Duration = Duration::from_secs(30);

/// Runs a daemon until its mount is gone. `open` opens the store; it is called when the lock is held. `guard` ends the
/// mount of a daemon that was killed.
///
/// # Errors
/// Another daemon serves the state folder; the mount point, the store or the file system cannot be used; serving failed.
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
                        "`artfs umount --state {state}` ends it, if run where it was started; {another}"
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
                        "{command} unmounts it there, `kill {pid}` ends the daemon at once; {another}"
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
                            Ok(()) => tracing::info!("reopened the log"),
                            Err(error) => tracing::warn!(%error, "cannot reopen the log"),
                        },
                        Asked::Nothing => tracing::info!(signal, "ignored a signal"),
                        Asked::HangUp if !io::stdin().is_terminal() => {
                            tracing::info!("ignored a hang-up: the log is standard error, which cannot be reopened");
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
            // It has sent its result, or panicked; either way it does no more work.
            let _ = session.join();
        }
        if outcome.is_err() {
            clear_away(&mountpoint, ours.as_ref());
        }
        drop(server);
        if let Some(guard) = guard {
            guard.dismiss();
        }
        // The end of the process releases it, when nothing of this daemon is left.
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

/// Returns whether a mount is still in this process's mount table; `true` if that cannot be read.
fn is_there(mountpoint: &Path, ours: Option<&MountEntry>) -> bool {
    mounts::mounts().map_or(true, |table| {
        table.iter().any(|entry| entry.mount_point == mountpoint && ours.is_none_or(|ours| ours == entry))
    })
}

/// Removes the dead mount of a failed session, without asking the mount, which no longer answers.
fn clear_away(mountpoint: &Path, ours: Option<&MountEntry>) {
    if ours.is_none() || mounts::mount_at(mountpoint).ok().flatten().as_ref() != ours {
        return;
    }
    if let Err(e) = sys::unmount(mountpoint, Detach::Lazily) {
        tracing::error!(mountpoint = %mountpoint.display(), error = %e, "left a dead mount");
    }
}

/// Sends the new mount a request that reaches the daemon.
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

/// Unmounts because of a signal. A mount in use is detached now and served until its last open file is closed.
fn detach(mountpoint: &Path) {
    let shown = mountpoint.display();
    match sys::unmount(mountpoint, Detach::Now) {
        Ok(()) => {}
        Err(e) if sys::is_busy(&e) => {
            tracing::warn!(mountpoint = %shown, "in use: unmounted for new users, ending when the last user is done");
            if let Err(e) = sys::unmount(mountpoint, Detach::Lazily) {
                tracing::error!(mountpoint = %shown, error = %e, "cannot unmount");
            }
        }
        Err(e) => tracing::error!(mountpoint = %shown, error = %e, "cannot unmount"),
    }
}
