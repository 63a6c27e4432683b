//! Starting a daemon in the background, and its message that it serves.
//!
//! A process with threads cannot fork safely, so the program starts itself again, with a pipe on which the new
//! process says one line: that it serves, or why it does not.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};

use super::wire::{Reply, to_line};
use crate::app::error::WireError;
use crate::host::durable;
use crate::host::process::limits;
use crate::host::sys;
use crate::store::Outage;

/// A log longer than this is set aside when the next daemon starts.
const MAX_LOG_BYTES: u64 = 16 << 20;
/// How much is shown of the log of a daemon that died without a message.
const LOG_TAIL_BYTES: u64 = 2000;

/// Where a daemon says that it serves.
#[derive(Debug)]
pub enum Ready {
    /// To the process that started it.
    Pipe(File),
    /// To the user, as it stays in the foreground.
    Foreground,
}

impl Ready {
    /// Takes over the inherited pipe with this number.
    pub fn inherited(fd: RawFd) -> io::Result<Self> {
        sys::inherited(fd).map(Ready::Pipe)
    }

    /// Reports that the mount serves, perhaps without its store.
    pub fn serving(self, mountpoint: &Path, outage: Option<Arc<Outage>>) {
        let pid = std::process::id();
        let mountpoint = mountpoint.to_string_lossy();
        tracing::info!(%mountpoint, pid, "serving");
        if let Ready::Pipe(pipe) = self {
            let served = json!({
                "pid": pid,
                "mountpoint": mountpoint,
                "store_offline_since": outage.as_ref().map(|outage| outage.since),
                "store_offline_reason": outage.as_ref().map(|outage| outage.cause.to_string()),
            });
            say(pipe, &Reply::Ok(served));
        }
    }

    /// Reports that the mount will not serve. In the foreground the command itself reports the error.
    pub fn failed(self, error: &WireError) {
        if let Ready::Pipe(pipe) = self {
            say(pipe, &Reply::Error(error.clone()));
        }
    }
}

fn say(mut pipe: File, reply: &Reply) {
    // Whoever started this process may have gone; the mount serves all the same.
    let _ = pipe.write_all(&to_line(reply));
}

/// The daemon's log in a state folder.
pub fn log_file(state: &Path) -> PathBuf {
    state.join("daemon.log")
}

/// Starts this program again with `arguments`, to which the number of the pipe is added, as a session of its own
/// with its log in the state folder. Returns what it says when it serves, or why it does not.
pub fn spawn(arguments: &[OsString], state: &Path) -> Result<Value, WireError> {
    let failed = |e: io::Error| WireError::new(format!("cannot start the daemon: {e}"));
    let program = std::env::current_exe().map_err(failed)?;
    let log = open_log(state).map_err(|e| {
        WireError::new(format!("cannot write the daemon's log {}: {e}", log_file(state).display()))
    })?;
    let before = log.metadata().map_or(0, |meta| meta.len());
    let (mut answer, pipe) = io::pipe().map_err(failed)?;
    let pipe = OwnedFd::from(pipe);
    let mut command = Command::new(program);
    command.args(arguments).arg("--ready-fd").arg(pipe.as_raw_fd().to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    sys::detach_with(&mut command, &pipe);
    limits::give_back(&mut command);
    let mut child = command.spawn().map_err(failed)?;
    drop(pipe);
    let mut line = Vec::new();
    answer.read_to_end(&mut line).map_err(failed)?;
    match serde_json::from_slice(&line) {
        Ok(Reply::Ok(value)) => Ok(value),
        Ok(Reply::Error(error)) => {
            // Once it has ended, its locks are released.
            let _ = child.wait();
            Err(error)
        }
        Ok(Reply::Progress(_)) | Err(_) => {
            let ended = child.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
            let log = log_file(state);
            let message = format!("the daemon ended before it served ({ended}){}", tail(&log, before));
            Err(WireError::new(message).with_hint(format!("its log is {}", log.display())))
        }
    }
}

/// Reopens the log under its name for a daemon in the background, after the old file was moved.
pub fn reopen_log(state: &Path) -> io::Result<()> {
    sys::become_standard_error(&open_log(state)?)
}

fn open_log(state: &Path) -> io::Result<File> {
    let path = log_file(state);
    if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() > MAX_LOG_BYTES) {
        fs::rename(&path, path.with_extension("log.1"))?;
    }
    durable::open(OpenOptions::new().append(true).create(true).mode(0o600), &path)
}

/// Returns the end of what was logged after `from`, on separate lines.
fn tail(log: &Path, from: u64) -> String {
    let read = || {
        let mut file = durable::open(File::options().read(true), log)?;
        let from = from.max(file.metadata()?.len().saturating_sub(LOG_TAIL_BYTES));
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok::<_, io::Error>(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    match read() {
        Ok(text) if !text.is_empty() => format!(":\n{text}"),
        _ => String::new(),
    }
}
