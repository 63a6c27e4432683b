//! Accepting connections at an address that a test can close and open again.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

/// The interval between two looks for a new connection.
const POLL: Duration = Duration::from_millis(2);

/// What happens to new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// They are accepted.
    Open,
    /// They are refused: nobody listens at the address.
    Closed,
    /// They are refused from now on.
    Gone,
}

/// Listens at a port of this host and returns its address, and the thread that passes each new connection to
/// `connected` until the door is [`Door::Gone`].
pub fn accept(
    door: impl Fn() -> Door + Send + 'static,
    mut connected: impl FnMut(TcpStream) + Send + 'static,
) -> (SocketAddr, JoinHandle<()>) {
    let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let address = listener.local_addr().expect("a bound listener has an address");
    let mut listener = Some(listener);
    let acceptor = std::thread::spawn(move || {
        loop {
            match door() {
                Door::Gone => return,
                Door::Closed => listener = None,
                Door::Open => {
                    if let Ok((client, _)) = listener.get_or_insert_with(|| listen(address)).accept() {
                        connected(client);
                        continue;
                    }
                }
            }
            std::thread::sleep(POLL);
        }
    });
    (address, acceptor)
}

fn listen(address: SocketAddr) -> TcpListener {
    let listener = TcpListener::bind(address).expect("a port on 127.0.0.1");
    listener.set_nonblocking(true).expect("a listener can be made non-blocking");
    listener
}
