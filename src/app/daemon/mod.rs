//! The process that serves a mount: started in the background, found again by its lock and its socket, ended by a
//! signal, by `artfs umount` or by an outside `umount`.
//!
//! [`run`] is the daemon's whole life: it locks the state folder, clears and checks the mount point, opens the store,
//! starts the file system, reports that it serves, answers requests, and releases the lock as its very last act, so
//! that whoever waits for the lock finds nothing of this daemon left. It does not know what it mounts: [`StartMount`]
//! brings that in.

pub(crate) mod client;
mod control;
pub(crate) mod guard;
pub(crate) mod holder;
mod life;
pub mod lock;
mod lock_file;
pub mod mounts;
mod options;
mod server;
pub(crate) mod signals;
mod socket;
pub(crate) mod spawn;
mod status;
pub mod wire;

pub use self::control::unmount_error;
pub use self::life::run;
pub use self::options::{DaemonOptions, DaemonServices, MountedFs, StartMount};
pub use self::server::{Handler, Peer, ProgressSender};
pub use self::status::{merged, status};
