//! `artfs umount`: unmounts and ends the daemon.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::ui::Format;
use crate::app::daemon::holder;
use crate::app::daemon::lock::{self, LockState};
use crate::app::daemon::mounts::{self, MountEntry};
use crate::app::daemon::unmount_error;
use crate::app::daemon::wire::ControlRequest;
use crate::host::sys::{self, Detach};

/// How long the daemon may take to end after its mount is gone.
const END_LIMIT: Duration = Duration::from_secs(60);
/// The same where open files may keep it.
const LAZY_END_LIMIT: Duration = Duration::from_secs(1);
/// How long the mount table may take to show an unmount.
const TABLE_LIMIT: Duration = Duration::from_secs(5);
/// Between two looks at the mount table.
const POLL: Duration = Duration::from_millis(10);

/// Unmount and end the daemon
#[derive(Debug, Args)]
#[command(after_help = "\
Returns when the mount is gone and the daemon has ended.

Examples:
  artfs umount /artifacts
  artfs umount --lazy /artifacts      even if files in it are open")]
pub struct UmountArgs {
    /// The mount point [default: that of the daemon of the state folder]
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Unmount even if it is in use: new users see nothing at once, and the daemon ends when the last open
    /// file is closed
    #[arg(short, long, visible_alias = "force")]
    lazy: bool,
}

/// Runs the command.
pub fn run(context: &Context, args: &UmountArgs) -> Result<CommandOutcome, CliError> {
    let state = context.state_path()?;
    let held = lock::look(&state)
        .map_err(|e| CliError::io(format!("cannot look at the lock in {}", state.display()), &e))?;
    let ours = match &held {
        LockState::Held(Some(holder)) => Some(PathBuf::from(&holder.mountpoint)),
        LockState::Held(None) | LockState::Free => None,
    };
    let mountpoint = match (&args.directory, &ours) {
        (Some(directory), _) => mounts::resolve(directory)
            .map_err(|e| CliError::io(format!("cannot look at {}", directory.display()), &e))?,
        (None, Some(ours)) => ours.clone(),
        (None, None) => {
            let message = format!("nothing is mounted from the state folder {}", state.display());
            return Err(CliError::failed(message).with_hint("name the mount point: `artfs umount DIR`"));
        }
    };
    let shown = mountpoint.display().to_string();
    let detach = if args.lazy { Detach::Lazily } else { Detach::Now };
    let is_ours = ours.as_ref() == Some(&mountpoint);
    let entry = ours_at(&mountpoint)?;
    let daemon = match (&held, &entry) {
        (LockState::Held(Some(holder)), _) if is_ours => Some(Serving::Ours(holder.pid)),
        (_, Some(entry)) => holder::daemon_of(entry).map(Serving::Found),
        _ => None,
    };
    let answered = is_ours && ask_daemon(context, &mountpoint, args.lazy)?;
    if !answered {
        unmount_directly(&mountpoint, detach, is_ours)?;
    }
    wait_for_table(&mountpoint)?;
    let ended = match &daemon {
        Some(daemon) => wait_for_end(daemon, &state, &mountpoint, entry.as_ref(), args.lazy)?,
        None => true,
    };
    match context.format() {
        Format::Json => context.ui().print_json(&json!({ "mountpoint": shown, "daemon_ended": ended }))?,
        Format::Text if !ended => {
            context.ui().print(&format!(
                "{shown} is unmounted; its daemon ends when the last open file is closed\n"
            ))?;
        }
        Format::Text => {}
    }
    Ok(CommandOutcome::Done)
}

/// The daemon behind the mount.
enum Serving {
    /// That of the state folder.
    Ours(u32),
    /// Another one.
    Found(holder::Daemon),
}

/// Waits until the daemon has ended; false if open files keep it and may.
fn wait_for_end(
    daemon: &Serving,
    state: &Path,
    mountpoint: &Path,
    entry: Option<&MountEntry>,
    lazy: bool,
) -> Result<bool, CliError> {
    let (pid, log) = match daemon {
        Serving::Ours(pid) => {
            (*pid, format!("its log is {}", crate::app::daemon::spawn::log_file(state).display()))
        }
        Serving::Found(daemon) => (daemon.pid, "its log is daemon.log in its state folder".to_owned()),
    };
    let wait = |limit: Duration| match daemon {
        Serving::Ours(_) => lock::wait_free(state, limit)
            .map_err(|e| CliError::io(format!("cannot look at the lock in {}", state.display()), &e)),
        Serving::Found(daemon) => Ok(daemon.wait_for_end(limit)),
    };
    if wait(LAZY_END_LIMIT)? {
        return Ok(true);
    }
    let shown = mountpoint.display().to_string();
    let is_it = |mount: &MountEntry| match entry {
        Some(entry) => mount.device == entry.device && mount.is_artfs(),
        None => mount.mount_point == mountpoint && mount.is_artfs(),
    };
    if let Some((held, command)) = holder::holders_hint(&holder::elsewhere(std::process::id(), is_it), &shown)
    {
        let message = format!("{shown} is unmounted here, but its daemon (pid {pid}) goes on: {held}");
        return Err(CliError::failed(message).with_hint(format!(
            "{command} unmounts it there; `kill {pid}` ends the daemon at once, for everybody"
        )));
    }
    if lazy {
        return Ok(false);
    }
    if wait(END_LIMIT)? {
        return Ok(true);
    }
    let message = format!("{shown} is unmounted, but its daemon (pid {pid}) has not ended");
    Err(CliError::failed(message).with_hint(format!("{log}; `kill {pid}` ends it at once")))
}

/// False if no daemon answers.
fn ask_daemon(context: &Context, mountpoint: &Path, lazy: bool) -> Result<bool, CliError> {
    let Some(client) = context.daemon()? else { return Ok(false) };
    match client.call(&ControlRequest::Unmount { lazy }, |_| {}) {
        Ok(_) => Ok(true),
        // It may have ended between the unmount and its answer.
        // The daemon may be stopped; its mount can still be detached.
        Err(_) if lazy => Ok(false),
        Err(error) if ours_at(mountpoint)?.is_some() => Err(error.into()),
        Err(_) => Ok(true),
    }
}

fn unmount_directly(mountpoint: &Path, detach: Detach, had_daemon: bool) -> Result<(), CliError> {
    let shown = mountpoint.display().to_string();
    let Some(entry) = ours_at(mountpoint)? else {
        // Its daemon is ending by itself.
        if had_daemon {
            return Ok(());
        }
        return Err(CliError::failed(format!("no artfs is mounted on {shown}"))
            .with_hint("`artfs status` shows what is mounted"));
    };
    // Nobody can work in a dead mount, so unmounting lazily disturbs nobody.
    let detach = if entry.is_dead() { Detach::Lazily } else { detach };
    match sys::unmount(mountpoint, detach) {
        Ok(()) => Ok(()),
        Err(_) if ours_at(mountpoint)?.is_none() => Ok(()),
        Err(error) => Err(unmount_error(&shown, &error).into()),
    }
}

fn ours_at(mountpoint: &Path) -> Result<Option<MountEntry>, CliError> {
    let entry = mounts::mount_at(mountpoint).map_err(|e| CliError::io("cannot read the mount table", &e))?;
    Ok(entry.filter(MountEntry::is_artfs))
}

fn wait_for_table(mountpoint: &Path) -> Result<(), CliError> {
    let begun = Instant::now();
    while ours_at(mountpoint)?.is_some() {
        if begun.elapsed() > TABLE_LIMIT {
            let message = format!("there is still an artfs mounted on {}", mountpoint.display());
            return Err(
                CliError::failed(message).with_hint("several mounts were stacked: repeat the command")
            );
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}
