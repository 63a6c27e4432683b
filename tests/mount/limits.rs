//! Limits of one host on open files: reported as such, and never mistaken for trouble of the store.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

use super::host::{Host, errno};

pub const TESTS: &[(&str, fn())] = &[
    ("twelve_hundred_files_are_open_at_once_though_the_limit_was_1024", many_open),
    ("a_mount_that_cannot_open_more_files_serves_its_other_users_and_says_why", no_more),
    ("what_a_user_starts_has_the_limit_and_the_signals_that_artfs_was_given", given_back),
];

const FILES: usize = 1200;
/// Large enough to be handed to the kernel as a file.
const BYTES: usize = 1 << 20;

/// A host whose programs are started with these limits of open files, soft and hard.
fn limited(soft: u64, hard: u64) -> Host {
    let host = Host::unmounted(None, &[]);
    host.start_through(&[
        "sh",
        "-c",
        &format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$@\""),
        "sh",
    ]);
    host.mount();
    host
}

/// The test itself needs many files, too.
fn lift_own_limit() {
    let limit = artfs::host::process::limits::raise();
    assert!(limit.now > 2 * FILES as u64 + 500, "the hard limit here is too low: {limit:?}");
}

fn large_version(host: &Host) {
    let staging = host.artifact("p/o");
    for i in 0..FILES {
        let file = File::create(staging.join(format!("f{i}"))).unwrap();
        file.set_len(BYTES as u64).unwrap();
        file.write_all_at(&i.to_le_bytes(), 0).unwrap();
    }
    host.commit("p/o").unwrap();
}

fn open_all(host: &Host) -> Vec<File> {
    let open = |i: usize| {
        let file = File::open(host.path(format!("p/o/v0/f{i}"))).unwrap();
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(usize::from_le_bytes(bytes), i);
        file
    };
    (0..FILES).map(open).collect()
}

fn create_all(host: &Host) -> Vec<io::Result<File>> {
    let staging = host.artifact("p/w");
    (0..FILES).map(|i| File::create(staging.join(format!("w{i}")))).collect()
}

fn many_open() {
    lift_own_limit();
    let host = limited(1024, 8000);
    let status = host.status();
    assert_eq!(
        (&status["open_files"]["limit"], &status["open_files"]["hard_limit"]),
        (&8000.into(), &8000.into())
    );
    large_version(&host);
    let open = open_all(&host);
    let made: Vec<File> = create_all(&host).into_iter().map(Result::unwrap).collect();
    assert!(host.status()["open_files"]["open"].as_u64().unwrap() > FILES as u64);
    fs::create_dir_all(host.path("p/other")).unwrap();
    drop((open, made));
    let text = host.ok(&["doctor"]);
    assert!(text.contains(" of 8000 files are open"), "{text}");
}

fn no_more() {
    lift_own_limit();
    let host = limited(256, 700);
    large_version(&host);
    // Committed files need no descriptor of the daemon for each that is open.
    let open = open_all(&host);
    let made = create_all(&host);
    let (mut kept, mut refused) = (vec![], 0);
    for result in made {
        match result {
            Ok(file) => kept.push(file),
            Err(e) => {
                assert_eq!(e.raw_os_error(), Some(libc::ENFILE), "{e}");
                refused += 1;
            }
        }
    }
    assert!(kept.len() > 100 && refused > 100, "{} were made, {refused} refused", kept.len());
    // Everything else goes on, for others too.
    assert_eq!(fs::read(host.path("p/o/v0/f7")).unwrap().len(), BYTES);
    assert_eq!(fs::read_dir(host.path("p/o/v0")).unwrap().count(), FILES);
    host.artifact("p/other");
    host.ok(&["put", "/etc/passwd", "p/put"]);
    assert_eq!(fs::read(host.path("p/put/v0/passwd")).unwrap(), fs::read("/etc/passwd").unwrap());
    assert_eq!(kept[0].write_at(b"x", 0).unwrap(), 1);
    let log = host.log();
    assert!(log.contains("this process has as many files open as its limit lets it"), "{log}");
    assert!(log.contains("and 700 may be: its hard limit"), "{log}");
    assert!(!log.contains("the store does not answer") && !log.contains("cannot be reached"), "{log}");
    assert!(host.status()["store_offline_since"].is_null());
    let doctor = String::from_utf8(host.run(&["doctor"]).stdout).unwrap();
    assert!(
        doctor.contains("WARN  daemon") && doctor.contains("of 700 files are open: no further file"),
        "{doctor}"
    );
    drop(kept);
    assert_eq!(errno(File::create(host.path("p/w/staging/again"))), 0);
    drop(open);
}

fn given_back() {
    let host = limited(300, 2000);
    let line = "ulimit -Sn; ulimit -Hn; grep SigIgn /proc/self/status";
    let told = host.ok(&["run", "--", "sh", "-c", line]);
    let (limits, ignored) = told.split_once("SigIgn:").unwrap();
    assert_eq!(limits, "300\n2000\n");
    // Those that the C library keeps for itself do not count.
    let classic = |mask: &str| u64::from_str_radix(mask.trim(), 16).unwrap() & 0x7fff_ffff;
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    // This program is one of Rust, which ignores PIPE.
    assert_eq!(classic(ignored), classic(own) & !(1 << (libc::SIGPIPE - 1)));
    host.ok(&["put", "/etc/passwd", "p/a"]);
    let out = host.folder().join("hook");
    let hook = format!("(ulimit -Sn) >{}", out.display());
    host.ok(&["watch", "--once", "--exec", &hook]);
    assert_eq!(fs::read_to_string(out).unwrap(), "300\n");
    // A signal that was ignored stays so.
    let words = ["-c", "trap '' HUP; exec \"$@\"", "sh"];
    let mut nohup = std::process::Command::new("sh");
    let command =
        host.command(&["run", "--", "sh", "-c", "kill -HUP $PPID; sleep 0.2; kill -HUP $$; echo alive"]);
    nohup.args(words).arg(command.get_program()).args(command.get_args());
    nohup.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    assert_eq!(String::from_utf8(nohup.output().unwrap().stdout).unwrap(), "alive\n");
}
