use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use super::*;

fn set_size(size: u64) -> SetAttr {
    SetAttr { size: Some(size), ..SetAttr::default() }
}

#[test]
fn appends_go_to_the_end_and_truncation_empties() {
    let f = Fixture::empty();
    f.put("a", b"one").unwrap();
    let open = f.open(f.at("a").unwrap(), libc::O_WRONLY | libc::O_APPEND).unwrap();
    f.write(open.handle, 0, b" two").unwrap();
    f.write_at("a", 0, b"ONE").unwrap();
    f.write(open.handle, 1, b" three").unwrap();
    f.release(open.handle).unwrap();
    assert_eq!(f.get("a").unwrap(), b"ONE two three");
    let open = f.open(f.at("a").unwrap(), libc::O_RDWR | libc::O_TRUNC).unwrap();
    assert_eq!(f.getattr(f.at("a").unwrap()).unwrap().size, 0);
    f.write(open.handle, 3, b"x").unwrap();
    let mut buf = [9; 10];
    assert_eq!(f.read(open.handle, 0, &mut buf).unwrap(), 4);
    assert_eq!(&buf[..4], b"\0\0\0x");
    f.release(open.handle).unwrap();
    assert_eq!(f.release(open.handle).unwrap_err().errno(), libc::EBADF);
}

#[test]
fn a_handle_opened_to_read_cannot_write_and_one_for_writing_gives_a_local_file() {
    let f = Fixture::empty();
    f.put("a", b"one").unwrap();
    let open = f.open(f.at("a").unwrap(), libc::O_RDONLY).unwrap();
    assert!(open.is_local());
    assert_eq!(errno(f.write(open.handle, 0, b"x")), libc::EBADF);
    assert_eq!(errno(f.fallocate(open.handle, 0, 0, 10)), libc::EBADF);
    f.release(open.handle).unwrap();
    let open = f.open(f.at("a").unwrap(), libc::O_WRONLY).unwrap();
    let OpenContent::Local(file) = &open.content else { panic!("not local") };
    let mut buf = [0; 3];
    file.read_exact_at(&mut buf, 0).unwrap();
    assert_eq!(&buf, b"one");
    f.release(open.handle).unwrap();
    assert_eq!(errno(f.open(f.root(), libc::O_WRONLY)), libc::EISDIR);
}

#[test]
fn a_file_made_without_permissions_can_be_written_by_its_maker() {
    let f = Fixture::empty();
    let (attr, open) = f.create(ME, f.root(), b"a", 0o444, 0, libc::O_WRONLY | libc::O_CREAT).unwrap();
    assert_eq!(attr.perm, 0o444);
    f.write(open.handle, 0, b"x").unwrap();
    f.setattr(attr.ino, &set_size(5), Some(open.handle)).unwrap();
    f.release(open.handle).unwrap();
    assert_eq!(f.get("a").unwrap(), b"x\0\0\0\0");
    let again = f.create(ME, f.root(), b"a", 0o600, 0, libc::O_RDONLY | libc::O_CREAT).unwrap();
    assert_eq!((again.0.ino, again.0.perm), (attr.ino, 0o444));
    f.release(again.1.handle).unwrap();
    let exclusive = libc::O_RDONLY | libc::O_CREAT | libc::O_EXCL;
    assert_eq!(errno(f.create(ME, f.root(), b"a", 0o600, 0, exclusive)), libc::EEXIST);
}

#[test]
fn an_unlinked_file_lives_on_in_its_handles() {
    let f = Fixture::empty();
    f.put("a", b"one").unwrap();
    let node = f.at("a").unwrap();
    let open = f.open(node, libc::O_RDWR).unwrap();
    f.rm("a").unwrap();
    f.put("a", b"another").unwrap();
    assert_ne!(f.at("a").unwrap(), node);
    f.write(open.handle, 3, b" more").unwrap();
    let attr = f.setattr(node, &SetAttr { mode: Some(0o600), ..set_size(6) }, Some(open.handle)).unwrap();
    assert_eq!((attr.size, attr.nlink, attr.perm), (6, 0, 0o600));
    f.setxattr(node, b"user.k", b"v", 0).unwrap();
    assert_eq!(f.getxattr(node, b"user.k").unwrap(), b"v");
    let mut buf = [0; 10];
    assert_eq!(f.read(open.handle, 0, &mut buf).unwrap(), 6);
    assert_eq!(&buf[..6], b"one mo");
    assert_eq!(errno(f.link(node, f.root(), b"b")), libc::ENOENT);
    f.release(open.handle).unwrap();
    assert_eq!(f.get("a").unwrap(), b"another");
}

#[test]
fn holes_ranges_and_copies_work_as_below() {
    let f = Fixture::over(Version::default().file("v", b"version bytes"));
    f.put("a", &[7; 65536]).unwrap();
    let node = f.at("a").unwrap();
    let open = f.open(node, libc::O_RDWR).unwrap();
    f.fallocate(open.handle, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, 4096, 8192).unwrap();
    assert_eq!(f.lseek(open.handle, 0, libc::SEEK_HOLE).unwrap(), 4096);
    assert_eq!(f.lseek(open.handle, 4096, libc::SEEK_DATA).unwrap(), 12288);
    f.fallocate(open.handle, libc::FALLOC_FL_KEEP_SIZE, 65536, 8192).unwrap();
    assert_eq!(f.getattr(node).unwrap().size, 65536);
    f.fallocate(open.handle, libc::FALLOC_FL_ZERO_RANGE, 0, 10).unwrap();
    f.fsync(open.handle, true).unwrap();
    f.fsyncdir(f.root()).unwrap();
    let lower = f.open(f.at("v").unwrap(), libc::O_RDONLY).unwrap();
    assert_eq!(f.lseek(lower.handle, 3, libc::SEEK_DATA).unwrap(), 3);
    assert_eq!(f.lseek(lower.handle, 3, libc::SEEK_HOLE).unwrap(), 13);
    assert_eq!(errno(f.lseek(lower.handle, 13, libc::SEEK_DATA)), libc::ENXIO);
    f.fsync(lower.handle, false).unwrap();
    let body = lower.lower_entry().unwrap();
    assert_eq!(f.copy_range(CopySource::Version(body), 8, open.handle, 65530, 100).unwrap(), 5);
    f.put("b", b"0123456789").unwrap();
    let file = File::open(f.upper("b")).unwrap();
    assert_eq!(f.copy_range(CopySource::File(&file), 2, open.handle, 0, 3).unwrap(), 3);
    assert_eq!(&f.get("a").unwrap()[..5], b"234\0\0");
    assert_eq!(&f.get("a").unwrap()[65530..], b"bytes\x07");
    f.release(open.handle).unwrap();
    f.release(lower.handle).unwrap();
    assert!(f.statfs().unwrap().blocks > 0);
}

#[test]
fn times_are_those_that_were_set() {
    let f = Fixture::empty();
    f.put("a", b"x").unwrap();
    let node = f.at("a").unwrap();
    let to = |s| TimeChange::To(s, 5);
    let attr = f.setattr(node, &SetAttr { atime: to(1), mtime: to(-2), ..SetAttr::default() }, None).unwrap();
    assert_eq!((attr.atime, attr.mtime), (Mtime { seconds: 1, nanos: 5 }, Mtime { seconds: -2, nanos: 5 }));
    let attr = f.setattr(node, &SetAttr { atime: TimeChange::Now, ..SetAttr::default() }, None).unwrap();
    assert!(attr.atime.seconds > 1_000_000 && attr.mtime.seconds == -2);
    f.symlink(ME, f.root(), b"l", b"target").unwrap();
    let attr = f.setattr(f.at("l").unwrap(), &SetAttr { mtime: to(9), ..SetAttr::default() }, None).unwrap();
    assert_eq!((attr.mtime.seconds, attr.size, f.attr("a").mtime.seconds), (9, 6, -2));
}

#[test]
fn user_attributes_are_kept_and_the_overlay_s_own_are_never_seen() {
    let f = Fixture::over(Version::default().file("v", b"version bytes"));
    f.chmod("v", 0o600).unwrap();
    for name in ["v", ""] {
        let node = f.at(name).unwrap();
        f.setxattr(node, b"user.artfs.stub", b"evil", 0).unwrap();
        assert_eq!(errno(f.getxattr(node, b"user.artfs.stub")), libc::ENODATA);
        assert_eq!(errno(f.removexattr(node, b"user.artfs.stub")), libc::ENODATA);
        assert_eq!(f.listxattr(node).unwrap(), Vec::<Vec<u8>>::new());
        f.setxattr(node, b"user.mine", b"1", libc::XATTR_CREATE).unwrap();
        assert_eq!(errno(f.setxattr(node, b"user.mine", b"2", libc::XATTR_CREATE)), libc::EEXIST);
        assert_eq!(errno(f.setxattr(node, b"user.no", b"2", libc::XATTR_REPLACE)), libc::ENODATA);
        assert_eq!(f.listxattr(node).unwrap(), [b"user.mine"]);
        assert_eq!(f.getxattr(node, b"user.mine").unwrap(), b"1");
        f.removexattr(node, b"user.mine").unwrap();
        assert_eq!(errno(f.removexattr(node, b"user.mine")), libc::ENODATA);
        for foreign in [&b"security.x"[..], b"trusted.x", b"system.posix_acl_access"] {
            assert_eq!(errno(f.setxattr(node, foreign, b"1", 0)), libc::EOPNOTSUPP);
            assert_eq!(errno(f.getxattr(node, foreign)), libc::EOPNOTSUPP);
        }
    }
    assert_eq!(f.get("v").unwrap(), b"version bytes");
    f.symlink(ME, f.root(), b"l", b"v").unwrap();
    assert_eq!(errno(f.setxattr(f.at("l").unwrap(), b"user.mine", b"1", 0)), libc::EPERM);
    assert_eq!(errno(f.getxattr(f.at("l").unwrap(), b"user.mine")), libc::ENODATA);
}

#[test]
fn new_objects_belong_to_the_caller_and_set_gid_directories_hand_down_their_group() {
    let f = Fixture::empty();
    if f.own.0 != 0 {
        eprintln!("SKIPPED: needs root");
        return;
    }
    let them = Caller { uid: 1234, gid: 5678, pid: 0 };
    let dir = f.mkdir(them, f.root(), b"d", 0o777, 0o022).unwrap();
    assert_eq!((dir.uid, dir.gid, dir.perm, dir.nlink), (1234, 5678, 0o755, 1));
    f.chmod("d", 0o2775).unwrap();
    let other = Caller { uid: 99, gid: 98, pid: 0 };
    let (file, open) = f.create(other, dir.ino, b"f", 0o666, 0o027, libc::O_RDWR).unwrap();
    f.release(open.handle).unwrap();
    assert_eq!((file.uid, file.gid, file.perm), (99, 5678, 0o640));
    let sub = f.mkdir(other, dir.ino, b"s", 0o755, 0).unwrap();
    assert_eq!((sub.uid, sub.gid, sub.perm), (99, 5678, 0o2755));
    let link = f.symlink(other, dir.ino, b"l", b"t").unwrap();
    assert_eq!((link.uid, link.gid, link.perm), (99, 5678, 0o777));
    let set_uid = f.mknod(other, f.root(), b"u", libc::S_IFREG | 0o4755, 0, 0).unwrap();
    assert_eq!((set_uid.uid, set_uid.perm), (99, 0o4755));
    let given = SetAttr { uid: Some(1), gid: Some(2), ..SetAttr::default() };
    let given = f.setattr(set_uid.ino, &given, None).unwrap();
    assert_eq!((given.uid, given.gid, given.perm), (1, 2, 0o755));
    let linked = f.link(f.at("u").unwrap(), dir.ino, b"u2").unwrap();
    assert_eq!((linked.uid, linked.nlink, linked.ino), (1, 2, given.ino));
}

#[test]
fn set_id_bits_go_from_a_file_that_was_emptied_by_an_open_for_reading() {
    let f = Fixture::empty();
    f.put("a", b"one").unwrap();
    f.chmod("a", 0o6755).unwrap();
    let open = f.open(f.at("a").unwrap(), libc::O_RDONLY | libc::O_TRUNC).unwrap();
    f.drop_set_id(open.handle).unwrap();
    assert_eq!((f.attr("a").size, f.attr("a").perm), (0, 0o755));
    f.release(open.handle).unwrap();
}

#[test]
fn descriptors_given_out_are_of_the_upper_file() {
    let f = Fixture::empty();
    f.put("a", b"one").unwrap();
    let open = f.open(f.at("a").unwrap(), libc::O_RDWR | libc::O_APPEND).unwrap();
    let OpenContent::Local(file) = &open.content else { panic!("not local") };
    assert_eq!(file.metadata().unwrap().ino(), f.upper("a").metadata().unwrap().ino());
    // The kernel adds the caller's flags itself.
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).unwrap();
    let flags = info.lines().find_map(|l| l.strip_prefix("flags:")).unwrap().trim();
    let flags = i32::from_str_radix(flags, 8).unwrap();
    assert_eq!(flags & libc::O_APPEND, 0);
    f.release(open.handle).unwrap();
}
