//! A shell command that is run for each event.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use super::Notice;
use crate::format::name::AliasName;
use crate::host::process::limits;

/// A command line, given to `sh -c`, and how long it may take.
#[derive(Debug, Clone)]
pub struct Exec {
    command: String,
    limit: Duration,
}

impl Exec {
    /// A command that may take as long as `limit` for one event.
    pub fn new(command: String, limit: Duration) -> Self {
        Self { command, limit }
    }

    /// Runs it with the event on its standard input. It and what it started are killed when the time is over, or when
    /// this is dropped.
    ///
    /// # Errors
    /// What happened, in words: it cannot be started, it ended with another status than 0, its time was over.
    pub(super) async fn run(&self, notice: &Notice) -> Result<(), String> {
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
        let mut child = command.spawn().map_err(|e| format!("it cannot be started: {e}"))?;
        let group = ProcessGroup(child.id());
        let line = format!("{}\n", notice.json);
        let ended = tokio::time::timeout(self.limit, feed_and_wait(&mut child, line.as_bytes())).await;
        match ended {
            Err(_) => Err(format!("it took longer than {:?}", self.limit)),
            Ok(Err(e)) => Err(format!("its end cannot be waited for: {e}")),
            Ok(Ok(status)) => {
                group.let_be();
                if status.success() { Ok(()) } else { Err(format!("it ended with {status}")) }
            }
        }
    }
}

async fn feed_and_wait(child: &mut Child, line: &[u8]) -> std::io::Result<std::process::ExitStatus> {
    if let Some(mut stdin) = child.stdin.take() {
        let feed = async {
            // Who does not read its input is told by the variables.
            let _ = stdin.write_all(line).await;
            drop(stdin);
        };
        let (status, ()) = tokio::join!(child.wait(), feed);
        return status;
    }
    child.wait().await
}

/// A process group, killed when this is dropped: a shell alone would leave behind what it started.
struct ProcessGroup(Option<u32>);

impl ProcessGroup {
    /// Its leader has ended: what it left running is meant to.
    fn let_be(mut self) {
        self.0 = None;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(pid) = self.0.and_then(|pid| i32::try_from(pid).ok()) {
            // SAFETY: a call with numbers only. The leader was not waited for, so the number is still its own.
            unsafe { libc::kill(-pid, libc::SIGKILL) };
        }
    }
}
