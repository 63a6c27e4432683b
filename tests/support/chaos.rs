//! A proxy in front of a bucket's server that spoils answers in the ways networks and services do.
//!
//! Tests may rely on this:
//! * it understands HTTP/1.1 as far as the client and the server here speak it: a request is read and forwarded as a
//!   whole, and its answer is read as a whole before any of it is passed on;
//! * a [`Mode`] applies to all requests after it was set, on old connections and new ones, unless it says otherwise;
//! * a request that the proxy answers itself never reaches the server.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use super::accept::{Door, accept};

/// The interval between two bytes of a slow answer.
const TRICKLE: Duration = Duration::from_millis(50);
/// How many bytes of a cut body arrive.
const CUT_AFTER: usize = 1000;

/// What happens to requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They get the answers of the server.
    Pass,
    /// Connections are closed, and new ones are refused.
    Refuse,
    /// They are read and never answered.
    Silent,
    /// Their answers arrive byte by byte.
    Slow,
    /// Only 1,000 bytes of a body arrive, and the connection stays open.
    Cut,
    /// A body is shorter than its headers say, and the connection ends.
    WrongLength,
    /// They are answered with this status and the code of an S3 error.
    Refusal(u16, &'static str),
    /// The same, with `Retry-After` in seconds.
    RetryAfter(u16, &'static str, u32),
    /// They are answered with a page, as by the login of a public network.
    Html,
    /// Connections from before this was set are silent; new ones work.
    DeadPool,
}

/// The proxy; it ends when this is dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    to: SocketAddr,
    state: Mutex<State>,
}

struct State {
    mode: Mode,
    /// Connections by their number.
    connections: Vec<TcpStream>,
    /// Connections below this number are older than the mode.
    before: usize,
    requests: usize,
    stopped: bool,
}

impl Proxy {
    /// Starts a proxy to a server, which passes everything.
    pub fn to(server: SocketAddr) -> Self {
        let state = State { mode: Mode::Pass, connections: vec![], before: 0, requests: 0, stopped: false };
        let shared = Arc::new(Shared { to: server, state: Mutex::new(state) });
        let (door, connecting) = (shared.clone(), shared.clone());
        let (address, acceptor) = accept(move || door.door(), move |client| connect(&connecting, client));
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// Returns the URL for clients.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets what happens to requests from now on.
    pub fn set(&self, mode: Mode) {
        let mut state = self.shared.state();
        state.mode = mode;
        state.before = state.connections.len();
        state.requests = 0;
        if mode == Mode::Refuse {
            close_all(&state);
        }
    }

    /// Returns the number of requests since the mode was set.
    pub fn requests(&self) -> usize {
        self.shared.state().requests
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.stopped = true;
        close_all(&state);
        drop(state);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic happens under the proxy's lock")
    }

    /// Returns what happens to new connections.
    fn door(&self) -> Door {
        match self.state() {
            state if state.stopped => Door::Gone,
            state if state.mode == Mode::Refuse => Door::Closed,
            _ => Door::Open,
        }
    }

    /// Counts a request of a connection and returns what happens to it.
    fn mode(&self, connection: usize) -> Mode {
        let mut state = self.state();
        state.requests += 1;
        match state.mode {
            Mode::DeadPool if connection < state.before => Mode::Silent,
            Mode::DeadPool => Mode::Pass,
            mode => mode,
        }
    }

    /// Holds a connection open in silence until the proxy ends or the client gives up.
    fn hold(&self, client: &mut TcpStream) {
        let _ = client.set_read_timeout(Some(Duration::from_millis(50)));
        loop {
            if self.state().stopped {
                return;
            }
            match client.read(&mut [0; 512]) {
                Ok(0) => return,
                Ok(_) => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(_) => return,
            }
        }
    }
}

fn close_all(state: &State) {
    for connection in &state.connections {
        let _ = connection.shutdown(Shutdown::Both);
    }
}

fn connect(shared: &Arc<Shared>, mut client: TcpStream) {
    let number = {
        let mut state = shared.state();
        state.connections.extend(client.try_clone());
        state.connections.len() - 1
    };
    let shared = shared.clone();
    // The thread ends with its connection, which is closed with the proxy.
    std::thread::spawn(move || {
        let _ = serve(&shared, number, &mut client);
        let _ = client.shutdown(Shutdown::Both);
    });
}

/// Answers the requests of one connection until it ends.
fn serve(shared: &Shared, number: usize, client: &mut TcpStream) -> io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_nodelay(true)?;
    let mut from = BufReader::new(client.try_clone()?);
    while let Some(request) = Message::read(&mut from, false)? {
        let is_head = request.head.starts_with(b"HEAD ");
        let mode = shared.mode(number);
        let own = |status: u16, code: &str, more: &str| {
            let body =
                format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>chaos</Message></Error>");
            answer(status, "application/xml", more, &body, is_head)
        };
        let spoilt = match mode {
            Mode::Refuse => return Ok(()),
            Mode::Silent => {
                shared.hold(client);
                return Ok(());
            }
            Mode::Refusal(status, code) => own(status, code, ""),
            Mode::RetryAfter(status, code, seconds) => {
                own(status, code, &format!("Retry-After: {seconds}\r\n"))
            }
            Mode::Html => {
                let page = "<!DOCTYPE html><html><body>Please log in</body></html>";
                let more = "ETag: \"1\"\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n";
                answer(200, "text/html; charset=utf-8", more, page, is_head)
            }
            Mode::Pass | Mode::DeadPool | Mode::Slow | Mode::Cut | Mode::WrongLength => {
                let mut server = TcpStream::connect(shared.to)?;
                server.set_nodelay(true)?;
                server.write_all(&request.head)?;
                server.write_all(&request.body)?;
                let Some(answer) = Message::read(&mut BufReader::new(server), is_head)? else {
                    return Ok(());
                };
                let body = answer.body.len();
                match mode {
                    Mode::Slow => {
                        for byte in answer.head.iter().chain(&answer.body) {
                            if shared.state().mode != Mode::Slow {
                                return Ok(());
                            }
                            client.write_all(&[*byte])?;
                            std::thread::sleep(TRICKLE);
                        }
                        continue;
                    }
                    Mode::Cut if body > CUT_AFTER => {
                        client.write_all(&answer.head)?;
                        client.write_all(&answer.body[..CUT_AFTER])?;
                        shared.hold(client);
                        return Ok(());
                    }
                    Mode::WrongLength if body > 1 => {
                        client.write_all(&answer.head)?;
                        return client.write_all(&answer.body[..body / 2]);
                    }
                    _ => [answer.head, answer.body].concat(),
                }
            }
        };
        client.write_all(&spoilt)?;
    }
    Ok(())
}

fn answer(status: u16, kind: &str, more: &str, body: &str, is_head: bool) -> Vec<u8> {
    let len = body.len();
    let body = if is_head { "" } else { body };
    format!("HTTP/1.1 {status} Chaos\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\n{more}\r\n{body}")
        .into_bytes()
}

/// A request or an answer, verbatim; its body may be chunked.
struct Message {
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Message {
    /// Reads the next message; `None` at the end of the connection.
    fn read(from: &mut impl BufRead, has_no_body: bool) -> io::Result<Option<Self>> {
        let (mut head, mut length, mut is_chunked) = (vec![], 0, false);
        loop {
            let start = head.len();
            if from.read_until(b'\n', &mut head)? == 0 {
                return Ok(None);
            }
            let line = String::from_utf8_lossy(&head[start..]).trim().to_ascii_lowercase();
            match line.split_once(':') {
                Some(("content-length", value)) => length = value.trim().parse().unwrap_or(0),
                Some(("transfer-encoding", value)) => is_chunked = value.contains("chunked"),
                _ if line.is_empty() => break,
                _ => {}
            }
        }
        let mut body = vec![];
        if has_no_body {
        } else if is_chunked {
            loop {
                let start = body.len();
                from.read_until(b'\n', &mut body)?;
                let size = String::from_utf8_lossy(&body[start..]).trim().to_owned();
                let size = u64::from_str_radix(size.split(';').next().unwrap_or_default(), 16).unwrap_or(0);
                from.take(size + 2).read_to_end(&mut body)?;
                if size == 0 {
                    break;
                }
            }
        } else {
            from.take(length).read_to_end(&mut body)?;
        }
        Ok(Some(Self { head, body }))
    }
}
