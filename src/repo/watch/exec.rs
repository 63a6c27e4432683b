//! A shell command that is run for each event.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use super::notice::Notice;
use crate::format::name::AliasName;
use crate::host::process::limits;
use crate::host::sys;

/// Why a command did not take an event.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The shell cannot be started.
    #[error("it cannot be started: {0}")]
    Start(#[source] io::Error),
    /// The shell cannot be waited for.
    #[error("its end cannot be waited for: {0}")]
    Wait(#[source] io::Error),
    /// It exceeded the limit and was killed.
    #[error("it took longer than {0:?}")]
    TimedOut(Duration),
    /// It ended with a status other than 0.
    #[error("it ended with {0}")]
    Status(ExitStatus),
}

/// A command line, given to `sh -c`, and how long it may take.
#[derive(Debug, Clone)]
pub struct Exec {
    command: String,
    limit: Duration,
}

impl Exec {
    /// Creates a command that may take as long as `limit` for one event.
    pub fn new(command: String, limit: Duration) -> Self {
        Self { command, limit }
    }

    /// Runs it with the event on its standard input. When its time is over, or this future is dropped, the command and
    /// all processes that it started are killed.
    ///
    /// # Errors
    /// The command cannot be started, takes too long, or ends with a status other than 0.
    pub(super) async fn run(&self, notice: &Notice) -> Result<(), ExecError> {
        let aliases: Vec<&str> = notice.aliases.iter().map(AliasName::as_str).collect();
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg(&self.command)
            .env("ARTFS_KIND", &notice.kind)
            .env("ARTFS_REF", notice.reference())
            .env("ARTFS_SEQ", notice.seq.to_string())
            .env("ARTFS_VERSION", notice.version.map(|version| version.to_string()).unwrap_or_default())
            .env("ARTFS_ALIAS", aliases.join(","))
            .stdin(Stdio::piped())
            .process_group(0);
        limits::give_back(command.as_std_mut());
        let mut child = command.spawn().map_err(ExecError::Start)?;
        let group = ProcessGroup(child.id());
        let line = format!("{}\n", notice.json);
        let ended = tokio::time::timeout(self.limit, feed_and_wait(&mut child, line.as_bytes())).await;
        match ended {
            Err(_) => Err(ExecError::TimedOut(self.limit)),
            Ok(Err(e)) => Err(ExecError::Wait(e)),
            Ok(Ok(status)) => {
                group.let_be();
                if status.success() { Ok(()) } else { Err(ExecError::Status(status)) }
            }
        }
    }
}

async fn feed_and_wait(child: &mut Child, line: &[u8]) -> io::Result<ExitStatus> {
    if let Some(mut stdin) = child.stdin.take() {
        let feed = async {
            // A command may ignore its input and use the variables.
            let _ = stdin.write_all(line).await;
            drop(stdin);
        };
        let (status, ()) = tokio::join!(child.wait(), feed);
        return status;
    }
    child.wait().await
}

/// A process group that is killed on drop: killing the shell alone would leave its children running.
struct ProcessGroup(Option<u32>);

impl ProcessGroup {
    /// Keeps the group alive: its leader has ended, and what it left in the background is meant to run.
    fn let_be(mut self) {
        self.0 = None;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            sys::kill_group(leader);
        }
    }
}
