//! `artfs doctor`: checks what artfs needs on this host, and says how to fix what is missing.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::Args;
use serde::Serialize;

use crate::app::cli::content::opened::DATABASE;
use crate::app::cli::context::{Context, OpenedStore};
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::mounts::set_aside::set_aside_note;
use crate::app::cli::state_folder::stranger;
use crate::app::cli::ui::Format;
use crate::app::cli::ui::escape;
use crate::app::daemon::client;
use crate::app::daemon::mounts::{self, MountEntry, MountHealth};
use crate::app::daemon::wire::ControlRequest;
use crate::app::human;
use crate::host::process::limits::{self, RESERVED_FILES};
use crate::host::sys;
use crate::repo::commit::{ChunkIndex, Loss, Losses, MAX_LISTED};
use crate::repo::tombstones::{self, Condemned};
use crate::store::{Key, OnMissing, Probed, StoreError};

/// Kernels from this on have FUSE passthrough.
const PASSTHROUGH_KERNEL: (u32, u32) = (6, 9);
/// The number of CAP_SYS_ADMIN.
const CAP_SYS_ADMIN: u32 = 21;
/// Fewer open files than this are worth a warning: a data loader with many workers takes some thousands.
const FEW_FILES: u64 = 8192;
const MEND_LIMIT: &str = "raise the hard limit where the daemon is started: `ulimit -Hn 1048576` as root, LimitNOFILE= of \
                          systemd, --ulimit nofile= of a container; then mount again";
/// Less free space than this for cache and staging is worth a warning.
const LITTLE_SPACE_BYTES: u64 = 2 << 30;

/// Lost packs that are named; the others are counted.
const MAX_NAMED: usize = 5;
const MEND_PACKS: &str = "`artfs verify REF` lists the damaged files of a version; `artfs verify --repair \
    [--path DIR] REF`, or `artfs put --repair` of the same content, repairs them";

/// Check that artfs can work here, and say how to fix what is wrong
#[derive(Debug, Args)]
#[command(after_help = "\
Changes nothing, except that it writes one empty object to the store and deletes it again. Exit code 1 means that
something must be fixed.")]
pub struct DoctorArgs {}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Health {
    Ok,
    Warning,
    Failed,
}

#[derive(Debug, Serialize)]
struct DoctorCheck {
    name: &'static str,
    health: Health,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

impl DoctorCheck {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, health: Health::Ok, found: found.into(), mend: None }
    }

    fn warning(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, health: Health::Warning, found: found.into(), mend: Some(mend.into()) }
    }

    fn failed(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, health: Health::Failed, found: found.into(), mend: Some(mend.into()) }
    }
}

/// Runs the command.
pub fn run(context: &Context) -> Result<CommandOutcome, CliError> {
    let state = context.state_path()?;
    let mut checks = vec![fuse_device(), fusermount(), allow_other(), passthrough()];
    checks.extend(state_folder(&state));
    checks.push(space(&state));
    checks.push(own_limit());
    checks.extend(stale_mounts());
    checks.extend(store(context));
    match context.format() {
        Format::Json => context.ui().print_json(&checks)?,
        Format::Text => {
            let mut text = String::new();
            for check in &checks {
                let mark = match check.health {
                    Health::Ok => "ok",
                    Health::Warning => "WARN",
                    Health::Failed => "FAIL",
                };
                text.push_str(&format!("{mark:<5} {:<12} {}\n", check.name, escape::lines(&check.found)));
                if let Some(mend) = &check.mend {
                    text.push_str(&format!("{:<18} -> {}\n", "", escape::lines(mend)));
                }
            }
            context.ui().print(&text)?;
        }
    }
    let failed = checks.iter().any(|check| check.health == Health::Failed);
    Ok(if failed { CommandOutcome::Attention } else { CommandOutcome::Done })
}

fn fuse_device() -> DoctorCheck {
    let name = "/dev/fuse";
    match OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        Ok(_) => DoctorCheck::ok(name, "can be opened"),
        Err(e) if e.kind() == io::ErrorKind::NotFound => DoctorCheck::failed(
            name,
            "is not there",
            "`modprobe fuse` as root; in a container: --device /dev/fuse --cap-add SYS_ADMIN",
        ),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            DoctorCheck::failed(name, "may not be opened by this user", "as root: `chmod 666 /dev/fuse`")
        }
        Err(e) => DoctorCheck::failed(name, format!("cannot be opened: {e}"), "`modprobe fuse` as root"),
    }
}

fn fusermount() -> DoctorCheck {
    let name = "fusermount3";
    let install = "install it: `apt-get install fuse3`, `dnf install fuse3`";
    let is_root = sys::effective_uid() == 0;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("fusermount3")).find(|path| path.is_file());
    match found {
        None if is_root => DoctorCheck::ok(name, "is not installed; root does not need it"),
        None => DoctorCheck::failed(name, "is not installed; only root can mount without it", install),
        Some(path) => {
            let shown = path.display();
            let setuid = fs::metadata(&path).is_ok_and(|meta| meta.permissions().mode() & 0o4000 != 0);
            match (setuid, is_root) {
                (true, _) => DoctorCheck::ok(name, format!("{shown}, setuid")),
                (false, true) => DoctorCheck::ok(name, format!("{shown}, not setuid; root does not need it")),
                (false, false) => DoctorCheck::failed(
                    name,
                    format!("{shown} is not setuid root, so this user cannot mount"),
                    format!("as root: `chmod u+s {shown}`; or install fuse3 again"),
                ),
            }
        }
    }
}

fn allow_other() -> DoctorCheck {
    let name = "allow-other";
    if sys::effective_uid() == 0 {
        return DoctorCheck::ok(name, "root may mount with --allow-other");
    }
    let config = fs::read_to_string("/etc/fuse.conf").unwrap_or_default();
    if config.lines().any(|line| line.trim() == "user_allow_other") {
        DoctorCheck::ok(name, "/etc/fuse.conf lets users mount with --allow-other")
    } else {
        DoctorCheck::warning(
            name,
            "ordinary users cannot use --allow-other here",
            "if you need it, add the line user_allow_other to /etc/fuse.conf",
        )
    }
}

fn passthrough() -> DoctorCheck {
    let name = "passthrough";
    let lost = "the daemon serves all reads: large reads run at about a third of the speed of the page cache, \
        and take memory twice";
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let kernel = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if kernel < PASSTHROUGH_KERNEL {
        let found = format!("kernel {release} does not have it: {lost}");
        return DoctorCheck::warning(name, found, "use kernel 6.9 or newer");
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    if capabilities & (1 << CAP_SYS_ADMIN) == 0 {
        let found = format!("needs CAP_SYS_ADMIN, which this user does not have: {lost}");
        return DoctorCheck::warning(name, found, "mount as root, or give the daemon the ambient capability");
    }
    // Only the first user namespace maps all numbers to themselves.
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"] {
        let found = format!("not in a user namespace: {lost}");
        return DoctorCheck::warning(name, found, "mount outside the container and pass the directory in");
    }
    DoctorCheck::ok(
        name,
        format!("kernel {release}, CAP_SYS_ADMIN: reads and writes run at the speed of the disk"),
    )
}

fn state_folder(state: &Path) -> Vec<DoctorCheck> {
    let name = "state";
    let shown = state.display();
    let meta = match fs::metadata(state) {
        Ok(meta) if meta.is_dir() => meta,
        Ok(_) => {
            return vec![DoctorCheck::failed(
                name,
                format!("{shown} is not a directory"),
                "choose another with --state",
            )];
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return vec![DoctorCheck::ok(name, format!("{shown} does not exist yet and will be created"))];
        }
        Err(e) => {
            return vec![DoctorCheck::failed(name, format!("{shown}: {e}"), "choose another with --state")];
        }
    };
    if let Some(owner) = stranger(&meta) {
        let found = format!("{shown} belongs to {owner}");
        return vec![DoctorCheck::failed(name, found, format!("run artfs as {owner}, or use --state"))];
    }
    let mode = meta.permissions().mode() & 0o777;
    let mut checks = vec![];
    if mode & 0o077 == 0 {
        checks.push(DoctorCheck::ok(name, format!("{shown}, private")));
    } else {
        let found = format!("{shown} is open to other users (mode {mode:o})");
        checks.push(DoctorCheck::warning(name, found, format!("`chmod 700 {shown}`")));
    }
    if let Some(told) = set_aside_note(state) {
        let mend = "artfs never deletes them; reason.txt beside them says what was wrong";
        checks.push(DoctorCheck::warning("staging", told, mend));
    }
    checks.push(daemon(state));
    checks
}

fn daemon(state: &Path) -> DoctorCheck {
    let name = "daemon";
    let client = match client::connect(state) {
        Ok(Some(client)) => client,
        Ok(None) => return DoctorCheck::ok(name, "no daemon runs on the state folder"),
        Err(e) => return DoctorCheck::failed(name, format!("does not answer: {e}"), "`artfs status`"),
    };
    let status = match client.call(&ControlRequest::Status, |_| {}) {
        Ok(status) => status,
        Err(e) => {
            return DoctorCheck::failed(name, e.message, e.hint.unwrap_or_else(|| "`artfs status`".into()));
        }
    };
    let number = |member: &str| status["open_files"][member].as_u64();
    match (number("open"), number("limit")) {
        (Some(open), Some(limit)) => {
            let found = format!("answers; {open} of {limit} files are open");
            if open >= limit.saturating_sub(RESERVED_FILES.min(limit / 4)) {
                DoctorCheck::warning(name, format!("{found}: no further file can be opened"), MEND_LIMIT)
            } else {
                DoctorCheck::ok(name, found)
            }
        }
        _ => DoctorCheck::ok(name, "answers"),
    }
}

/// The limit that a daemon started from here would have.
fn own_limit() -> DoctorCheck {
    let name = "open files";
    let limit = limits::raise();
    let found = format!("a process started here may open {} (hard limit {})", limit.now, limit.hard);
    if limit.now < FEW_FILES {
        let found = format!("{found}: about that many files of a mount can be in use at once");
        return DoctorCheck::warning(name, found, MEND_LIMIT);
    }
    DoctorCheck::ok(name, found)
}

fn space(state: &Path) -> DoctorCheck {
    let name = "disk";
    let Some(folder) = state.ancestors().find(|path| path.is_dir()) else {
        return DoctorCheck::failed(
            name,
            format!("{} has no folder", state.display()),
            "choose another with --state",
        );
    };
    match sys::space(folder) {
        Ok(space) => {
            let free = human::size(space.free_bytes);
            let total = human::size(space.total_bytes);
            let found = format!("{free} of {total} free for cache and staging");
            if space.free_bytes < LITTLE_SPACE_BYTES {
                DoctorCheck::warning(
                    name,
                    found,
                    "free some space, or put the state folder elsewhere with --state",
                )
            } else {
                DoctorCheck::ok(name, found)
            }
        }
        Err(e) => {
            DoctorCheck::failed(name, format!("{}: {e}", folder.display()), "choose another with --state")
        }
    }
}

fn stale_mounts() -> Vec<DoctorCheck> {
    let name = "mounts";
    let entries = match mounts::mounts() {
        Ok(entries) => entries,
        Err(e) => return vec![DoctorCheck::failed(name, format!("the mount table: {e}"), "mount /proc")],
    };
    let ours: Vec<&MountEntry> = entries.iter().filter(|entry| entry.is_artfs()).collect();
    let bad: Vec<DoctorCheck> = ours
        .iter()
        .zip(mounts::life_of(&ours))
        .filter_map(|(entry, life)| {
            let shown = entry.mount_point.display();
            match life {
                MountHealth::Alive => None,
                MountHealth::Dead => Some(DoctorCheck::failed(
                    name,
                    format!("the daemon of {shown} is gone"),
                    format!("`artfs umount {shown}`, or mount there again"),
                )),
                MountHealth::Silent => Some(DoctorCheck::warning(
                    name,
                    format!("the daemon of {shown} does not answer"),
                    "if that lasts, read daemon.log in its state folder",
                )),
            }
        })
        .collect();
    if bad.is_empty() {
        vec![DoctorCheck::ok(name, format!("{} of artfs, all answer", ours.len()))]
    } else {
        bad
    }
}

/// Checks that the store never overwrites an object on creation.
fn conditions(probed: Result<Probed, StoreError>) -> DoctorCheck {
    let name = "conditions";
    let held = "it refuses to overwrite an object";
    match probed {
        Ok(Probed::Held { left: None, .. }) => {
            DoctorCheck::ok(name, format!("{held} (tested with an empty object, now deleted)"))
        }
        Ok(Probed::Held { key, left: Some(error) }) => {
            let found = format!("{held}; the empty test object {key} cannot be deleted: {error}");
            DoctorCheck::ok(name, found)
        }
        Ok(Probed::NotAllowed) => DoctorCheck::ok(
            name,
            "not tested: these credentials may not write, so they cannot commit anything",
        ),
        Err(error) => {
            let error = CliError::from(error).into_wire();
            let mend = error.hint.unwrap_or_else(|| "check the permissions of these credentials".to_owned());
            DoctorCheck::failed(name, error.message, mend)
        }
    }
}

/// Checks that the store has the packs that this host knows.
fn packs(opened: &OpenedStore, state: &Path) -> DoctorCheck {
    let name = "packs";
    let store = opened.catalog.store();
    let index = ChunkIndex::open(Some(&state.join(DATABASE)), store.id());
    let condemned = Condemned::open(Some(&state.join(tombstones::DATABASE)), store.clone());
    let Losses { there, lost } = match opened.runtime.block_on(Losses::find(&index, &condemned, store)) {
        Ok(Some(losses)) => losses,
        Ok(None) => return DoctorCheck::ok(name, format!("not checked: there are too many ({MAX_LISTED})")),
        Err(StoreError::Denied { .. }) => {
            return DoctorCheck::ok(name, "not checked: these credentials may not list them");
        }
        Err(error) => {
            let error = CliError::from(error).into_wire();
            let mend = error.hint.unwrap_or_else(|| "`artfs verify REF` checks a version".to_owned());
            return DoctorCheck::warning(name, format!("not checked: {}", error.message), mend);
        }
    };
    if lost.is_empty() {
        let there = human::count(there, "pack");
        return DoctorCheck::ok(name, format!("{there}; all those that this host knows are complete"));
    }
    let named = lost.iter().take(MAX_NAMED).map(|(pack, loss)| {
        let loss = match loss {
            Loss::Gone => "gone",
            Loss::CutShort => "cut short",
            Loss::Damaged => "damaged, as a read found",
        };
        format!("{} ({loss})", Key::Pack(*pack))
    });
    let named = named.collect::<Vec<_>>().join(", ");
    let more = match lost.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let count = human::count(lost.len() as u64, "pack");
    let found = format!("content is lost from {count} that this host knows: {named}{more}");
    // What a read found may have been put back since.
    if lost.values().all(|loss| *loss == Loss::Damaged) {
        return DoctorCheck::warning(name, found, MEND_PACKS);
    }
    DoctorCheck::failed(name, found, MEND_PACKS)
}

fn store(context: &Context) -> Vec<DoctorCheck> {
    let name = "store";
    let failed = |error: CliError| {
        let error = error.into_wire();
        let mend = error.hint.unwrap_or_else(|| "see `artfs --help`".to_owned());
        vec![DoctorCheck::failed(name, error.message, mend)]
    };
    let url = match context.store_url() {
        Ok(url) => url,
        Err(error) => return failed(error),
    };
    if url.directory().is_some_and(|path| !path.exists()) {
        return vec![DoctorCheck::ok(name, format!("{url} does not exist yet; `artfs mount` creates it"))];
    }
    let opened = match context.open_or(OnMissing::Fail) {
        Ok(opened) => opened,
        Err(error) => return failed(error),
    };
    let store = opened.catalog.store();
    let mut checks = vec![];
    if let Some(outage) = store.outage() {
        checks.push(DoctorCheck::failed(
            name,
            format!("{url} cannot be reached ({}); cached files can be read", outage.cause),
            "check the network, the endpoint, the region and the credentials",
        ));
    } else {
        checks.push(DoctorCheck::ok(name, format!("{url} answers")));
        checks.push(conditions(opened.runtime.block_on(store.probe())));
        checks.extend(context.state().ok().map(|state| packs(&opened, &state)));
    }
    let (now, created) = (store.env().now(), store.header().created);
    if now < created {
        let found = format!("this host's clock says {now}, but the store was created at {created}");
        checks.push(DoctorCheck::failed("clock", found, "set the clock: `timedatectl set-ntp true`"));
    } else {
        checks.push(DoctorCheck::ok("clock", format!("{now}, after the store was created")));
    }
    checks
}
