//! A network link between a client and a server that a test can cut in the ways networks fail.
//!
//! Tests may rely on this:
//! * clients connect to [`Link::address`]; what they send reaches the server while the link is [`Wire::Open`];
//! * a cut link stays cut for existing and new connections until it is opened again;
//! * opening it closes the connections from before.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use super::accept::{Door, accept};

/// The state of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Everything passes.
    Open,
    /// Connections are closed, and new ones are refused.
    Refused,
    /// Connections are accepted and kept, and nothing passes.
    Silent,
}

/// The link; it ends when this is dropped.
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
    /// Opens a link to a server.
    pub fn to(server: SocketAddr) -> Self {
        let state = State { wire: Wire::Open, connections: vec![], stopped: false };
        let shared = Arc::new(Shared { to: server, state: Mutex::new(state), changed: Condvar::new() });
        let (door, connecting) = (shared.clone(), shared.clone());
        let (address, acceptor) = accept(
            move || door.door(),
            move |client| {
                connecting.state().connections.extend(client.try_clone());
                let shared = connecting.clone();
                std::thread::spawn(move || connect(&shared, client));
            },
        );
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// Returns the address that clients connect to.
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

    /// Returns what happens to new connections.
    fn door(&self) -> Door {
        match self.state() {
            state if state.stopped => Door::Gone,
            state if state.wire == Wire::Refused => Door::Closed,
            _ => Door::Open,
        }
    }

    /// Waits while the link is silent, and returns whether data may pass.
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
