//! What an auditor keeps of a version proves a copy, by tools that know nothing of this program.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use super::host::{Host, names, program, skip};
use super::support::environment::noise;
use super::sys;

pub const TESTS: &[(&str, fn())] = &[
    ("b3sum_finds_a_copy_right_and_a_changed_copy_wrong", b3sum),
    ("a_copy_of_a_version_with_another_in_it_is_checked_by_kept_listings", listings),
    ("a_store_with_sha256_records_it_for_every_file_and_clones_keep_it", sha256),
    ("sha256_is_decided_when_a_store_is_made", decided_once),
];

/// What `b3sum --check` does, by another implementation of BLAKE3 that reads the same file.
const PYTHON: &str = r#"
import blake3, sys
failed = 0
for line in open(sys.argv[1], newline="\n"):
    line = line[:-1]
    if escaped := line.startswith("\\"):
        line = line[1:]
    hash, path = line.split("  ", 1)
    if escaped:
        path = path.replace("\\\\", "\0").replace("\\n", "\n").replace("\\r", "\r").replace("\0", "\\")
    if blake3.blake3(open(path, "rb").read()).hexdigest() != hash:
        print(f"{path}: FAILED")
        failed = 1
sys.exit(failed)
"#;

/// Whether an outside judge finds all files of `directory` as `sums` says.
fn judge(directory: &Path, sums: &Path) -> bool {
    let run = |command: &mut Command| command.current_dir(directory).output();
    if let Ok(output) = run(Command::new("b3sum").arg("--check").arg(sums)) {
        return output.status.success();
    }
    if Command::new("python3").args(["-c", "import blake3"]).output().is_ok_and(|o| o.status.success()) {
        return run(Command::new("python3").args(["-c", PYTHON]).arg(sums)).unwrap().status.success();
    }
    skip("there is neither b3sum nor Python's blake3")
}

fn b3sum() {
    let host = Host::new();
    let big = noise(1, 2, 900_000);
    host.version("p/a", &[("a b", b"x"), ("d/big.bin", &big), ("empty", b""), ("odd\\\nname", b"odd")]);
    let kept = host.folder().join("kept");
    program(&host.folder(), &["cp", "-r", host.path("p/a/.artfs").to_str().unwrap(), "kept"]);
    program(&host.folder(), &["cp", "-r", host.path("p/a/v0").to_str().unwrap(), "copy"]);
    let (copy, sums) = (host.folder().join("copy"), kept.join("v0.b3sums"));
    assert!(judge(&copy, &sums));
    let digest = host.ok(&["show", "--json", "p/a"]);
    let digest =
        serde_json::from_str::<serde_json::Value>(&digest).unwrap()["digest"].as_str().unwrap().to_owned();
    fs::write(host.folder().join("listing.sum"), format!("{digest}  v0.listing\n")).unwrap();
    assert!(judge(&kept, &host.folder().join("listing.sum")), "the listing's BLAKE3 is the digest");
    // Each line of the log has what b3sum says of the one before.
    let lines = fs::read_to_string(kept.join("log.jsonl")).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    for pair in lines.windows(2) {
        fs::write(host.folder().join("line"), pair[0]).unwrap();
        let next: serde_json::Value = serde_json::from_str(pair[1]).unwrap();
        let prev = next["prev"].as_str().unwrap().strip_prefix("b3:").unwrap();
        fs::write(host.folder().join("line.sum"), format!("{prev}  line\n")).unwrap();
        assert!(judge(&host.folder(), &host.folder().join("line.sum")));
    }
    for (path, bytes) in [("a b", &b"y"[..]), ("d/big.bin", &big[..899_999]), ("odd\\\nname", b"odd ")] {
        let good = fs::read(copy.join(path)).unwrap();
        fs::write(copy.join(path), bytes).unwrap();
        assert!(!judge(&copy, &sums), "{path}");
        fs::write(copy.join(path), good).unwrap();
    }
    assert!(judge(&copy, &sums));
}

fn listings() {
    let host = Host::new();
    host.version("p/ds", &[("train/x/1", b"one"), ("train/x/2", b"two"), ("val/y", b"y")]);
    let staging = host.artifact("p/m");
    symlink(host.path("p/ds/v0"), staging.join("ds")).unwrap();
    symlink(host.path("p/ds/v0/train"), staging.join("part")).unwrap();
    symlink("w", staging.join("link")).unwrap();
    fs::write(staging.join("w"), "w").unwrap();
    host.commit("p/m").unwrap();
    for (from, to) in
        [("p/m/v0", "copy"), ("p/m/.artfs/v0.listing", "m.listing"), ("p/m/.artfs/v0.json", "m.json")]
    {
        program(&host.folder(), &["cp", "-r", host.path(from).to_str().unwrap(), to]);
    }
    program(&host.folder(), &["cp", host.path("p/ds/.artfs/v0.listing").to_str().unwrap(), "ds.listing"]);
    host.umount();
    fs::rename(host.store_folder(), host.folder().join("away")).unwrap();
    let verify = |more: &[&str]| {
        let mut words = vec!["--store", "nowhere", "--state", "fresh", "verify", "--path", "copy"];
        words.extend(more);
        let output = host.command(&words).current_dir(host.folder()).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code().unwrap(), said)
    };
    let all = ["p/m:v0", "--record", "m.json", "--listing", "m.listing", "--listing", "ds.listing"];
    assert_eq!(verify(&all).0, 0, "{}", verify(&all).1);
    // Without the listing of the other version its content is not reported, and that is not a success.
    let (code, said) = verify(&all[..5]);
    assert_eq!((code, said.matches("unchecked").count()), (3, 2), "{said}");
    let copy = host.folder().join("copy");
    fs::write(copy.join("ds/train/x/2"), "TWO").unwrap();
    fs::write(copy.join("part/x/more"), "").unwrap();
    fs::remove_dir_all(copy.join("ds/val")).unwrap();
    fs::remove_file(copy.join("link")).unwrap();
    symlink("other", copy.join("link")).unwrap();
    let (code, said) = verify(&all);
    assert_eq!(code, 3, "{said}");
    for part in [
        "different ds/train/x/2",
        "extra     part/x/more",
        "missing   ds/val",
        "different link",
        "4 findings",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let mut changed = fs::read(host.folder().join("m.listing")).unwrap();
    changed[2] ^= 1;
    fs::write(host.folder().join("m.listing"), changed).unwrap();
    let (code, said) = verify(&all);
    assert!(code != 0 && said.contains("m.listing"), "{said}");
}

fn sha256() {
    let host = Host::unmounted(None, &[]);
    host.set_options(&["--sha256"]);
    host.mount();
    let big = noise(1, 2, 3_000_000);
    host.version("p/a", &[("big.bin", &big), ("d/small", b"s"), ("empty", b"")]);
    fs::create_dir_all(host.artifact("p/a")).unwrap();
    program(&host.path("p/a"), &["cp", "-r", "v0/.", "staging/"]);
    fs::write(host.path("p/a/staging/new"), "new").unwrap();
    host.commit("p/a").unwrap();
    for version in ["v0", "v1"] {
        let sums = host.path(format!("p/a/.artfs/{version}.sha256sums"));
        let at = host.path(format!("p/a/{version}"));
        let files = if version == "v0" { 3 } else { 4 };
        assert_eq!(fs::read_to_string(&sums).unwrap().lines().count(), files);
        program(&at, &["sha256sum", "--check", "--strict", sums.to_str().unwrap()]);
        let said = program(&at, &["sha256sum", "big.bin"]);
        let said = said.split_whitespace().next().unwrap().to_owned();
        assert_eq!(sys::getxattr(&at.join("big.bin"), "user.artfs.sha256").unwrap(), said);
    }
    assert!(names(&host.path("p/a/.artfs")).contains(&"v1.sha256sums".to_owned()));
    // A clone that was not read again, a session that stands on a version, and a tree put without a mount.
    host.ok(&["stage", "p/a", "--from", "v1"]);
    fs::write(host.path("p/a/staging/d/small"), "changed").unwrap();
    host.commit("p/a").unwrap();
    fs::write(host.folder().join("plain"), "plain").unwrap();
    host.ok(&["put", host.folder().join("plain").to_str().unwrap(), "p/b"]);
    for (artifact, version, files) in [("p/a", "v2", 4), ("p/b", "v0", 1)] {
        let sums = host.path(format!("{artifact}/.artfs/{version}.sha256sums"));
        program(
            &host.path(format!("{artifact}/{version}")),
            &["sha256sum", "--check", sums.to_str().unwrap()],
        );
        assert_eq!(fs::read_to_string(&sums).unwrap().lines().count(), files);
        host.ok(&["verify", &format!("{artifact}:{version}")]);
    }
    assert!(host.ok(&["audit", "p/a"]).contains("sha256sum --check"));
}

fn decided_once() {
    let host = Host::new();
    host.version("p/a", &[("f", b"f")]);
    assert!(!host.path("p/a/.artfs/v0.sha256sums").exists());
    assert!(!host.ok(&["audit", "p/a"]).contains("sha256sum --check"));
    assert!(sys::getxattr(&host.path("p/a/v0/f"), "user.artfs.sha256").is_err());
    let file = host.folder().join("f");
    fs::write(&file, "g").unwrap();
    let said = host.failure(&["put", "--sha256", file.to_str().unwrap(), "p/a"]);
    assert!(said.contains("was created without --sha256"), "{said}");
    host.ok(&["put", file.to_str().unwrap(), "p/a"]);
}
