//! Asking the daemon of a state folder over its control socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::socket::Address;
use super::wire::{MAX_LINE_BYTES, Progress, Reply, Request, WireError, to_line};

/// A connection to a daemon; good for one request.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
}

/// Connects to the daemon of a state folder. None if none runs there; a socket that a dead one left counts as
/// none.
pub fn connect(state: &Path) -> io::Result<Option<Client>> {
    let address = match Address::of(state) {
        Ok(address) => address,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    match UnixStream::connect(address.path()) {
        Ok(stream) => Ok(Some(Client { stream })),
        Err(e) => match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
            _ => Err(e),
        },
    }
}

impl Client {
    /// Sends a request and waits for its outcome; `on_progress` is told what happens meanwhile. The daemon gives
    /// up work whose client goes away.
    pub fn call(
        mut self,
        request: &Request,
        mut on_progress: impl FnMut(Progress),
    ) -> Result<serde_json::Value, WireError> {
        let broken = |problem: String| {
            WireError::new(format!("the daemon ended before it answered: {problem}"))
                .with_hint("`artfs status` tells whether it runs; its log is daemon.log in the state folder")
        };
        self.stream.write_all(&to_line(request)).map_err(|e| broken(e.to_string()))?;
        let mut lines = BufReader::new(&self.stream);
        loop {
            let mut line = Vec::new();
            let read = lines.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line);
            if read.map_err(|e| broken(e.to_string()))? == 0 {
                return Err(broken("the connection was closed".into()));
            }
            match serde_json::from_slice(&line) {
                Ok(Reply::Progress(progress)) => on_progress(progress),
                Ok(Reply::Ok(value)) => return Ok(value),
                Ok(Reply::Error(error)) => return Err(error),
                Err(e) => return Err(broken(format!("its answer makes no sense ({e})"))),
            }
        }
    }
}
