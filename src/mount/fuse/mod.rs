//! FUSE: the kernel's requests to [`Fs`], and nothing more. The only importer of `fuser`.
//!
//! [`Fs`]: crate::mount::fs::Fs

mod backing;
mod busy;
mod convert;
mod mount;
mod requests;

pub use self::mount::{FuseMount, MountOptions, mount};
