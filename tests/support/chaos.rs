//! A proxy in front of a bucket's server that spoils answers, in the ways in which networks and services go wrong.
//!
//! What it holds true, so that a test may rely on it:
//! * it understands HTTP/1.1 as far as the client and the server here speak it: a request is read whole, forwarded
//!   whole, and its answer read whole before any of it is passed on;
//! * a [`Mode`] holds for all requests from when it was set, on old connections and new ones, but where it says else;
//! * what the proxy answers by itself never reaches the server.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use super::link::listen;

/// Between two looks for a new connection.
const POLL: Duration = Duration::from_millis(2);
/// Between two bytes of an answer that trickles.
const TRICKLE: Duration = Duration::from_millis(50);
/// Bytes of a body after which one that is cut stands still.
const CUT_AFTER: usize = 1000;

/// What becomes of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They are answered faithfully.
    Pass,
    /// Connections are closed, and new ones are refused.
    Refuse,
    /// They are read and never answered.
    Silent,
    /// Their answers come byte by byte.
    Slow,
    /// Of a body come 1,000 bytes, and then nothing, while the connection stays open.
    Cut,
    /// A body is shorter than its headers say, and the connection ends.
    WrongLength,
    /// They are answered with this status and the code of an S3 error.
    Refusal(u16, &'static str),
    /// The same with a wait in seconds that the server asks for.
    RetryAfter(u16, &'static str, u32),
    /// They are answered with a page, as by a login in front of the network.
    Html,
    /// Connections that there were when this was set are silent; new ones work.
    DeadPool,
}

/// The proxy; gone when it is dropped.
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
    /// Those below this number were there when the mode was set.
    before: usize,
    requests: usize,
    stopped: bool,
}

impl Proxy {
    /// A faithful proxy to a server.
    pub fn to(server: SocketAddr) -> Self {
        let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let address = listener.local_addr().expect("a bound listener has an address");
        let state = State { mode: Mode::Pass, connections: vec![], before: 0, requests: 0, stopped: false };
        let shared = Arc::new(Shared { to: server, state: Mutex::new(state) });
        let accepting = shared.clone();
        let acceptor = std::thread::spawn(move || accept(&accepting, address, listener));
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// The URL that clients are given.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on requests fare so.
    pub fn set(&self, mode: Mode) {
        let mut state = self.shared.state();
        state.mode = mode;
        state.before = state.connections.len();
        state.requests = 0;
        if mode == Mode::Refuse {
            close_all(&state);
        }
    }

    /// Requests since the mode was set.
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

    /// Counts a request of a connection and says what becomes of it.
    fn mode(&self, connection: usize) -> Mode {
        let mut state = self.state();
        state.requests += 1;
        match state.mode {
            Mode::DeadPool if connection < state.before => Mode::Silent,
            Mode::DeadPool => Mode::Pass,
            mode => mode,
        }
    }

    /// Holds a connection open without a word until the proxy ends or the client gives up.
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

fn accept(shared: &Arc<Shared>, address: SocketAddr, listener: TcpListener) {
    let mut listener = Some(listener);
    loop {
        let (mode, stopped) = {
            let state = shared.state();
            (state.mode, state.stopped)
        };
        if stopped {
            return;
        }
        if mode == Mode::Refuse {
            listener = None;
            std::thread::sleep(POLL);
            continue;
        }
        match listener.get_or_insert_with(|| listen(address)).accept() {
            Ok((client, _)) => {
                let number = {
                    let mut state = shared.state();
                    state.connections.extend(client.try_clone());
                    state.connections.len() - 1
                };
                let shared = shared.clone();
                // Its end is that of its connection, which is closed with the proxy.
                std::thread::spawn(move || {
                    let mut client = client;
                    let _ = serve(&shared, number, &mut client);
                    let _ = client.shutdown(Shutdown::Both);
                });
            }
            Err(_) => std::thread::sleep(POLL),
        }
    }
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

/// A request or an answer, as it came; its body may be in chunks.
struct Message {
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Message {
    /// The next one; none at the end of the connection.
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
