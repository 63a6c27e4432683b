use crate::host::sys;
use std::os::fd::AsFd;

use super::*;

fn version() -> Version {
    Version::default()
        .dir("d")
        .file("d/one", b"first file")
        .dir("d/sub")
        .file("d/sub/two", b"second file")
        .file("empty", b"")
        .link("link", "d/one")
        .file("top", b"top file")
}

fn is_stub(f: &Fixture, name: &str) -> bool {
    let dir = File::open(f.upper("")).unwrap();
    let dir = dir.as_fd();
    let (parent, name) = name.rsplit_once('/').unwrap_or(("", name));
    let fd = sys::open_beneath(dir, parent.as_bytes(), libc::O_PATH).unwrap();
    marks::stub_of_child(fd.as_fd(), name.as_bytes()).unwrap().is_some()
}

fn upper_count(f: &Fixture) -> usize {
    std::fs::read_dir(f.upper("")).unwrap().count()
}

#[test]
fn reading_a_version_through_a_session_copies_nothing() {
    let f = Fixture::over(version());
    assert_eq!(f.names(""), ["d", "empty", "link", "top"]);
    assert_eq!(f.names("d/sub"), ["two"]);
    assert_eq!(f.get("d/sub/two").unwrap(), b"second file");
    assert_eq!(f.readlink(f.at("link").unwrap()).unwrap(), b"d/one");
    let attr = f.attr("d/one");
    assert_eq!((attr.size, attr.perm, attr.nlink, attr.mtime), (10, 0o644, 1, OLD));
    assert!(!f.open(f.at("top").unwrap(), libc::O_RDONLY).unwrap().is_local());
    assert_eq!(upper_count(&f), 0);
}

#[test]
fn attributes_are_changed_without_the_content() {
    let mut f = Fixture::over(version());
    let node = f.at("d/one").unwrap();
    let before = f.attr("d").mtime;
    f.chmod("d/one", 0o755).unwrap();
    assert!(is_stub(&f, "d/one"));
    assert_eq!(f.at("d/one").unwrap(), node);
    let attr = f.attr("d/one");
    assert_eq!((attr.size, attr.perm, attr.mtime, f.attr("d").mtime), (10, 0o755, OLD, before));
    let touched = SetAttr { mtime: TimeChange::To(77, 8), ..SetAttr::default() };
    f.setattr(node, &touched, None).unwrap();
    f.mv("d/one", "moved", 0).unwrap();
    f.ln("moved", "d/linked").unwrap();
    f.reopen();
    for name in ["moved", "d/linked"] {
        assert!(is_stub(&f, name));
        assert!(!f.open(f.at(name).unwrap(), libc::O_RDONLY).unwrap().is_local());
        assert_eq!(f.get(name).unwrap(), b"first file");
        let attr = f.attr(name);
        assert_eq!((attr.perm, attr.nlink, attr.mtime), (0o755, 2, Mtime { seconds: 77, nanos: 8 }));
    }
    assert_eq!(f.names("d"), ["linked", "sub"]);
    assert!(f.scanned().contains(&("moved".to_owned(), "known")));
    f.write_at("moved", 0, b"FIRST").unwrap();
    assert_eq!(f.get("d/linked").unwrap(), b"FIRST file");
}

#[test]
fn the_content_comes_with_the_first_writable_open_and_old_handles_see_what_is_written() {
    let f = Fixture::over(version());
    let node = f.at("top").unwrap();
    let reader = f.open(node, libc::O_RDONLY).unwrap();
    let writer = f.open(node, libc::O_RDWR).unwrap();
    assert!(!reader.is_local() && writer.is_local());
    assert_eq!(f.attr("top").mtime, OLD);
    f.write(writer.handle, 0, b"TOP").unwrap();
    let mut buf = [0; 20];
    assert_eq!(f.read(reader.handle, 0, &mut buf).unwrap(), 8);
    assert_eq!(&buf[..8], b"TOP file");
    f.release(writer.handle).unwrap();
    assert_eq!(f.read(reader.handle, 4, &mut buf).unwrap(), 4);
    f.release(reader.handle).unwrap();
    assert_eq!(f.at("top").unwrap(), node);
    assert!(f.open(node, libc::O_RDONLY).unwrap().is_local());
}

#[test]
fn truncation_to_nothing_fetches_nothing() {
    let version = Version::default().file("a", b"gone").file("b", b"gone too");
    let f = Fixture::over(Version { bytes: HashMap::new(), ..version });
    f.setattr(f.at("a").unwrap(), &SetAttr { size: Some(0), ..SetAttr::default() }, None).unwrap();
    f.put("b", b"new").unwrap();
    assert_eq!((f.get("a").unwrap(), f.get("b").unwrap()), (b"".to_vec(), b"new".to_vec()));
}

#[test]
fn a_failed_copy_up_leaves_the_file_as_it_was() {
    let version = Version::default().file("a", b"unreachable");
    let f = Fixture::over(Version { bytes: HashMap::new(), ..version });
    let node = f.at("a").unwrap();
    assert_eq!(errno(f.open(node, libc::O_RDWR)), libc::EIO);
    assert_eq!(f.attr("a").size, 11);
    assert_eq!(f.scanned(), [("a".to_owned(), "known")]);
    assert!(f.freeze().is_ok());
}

#[test]
fn a_copy_up_that_was_cut_short_leaves_the_old_content() {
    let mut f = Fixture::over(version());
    f.chmod("top", 0o600).unwrap();
    // As a crash between truncation, copy and the removal of the mark leaves it.
    for rubbish in [&b""[..], b"ha", b"rubbish that is longer"] {
        let file = File::options().write(true).truncate(true).open(f.upper("top")).unwrap();
        file.write_all_at(rubbish, 0).unwrap();
        f.reopen();
        let attr = f.attr("top");
        assert_eq!((attr.size, attr.mtime, attr.perm), (8, OLD, 0o600));
        assert_eq!(f.get("top").unwrap(), b"top file");
    }
    f.write_at("top", 8, b"!").unwrap();
    assert_eq!(f.get("top").unwrap(), b"top file!");
}

#[test]
fn removed_names_stay_removed_and_new_directories_do_not_bring_old_content_back() {
    let mut f = Fixture::over(version());
    f.rm("top").unwrap();
    f.rm("d/sub/two").unwrap();
    f.rm_dir("d/sub").unwrap();
    f.rm("d/one").unwrap();
    f.rm_dir("d").unwrap();
    f.reopen();
    assert_eq!(f.names(""), ["empty", "link"]);
    assert_eq!(errno(f.at("d")), libc::ENOENT);
    f.new_dir("d").unwrap();
    assert_eq!(f.names("d"), [""; 0]);
    f.new_dir("d/sub").unwrap();
    f.put("top", b"new").unwrap();
    f.reopen();
    assert_eq!(f.names("d/sub"), [""; 0]);
    assert_eq!(f.get("top").unwrap(), b"new");
    assert_eq!(f.scanned().iter().filter(|(_, s)| *s == "known").count(), 1);
}

#[test]
fn a_directory_of_the_version_moves_with_its_content_and_leaves_nothing_behind() {
    let mut f = Fixture::over(version());
    f.put("d/sub/new", b"mine").unwrap();
    f.rm("d/one").unwrap();
    let node = f.at("d/sub/two").unwrap();
    f.mv("d", "e", 0).unwrap();
    assert_eq!(f.at("e/sub/two").unwrap(), node);
    f.new_dir("d").unwrap();
    f.reopen();
    assert_eq!(f.names("d"), [""; 0]);
    assert_eq!(f.names("e"), ["sub"]);
    assert_eq!(f.names("e/sub"), ["new", "two"]);
    assert_eq!(f.get("e/sub/two").unwrap(), b"second file");
    assert_eq!(f.attr("e/sub/two").mtime, OLD);
    assert!(is_stub(&f, "e/sub/two"));
    f.mv("e", "d", 0).unwrap();
    assert_eq!(f.names("d"), ["sub"]);
}

#[test]
fn a_rename_that_a_crash_interrupted_is_finished_or_never_was() {
    for (intent, has_moved, expected) in [
        (&b"\0top\0end"[..], true, vec!["moved"]),
        (b"\0top\0end", false, vec!["top"]),
        (b"\0top\0e", false, vec!["top"]),
        (b"", false, vec!["top"]),
    ] {
        let mut f = Fixture::over(Version::default().file("top", b"top file"));
        f.chmod("top", 0o600).unwrap();
        if has_moved {
            std::fs::rename(f.upper("top"), f.upper("moved")).unwrap();
        }
        std::fs::write(f.dir.path().join("s/intent"), intent).unwrap();
        f.reopen();
        assert_eq!(f.names(""), expected, "{intent:?}");
        assert_eq!(f.get(expected[0]).unwrap(), b"top file");
        assert!(!f.dir.path().join("s/intent").exists());
    }
}

#[test]
fn only_staged_objects_can_be_exchanged() {
    let f = Fixture::over(version());
    f.put("mine", b"m").unwrap();
    f.new_dir("dir").unwrap();
    assert_eq!(errno(f.mv("mine", "top", libc::RENAME_EXCHANGE)), libc::EINVAL);
    f.put("d/x", b"x").unwrap();
    assert_eq!(errno(f.mv("d", "mine", libc::RENAME_EXCHANGE)), libc::EINVAL);
    f.mv("dir", "mine", libc::RENAME_EXCHANGE).unwrap();
    assert_eq!(f.names("mine"), [""; 0]);
    f.write_at("top", 0, b"T").unwrap();
    f.mv("dir", "top", libc::RENAME_EXCHANGE).unwrap();
    assert_eq!((f.get("top").unwrap(), f.get("dir").unwrap()), (b"m".to_vec(), b"Top file".to_vec()));
}

#[test]
fn stubs_keep_their_content_when_the_session_stands_on_nothing_any_more() {
    let mut f = Fixture::over(version());
    f.chmod("top", 0o600).unwrap();
    f.rm("empty").unwrap();
    f.has_lower = false;
    f.reopen();
    assert_eq!(f.names(""), ["top"]);
    assert_eq!(f.get("top").unwrap(), b"top file");
}

#[test]
fn a_directory_with_too_much_of_the_version_is_not_moved() {
    let mut version = Version::default().dir("big");
    for n in 0..=200_000 {
        let entry = Entry { path: path(&format!("big/{n}")), ..file_entry("x", b"") };
        version.entries.insert(entry.path.clone(), entry);
    }
    let f = Fixture::over(version);
    assert_eq!(errno(f.mv("big", "moved", 0)), libc::EXDEV);
    assert_eq!(upper_count(&f), 0);
}

#[test]
fn files_and_directories_without_permissions_are_staged_like_others() {
    let mut f = Fixture::over(version());
    f.put("secret", b"data").unwrap();
    f.chmod("secret", 0).unwrap();
    f.chmod("top", 0).unwrap();
    f.new_dir("closed").unwrap();
    f.chmod("closed", 0).unwrap();
    f.put("none", b"").unwrap();
    f.chmod("none", 0o400).unwrap();
    f.reopen();
    assert_eq!(f.names(""), ["closed", "d", "empty", "link", "none", "secret", "top"]);
    assert_eq!(f.names("closed"), [""; 0]);
    assert_eq!((f.attr("secret").perm, f.attr("top").perm, f.attr("closed").perm), (0, 0, 0));
    assert_eq!(f.get("top").unwrap(), b"top file");
    let mut seen = Vec::new();
    f.scan(&mut |staged| {
        if let ContentSource::Local(file) = &staged.source {
            seen.push((
                staged.path.to_string(),
                f.open_staged(&staged.path, &file.identity)?.metadata()?.len(),
            ));
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(seen, [("none".to_owned(), 0), ("secret".to_owned(), 4)]);
    assert_eq!(f.attr("secret").perm, 0);
    f.rm_dir("closed").unwrap();
}

#[test]
fn threads_that_change_one_session_end_with_every_change_made() {
    let version = (0..40).fold(Version::default().dir("d"), |v, n| v.file(&format!("d/{n}"), b"version"));
    let f = Fixture::over(version);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let f = &f;
            scope.spawn(move || {
                for n in (thread * 10)..(thread * 10 + 10) {
                    let (from, to) = (format!("d/{n}"), format!("new-{n}"));
                    let reader = f.open(f.at(&from).unwrap(), libc::O_RDONLY).unwrap();
                    f.write_at(&from, 7, b" and more").unwrap();
                    f.mv(&from, &to, 0).unwrap();
                    f.setattr(f.at(&to).unwrap(), &SetAttr { mode: Some(0o600), ..SetAttr::default() }, None)
                        .unwrap();
                    f.names("d");
                    f.put(&format!("d/{n}"), b"again").unwrap();
                    f.release(reader.handle).unwrap();
                }
            });
        }
    });
    assert_eq!(f.freeze().map(drop).map_err(|e| e.to_string()), Ok(()));
    for n in 0..40 {
        assert_eq!(f.get(&format!("new-{n}")).unwrap(), b"version and more");
        assert_eq!(f.get(&format!("d/{n}")).unwrap(), b"again");
    }
}

#[test]
fn a_directory_that_takes_a_removed_one_s_name_does_not_bring_its_content_back() {
    let below = version().dir("e").file("e/old", b"1").dir("g").file("g/old", b"2").dir("g/sub").dir("h");
    let mut f = Fixture::over(below);
    // Over an emptied directory; a directory of the session's own; where nothing is left; over an empty one.
    f.rm("e/old").unwrap();
    f.mv("d", "e", 0).unwrap();
    f.rm("g/old").unwrap();
    f.rm_dir("g/sub").unwrap();
    f.rm_dir("g").unwrap();
    f.new_dir("mine").unwrap();
    f.put("mine/x", b"3").unwrap();
    f.mv("mine", "g", 0).unwrap();
    f.mv("e/sub", "h", 0).unwrap();
    for _ in 0..2 {
        assert_eq!(f.names(""), ["e", "empty", "g", "h", "link", "top"]);
        assert_eq!((f.names("e"), f.names("g")), (vec!["one".to_owned()], vec!["x".to_owned()]));
        assert_eq!(f.names("h"), ["two"]);
        f.reopen();
    }
}
