use super::*;

#[test]
fn a_frozen_session_refuses_every_change_and_goes_on_reading() {
    let f = Fixture::over(Version::default().file("v", b"version"));
    f.put("a", b"x").unwrap();
    let node = f.at("a").unwrap();
    let reader = f.open(node, libc::O_RDONLY).unwrap();
    let frozen = f.freeze().unwrap();
    let root = f.root();
    let set = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    let changes = [
        f.put("a", b"y"),
        f.put("new", b"y"),
        f.new_dir("d").map(drop),
        f.rm("a"),
        f.rm_dir("a"),
        f.mv("a", "b", 0),
        f.ln("a", "b").map(drop),
        f.symlink(ME, root, b"l", b"t").map(drop),
        f.setattr(node, &set, None).map(drop),
        f.setxattr(node, b"user.x", b"1", 0),
        f.removexattr(node, b"user.x"),
        f.open(f.at("v").unwrap(), libc::O_RDWR).map(drop),
    ];
    for (at, change) in changes.into_iter().enumerate() {
        assert_eq!(errno(change), libc::EBUSY, "change {at}");
    }
    assert_eq!(f.freeze().unwrap_err().errno(), libc::EBUSY);
    let mut buf = [0; 4];
    assert_eq!(f.read(reader.handle, 0, &mut buf).unwrap(), 1);
    assert_eq!(f.get("v").unwrap(), b"version");
    assert_eq!(f.scanned(), [("a".to_owned(), "local"), ("v".to_owned(), "known")]);
    drop(frozen);
    f.put("a", b"y").unwrap();
}

#[test]
fn files_open_for_writing_are_named_and_releases_under_way_are_waited_for() {
    let f = Fixture::empty();
    f.new_dir("d").unwrap();
    f.put("d/w", b"x").unwrap();
    let open = f.open(f.at("d/w").unwrap(), libc::O_WRONLY).unwrap();
    let error = f.freeze().unwrap_err();
    assert!(matches!(&error, FreezeError::Busy(paths) if paths == &["d/w"]), "{error:?}");
    assert!(error.to_string().contains("d/w") && error.errno() == libc::EBUSY);
    f.write(open.handle, 0, b"still open").unwrap();
    std::thread::scope(|scope| {
        let freezing = scope.spawn(|| f.freeze().is_ok());
        f.release(open.handle).unwrap();
        assert!(freezing.join().unwrap());
    });
}

#[test]
fn a_retired_session_answers_estale_but_open_handles_read_on() {
    let f = Fixture::empty();
    f.put("a", b"x").unwrap();
    let node = f.at("a").unwrap();
    let reader = f.open(node, libc::O_RDONLY).unwrap();
    f.freeze().unwrap().retire();
    assert_eq!(errno(f.lookup(f.root(), b"a")), libc::ESTALE);
    assert_eq!(errno(f.getattr(f.root())), libc::ESTALE);
    assert_eq!(f.getattr(node).unwrap().size, 1);
    assert_eq!(errno(f.open(node, libc::O_RDONLY)), libc::ESTALE);
    assert_eq!(errno(f.readdir(f.root())), libc::ESTALE);
    assert_eq!(errno(f.mkdir(ME, f.root(), b"d", 0o755, 0)), libc::ESTALE);
    assert_eq!(f.freeze().unwrap_err().errno(), libc::ESTALE);
    let mut buf = [0; 4];
    assert_eq!(f.read(reader.handle, 0, &mut buf).unwrap(), 1);
    f.release(reader.handle).unwrap();
    f.forget(node, 1000);
}

#[test]
fn discarding_leaves_an_empty_session_that_can_be_used() {
    let f = Fixture::over(Version::default().dir("d").file("d/v", b"version"));
    f.put("d/a", b"x").unwrap();
    let node = f.at("d/a").unwrap();
    assert!(!f.is_empty().unwrap());
    f.discard().unwrap();
    assert!(f.is_empty().unwrap());
    assert_eq!(f.names(""), [""; 0]);
    assert_eq!(errno(f.getattr(node)), libc::ESTALE);
    f.put("new", b"y").unwrap();
    assert_eq!(f.get("new").unwrap(), b"y");
}

#[test]
fn a_scan_tells_everything_in_order_and_its_files_can_be_read_while_unchanged() {
    let f = Fixture::over(
        Version::default()
            .dir("a")
            .file("a/old", b"version")
            .link("a/link", "old")
            .dir("gone")
            .file("gone/x", b"1"),
    );
    f.new_dir("a-b").unwrap();
    f.put("a/new", b"mine").unwrap();
    f.chmod("a/new", 0o755).unwrap();
    f.put("a.txt", b"text").unwrap();
    f.rm("gone/x").unwrap();
    f.rm_dir("gone").unwrap();
    let expected = [
        ("a", "directory"),
        ("a/link", "link"),
        ("a/new", "local"),
        ("a/old", "known"),
        ("a-b", "directory"),
        ("a.txt", "local"),
    ];
    assert_eq!(f.scanned(), expected.map(|(p, s)| (p.to_owned(), s)));
    let mut found = None;
    f.scan(&mut |staged| {
        if let ContentSource::Local(file) = &staged.source
            && staged.executable
        {
            found = Some((staged.path.clone(), file.clone()));
        }
        Ok(())
    })
    .unwrap();
    let (path, local) = found.unwrap();
    assert_eq!((path.to_string(), local.size), ("a/new".to_owned(), 4));
    assert_eq!(f.open_staged(&path, &local.identity).unwrap().metadata().unwrap().len(), 4);
    f.write_at("a/new", 4, b"!").unwrap();
    assert_eq!(errno(f.open_staged(&path, &local.identity)), libc::ESTALE);
}

fn copied(f: &Fixture, name: &str, data: &[u8]) -> u64 {
    let (attr, open) = f.create(ME, f.root(), name.as_bytes(), 0o644, 0, libc::O_RDWR).unwrap();
    f.write(open.handle, 0, data).unwrap();
    assert!(f.note_clone(open.handle, &file_entry("elsewhere/x", data)).unwrap());
    f.release(open.handle).unwrap();
    attr.ino
}

#[test]
fn a_clone_is_known_until_it_may_be_changed() {
    let mut f = Fixture::empty();
    let data = b"cloned";
    for name in ["kept", "touched", "moved", "opened", "cut", "behind"] {
        copied(&f, name, data);
    }
    let set = |set: SetAttr, name: &str| f.setattr(f.at(name).unwrap(), &set, None).unwrap();
    set(SetAttr { mtime: TimeChange::To(5, 6), ..SetAttr::default() }, "touched");
    set(SetAttr { size: Some(6), ..SetAttr::default() }, "cut");
    f.mv("moved", "moved2", 0).unwrap();
    f.chmod("moved2", 0o400).unwrap();
    let open = f.open(f.at("opened").unwrap(), libc::O_RDWR).unwrap();
    f.release(open.handle).unwrap();
    std::fs::write(f.upper("behind"), b"CLONED").unwrap();
    f.reopen();
    let known = ["kept", "moved2", "touched"];
    let expected: Vec<_> = ["behind", "cut", "kept", "moved2", "opened", "touched"]
        .map(|n| (n.to_owned(), if known.contains(&n) { "known" } else { "local" }))
        .into();
    assert_eq!(f.scanned(), expected);
    f.scan(&mut |staged| {
        if let ContentSource::Known(entry, _) = &staged.source {
            assert_eq!((&entry.path, entry.mtime), (&staged.path, staged.mtime));
            assert_eq!(entry.body, file_entry("x", b"cloned").body);
        }
        Ok(())
    })
    .unwrap();
    f.write_at("kept", 0, b"C").unwrap();
    assert_eq!(f.scanned()[2].1, "local");
}

#[test]
fn what_is_written_after_the_clone_is_not_taken_for_it() {
    let f = Fixture::empty();
    let entry = file_entry("x", b"cloned");
    let (attr, open) = f.create(ME, f.root(), b"a", 0o644, 0, libc::O_RDWR).unwrap();
    assert!(!f.note_clone(open.handle, &entry).unwrap(), "the size differs");
    f.write(open.handle, 0, b"cloned").unwrap();
    let second = f.open(attr.ino, libc::O_RDWR).unwrap();
    assert!(!f.note_clone(open.handle, &entry).unwrap(), "there is another handle");
    f.release(second.handle).unwrap();
    assert!(f.note_clone(open.handle, &entry).unwrap());
    // Past the session, as the kernel does on a handle it was given.
    let OpenContent::Local(file) = &open.content else { panic!("not local") };
    file.write_all_at(b"C", 0).unwrap();
    f.release(open.handle).unwrap();
    assert_eq!(f.scanned(), [("a".to_owned(), "local")]);
}

#[test]
fn a_file_hashed_early_is_known_unless_it_changed_or_is_open_for_writing() {
    let f = Fixture::empty();
    f.put("a", b"hashed").unwrap();
    let node = f.at("a").unwrap();
    let entry = file_entry("x", b"hashed");
    let read_as = f.stat_identity(node).unwrap().unwrap();
    let open = f.open(node, libc::O_WRONLY).unwrap();
    assert!(!f.set_identity(node, &entry, &read_as).unwrap());
    f.release(open.handle).unwrap();
    let read_as = f.stat_identity(node).unwrap().unwrap();
    assert!(f.set_identity(node, &entry, &read_as).unwrap());
    assert_eq!(f.scanned(), [("a".to_owned(), "known")]);
    assert!(!f.set_identity(node, &entry, &read_as).unwrap(), "its ctime is another now");
}
