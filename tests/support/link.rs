//! A network link between a client and a server that a test can cut, in the ways networks are cut.
//!
//! What it holds true, so that a test may rely on it:
//! * clients connect to [`Link::address`]; what they send arrives at the server while the link is [`Wire::Open`];
//! * a link that is cut stays cut for the connections there are and for new ones, until it is open again;
//! * when it is opened, connections from before are closed.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two looks for a new connection.
const POLL: Duration = Duration::from_millis(2);

/// How the link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Everything passes.
    Open,
    /// Connections are closed, and new ones are refused.
    Refused,
    /// Connections are taken and kept, and nothing passes.
    Silent,
}

/// The link; gone when it is dropped.
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    to: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    wire: Wire,
    connections: Vec<TcpStream>,
    stopped: bool,
}

impl Link {
    /// An open link to a server.
    pub fn to(server: SocketAddr) -> Self {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = listener.local_addr().expect("a bound listener has an address");
        let state = State { wire: Wire::Open, connections: vec![], stopped: false };
        let shared = Arc::new(Shared { to: server, state: Mutex::new(state), changed: Condvar::new() });
        let accepting = shared.clone();
        let acceptor = std::thread::spawn(move || accept(&accepting, address, listener));
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts the link or opens it again.
    pub fn set(&self, wire: Wire) {
        let mut state = self.shared.state();
        state.wire = wire;
        if wire != Wire::Silent {
            close_all(&mut state);
        }
        self.shared.changed.notify_all();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.stopped = true;
        close_all(&mut state);
        drop(state);
        self.shared.changed.notify_all();
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic happens under the link's lock")
    }

    /// Waits while nothing passes; false if nothing ever will.
    fn may_pass(&self) -> bool {
        let cut = |state: &mut State| state.wire == Wire::Silent && !state.stopped;
        let state =
            self.changed.wait_while(self.state(), cut).expect("no panic happens under the link's lock");
        state.wire == Wire::Open && !state.stopped
    }
}

fn close_all(state: &mut State) {
    for connection in state.connections.drain(..) {
        let _ = connection.shutdown(Shutdown::Both);
    }
}

/// A listener there that does not block.
pub(super) fn listen(address: SocketAddr) -> TcpListener {
    let listener = TcpListener::bind(address).expect("a port on 127.0.0.1");
    listener.set_nonblocking(true).expect("a listener can be made non-blocking");
    listener
}

fn accept(shared: &Arc<Shared>, address: SocketAddr, listener: TcpListener) {
    let mut listener = Some(listener);
    loop {
        let (wire, stopped) = {
            let state = shared.state();
            (state.wire, state.stopped)
        };
        if stopped {
            return;
        }
        if wire == Wire::Refused {
            listener = None;
            std::thread::sleep(POLL);
            continue;
        }
        match listener.get_or_insert_with(|| listen(address)).accept() {
            Ok((client, _)) => {
                shared.state().connections.extend(client.try_clone());
                let shared = shared.clone();
                std::thread::spawn(move || connect(&shared, client));
            }
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

fn connect(shared: &Arc<Shared>, client: TcpStream) {
    let ways = || {
        if !shared.may_pass() {
            return None;
        }
        let server = TcpStream::connect(shared.to).ok()?;
        client.set_nonblocking(false).ok()?;
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        shared.state().connections.extend(server.try_clone());
        Some([(client.try_clone().ok()?, server.try_clone().ok()?), (server, client.try_clone().ok()?)])
    };
    let Some(ways) = ways() else {
        let _ = client.shutdown(Shutdown::Both);
        return;
    };
    for (from, to) in ways {
        let shared = shared.clone();
        std::thread::spawn(move || pump(&shared, from, to));
    }
}

fn pump(shared: &Shared, mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(n) if n > 0 && shared.may_pass() && to.write_all(&buffer[..n]).is_ok() => {}
            _ => break,
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
