//! Links in staging that lead back into it, or to what is no version: a version never shows what is staged.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::host::{Host, names, refused};
use super::sys;

pub const TESTS: &[(&str, fn())] = &[
    ("links_back_into_their_own_session_become_relative_and_lead_into_the_version", own),
    ("links_back_through_another_mount_point_of_the_store_become_relative", other_mounts),
    ("links_back_into_a_folder_that_is_put_become_relative", put),
    ("links_to_what_is_no_version_are_refused_by_name", refusals),
];

/// Takes a bind mount away before the mount behind it goes.
struct Unbind(PathBuf);

impl Drop for Unbind {
    fn drop(&mut self) {
        let _ = sys::umount(&self.0);
    }
}

fn target(path: &Path) -> String {
    fs::read_link(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).to_str().unwrap().to_owned()
}

fn own() {
    let host = Host::new();
    let s = host.artifact("p/a");
    fs::create_dir_all(s.join("run/ck")).unwrap();
    fs::write(s.join("run/ck/w"), "one").unwrap();
    fs::create_dir(s.join("deep")).unwrap();
    let outside = host.at.join("..").join(host.at.file_name().unwrap()).join("p/x/../a/staging/run");
    let links = [
        ("last", s.join("run/ck").to_str().unwrap().to_owned(), "run/ck"),
        ("deep/last", s.join("run/ck/w").to_str().unwrap().to_owned(), "../run/ck/w"),
        ("deep/root", s.to_str().unwrap().to_owned(), ".."),
        ("up", "../staging/run/ck".to_owned(), "run/ck"),
        ("deep/up", "../../../a/staging/run".to_owned(), "../run"),
        ("round", outside.to_str().unwrap().to_owned(), "run"),
        ("nothing", s.join("not/there").to_str().unwrap().to_owned(), "not/there"),
        ("inside", "deep/../run/./ck/".to_owned(), "deep/../run/./ck/"),
        ("out", "/etc/hostname".to_owned(), "/etc/hostname"),
    ];
    for (name, text, _) in &links {
        symlink(text, s.join(name)).unwrap();
    }
    host.commit("p/a").unwrap();
    fs::create_dir_all(s.join("run/ck")).unwrap();
    fs::write(s.join("run/ck/w"), "TWO").unwrap();
    let v0 = host.path("p/a/v0");
    for (name, text, want) in &links {
        assert_eq!(target(&v0.join(name)), *want, "{name} -> {text}");
    }
    for path in ["last/w", "deep/last", "deep/root/run/ck/w", "up/w", "deep/up/ck/w", "round/ck/w"] {
        assert_eq!(fs::read_to_string(v0.join(path)).unwrap(), "one", "{path}");
    }
    // A session with a name of its own, by the command.
    let s = host.path("p/a/staging.exp");
    fs::create_dir(&s).unwrap();
    fs::write(s.join("w"), "three").unwrap();
    symlink(s.join("w"), s.join("link")).unwrap();
    host.ok(&["commit", "p/a", "--session", "exp"]);
    assert_eq!(target(&host.path("p/a/v1/link")), "w");
    // In place, nothing was changed.
    host.ok(&["verify", "p/a:v0"]);
}

fn other_mounts() {
    let host = Host::new();
    let second = host.beside(&[]);
    let bound = host.folder().join("bound");
    fs::create_dir(&bound).unwrap();
    host.version("p/ds", &[("f", b"data")]);
    let s = host.artifact("p/a");
    fs::write(s.join("w"), "one").unwrap();
    sys::bind_mount(&host.path("p"), &bound).unwrap();
    let _unbind = Unbind(bound.clone());
    symlink(bound.join("a/staging/w"), s.join("by_bind")).unwrap();
    symlink(second.path("p/a/staging/w"), s.join("by_second")).unwrap();
    symlink(second.path("p/ds/v0"), s.join("version")).unwrap();
    host.commit("p/a").unwrap();
    let v0 = host.path("p/a/v0");
    assert_eq!((target(&v0.join("by_bind")), target(&v0.join("by_second"))), ("w".into(), "w".into()));
    assert_eq!(names(&v0.join("version")), ["f"]);
    symlink(bound.join("b/staging/w"), s.join("other")).unwrap();
    refused("to another session by a bind mount", host.commit("p/a"), libc::EPERM);
    fs::remove_file(s.join("other")).unwrap();
    // The mount of another store does not belong to this one.
    let stranger = Host::new();
    symlink(stranger.path("p/a/staging/w"), s.join("stranger")).unwrap();
    host.commit("p/a").unwrap();
    let kept = host.path("p/a/v1/stranger");
    assert_eq!(target(&kept), stranger.path("p/a/staging/w").to_str().unwrap());
}

fn put() {
    let host = Host::new();
    let folder = host.folder().join("real/d");
    fs::create_dir_all(folder.join("ck")).unwrap();
    fs::write(folder.join("ck/w"), "one").unwrap();
    let named = host.folder().join("named");
    symlink(host.folder().join("real"), &named).unwrap();
    symlink(folder.join("ck"), folder.join("last")).unwrap();
    symlink(named.join("d/ck"), folder.join("by_name")).unwrap();
    symlink("../../d/ck/w", folder.join("ck/up")).unwrap();
    symlink(host.folder().join("real/d/not/there"), folder.join("nothing")).unwrap();
    symlink("../beside", folder.join("out")).unwrap();
    let put = |directory: &Path, words: &[&str]| {
        let mut command: Command = host.command(words);
        let output = command.current_dir(directory).env("PWD", directory).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    put(&named, &["put", "d", "p/a"]);
    let v0 = host.path("p/a/v0");
    for (name, want) in
        [("last", "ck"), ("by_name", "ck"), ("ck/up", "w"), ("nothing", "not/there"), ("out", "../beside")]
    {
        assert_eq!(target(&v0.join(name)), want, "{name}");
    }
    fs::write(folder.join("ck/w"), "TWO").unwrap();
    assert_eq!(fs::read_to_string(v0.join("last/w")).unwrap(), "one");
    // Several paths: each under its own name.
    fs::create_dir(host.folder().join("real/e")).unwrap();
    symlink(folder.join("ck"), host.folder().join("real/e/to_d")).unwrap();
    put(&host.folder(), &["put", "real/d", "real/e", "p/b"]);
    assert_eq!(target(&host.path("p/b/v0/e/to_d")), "../d/ck");
    assert_eq!(target(&host.path("p/b/v0/d/last")), "ck");
    // What is staged, put as a folder.
    let s = host.artifact("p/c");
    fs::write(s.join("w"), "one").unwrap();
    symlink(s.join("w"), s.join("link")).unwrap();
    host.ok(&["put", s.to_str().unwrap(), "p/d"]);
    assert_eq!(target(&host.path("p/d/v0/link")), "w");
}

fn refusals() {
    let host = Host::new();
    host.version("p/ds", &[("f", b"data")]);
    fs::write(host.artifact("q/b").join("w"), "staged").unwrap();
    let s = host.artifact("p/a");
    fs::create_dir(host.path("p/a/staging.exp")).unwrap();
    fs::write(s.join("w"), "w").unwrap();
    for place in [
        "q/b/staging/w",
        "q/b/staging",
        "p/a/staging.exp/x",
        "p/a/next",
        "p/a/.artfs/log.jsonl",
        ".artfs/status.json",
        "p/ds",
        "p/ds/nosuch",
        "p/none",
        "q",
        "",
    ] {
        let at = s.join("bad");
        symlink(host.path(place), &at).unwrap();
        refused(place, host.commit("p/a"), libc::EPERM);
        let told = host.last_commit("p/a")["error"].as_str().unwrap().to_owned();
        assert!(told.contains("bad is a link to") && told.contains(place), "{told}");
        let told = host.failure(&["commit", "p/a"]);
        assert!(told.contains("bad is a link to"), "{told}");
        fs::remove_file(at).unwrap();
    }
    for text in ["../../ds", "../staging.exp", "../../../q/b/staging/w"] {
        symlink(text, s.join("bad")).unwrap();
        refused(text, host.commit("p/a"), libc::EPERM);
        fs::remove_file(s.join("bad")).unwrap();
    }
    assert_eq!(names(&s), ["w"]);
    host.commit("p/a").unwrap();
}
