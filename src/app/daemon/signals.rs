//! What signals mean to a daemon. None that is sent from outside may kill it: that leaves a dead mount.
//!
//! | signal | effect |
//! |---|---|
//! | TERM, INT, QUIT, XCPU | the mount goes, and the daemon ends with its last user; a second one ends it at once |
//! | HUP | in the background the log is reopened; in the foreground of a terminal as TERM; else none |
//! | USR1, USR2, ALRM, VTALRM, PROF, IO, PWR, STKFLT, XFSZ, real-time ones | none, but a line in the log |
//!
//! PIPE is ignored by every program of Rust. Faults of the program itself (SEGV, BUS, ABRT, …) end it as ever. What the
//! daemon starts has the signals' defaults: handlers do not outlive exec.

use std::io;

use futures::future::select_all;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Those that end a daemon. XCPU comes some time before a limit of CPU time kills.
const ENDING: [i32; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, libc::SIGXCPU];
/// Those that mean nothing to it.
const IGNORED: [i32; 9] = [
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGSTKFLT,
    libc::SIGXFSZ,
];

/// Signals that are waited for.
pub struct WaitedSignals(Vec<(i32, Signal)>);

/// What a signal asks of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// To end.
    End,
    /// To act on the hang-up: see the module's text.
    HangUp,
    /// Nothing.
    Nothing,
}

/// What a signal means to a daemon.
pub fn meaning(signal: i32) -> Asked {
    match signal {
        libc::SIGHUP => Asked::HangUp,
        _ if ENDING.contains(&signal) => Asked::End,
        _ => Asked::Nothing,
    }
}

impl WaitedSignals {
    /// All that a daemon handles. They no longer do what they do by default, also when this is dropped.
    pub fn of_daemon() -> io::Result<Self> {
        let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
        let kinds = ENDING.into_iter().chain([libc::SIGHUP]).chain(IGNORED).chain(real_time);
        kinds.map(|kind| Ok((kind, signal(SignalKind::from_raw(kind))?))).collect::<io::Result<_>>().map(Self)
    }

    /// Waits for these signals; those that cannot be caught are left out.
    pub fn of(kinds: impl IntoIterator<Item = i32>) -> Self {
        let known = |kind| Some((kind, signal(SignalKind::from_raw(kind)).ok()?));
        Self(kinds.into_iter().filter_map(known).collect())
    }

    /// The next one.
    pub async fn next(&mut self) -> i32 {
        let waits = self.0.iter_mut().map(|(kind, signal)| {
            let kind = *kind;
            Box::pin(async move {
                signal.recv().await;
                kind
            })
        });
        match waits.collect::<Vec<_>>() {
            waits if waits.is_empty() => std::future::pending().await,
            waits => select_all(waits).await.0,
        }
    }
}
