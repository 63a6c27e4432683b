//! The file system, from the writable overlay up to the kernel.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`staging`] | keeps the writable sessions: an overlay of local changes over a version |
//! | [`provenance`] | records which run reads and writes what |
//! | [`fs`] | gives every file operation its meaning in artfs, without the kernel's types |
//! | [`fuse`] | translates between the kernel and [`fs`] |

pub mod fs;
pub mod fuse;
pub mod provenance;
pub mod staging;
