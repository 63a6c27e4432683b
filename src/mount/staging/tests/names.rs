use super::*;

#[test]
fn errors_are_those_of_a_local_file_system() {
    let f = Fixture::empty();
    f.put("file", b"x").unwrap();
    f.new_dir("dir").unwrap();
    f.put("dir/in", b"y").unwrap();
    f.new_dir("none").unwrap();
    let root = f.root();
    let file = f.at("file").unwrap();
    let long = vec![b'n'; 256];
    assert_eq!(errno(f.lookup(root, b"missing")), libc::ENOENT);
    assert_eq!(errno(f.lookup(file, b"x")), libc::ENOTDIR);
    assert_eq!(errno(f.lookup(root, &long)), libc::ENAMETOOLONG);
    assert_eq!(errno(f.mkdir(ME, root, &long, 0o755, 0)), libc::ENAMETOOLONG);
    assert_eq!(errno(f.new_dir("file")), libc::EEXIST);
    assert_eq!(errno(f.mkdir(ME, file, b"x", 0o755, 0)), libc::ENOTDIR);
    assert_eq!(errno(f.unlink(root, b"dir")), libc::EISDIR);
    assert_eq!(errno(f.unlink(root, b"missing")), libc::ENOENT);
    assert_eq!(errno(f.rmdir(root, b"file")), libc::ENOTDIR);
    assert_eq!(errno(f.rmdir(root, b"dir")), libc::ENOTEMPTY);
    assert_eq!(errno(f.rmdir(root, b".")), libc::EINVAL);
    assert_eq!(errno(f.link(f.at("dir").unwrap(), root, b"l")), libc::EPERM);
    assert_eq!(errno(f.ln("file", "dir/in")), libc::EEXIST);
    assert_eq!(errno(f.mv("file", "dir", 0)), libc::EISDIR);
    assert_eq!(errno(f.mv("dir", "file", 0)), libc::ENOTDIR);
    assert_eq!(errno(f.mv("none", "dir", 0)), libc::ENOTEMPTY);
    assert_eq!(errno(f.mv("dir", "dir/sub", 0)), libc::EINVAL);
    assert_eq!(errno(f.mv("dir/in", "dir", 0)), libc::ENOTEMPTY);
    assert_eq!(errno(f.mv("file", "dir/in", libc::RENAME_NOREPLACE)), libc::EEXIST);
    assert_eq!(errno(f.mv("file", "new", libc::RENAME_EXCHANGE)), libc::ENOENT);
    assert_eq!(errno(f.mv("file", "new", libc::RENAME_WHITEOUT)), libc::EINVAL);
    assert_eq!(errno(f.symlink(ME, root, b"l", &vec![b't'; 4096])), libc::ENAMETOOLONG);
    assert_eq!(errno(f.readlink(file)), libc::EINVAL);
    assert_eq!(errno(f.readdir(file)), libc::ENOTDIR);
    let size = SetAttr { size: Some(1), ..SetAttr::default() };
    assert_eq!(errno(f.setattr(f.at("dir").unwrap(), &size, None)), libc::EISDIR);
    assert_eq!(errno(f.getattr(u64::MAX)), libc::ESTALE);
    f.mv("none", "dir2", 0).unwrap();
    f.mv("dir", "dir2", 0).unwrap();
    assert_eq!(f.get("dir2/in").unwrap(), b"y");
}

#[test]
fn nothing_can_be_made_in_a_removed_directory() {
    let f = Fixture::over(Version::default().dir("below"));
    f.new_dir("d").unwrap();
    for name in ["d", "below"] {
        let dir = f.at(name).unwrap();
        f.rm_dir(name).unwrap();
        assert_eq!(errno(f.mkdir(ME, dir, b"x", 0o755, 0)), libc::ENOENT, "{name}");
        assert_eq!(f.getattr(dir).unwrap().nlink, 0, "{name}");
        assert_eq!(f.readdir(dir).unwrap(), []);
    }
}

#[test]
fn exchange_swaps_two_names() {
    let f = Fixture::empty();
    f.put("file", b"x").unwrap();
    f.new_dir("d").unwrap();
    f.put("d/in", b"y").unwrap();
    let (file, dir) = (f.at("file").unwrap(), f.at("d").unwrap());
    f.mv("file", "d", libc::RENAME_EXCHANGE).unwrap();
    assert_eq!((f.at("d").unwrap(), f.at("file").unwrap()), (file, dir));
    assert_eq!(f.get("file/in").unwrap(), b"y");
    assert_eq!(errno(f.mv("file", "file/in", libc::RENAME_EXCHANGE)), libc::EINVAL);
    f.new_dir("e").unwrap();
    f.mv("file/in", "e", libc::RENAME_EXCHANGE).unwrap();
    assert_eq!(f.get("e").unwrap(), b"y");
}

#[test]
fn numbers_are_shared_by_hard_links_stay_over_renames_and_forgetting_and_never_return() {
    let mut f = Fixture::empty();
    f.put("a", b"x").unwrap();
    let node = f.at("a").unwrap();
    f.ln("a", "b").unwrap();
    f.mv("a", "c", 0).unwrap();
    assert_eq!((f.at("b").unwrap(), f.at("c").unwrap()), (node, node));
    f.forget(node, 1000);
    assert_eq!(f.at("c").unwrap(), node);
    assert_eq!(f.attr("c").nlink, 2);
    f.rm("b").unwrap();
    f.rm("c").unwrap();
    for round in 0..50 {
        f.put("new", b"x").unwrap();
        assert!(f.at("new").unwrap() > node, "round {round}");
        f.rm("new").unwrap();
    }
    let old_root = f.root();
    f.reopen();
    assert!(f.root() > old_root);
}

#[test]
fn memory_is_bounded_by_what_the_caller_remembers() {
    let f = Fixture::over(Version::default().dir("v").file("v/x", b"1"));
    f.new_dir("d").unwrap();
    f.put("d/a", b"x").unwrap();
    let nodes: Vec<u64> = ["d", "d/a", "v", "v/x"].iter().map(|p| f.at(p).unwrap()).collect();
    let open = f.open(nodes[1], libc::O_RDONLY).unwrap();
    // A parent may be forgotten before its child.
    nodes.iter().for_each(|n| f.forget(*n, 1000));
    assert_eq!(f.known_nodes(), 3);
    f.release(open.handle).unwrap();
    assert_eq!(f.known_nodes(), 1);
    assert_eq!(errno(f.lookup(f.root(), b"missing")), libc::ENOENT);
    assert_eq!(f.names(""), ["d", "v"]);
    assert_eq!(f.known_nodes(), 1);
}

#[test]
fn trees_deeper_than_a_path_can_name_work() {
    let mut f = Fixture::empty();
    let name = [b'n'; 200];
    let mut node = f.root();
    let mut nodes = Vec::new();
    for _ in 0..60 {
        node = f.mkdir(ME, node, &name, 0o755, 0).unwrap().ino;
        nodes.push(node);
    }
    f.mknod(ME, node, b"leaf", libc::S_IFREG | 0o644, 0, 0).unwrap();
    f.reopen();
    let mut at = f.root();
    for _ in 0..60 {
        at = f.lookup(at, &name).unwrap().ino;
    }
    let leaf = f.lookup(at, b"leaf").unwrap();
    let open = f.open(leaf.ino, libc::O_RDWR).unwrap();
    f.write(open.handle, 0, b"deep").unwrap();
    f.release(open.handle).unwrap();
    // Without any descriptor kept, the way leads from the root again.
    f.tree().dirs.clear();
    assert_eq!(f.getattr(leaf.ino).unwrap().size, 4);
    let error = f.scan(&mut |_| Ok(())).unwrap_err();
    assert_eq!(error.errno(), libc::ENAMETOOLONG);
    f.discard().unwrap();
    assert!(f.is_empty().unwrap());
}

#[test]
fn special_files_can_be_made_and_a_commit_s_scan_names_them() {
    let f = Fixture::empty();
    let root = f.root();
    let fifo = f.mknod(ME, root, b"fifo", libc::S_IFIFO | 0o600, 0, 0).unwrap();
    let socket = f.mknod(ME, root, b"sock", libc::S_IFSOCK | 0o600, 0, 0).unwrap();
    assert_eq!((fifo.kind, socket.kind), (FileKind::Fifo, FileKind::Socket));
    if f.own.0 == 0 {
        let null = f.mknod(ME, root, b"null", libc::S_IFCHR | 0o600, 0, 0x103).unwrap();
        assert_eq!((null.kind, null.rdev), (FileKind::CharDevice, 0x103));
        f.rm("null").unwrap();
    }
    assert_eq!(errno(f.mknod(ME, root, b"d", libc::S_IFDIR | 0o600, 0, 0)), libc::EINVAL);
    f.put("a", b"x").unwrap();
    let mut seen = 0;
    let error = f
        .scan(&mut |_| {
            seen += 1;
            Ok(())
        })
        .unwrap_err();
    assert_eq!((error.errno(), seen), (libc::EPERM, 1));
    let text = error.to_string();
    assert!(text.contains("fifo") && text.contains("sock"), "{text}");
}

#[test]
fn links_inside_the_tree_are_never_followed() {
    let f = Fixture::empty();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), b"s").unwrap();
    f.symlink(ME, f.root(), b"out", outside.path().to_str().unwrap().as_bytes()).unwrap();
    let link = f.at("out").unwrap();
    assert_eq!(errno(f.lookup(link, b"secret")), libc::ENOTDIR);
    assert_eq!(errno(f.open(link, libc::O_RDONLY)), libc::ELOOP);
    assert_eq!(errno(f.mkdir(ME, link, b"x", 0o755, 0)), libc::ENOTDIR);
    f.chmod("out", 0o600).unwrap();
    f.ln("out", "out2").unwrap();
    assert_eq!(f.attr("out2").kind, FileKind::Symlink);
    assert_eq!(f.attr("out2").nlink, 2);
    f.discard().unwrap();
    assert!(outside.path().join("secret").exists());
}
