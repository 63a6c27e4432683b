//! Many readers at once, and very many entries: what is taken of memory, and what is fetched and written.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::host::{Host, program};
use super::support::environment::noise;
use super::support::s3::{RequestKind, S3Server};

pub const TESTS: &[(&str, fn())] = &[
    ("two_hundred_open_streams_stay_within_the_memory_budget", streams),
    ("workers_that_share_one_mapping_fetch_once", shared_mapping),
    ("memory_of_a_commit_does_not_grow_with_its_entries", many_entries),
    ("one_change_in_a_version_of_many_entries_writes_a_few_blocks_on_any_host", one_change),
];

/// The most memory that the daemon had so far, in bytes.
fn peak(host: &Host) -> u64 {
    let pid = host.status()["pid"].as_u64().unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() * 1024
}

/// The budget of a daemon by default, and what it may take besides.
const MOST: u64 = (256 + 64) << 20;

fn streams() {
    const HANDLES: u64 = 200;
    const BYTES: usize = 2 << 20;
    let writer = Host::unmounted(None, &[]);
    let tree = writer.folder().join("tree");
    fs::create_dir(&tree).unwrap();
    for i in 0..HANDLES {
        fs::write(tree.join(format!("{i:03}")), noise(11, i, BYTES)).unwrap();
    }
    writer.ok(&["put", tree.to_str().unwrap(), "p/a"]);
    fs::remove_dir_all(&tree).unwrap();
    let host = writer.beside(&["--read-only"]);
    let mut files: Vec<File> =
        (0..HANDLES).map(|i| File::open(host.path(format!("p/a/v0/{i:03}"))).unwrap()).collect();
    let mut read = vec![vec![]; files.len()];
    let mut buffer = vec![0; 128 << 10];
    // A piece of each in turn, so that all of them are on their way all the time.
    for _ in 0..BYTES / buffer.len() {
        for (file, bytes) in files.iter_mut().zip(&mut read) {
            file.read_exact(&mut buffer).unwrap();
            bytes.push(blake3::hash(&buffer));
        }
    }
    for (i, hashes) in (0..).zip(&read) {
        let content = noise(11, i, BYTES);
        assert!(content.chunks(buffer.len()).map(blake3::hash).eq(hashes.iter().copied()), "file {i}");
    }
    let peak = peak(&host);
    assert!(peak <= MOST, "{} MiB", peak >> 20);
}

fn shared_mapping() {
    const BYTES: usize = 8 << 20;
    const WORKERS: usize = 8;
    let server = S3Server::spawn();
    let writer = Host::on(&server, &[]);
    writer.mount();
    fs::write(writer.artifact("p/a").join("model.safetensors"), noise(12, 0, BYTES)).unwrap();
    writer.commit("p/a").unwrap();
    let host = Host::on(&server, &["--read-only"]);
    host.mount();
    server.clear_requests();
    let script = "import hashlib,mmap,os,random,sys
f=open(sys.argv[1],'rb'); m=mmap.mmap(f.fileno(),0,prot=mmap.PROT_READ)
pids=[]
for worker in range(int(sys.argv[2])):
    pid=os.fork()
    if pid==0:
        places=list(range(0,len(m),1<<16)); random.Random(worker).shuffle(places)
        parts={at:m[at:at+(1<<16)] for at in places}
        whole=hashlib.sha256(b''.join(parts[at] for at in sorted(parts))).hexdigest()
        os._exit(0 if whole==sys.argv[3] else 1)
    pids.append(pid)
print([os.waitstatus_to_exitcode(os.waitpid(pid,0)[1]) for pid in pids])";
    let sum = program(&writer.at, &["sha256sum", "p/a/v0/model.safetensors"]);
    let sum = sum.split(' ').next().unwrap();
    let path = host.path("p/a/v0/model.safetensors");
    let workers = WORKERS.to_string();
    let told = program(&host.at, &["python3", "-c", script, path.to_str().unwrap(), &workers, sum]);
    assert_eq!(told.trim(), format!("[{}]", ["0"; WORKERS].join(", ")));
    let fetched: u64 = server
        .requests()
        .iter()
        .filter(|request| request.key.contains("/packs/") && request.kind == RequestKind::Get)
        .map(|request| request.bytes)
        .sum();
    // Once, and the lists of chunks.
    assert!(fetched < BYTES as u64 + (1 << 20), "{fetched} bytes");
}

/// A tree of links whose records in a manifest take 400 bytes each, of which some 40 do not compress.
fn links(root: &Path, count: usize) {
    let rest = "t".repeat(240);
    for i in 0..count {
        let folder = root.join(format!("d{:03}", i / 2000));
        if i % 2000 == 0 {
            fs::create_dir_all(&folder).unwrap();
        }
        let target = format!("{}{rest}", blake3::hash(&i.to_le_bytes()));
        symlink(target, folder.join(format!("link-{i:07}"))).unwrap();
    }
}

/// Puts a tree of so many links, and tells the most memory that it took, in bytes.
fn peak_of_put(count: usize) -> u64 {
    let host = Host::unmounted(None, &[]);
    let tree = host.folder().join("tree");
    links(&tree, count);
    let put = host.command(&["put", tree.to_str().unwrap(), "p/a"]);
    let script = "import os,resource,subprocess,sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";
    let mut measured = std::process::Command::new("python3");
    measured.args(["-c", script]).arg(put.get_program()).args(put.get_args());
    measured.envs(put.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = measured.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    told.trim().parse::<u64>().unwrap() * 1024
}

fn many_entries() {
    const MANY: usize = 120_000;
    let (few, many) = (peak_of_put(2000), peak_of_put(MANY));
    // What may still grow: the names of one directory, blocks on their way in a pack, 40 bytes an entry.
    let most = few + (48 << 20) + 40 * MANY as u64;
    assert!(many <= most, "{} MiB for few entries and {} MiB for many", few >> 20, many >> 20);
}

/// Objects in a store and their bytes.
fn stored(host: &Host) -> (usize, u64) {
    let (mut objects, mut bytes, mut open) = (0, 0, vec![host.store_folder()]);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else {
                objects += 1;
                bytes += entry.metadata().unwrap().len();
            }
        }
    }
    (objects, bytes)
}

fn one_change() {
    const ENTRIES: usize = 40_000;
    let writer = Host::unmounted(None, &[]);
    let tree = writer.folder().join("tree");
    links(&tree, ENTRIES);
    fs::write(tree.join("d010/model.bin"), noise(13, 0, 3000)).unwrap();
    writer.ok(&["put", tree.to_str().unwrap(), "p/a"]);
    // Of this version it knows nothing but what is in the store.
    let host = writer.beside(&[]);
    let (objects, bytes) = stored(&writer);
    host.ok(&["stage", "p/a", "--from", "v0"]);
    let staging = host.path("p/a/staging");
    for at in [&staging, &tree] {
        fs::write(at.join("d010/model.bin"), noise(13, 1, 3000)).unwrap();
        fs::write(at.join("d010/other"), "new").unwrap();
        fs::remove_file(at.join("d003/link-0006123")).unwrap();
        fs::remove_dir_all(at.join("d015")).unwrap();
        fs::create_dir(at.join("d015")).unwrap();
        fs::rename(at.join("d000/link-0000001"), at.join("first")).unwrap();
    }
    host.commit("p/a").unwrap();
    let (objects_now, bytes_now) = stored(&writer);
    // Packs of content and of blocks, manifest, event, what it says of its run.
    assert!(objects_now - objects <= 6, "{} objects", objects_now - objects);
    let written = bytes_now - bytes;
    assert!(written * 6 < bytes, "{written} bytes beside {bytes}");
    // The same tree, read anew, is the same version.
    let again = writer.ok(&["put", tree.to_str().unwrap(), "p/a"]);
    assert!(again.contains("v1 already has this content"), "{again}");
    writer.ok(&["verify", "p/a:v1"]);
}
