//! Real programs in staging, with passthrough and without, and their results in a version.

use std::fs;
use std::path::Path;

use super::host::{Host, need, program};

pub const TESTS: &[(&str, fn())] = &[
    ("cp_rsync_tar_and_unzip_bring_a_tree_through_a_commit", || both(copiers)),
    ("git_works_in_staging_and_in_a_version", || both(git)),
    ("sqlite_works_in_staging_and_in_a_version", || both(sqlite)),
    ("writers_of_models_work_in_staging", || both(model_writers)),
    ("editors_and_builders_work_in_staging", || both(builders)),
];

fn both(test: fn(&Host)) {
    test(&Host::new());
    eprintln!("again without passthrough");
    test(&Host::with(&["--no-passthrough"]));
}

/// A tree with a bit of everything.
fn source(folder: &Path) {
    let script = "mkdir -p src/d/e src/empty && cd src && head -c 700000 /dev/urandom >big
for i in $(seq 60); do head -c $((i*37)) /dev/urandom >d/f$i; done
echo '#!/bin/sh' >d/tool; chmod 755 d/tool; ln -s d/f1 link; ln -s /nowhere d/dangling; : >d/e/nothing
touch -d 2001-02-03T04:05:06Z d/f1 d/e; echo x >'with blank'; ln d/f2 d/twin; mkdir -p deep/1/2/3/4; echo y >deep/1/2/3/4/z";
    program(folder, &["sh", "-ec", script]);
}

fn copiers(host: &Host) {
    for name in ["rsync", "tar", "unzip"] {
        need(name);
    }
    let folder = host.folder();
    source(&folder);
    let s = host.artifact("p/a");
    let zip = "import os,sys,zipfile
with zipfile.ZipFile('src.zip','w',zipfile.ZIP_DEFLATED) as z:
    for d,ds,fs in os.walk('src'):
        for f in fs+ds:
            p=os.path.join(d,f)
            if not os.path.islink(p): z.write(p)";
    program(&folder, &["python3", "-c", zip]);
    program(&folder, &["cp", "-a", "src", "mnt/p/a/staging/cp"]);
    program(&folder, &["rsync", "-a", "src/", "mnt/p/a/staging/rsync/"]);
    program(
        &folder,
        &["sh", "-ec", "mkdir mnt/p/a/staging/tar; tar -C src -cf - . | tar -C mnt/p/a/staging/tar -xpf -"],
    );
    program(&folder, &["unzip", "-q", "src.zip", "-d", "mnt/p/a/staging/zip"]);
    // rsync again finds nothing to do; with a change, that alone.
    let again = program(&folder, &["rsync", "-ai", "src/", "mnt/p/a/staging/rsync/"]);
    assert_eq!(again, "");
    let compare = |root: &str| {
        for name in ["cp", "rsync", "tar"] {
            program(&folder, &["diff", "-r", "--no-dereference", "src", &format!("mnt/p/a/{root}/{name}")]);
        }
        program(
            &folder,
            &[
                "sh",
                "-ec",
                &format!(
                    "cd src; find . -type f -exec cmp {{}} ../mnt/p/a/{root}/zip/src/{{}} \\; | grep . && exit 1; \
             test -x ../mnt/p/a/{root}/tar/d/tool; test ! -x ../mnt/p/a/{root}/tar/big; \
             test $(stat -c %Y ../mnt/p/a/{root}/cp/d/f1) = $(stat -c %Y d/f1); \
             test $(stat -c %Y ../mnt/p/a/{root}/rsync/d/e) = $(stat -c %Y d/e); test -d ../mnt/p/a/{root}/cp/empty"
                ),
            ],
        );
    };
    compare("staging");
    host.commit("p/a").unwrap();
    compare("v0");
    // Back out of the version, and in again: nothing new.
    program(&folder, &["cp", "-a", "mnt/p/a/v0/cp", "back"]);
    program(&folder, &["diff", "-r", "--no-dereference", "src", "back"]);
    program(
        &folder,
        &["sh", "-ec", "cp -a mnt/p/a/v0/. mnt/p/a/staging/ && mv mnt/p/a/staging mnt/p/a/next"],
    );
    assert_eq!(host.versions("p/a"), ["v0"]);
    program(
        &s,
        &[
            "sh",
            "-ec",
            "cp -r ../v0/. . && rsync -a --delete ../v0/tar/ ./cp/ && rm -r tar zip && mv ../staging ../v1",
        ],
    );
    program(&folder, &["diff", "-r", "--no-dereference", "src", "mnt/p/a/v1/cp"]);
}

fn git(host: &Host) {
    need("git");
    let s = host.artifact("p/a");
    program(&s, &["sh", "-ec", "export HOME=$PWD; git init -q origin; cd origin; git config user.email a@b; git config user.name a
for i in $(seq 30); do echo $i >f$i; git add f$i; git commit -qm $i; done; git gc -q; cd ..
git -c protocol.file.allow=always clone -q origin copy; cd copy; git status --porcelain | grep . && exit 1
git fsck --strict; echo more >>f7; git -c user.email=a@b -c user.name=a commit -qam more; git mv f8 g8; git stash -q; git stash drop -q; git checkout -q -b side; cd ..; rm -rf origin"]);
    host.commit("p/a").unwrap();
    let latest = host.path("p/a/latest/copy");
    let log = program(&latest, &["git", "-c", "safe.directory=*", "log", "--oneline"]);
    assert_eq!(log.lines().count(), 31);
    program(&latest, &["git", "-c", "safe.directory=*", "fsck", "--strict"]);
    assert_eq!(program(&latest, &["cat", "f7"]), "7\nmore\n");
}

fn sqlite(host: &Host) {
    need("sqlite3");
    let s = host.artifact("p/a");
    let fill = "pragma journal_mode=wal; create table t(x); \
        with recursive n(i) as (select 1 union all select i+1 from n where i<5000) insert into t select i from n;";
    program(&s, &["sqlite3", "t.db", fill]);
    // Two processes at once, a third in rollback mode.
    program(&s, &["sh", "-ec", "for p in 1 2 3; do (for i in $(seq 10); do sqlite3 -cmd '.timeout 20000' t.db \"insert into t values($p);\"; done) & done; wait
sqlite3 r.db 'pragma journal_mode=delete; create table t(x); insert into t values(1);'; sqlite3 r.db 'begin; insert into t values(2); rollback;'"]);
    assert_eq!(program(&s, &["sqlite3", "t.db", "select count(*) from t"]).trim(), "5030");
    assert_eq!(program(&s, &["sqlite3", "t.db", "pragma integrity_check"]).trim(), "ok");
    host.kill9_and_remount();
    assert_eq!(program(&s, &["sqlite3", "t.db", "select count(*) from t"]).trim(), "5030");
    host.commit("p/a").unwrap();
    let v0 = host.path("p/a/v0");
    assert_eq!(program(&v0, &["sqlite3", "file:t.db?immutable=1", "select count(*) from t"]).trim(), "5030");
    assert_eq!(program(&v0, &["sqlite3", "file:r.db?immutable=1", "select count(*) from t"]).trim(), "1");
}

fn model_writers(host: &Host) {
    let s = host.artifact("p/a");
    // As torch.save (a stored zip, written front to back with a seek for sizes), safetensors (a header, then mmap)
    // and numpy's memmap do it.
    let script = "import io,json,mmap,os,pickle,struct,zipfile
data=os.urandom(400000)
with zipfile.ZipFile('model.pt.tmp','w',zipfile.ZIP_STORED,allowZip64=True) as z:
    z.writestr('archive/data.pkl',pickle.dumps({'w':list(range(1000))}))
    with z.open('archive/data/0','w',force_zip64=True) as f:
        for i in range(0,len(data),65536): f.write(data[i:i+65536])
    z.writestr('archive/version','3')
fd=os.open('model.pt.tmp',os.O_RDONLY); os.fsync(fd); os.close(fd)
os.replace('model.pt.tmp','model.pt')
h=json.dumps({'w':{'dtype':'U8','shape':[len(data)],'data_offsets':[0,len(data)]}}).encode()
with open('model.safetensors','wb+') as f:
    f.write(struct.pack('<Q',len(h))+h); f.truncate(8+len(h)+len(data)); f.flush()
    m=mmap.mmap(f.fileno(),0); m[8+len(h):]=data; m.flush(); m.close()
try:
    import numpy
    a=numpy.lib.format.open_memmap('a.npy',mode='w+',dtype='f4',shape=(100,100)); a[:]=7; a.flush(); del a
    numpy.savez('b.npz',x=numpy.arange(1000))
    assert numpy.load('a.npy',mmap_mode='r')[5,5]==7 and numpy.load('b.npz')['x'][999]==999
except ImportError: pass
with open('check','wb') as f: f.write(data)
d=os.open('.',os.O_RDONLY); os.fsync(d); os.close(d)";
    program(&s, &["python3", "-c", script]);
    host.commit("p/a").unwrap();
    let check = "import json,mmap,struct,zipfile
data=open('check','rb').read()
assert zipfile.ZipFile('model.pt').read('archive/data/0')==data
with open('model.safetensors','rb') as f:
    m=mmap.mmap(f.fileno(),0,prot=mmap.PROT_READ); n=struct.unpack('<Q',m[:8])[0]
    assert json.loads(m[8:8+n])['w']['shape']==[len(data)] and m[8+n:]==data
try:
    import numpy
    assert numpy.load('a.npy',mmap_mode='r')[99,99]==7
except ImportError: pass";
    program(&host.path("p/a/v0"), &["python3", "-c", check]);
    host.remount();
    program(&host.path("p/a/latest"), &["python3", "-c", check]);
}

fn builders(host: &Host) {
    let s = host.artifact("p/a");
    program(&s, &["sh", "-ec", "seq 1000 >f; sed -i s/^7$/seven/ f; sort -R f -o f; sort -n f >g; mv f h; split -l 100 g part.; cat part.* | cmp - g
for i in $(seq 40); do echo $i >>log & done; wait; test $(wc -l <log) = 40
tail -c 4 g >t; dd if=/dev/zero of=z bs=4096 count=20 conv=fsync status=none; dd if=g of=z bs=1 seek=100 count=10 conv=notrunc status=none
printf '#!/bin/sh\\necho ran\\n' >x; chmod +x x; test \"$(./x)\" = ran; mkfifo p; (echo through >p &) ; test \"$(cat p)\" = through; rm p
find . -name 'part.*' -delete; mkdir -p a/b/c; cp g a/b/c/; mv a moved; rm -rf moved; install -m 755 x y; gzip -k g; gunzip -c g.gz | cmp - g"]);
    let names = super::host::names(&s);
    assert_eq!(names, ["g", "g.gz", "h", "log", "t", "x", "y", "z"]);
    assert_eq!(fs::metadata(s.join("z")).unwrap().len(), 20 * 4096);
    host.commit("p/a").unwrap();
    assert_eq!(program(&host.path("p/a/v0"), &["sh", "-ec", "./y; gunzip -c g.gz | cmp - g"]), "ran\n");
}
