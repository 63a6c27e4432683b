//! `artfs status`: shows the state of the mount.

use clap::Args;
use serde_json::Value;

use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::ui::Format;
use crate::app::cli::ui::table;
use crate::app::daemon::lock::{self, LockState};
use crate::app::daemon::wire::ControlRequest;
use crate::app::human;

/// Show the state of the mount
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  artfs status --json | jq .pid")]
pub struct StatusArgs {}

/// Runs the command.
pub fn run(context: &Context) -> Result<CommandOutcome, CliError> {
    let state = context.state_path()?;
    let Some(client) = context.daemon()? else {
        let shown = state.display();
        let held = lock::look(&state)
            .map_err(|e| CliError::io(format!("cannot look at the lock in {shown}"), &e))?;
        return Err(match held {
            LockState::Held(Some(holder)) => CliError::failed(format!(
                "the daemon (pid {}) for {} runs on {shown}, but does not answer",
                holder.pid, holder.mountpoint
            ))
            .with_hint(format!(
                "it is starting or ending; if that takes long, end it with `kill {}`",
                holder.pid
            )),
            LockState::Held(None) => CliError::failed(format!("a daemon is starting on {shown}")),
            LockState::Free => CliError::failed(format!("nothing is mounted from the state folder {shown}"))
                .with_hint(
                    "run `artfs mount DIR`, or name another state folder with --state DIR or $ARTFS_STATE",
                ),
        });
    };
    let status = client.call(&ControlRequest::Status, |_| {})?;
    match context.format() {
        Format::Json => context.ui().print_json(&status)?,
        Format::Text => {
            let mut lines = vec![];
            flatten("", &status, &mut lines);
            let lines: Vec<(&str, String)> =
                lines.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
            context.ui().print(&table::fields(&lines))?;
        }
    }
    Ok(CommandOutcome::Done)
}

/// Members as lines; those of members under dotted names, numbers of bytes as sizes.
fn flatten(name: &str, value: &Value, lines: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            for (member, value) in members {
                let name = if name.is_empty() { member.clone() } else { format!("{name}.{member}") };
                flatten(&name, value, lines);
            }
        }
        Value::Null => lines.push((name.to_owned(), "-".to_owned())),
        Value::Bool(yes) => lines.push((name.to_owned(), if *yes { "yes" } else { "no" }.to_owned())),
        Value::Number(number) => {
            let text = match number.as_u64() {
                Some(bytes) if name.contains("bytes") => human::size(bytes),
                _ => number.to_string(),
            };
            lines.push((name.to_owned(), text));
        }
        Value::String(text) => lines.push((name.to_owned(), text.clone())),
        Value::Array(values) => {
            let text: Vec<String> =
                values.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect();
            let text = if text.is_empty() { "-".to_owned() } else { text.join("\n") };
            lines.push((name.to_owned(), text));
        }
    }
}
