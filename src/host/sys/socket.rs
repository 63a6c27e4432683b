//! The other end of a socket.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Whether the other side of a socket has closed it.
pub fn has_hung_up(socket: &impl AsFd) -> bool {
    const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut asked = [PollFd::new(socket, PollFlags::RDHUP)];
    let found = poll(&mut asked, Some(&AT_ONCE));
    found.is_ok_and(|found| found > 0) && asked[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP)
}

/// Returns the process at the other end of a socket, as it was when the connection was made.
pub fn peer(socket: &UnixStream) -> Option<u32> {
    let pid = getsockopt(socket, PeerCredentials).ok()?.pid();
    u32::try_from(pid).ok().filter(|pid| *pid > 0)
}
