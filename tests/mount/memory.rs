//! Many readers at once: what the daemon takes of memory, and what it fetches.

use std::fs::{self, File};
use std::io::Read;

use super::host::{Host, program};
use super::support::environment::noise;
use super::support::s3::{RequestKind, S3Server};

pub const TESTS: &[(&str, fn())] = &[
    ("two_hundred_open_streams_stay_within_the_memory_budget", streams),
    ("workers_that_share_one_mapping_fetch_once", shared_mapping),
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
