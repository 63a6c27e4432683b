//! Conversions between the types of the protocol and our own, and the replies that many requests share.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    FileAttr, FileType, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyEmpty, ReplyEntry, ReplyXattr,
    Request, TimeOrNow,
};

use crate::format::entry::Mtime;
use crate::mount::fs::{AttrReply, Errno};
use crate::mount::staging::{Attr, Caller, FileKind, TimeChange};

pub(super) fn errno(e: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(e.0)
}

pub(super) fn caller(req: &Request) -> Caller {
    Caller { uid: req.uid(), gid: req.gid(), pid: req.pid() }
}

fn system_time(time: Mtime) -> SystemTime {
    let nanos = Duration::from_nanos(u64::from(time.nanos));
    let whole = Duration::from_secs(time.seconds.unsigned_abs());
    let base = if time.seconds >= 0 { UNIX_EPOCH.checked_add(whole) } else { UNIX_EPOCH.checked_sub(whole) };
    base.and_then(|t| t.checked_add(nanos)).unwrap_or(UNIX_EPOCH)
}

/// Returns the time that the kernel sent. For times before 1970 fuser subtracts the nanoseconds, which the kernel adds;
/// so seconds and nanoseconds of the distance to 1970 are the numbers that were sent.
pub(super) fn sent(time: SystemTime) -> Mtime {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => {
            Mtime { seconds: i64::try_from(after.as_secs()).unwrap_or(i64::MAX), nanos: after.subsec_nanos() }
        }
        Err(before) => {
            let before = before.duration();
            Mtime { seconds: 0i64.saturating_sub_unsigned(before.as_secs()), nanos: before.subsec_nanos() }
        }
    }
}

pub(super) fn time_change(time: Option<TimeOrNow>) -> TimeChange {
    match time {
        None => TimeChange::Keep,
        Some(TimeOrNow::Now) => TimeChange::Now,
        Some(TimeOrNow::SpecificTime(time)) => {
            let Mtime { seconds, nanos } = sent(time);
            TimeChange::To(seconds, nanos)
        }
    }
}

pub(super) fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::File => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

pub(super) fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks: attr.blocks,
        atime: system_time(attr.atime),
        mtime: system_time(attr.mtime),
        ctime: system_time(attr.ctime),
        crtime: UNIX_EPOCH,
        kind: file_type(attr.kind),
        perm: (attr.perm & 0o7777) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev as u32,
        blksize: attr.blksize,
        flags: 0,
    }
}

/// Attributes of which the kernel uses only number and type.
pub(super) fn nameless_attr(ino: u64) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

pub(super) fn reply_entry(reply: ReplyEntry, found: Result<AttrReply, Errno>) {
    match found {
        Ok(AttrReply { attr, entry_ttl, attr_ttl }) => {
            reply.entry_with_ttls(&attr_ttl, &entry_ttl, &file_attr(&attr), Generation(0));
        }
        Err(e) => reply.error(errno(e)),
    }
}

pub(super) fn reply_attr(reply: ReplyAttr, found: Result<AttrReply, Errno>) {
    match found {
        Ok(answer) => reply.attr(&answer.attr_ttl, &file_attr(&answer.attr)),
        Err(e) => reply.error(errno(e)),
    }
}

pub(super) fn reply_empty(reply: ReplyEmpty, done: Result<(), Errno>) {
    match done {
        Ok(()) => reply.ok(),
        Err(e) => reply.error(errno(e)),
    }
}

/// An attribute's value or list, by the protocol's rules for sizes.
pub(super) fn reply_xattr(reply: ReplyXattr, size: u32, value: Result<Vec<u8>, Errno>) {
    match value {
        Ok(value) if size == 0 => reply.size(value.len() as u32),
        Ok(value) if value.len() > size as usize => reply.error(fuser::Errno::ERANGE),
        Ok(value) => reply.data(&value),
        Err(e) => reply.error(errno(e)),
    }
}

/// Handles that only read need no FLUSH; for writers it comes before `close` returns.
pub(super) fn flush_flag(flags: i32) -> FopenFlags {
    if flags & libc::O_ACCMODE == libc::O_RDONLY { FopenFlags::FOPEN_NOFLUSH } else { FopenFlags::empty() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How fuser 0.18 reads seconds and nanoseconds of the protocol (`system_time_from_time`).
    fn read_by_fuser(seconds: i64, nanos: u32) -> SystemTime {
        let distance = Duration::new(seconds.unsigned_abs(), nanos);
        if seconds >= 0 { UNIX_EPOCH + distance } else { UNIX_EPOCH - distance }
    }

    /// How it writes them (`time_from_system_time`): floor to seconds.
    fn written_by_fuser(time: SystemTime) -> (i64, u32) {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => (after.as_secs() as i64, after.subsec_nanos()),
            Err(before) => match (before.duration().as_secs() as i64, before.duration().subsec_nanos()) {
                (seconds, 0) => (-seconds, 0),
                (seconds, nanos) => (-seconds - 1, 1_000_000_000 - nanos),
            },
        }
    }

    proptest::proptest! {
        #[test]
        fn times_come_from_the_kernel_and_go_to_it_as_they_are(
            seconds in proptest::prop_oneof![-5i64..5, -(1i64 << 40)..(1 << 40)],
            nanos in proptest::prop_oneof![proptest::strategy::Just(0u32), 0u32..1_000_000_000],
        ) {
            let time = Mtime { seconds, nanos };
            proptest::prop_assert_eq!(sent(read_by_fuser(seconds, nanos)), time);
            proptest::prop_assert_eq!(written_by_fuser(system_time(time)), (seconds, nanos));
        }
    }
}
