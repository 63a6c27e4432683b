//! The server of the control socket: reads requests and passes them to a [`Handler`].

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::socket::{self, Address};
use super::wire::{ControlRequest, MAX_LINE_BYTES, Reply, WorkProgress, to_line};
use crate::app::error::WireError;
use crate::host::sys;

/// Connections served at once; further ones wait.
const MAX_CONNECTIONS: usize = 64;
/// Progress waiting to be sent; more is dropped, since the next line supersedes it.
const PROGRESS_LINES: usize = 8;

/// The caller of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The user.
    pub uid: u32,
    /// The user's group.
    pub gid: u32,
    /// The process, 0 if it is not known.
    pub pid: u32,
}

/// Sends progress to the client. Never blocks; what the client does not read in time is dropped.
#[derive(Debug, Clone)]
pub struct ProgressSender(mpsc::Sender<WorkProgress>);

impl ProgressSender {
    /// Sends the current progress.
    pub fn send(&self, progress: WorkProgress) {
        // Full or closed: the client is slow or gone, and neither matters to the work.
        let _ = self.0.try_send(progress);
    }
}

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Handles a request. The future is dropped at any await when the client goes away or the daemon ends, so
    /// it must be crash-safe at every await.
    fn handle(
        &self,
        caller: Peer,
        request: ControlRequest,
        progress: ProgressSender,
    ) -> BoxFuture<'_, Result<serde_json::Value, WireError>>;
}

/// A listening control socket; only its owner and root can use it. Dropped, it is gone from the state folder.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    file: PathBuf,
}

impl Server {
    /// Listens in a state folder whose daemon lock the caller holds, so that a socket found there is a dead
    /// one's. Must be called in a tokio runtime.
    pub fn bind(state: &Path) -> io::Result<Self> {
        let file = socket::file(state);
        match fs::remove_file(&file) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let address = Address::of(state)?;
        let listener = UnixListener::bind(address.path())?;
        // Until here the private folder keeps others out.
        fs::set_permissions(&file, Permissions::from_mode(0o600))?;
        Ok(Self { listener, file })
    }

    /// Serves until it is dropped, which also drops the requests in progress.
    pub async fn serve(&self, handler: Arc<dyn Handler>) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
            while connections.try_join_next().is_some() {}
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let handler = handler.clone();
                    connections.spawn(async move {
                        if let Err(e) = converse(stream, &*handler).await {
                            tracing::debug!(error = %e, "control connection broke");
                        }
                        drop(place);
                    });
                }
                Err(e) => {
                    tracing::warn!(error = %e, "control socket cannot accept");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A file left behind counts as a dead daemon's.
        let _ = fs::remove_file(&self.file);
    }
}

async fn converse(stream: UnixStream, handler: &dyn Handler) -> io::Result<()> {
    let peer = stream.peer_cred()?;
    let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
    let caller = Peer { uid: peer.uid(), gid: peer.gid(), pid };
    let (reader, mut writer) = stream.into_split();
    if caller.uid != 0 && caller.uid != sys::effective_uid() {
        let error = WireError::new("this daemon belongs to another user");
        return writer.write_all(&to_line(&Reply::Error(error))).await;
    }
    let mut reader = BufReader::new(reader).take(MAX_LINE_BYTES);
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).await?;
    // A client that gave up while this daemon was stopped gets nothing started.
    if sys::has_hung_up(writer.as_ref()) {
        return Ok(());
    }
    let reply = match serde_json::from_slice::<ControlRequest>(&line) {
        Ok(request) => match answer(caller, request, handler, &mut reader.into_inner(), &mut writer).await? {
            Some(reply) => reply,
            None => return Ok(()),
        },
        Err(e) => Reply::Error(
            WireError::new(format!("the daemon does not understand the request: {e}"))
                .with_hint("the daemon may be another version of artfs: unmount and mount again"),
        ),
    };
    writer.write_all(&to_line(&reply)).await
}

/// The last line of the answer; none if the client went away first.
async fn answer(
    caller: Peer,
    request: ControlRequest,
    handler: &dyn Handler,
    reader: &mut BufReader<OwnedReadHalf>,
    writer: &mut OwnedWriteHalf,
) -> io::Result<Option<Reply>> {
    let (sender, mut progress) = mpsc::channel(PROGRESS_LINES);
    let mut work = handler.handle(caller, request, ProgressSender(sender));
    let mut ignored = [0; 64];
    loop {
        tokio::select! {
            read = reader.read(&mut ignored) => {
                if read? == 0 {
                    return Ok(None);
                }
            }
            outcome = &mut work => {
                return Ok(Some(match outcome {
                    Ok(value) => Reply::Ok(value),
                    Err(error) => Reply::Error(error),
                }));
            }
            Some(step) = progress.recv() => writer.write_all(&to_line(&Reply::Progress(step))).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::client;
    use super::*;

    struct Echo {
        dropped: mpsc::UnboundedSender<()>,
    }

    struct ConnectionGuard(mpsc::UnboundedSender<()>);

    impl Drop for ConnectionGuard {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }

    impl Handler for Echo {
        fn handle(
            &self,
            caller: Peer,
            request: ControlRequest,
            progress: ProgressSender,
        ) -> BoxFuture<'_, Result<serde_json::Value, WireError>> {
            Box::pin(async move {
                progress.send(WorkProgress { step: "echoing".into(), done_bytes: 1, total_bytes: None });
                match request {
                    ControlRequest::Status => Ok(serde_json::json!({ "uid": caller.uid })),
                    ControlRequest::Sync => {
                        let _guard = ConnectionGuard(self.dropped.clone());
                        std::future::pending().await
                    }
                    _ => Err(WireError::new("no").with_hint("ask otherwise")),
                }
            })
        }
    }

    async fn check(state: PathBuf) {
        assert!(client::connect(&state).unwrap().is_none());
        let (dropped, mut drops) = mpsc::unbounded_channel();
        let server = Server::bind(&state).unwrap();
        let mode = fs::metadata(socket::file(&state)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let serving = tokio::spawn(async move { server.serve(Arc::new(Echo { dropped })).await });
        let at = state.clone();
        let ask = move |request: ControlRequest| {
            let mut steps = 0;
            let client = client::connect(&at).unwrap().expect("it listens");
            let outcome = client.call(&request, |_| steps += 1);
            (outcome, steps)
        };
        let asked = tokio::task::spawn_blocking(move || {
            (ask(ControlRequest::Status), ask(ControlRequest::Unmount { lazy: false }))
        });
        let ((status, _), (refused, _)) = asked.await.unwrap();
        assert_eq!(status.unwrap()["uid"], sys::effective_uid());
        assert_eq!(refused.unwrap_err(), WireError::new("no").with_hint("ask otherwise"));

        let address = Address::of(&state).unwrap();
        let mut stream = UnixStream::connect(address.path()).await.unwrap();
        stream.write_all(&to_line(&ControlRequest::Sync)).await.unwrap();
        let mut line = String::new();
        BufReader::new(&mut stream).read_line(&mut line).await.unwrap();
        assert_eq!(line, "{\"progress\":{\"step\":\"echoing\",\"done_bytes\":1,\"total_bytes\":null}}\n");
        drop(stream);
        drops.recv().await.expect("the work of a client that is gone is dropped");

        let mut stream = UnixStream::connect(address.path()).await.unwrap();
        stream.write_all(b"{\"request\":\"dance\"}\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.contains("does not understand"), "{text}");
        serving.abort();
        let _ = serving.await;
        assert!(client::connect(&state).unwrap().is_none());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn requests_are_answered_with_progress_and_dropped_with_their_client() {
        let dir = tempfile::tempdir().unwrap();
        check(dir.path().to_owned()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_state_folder_with_a_long_path_has_a_socket_too() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("x".repeat(100)).join("y".repeat(100));
        fs::create_dir_all(&long).unwrap();
        check(long).await;
    }

    #[tokio::test]
    async fn a_socket_that_a_dead_daemon_left_counts_as_none() {
        let dir = tempfile::tempdir().unwrap();
        drop(std::os::unix::net::UnixListener::bind(socket::file(dir.path())).unwrap());
        assert!(socket::file(dir.path()).exists());
        assert!(client::connect(dir.path()).unwrap().is_none());
        drop(Server::bind(dir.path()).unwrap());
        assert!(!socket::file(dir.path()).exists());
    }
}
