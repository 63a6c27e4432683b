//! Processes as `/proc` tells of them. All reads are bounded.
//!
//! `cmdline` and `environ` wait for the memory map of the process that they are of, which may be at work in a file of
//! ours: never read them on a thread that the kernel waits for.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::table::{Process, ProcessKey, ProcessTree};

/// What is read of a file of `/proc`; longer environments and command lines are cut.
const MAX_BYTES: u64 = 1 << 20;
/// Generations that are followed upwards.
pub(super) const MAX_DEPTH: usize = 64;
/// A name of a container has at least this many hex digits.
const MIN_CONTAINER_DIGITS: usize = 32;

/// The processes of this machine, as this process may see them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Proc;

impl ProcessTree for Proc {
    fn process_of(&self, thread: u32) -> Option<u32> {
        status(thread)?.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
    }

    fn process(&self, pid: u32) -> Option<Process> {
        parse_stat(pid, &text(&read(pid, "stat")?))
    }

    fn command(&self, process: ProcessKey) -> Vec<String> {
        let bytes = read(process.pid, "cmdline").unwrap_or_default();
        let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
        if bytes.is_empty() { vec![] } else { bytes.split(|b| *b == 0).map(text).collect() }
    }

    fn variables(&self, process: ProcessKey, names: &[&str]) -> Vec<(String, String)> {
        let bytes = read(process.pid, "environ").unwrap_or_default();
        let pairs = bytes.split(|b| *b == 0).filter_map(|pair| {
            let equals = pair.iter().position(|b| *b == b'=')?;
            let name = std::str::from_utf8(&pair[..equals]).ok().filter(|name| names.contains(name))?;
            Some((name.to_owned(), text(&pair[equals + 1..])))
        });
        pairs.filter(|(_, value)| !value.is_empty()).collect()
    }

    fn container(&self, process: ProcessKey) -> Option<String> {
        container_of(&text(&read(process.pid, "cgroup")?))
    }
}

impl Proc {
    /// The working directory of a process.
    pub fn directory(&self, pid: u32) -> Option<PathBuf> {
        std::fs::read_link(format!("/proc/{pid}/cwd")).ok()
    }

    /// The program's file.
    pub fn executable(&self, pid: u32) -> Option<PathBuf> {
        std::fs::read_link(format!("/proc/{pid}/exe")).ok()
    }

    /// The user it runs as.
    pub fn user(&self, pid: u32) -> Option<u32> {
        std::fs::metadata(format!("/proc/{pid}")).ok().map(|meta| meta.uid())
    }
}

/// The ancestors of this process, its parent first.
pub fn own_ancestors() -> Vec<ProcessKey> {
    let mut ancestors = vec![];
    let mut next = std::os::unix::process::parent_id();
    while ancestors.len() < MAX_DEPTH
        && next > 1
        && let Some(process) = Proc.process(next)
    {
        ancestors.push(process.key);
        next = process.parent;
    }
    ancestors
}

/// What `/proc` says of a thread's state.
pub(super) fn status(thread: u32) -> Option<String> {
    read(thread, "status").map(|status| text(&status))
}

fn read(pid: u32, name: &str) -> Option<Vec<u8>> {
    let mut bytes = vec![];
    File::open(format!("/proc/{pid}/{name}")).ok()?.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `pid (program) state parent group session terminal … start …`; the program's name may hold anything.
fn parse_stat(pid: u32, stat: &str) -> Option<Process> {
    let (before, rest) = stat.rsplit_once(") ")?;
    let (_, program) = before.split_once('(')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Counted from the state, which is field 3 of proc(5).
    let number = |field: usize| fields.get(field - 3)?.parse::<i64>().ok();
    Some(Process {
        key: ProcessKey { pid, start: u64::try_from(number(22)?).ok()? },
        parent: u32::try_from(number(4)?).ok()?,
        group: u32::try_from(number(5)?).ok()?,
        program: program.to_owned(),
        has_terminal: number(7)? != 0,
    })
}

/// The id of a container in a `/proc/…/cgroup`: the last long run of hex digits in a path, as docker, podman,
/// containerd and the kubelet make it; none for a service or a session.
pub fn container_of(cgroup: &str) -> Option<String> {
    let paths = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let digits =
        |part: &str| part.len() >= MIN_CONTAINER_DIGITS && part.bytes().all(|b| b.is_ascii_hexdigit());
    let id = |path: &str| {
        let mut words = path.split(|c: char| !c.is_ascii_hexdigit());
        words.rfind(|word| digits(word)).map(str::to_owned)
    };
    paths.filter_map(id).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_with_its_parent_command_and_environment() {
        let pid = std::process::id();
        let me = Proc.process(pid).unwrap();
        assert_eq!((me.key.pid, me.parent), (pid, std::os::unix::process::parent_id()));
        assert!(me.key.start > 0);
        assert_eq!(Proc.command(me.key).len(), std::env::args().count());
        let path = std::env::var("PATH").unwrap();
        assert_eq!(Proc.variables(me.key, &["PATH", "NOT_SET_AT_ALL"]), [("PATH".to_owned(), path)]);
        let thread = std::thread::spawn(|| std::fs::read_link("/proc/thread-self").unwrap()).join().unwrap();
        let tid: u32 = thread.file_name().unwrap().to_str().unwrap().parse().unwrap();
        assert_eq!(Proc.process_of(pid), Some(pid));
        assert_ne!(tid, pid);
        assert_eq!(own_ancestors().first().map(|p| p.pid), Some(me.parent));
        assert_eq!(Proc.process(u32::MAX), None);
    }

    #[test]
    fn a_program_may_be_called_anything() {
        let stat = "7 (a) R 1 (b) S 5 7 7 34816 7 0 0 0 0 0 0 0 0 0 20 0 1 0 987 1 2";
        let process = parse_stat(7, stat).unwrap();
        assert_eq!(process.program, "a) R 1 (b");
        assert_eq!((process.parent, process.key.start, process.has_terminal), (5, 987, true));
        for bad in ["", "7 (a", "7 (a) S 5", "7 (a) S x 7 7 0 7 0 0 0 0 0 0 0 0 0 20 0 1 0 987"] {
            assert_eq!(parse_stat(7, bad), None, "{bad}");
        }
    }

    #[test]
    fn containers_are_told_by_their_ids() {
        let id = "3f0d6a5c5d0b4f6f8c1b0a9d7e2f4c613f0d6a5c5d0b4f6f8c1b0a9d7e2f4c61";
        for cgroup in [
            format!("12:pids:/docker/{id}\n0::/docker/{id}\n"),
            format!("0::/system.slice/docker-{id}.scope\n"),
            format!(
                "0::/kubepods.slice/kubepods-burstable.slice/kubepods-pod1_2.slice/cri-containerd-{id}.scope"
            ),
            format!("0::/machine.slice/libpod-{id}.scope/container"),
        ] {
            assert_eq!(container_of(&cgroup).as_deref(), Some(id), "{cgroup}");
        }
        for none in
            ["", "0::/", "0::/user.slice/user-1000.slice/session-3.scope", "0::/system.slice/cron.service"]
        {
            assert_eq!(container_of(none), None, "{none}");
        }
    }
}
