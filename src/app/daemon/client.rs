//! Asking the daemon of a state folder over its control socket.
//! A daemon that is stopped or hangs sends nothing, and clients do not wait for ever: after 5 s (`SILENCE`) a
//! stopped daemon is reported, and any other is asked over a second connection whether it answers at all.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::socket::Address;
use super::wire::{ControlRequest, MAX_LINE_BYTES, Reply, WorkProgress, to_line};
use crate::app::error::WireError;
use crate::host::sys;

/// How long a daemon may say nothing before it is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(5);

/// A connection to a daemon; good for one request.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    state: PathBuf,
}

/// Connects to the daemon of a state folder. None if none runs there; a socket that a dead one left counts as
/// none.
///
/// # Errors
/// The socket cannot be used, or does not take a connection within 5 s (`SILENCE`).
pub fn connect(state: &Path) -> io::Result<Option<Client>> {
    let state = state.to_owned();
    let (tell, told) = mpsc::channel();
    // A daemon that is stopped takes connections until its queue is full; the next waits without end.
    std::thread::spawn(move || {
        let connected = connect_now(&state);
        // The receiver is gone if the answer comes too late.
        let _ = tell.send(connected.map(|stream| stream.map(|stream| Client { stream, state })));
    });
    let late = |_| {
        io::Error::new(
            io::ErrorKind::TimedOut,
            "the daemon does not accept connections: it is stopped, or hangs",
        )
    };
    told.recv_timeout(SILENCE).map_err(late)?
}

fn connect_now(state: &Path) -> io::Result<Option<UnixStream>> {
    let address = match Address::of(state) {
        Ok(address) => address,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    match UnixStream::connect(address.path()) {
        Ok(stream) => Ok(Some(stream)),
        Err(e) => match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
            _ => Err(e),
        },
    }
}

fn broken(problem: &str) -> WireError {
    WireError::new(format!("the daemon ended before it answered: {problem}"))
        .with_hint("`artfs status` shows whether it runs; its log is daemon.log in the state folder")
}

/// Whether an error is that of a read or a write that took longer than it may.
fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

impl Client {
    /// Sends a request and waits for its outcome, with progress reported to `on_progress`. The daemon abandons
    /// work whose client goes away.
    ///
    /// # Errors
    /// The daemon's own error; the daemon ended, is stopped, or hangs.
    pub fn call(
        self,
        request: &ControlRequest,
        mut on_progress: impl FnMut(WorkProgress),
    ) -> Result<serde_json::Value, WireError> {
        self.converse(request, &mut on_progress, |client| client.must_live())
    }

    /// Asks; `on_silence` decides whether to wait on.
    fn converse(
        &self,
        request: &ControlRequest,
        on_progress: &mut dyn FnMut(WorkProgress),
        on_silence: impl Fn(&Self) -> Result<(), WireError>,
    ) -> Result<serde_json::Value, WireError> {
        let lost = |e: io::Error| broken(&e.to_string());
        self.stream.set_read_timeout(Some(SILENCE)).map_err(lost)?;
        self.stream.set_write_timeout(Some(SILENCE)).map_err(lost)?;
        match (&self.stream).write_all(&to_line(request)) {
            // It does not even read: a request is small.
            Err(e) if is_silence(&e) => return Err(self.hangs()),
            sent => sent.map_err(lost)?,
        }
        let mut lines = BufReader::new(&self.stream);
        let mut line = Vec::new();
        loop {
            let left = MAX_LINE_BYTES.saturating_sub(line.len() as u64);
            match lines.by_ref().take(left).read_until(b'\n', &mut line) {
                Err(e) if is_silence(&e) => {
                    on_silence(self)?;
                    continue;
                }
                Err(e) => return Err(lost(e)),
                Ok(0) => return Err(broken("the connection was closed")),
                Ok(_) => {}
            }
            match serde_json::from_slice(&line) {
                Ok(Reply::Progress(progress)) => on_progress(progress),
                Ok(Reply::Ok(value)) => return Ok(value),
                Ok(Reply::Error(error)) => return Err(error),
                Err(e) => return Err(broken(&format!("cannot understand its answer ({e})"))),
            }
            line.clear();
        }
    }

    /// Fails unless the silent daemon answers a second connection.
    fn must_live(&self) -> Result<(), WireError> {
        if self.is_stopped() {
            return Err(self.hangs());
        }
        let silent = |_: &Self| Err(self.hangs());
        match connect(&self.state) {
            Ok(Some(other)) => match other.converse(&ControlRequest::Status, &mut |_| {}, silent) {
                // It is busy, but alive.
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            },
            // It has just ended; the first connection reports that.
            Ok(None) => Ok(()),
            Err(_) => Err(self.hangs()),
        }
    }

    fn hangs(&self) -> WireError {
        let Some(pid) = sys::peer(&self.stream) else {
            return WireError::new("the daemon does not answer")
                .with_hint("`artfs status` shows its process");
        };
        if self.is_stopped() {
            return WireError::new(format!("the daemon (pid {pid}) does not answer: it is stopped"))
                .with_hint(format!("resume it with `kill -CONT {pid}`"));
        }
        WireError::new(format!("the daemon (pid {pid}) has not answered for {} s", SILENCE.as_secs()))
            .with_hint(format!(
                "its log is daemon.log in the state folder; if that lasts, `kill -9 {pid}` and mount again: \
                    staged files are kept"
            ))
    }

    /// Whether the daemon's process is stopped, by a signal or by a debugger.
    fn is_stopped(&self) -> bool {
        let Some(pid) = sys::peer(&self.stream) else { return false };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
    }
}
