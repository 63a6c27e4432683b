//! Staged files when `state.db` is lost, old, another's or damaged, and when the state folder was copied in part.

use std::fs;
use std::path::{Path, PathBuf};

use super::host::{Host, json, names, wait_until};

pub const TESTS: &[(&str, fn())] = &[
    ("a_missing_or_emptied_state_database_loses_no_staged_file", lost),
    ("an_older_state_database_neither_hides_new_sessions_nor_revives_committed_ones", older),
    ("another_hosts_state_database_hides_no_session_of_this_one", foreign),
    ("the_way_out_of_a_damaged_state_database_keeps_every_staged_file", damaged),
    ("staged_files_that_nothing_explains_are_set_aside_named_and_never_deleted", set_aside),
    ("of_two_sessions_with_one_name_the_known_one_stays_and_the_other_is_set_aside", two_of_a_name),
    ("a_session_whose_directory_was_not_copied_does_not_pass_for_an_empty_one", half_copied),
    ("what_a_commit_finished_with_is_deleted_and_not_staged_again_without_a_database", no_revival),
    ("a_state_folder_from_before_records_keeps_its_sessions", upgraded),
    ("a_collection_knows_what_sessions_stand_on_without_a_database", collected),
];

fn database(host: &Host) -> PathBuf {
    host.state.join("state.db")
}

fn remove_database(host: &Host) {
    for name in ["state.db", "state.db-wal", "state.db-shm"] {
        let _ = fs::remove_file(host.state.join(name));
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The directories of sessions.
fn sessions(host: &Host) -> Vec<PathBuf> {
    names(&host.state.join("sessions")).iter().map(|name| host.state.join("sessions").join(name)).collect()
}

fn copy(from: &Path, to: &Path) {
    super::host::program(from.parent().unwrap(), &["cp", "-a", from.to_str().unwrap(), to.to_str().unwrap()]);
}

fn lost() {
    let host = Host::new();
    host.version("p/base", &[("gone", b"1"), ("kept", b"2")]);
    host.ok(&["stage", "p/base", "--from", "v0"]);
    fs::remove_file(host.path("p/base/staging/gone")).unwrap();
    fs::write(host.path("p/base/staging/more"), "3").unwrap();
    let staging = host.artifact("p/new");
    fs::write(staging.join("w"), "precious").unwrap();
    super::sys::setxattr(&staging, "user.artfs.next.message", b"said before").unwrap();
    fs::create_dir(host.path("p/new/staging.exp")).unwrap();
    fs::write(host.path("p/new/staging.exp/e"), "named").unwrap();
    for how in ["removed", "emptied"] {
        host.umount();
        remove_database(&host);
        if how == "emptied" {
            fs::write(database(&host), "").unwrap();
        }
        host.mount();
        assert_eq!(read(&staging.join("w")), "precious", "{how}");
        assert_eq!(read(&host.path("p/new/staging.exp/e")), "named", "{how}");
        assert_eq!(names(&host.path("p/base/staging")), ["kept", "more"], "{how}");
        assert_eq!(host.status()["set_aside"], serde_json::json!([]), "{how}");
    }
    host.commit("p/base").unwrap();
    assert_eq!(names(&host.path("p/base/v1")), ["kept", "more"]);
    host.commit("p/new").unwrap();
    assert_eq!(json(&host.path("p/new/.artfs/v0.json"))["message"], "said before");
    assert_eq!(read(&host.path("p/new/v0/w")), "precious");
}

fn older() {
    let host = Host::new();
    fs::write(host.artifact("p/a").join("first"), "committed later").unwrap();
    fs::write(host.artifact("p/b").join("same"), "before").unwrap();
    host.umount();
    let old = host.folder().join("state.db.old");
    fs::copy(database(&host), &old).unwrap();
    host.mount();
    host.commit("p/a").unwrap();
    fs::write(host.artifact("p/a").join("second"), "new").unwrap();
    fs::write(host.artifact("p/c").join("third"), "new").unwrap();
    fs::write(host.path("p/b/staging/same"), "after").unwrap();
    host.umount();
    remove_database(&host);
    fs::copy(&old, database(&host)).unwrap();
    host.mount();
    assert_eq!(names(&host.path("p/a/staging")), ["second"]);
    assert_eq!(read(&host.path("p/c/staging/third")), "new");
    assert_eq!(read(&host.path("p/b/staging/same")), "after");
    assert_eq!(host.status()["set_aside"], serde_json::json!([]));
}

fn foreign() {
    let (host, other) = (Host::new(), Host::new());
    fs::write(host.artifact("p/a").join("w"), "mine").unwrap();
    fs::write(other.artifact("p/a").join("w"), "theirs").unwrap();
    fs::write(other.artifact("p/x").join("w"), "theirs").unwrap();
    host.umount();
    other.umount();
    remove_database(&host);
    fs::copy(database(&other), database(&host)).unwrap();
    host.mount();
    assert_eq!(read(&host.path("p/a/staging/w")), "mine");
    assert_eq!(host.status()["staging"].as_array().unwrap().len(), 1);
    assert!(host.log().contains("state.db names p/x/staging"), "{}", host.log());
}

fn damaged() {
    let host = Host::new();
    fs::write(host.artifact("p/a").join("w"), "precious").unwrap();
    host.umount();
    let whole = fs::read(database(&host)).unwrap();
    fs::write(database(&host), vec![b'x'; whole.len()]).unwrap();
    // The journal goes, too: with it SQLite would put the pages back.
    for name in ["state.db-wal", "state.db-shm"] {
        let _ = fs::remove_file(host.state.join(name));
    }
    let refused = host.try_mount();
    assert!(!refused.status.success());
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("state.db is damaged") && said.contains("move it aside"), "{said}");
    for name in ["state.db", "state.db-wal", "state.db-shm"] {
        let _ = fs::rename(host.state.join(name), host.state.join(format!("{name}.aside")));
    }
    host.mount();
    assert_eq!(read(&host.path("p/a/staging/w")), "precious");
}

fn set_aside() {
    let host = Host::new();
    fs::write(host.artifact("p/a").join("w"), "precious").unwrap();
    fs::write(host.artifact("p/b").join("w"), "damaged record").unwrap();
    host.umount();
    remove_database(&host);
    for session in sessions(&host) {
        let record = session.join("session.json");
        if read(&session.join("tree/w")) == "precious" {
            fs::remove_file(record).unwrap();
        } else {
            fs::write(record, "{\"form\":1").unwrap();
        }
    }
    let kept = host.state.join("set-aside");
    for _ in 0..2 {
        let output = host.try_mount();
        let said = String::from_utf8(output.stderr).unwrap();
        let folders = names(&kept);
        assert_eq!(folders.len(), 2);
        let status = host.status()["set_aside"].clone();
        let doctor = host.run(&["doctor"]);
        let doctor = String::from_utf8(doctor.stdout).unwrap();
        for folder in &folders {
            let path = kept.join(folder).display().to_string();
            for (who, told) in
                [("mount", &said), ("doctor", &doctor), ("status", &status.to_string()), ("log", &host.log())]
            {
                assert!(told.contains(&path), "{who}: {told}");
            }
        }
        let mut found: Vec<String> = folders.iter().map(|f| read(&kept.join(f).join("tree/w"))).collect();
        found.sort();
        assert_eq!(found, ["damaged record", "precious"]);
        host.umount();
    }
}

fn two_of_a_name() {
    let (host, other) = (Host::new(), Host::new());
    fs::write(host.artifact("p/a").join("w"), "mine").unwrap();
    fs::write(other.artifact("p/a").join("w"), "theirs").unwrap();
    host.umount();
    other.umount();
    let [theirs] = &sessions(&other)[..] else { panic!("one session") };
    copy(theirs, &host.state.join("sessions"));
    host.mount();
    assert_eq!(read(&host.path("p/a/staging/w")), "mine");
    let kept = host.state.join("set-aside").join(theirs.file_name().unwrap());
    assert_eq!(read(&kept.join("tree/w")), "theirs");
    assert!(read(&kept.join("reason.txt")).contains("p/a/staging is another session"));
}

fn half_copied() {
    let host = Host::new();
    host.version("p/a", &[("f", b"1")]);
    host.ok(&["stage", "p/a", "--from", "v0"]);
    fs::write(host.path("p/a/staging/f"), "changed").unwrap();
    host.umount();
    let [session] = &sessions(&host)[..] else { panic!("one session") };
    fs::rename(session, host.folder().join("not copied")).unwrap();
    host.mount();
    assert_eq!(names(&host.path("p/a/staging")), [""; 0], "not v0, as if nothing had been changed");
    assert!(host.log().contains("state.db names p/a/staging"), "{}", host.log());
    host.umount();
    // What was left out comes after all.
    fs::rename(host.folder().join("not copied"), session).unwrap();
    host.mount();
    assert_eq!(read(&host.path("p/a/staging/f")), "changed");
}

fn no_revival() {
    let host = Host::new();
    let spare = host.folder().join("spare");
    fs::create_dir(&spare).unwrap();
    fs::write(host.artifact("p/a").join("w"), "committed").unwrap();
    let [session] = &sessions(&host)[..] else { panic!("one session") };
    copy(session, &spare);
    let spared = spare.join(session.file_name().unwrap());
    host.commit("p/a").unwrap();
    wait_until("the session's files are deleted", || !session.exists());
    let text = read(&host.path("p/a/.artfs/log.jsonl"));
    let mut events = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let event = events.rfind(|event| event["kind"] == "commit").unwrap();
    // Killed before the files were deleted: with the mark; and before that too, with the commit's id only.
    for before_the_mark in [false, true] {
        host.umount();
        remove_database(&host);
        copy(&spared, &host.state.join("sessions"));
        let record = session.join("session.json");
        if before_the_mark {
            let mut said = json(&record);
            said["commit_id"] = event["id"].clone();
            fs::write(&record, said.to_string()).unwrap();
        } else {
            fs::rename(&record, session.join("retired")).unwrap();
        }
        host.mount();
        assert_eq!(names(&host.path("p/a/staging")), [""; 0], "before the mark: {before_the_mark}");
        wait_until("the session's files are deleted", || !session.exists());
        assert!(!host.state.join("set-aside").exists());
    }
}

fn upgraded() {
    let host = Host::new();
    host.version("p/a", &[("f", b"1")]);
    host.ok(&["stage", "p/a", "--from", "v0"]);
    fs::write(host.artifact("p/b").join("w"), "precious").unwrap();
    host.umount();
    let database = rusqlite::Connection::open(database(&host)).unwrap();
    database.pragma_update(None, "user_version", 0).unwrap();
    drop(database);
    for session in sessions(&host) {
        // One that was never looked into had no directory.
        if session.join("tree/w").exists() {
            fs::remove_file(session.join("session.json")).unwrap();
        } else {
            fs::remove_dir_all(session).unwrap();
        }
    }
    host.mount();
    assert_eq!(read(&host.path("p/a/staging/f")), "1");
    assert_eq!(read(&host.path("p/b/staging/w")), "precious");
    host.umount();
    remove_database(&host);
    host.mount();
    assert_eq!(read(&host.path("p/a/staging/f")), "1");
    assert_eq!(read(&host.path("p/b/staging/w")), "precious");
}

fn collected() {
    let host = Host::new();
    let bytes = super::support::environment::noise(7, 0, 500_000);
    host.version("p/a", &[("f", &bytes)]);
    host.version("p/a", &[("g", b"2")]);
    host.ok(&["stage", "p/a", "--from", "v0"]);
    host.umount();
    host.ok(&["rm", "p/a:v0"]);
    remove_database(&host);
    host.ok(&["gc", "--grace", "0s"]);
    host.mount();
    assert!(fs::read(host.path("p/a/staging/f")).unwrap() == bytes);
}
