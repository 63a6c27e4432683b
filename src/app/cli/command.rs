//! The commands and what runs each of them.

use clap::{CommandFactory, Parser, Subcommand};

use super::content::{commit, get, pin, put, stage};
use super::context::Context;
use super::edit::{alias, meta, protect, rm, tag, ttl};
use super::error::{CliError, CommandOutcome};
use super::globals::Globals;
use super::history::{log, show, watch};
use super::lineage::{graph, run, runs, uses};
use super::list::ls;
use super::mounts::{doctor, mount, status, umount};
use super::signing::{export_signature, sign};
use super::{audit, completions, diff, gc, sync, verify};
use crate::app::daemon::StartMount;

/// Versioned artifacts as plain files: a mounted tree of immutable versions, aliases and staging areas.
#[derive(Debug, Parser)]
#[command(
    name = "artfs",
    version,
    max_term_width = 110,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
A version is written project/name:v7, project/name:alias or project/name@digest;
project/name alone means its latest version.

Examples:
  artfs mount /artifacts                           serve the store as files
  cd /artifacts/proj/bert && cp ~/model.pth staging/
  mv staging next                                  now there is proj/bert:v0
  artfs ls proj/bert                               its versions
  artfs alias set proj/bert production v0          name one

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a difference was found."
)]
pub struct Cli {
    #[command(flatten)]
    pub(super) globals: Globals,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Mount(mount::MountArgs),
    Umount(umount::UmountArgs),
    Status(status::StatusArgs),
    Doctor(doctor::DoctorArgs),
    Stage(stage::StageArgs),
    Commit(commit::CommitArgs),
    Put(put::PutArgs),
    Get(get::GetArgs),
    Pin(pin::PinArgs),
    Unpin(pin::UnpinArgs),
    Ls(ls::LsArgs),
    Show(show::ShowArgs),
    Log(log::LogArgs),
    Diff(diff::DiffArgs),
    Sync(sync::SyncArgs),
    Alias(alias::AliasArgs),
    Protect(protect::ProtectArgs),
    Sign(sign::SignArgs),
    Tag(tag::TagArgs),
    Meta(meta::MetaArgs),
    Ttl(ttl::TtlArgs),
    Rm(rm::RmArgs),
    Gc(gc::GcArgs),
    Run(run::RunArgs),
    Runs(runs::RunsArgs),
    Lineage(graph::LineageArgs),
    Uses(uses::UsesArgs),
    Verify(verify::VerifyArgs),
    Audit(audit::AuditArgs),
    Watch(watch::WatchArgs),
    ExportSignature(export_signature::ExportSignatureArgs),
    Completions(completions::CompletionsArgs),
}

pub(super) fn dispatch(cli: Cli, start: StartMount) -> Result<CommandOutcome, CliError> {
    let context = Context::new(&cli.globals);
    match cli.command {
        Command::Mount(args) => mount::run(&context, &args, start),
        Command::Umount(args) => umount::run(&context, &args),
        Command::Status(_) => status::run(&context),
        Command::Doctor(_) => doctor::run(&context),
        Command::Stage(args) => stage::run(&context, args),
        Command::Commit(args) => commit::run(&context, args),
        Command::Put(args) => put::run(&context, args),
        Command::Get(args) => get::run(&context, &args),
        Command::Pin(args) => pin::run(&context, &args),
        Command::Unpin(args) => pin::run_unpin(&context, &args),
        Command::Ls(args) => ls::run(&context, &args),
        Command::Show(args) => show::run(&context, &args),
        Command::Log(args) => log::run(&context, &args),
        Command::Diff(args) => diff::run(&context, &args),
        Command::Sync(args) => sync::run(&context, &args),
        Command::Alias(args) => alias::run(&context, &args),
        Command::Protect(args) => protect::run(&context, &args),
        Command::Sign(args) => sign::run(&context, &args),
        Command::Tag(args) => tag::run(&context, &args),
        Command::Meta(args) => meta::run(&context, &args),
        Command::Ttl(args) => ttl::run(&context, &args),
        Command::Rm(args) => rm::run(&context, &args),
        Command::Gc(args) => gc::run(&context, &args),
        Command::Run(args) => run::run(&context, args),
        Command::Runs(args) => runs::run(&context, &args),
        Command::Lineage(args) => graph::run(&context, &args),
        Command::Uses(args) => uses::run(&context, &args),
        Command::Verify(args) => verify::run(&context, &args),
        Command::Audit(args) => audit::run(&context, &args),
        Command::Watch(args) => watch::run(&context, &args),
        Command::ExportSignature(args) => export_signature::run(&context, &args),
        Command::Completions(args) => completions::run(&context, &args, Cli::command()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
