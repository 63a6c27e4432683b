//! A mount put together: the file system over its services, mounted, and the answers to the control socket.

mod control;
mod start;

pub use self::start::start;
