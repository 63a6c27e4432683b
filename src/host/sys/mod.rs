//! The system calls that the standard library lacks: all of this crate's `unsafe` code.
//!
//! Calls on files name their object by a directory and one component, or by a descriptor alone; none follows a symbolic
//! link. Calls that do not take an `O_PATH` descriptor reach its object as `/proc/self/fd/<n>`.
//!
//! Errors are those of the kernel, with their errno; a call that a signal interrupted is not repeated.

mod allocator;
mod at;
mod attributes;
mod content;
mod filesystem;
mod fork;
mod process;
mod socket;
mod stat;
mod unmount;
mod user;
mod xattr;

pub use self::allocator::{FreedMemory, tune_allocator};
pub use self::at::{
    RawEntry, link_fd, link_unnamed, list_dir, mkdir_at, mknod_at, names_in, open_at, open_beneath,
    open_unnamed, readlink_at, rename_at, reopen, rmdir_at, symlink_at, unlink_at,
};
pub use self::attributes::{TimeChange, chmod_fd, chown_at, insist, realtime, utimens_fd};
pub use self::content::{
    copy_file_range, fallocate, has_writer, next_data, next_hole, punch_hole, seek_data, seek_hole,
    share_blocks, truncate_fd,
};
pub use self::filesystem::{FsStat, Space, fs_magic, space, statfs, sync_fs};
pub use self::fork::{fork_guard, wait_for_parents_death};
pub use self::process::{
    become_standard_error, detach_with, inherited, is_ignored, kill_group, limit_files_of, max_files,
    send_signal, set_max_files,
};
pub use self::socket::{has_hung_up, peer};
pub use self::stat::{Stat, stat_at, stat_fd};
pub use self::unmount::{Detach, is_busy, is_dead_mount, unmount};
pub use self::user::{effective_gid, effective_uid, group_id, user_name};
pub use self::xattr::{list_xattrs, remove_xattr, set_xattr, xattr, xattr_of_child};
