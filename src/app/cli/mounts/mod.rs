//! Commands that mount the store, unmount it, and report on the mount and this host.

pub(super) mod doctor;
pub(super) mod mount;
mod set_aside;
pub(super) mod status;
pub(super) mod umount;
