//! The file system: the writable overlay ([`staging`]), who reads what ([`provenance`]), what a file system means in
//! artfs ([`fs`]), and the kernel's door ([`fuse`]).

pub mod fs;
pub mod fuse;
pub mod provenance;
pub mod staging;
