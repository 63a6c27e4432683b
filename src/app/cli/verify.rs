//! `artfs verify`: is what the store holds, or a directory has, what was committed?

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::args::ReferenceArgs;
use super::content::OpenedContent;
use super::context::{Context, OpenedStore};
use super::error::{CliError, CommandOutcome};
use super::interrupt::interrupted;
use super::output::{self, Format};
use super::progress::with_line;
use super::signers::SignersArgs;
use super::verify_kept;
use crate::format::id::{Digest, EventHash};
use crate::format::name::{ArtifactKey, Reference, VersionNumber};
use crate::format::signers::AllowedSigners;
use crate::host::durable;
use crate::repo::catalog::{CatalogError, VersionRecord};
use crate::repo::verify::{
    self, Copies, CopyCheckError, Finding, Problem, References, RepairError, Repaired,
};
use crate::repo::view::{ReadError, VersionView};
use crate::store::OnMissing;

/// Check a version against its hashes
#[derive(Debug, Args)]
#[command(
    long_about = "Check a version against its hashes.\n\n\
        Reads all of the version from the store, past the cache: the log of its artifact, its manifest, every byte \
        of its files. With --path it compares a directory with the version instead. All that is wrong is named.\n\n\
        With --repair, what the store lost of the version, or has other bytes of, is stored again from the cache of this \
        host, and with --path from the files of a copy; every byte is proved by its hash first. Other versions that share \
        it are whole again, too. Then the version is verified once more. Costs reading all of it up to three times.",
    after_help = "\
Exit code 3 means that something is not what it should be.

Examples:
  artfs verify proj/bert:v7                   all that the store has of it
  artfs verify proj/bert:v7 --path ./bert     a directory that should be a copy of it
  artfs verify proj/bert:v7 --repair          store again what is damaged, as far as this host's cache has it
  artfs verify proj/bert:v7 --repair --path ./bert
                                              or as far as the copy in ./bert has it
  artfs verify --log proj/bert                the log alone, with its chain of hashes
  artfs verify --log --allowed-signers FILE proj/bert
                                              also that all of it is signed by who may

Without the store, a copy is compared with what was kept of the version: its listing, which names what differs, or
its record or digest alone, which only tell whether anything does:
  artfs verify proj/bert:v7 --path ./bert --record v7.json --listing v7.listing
  artfs verify proj/bert@DIGEST --path ./bert --listing v7.listing
  artfs verify proj/bert@DIGEST --path ./bert --no-store"
)]
pub struct VerifyArgs {
    /// Check the artifact's log only
    #[arg(long, conflicts_with = "path")]
    log: bool,
    #[command(flatten)]
    signers: SignersArgs,
    /// Store again what the store lost, from this host's cache, and from the directory of --path
    #[arg(long, conflicts_with_all = ["log", "listings", "record", "no_store"])]
    repair: bool,
    /// Compare this directory with the version
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// Compare with this listing (.artfs/v7.listing), without the store; of several, the others are those of versions
    /// that the first contains (repeatable)
    #[arg(long = "listing", value_name = "FILE", requires = "path")]
    listings: Vec<PathBuf>,
    /// Take the digest from this record (.artfs/v7.json), without the store
    #[arg(long, value_name = "FILE", requires = "path")]
    record: Option<PathBuf>,
    /// Do not ask the store: the digest in REF is enough
    #[arg(long, requires = "path")]
    no_store: bool,
    /// The version
    #[arg(value_name = "REF")]
    reference: Reference,
    #[command(flatten)]
    references: ReferenceArgs,
}

/// Runs it.
pub fn run(context: &Context, args: &VerifyArgs) -> Result<CommandOutcome, CliError> {
    match &args.path {
        _ if args.repair => verify_repaired(context, args),
        _ if args.log => match args.signers.load()? {
            Some(signers) => verify_signatures(context, &args.reference.artifact, &signers),
            None => verify_log(context, &args.reference.artifact),
        },
        Some(directory) if args.no_store || args.record.is_some() || !args.listings.is_empty() => {
            verify_kept::run(context, &args.reference, directory, &args.listings, args.record.as_deref())
        }
        Some(directory) => verify_copy(context, &args.reference, directory),
        None => verify_stored(context, args),
    }
}

fn verify_log(context: &Context, key: &ArtifactKey) -> Result<CommandOutcome, CliError> {
    let (events, head) = check_log(&context.open()?, key)?;
    match context.format() {
        Format::Json => output::print_json(&json!({
            "artifact": key, "log": "sound", "events": events, "head": head,
        }))?,
        Format::Text => output::print(&format!(
            "the log of {key} is sound: {}, the last is {head}\n",
            output::count(events, "event"),
        ))?,
    }
    Ok(CommandOutcome::Done)
}

fn verify_signatures(
    context: &Context,
    key: &ArtifactKey,
    signers: &AllowedSigners,
) -> Result<CommandOutcome, CliError> {
    let opened = context.open()?;
    let checked = check_log(&opened, key);
    // What breaks the chain does not keep the signatures from being looked at.
    let broken = match checked {
        Ok(_) => None,
        Err(CliError::Failed(error)) if error.code == CommandOutcome::Difference.code() => {
            Some(error.message)
        }
        Err(error) => return Err(error),
    };
    let events = opened.runtime.block_on(opened.catalog.stored_log(key))?;
    let findings = verify::signatures(opened.catalog.store().id(), key, &events, signers);
    let is_sound = findings.is_empty() && broken.is_none();
    match context.format() {
        Format::Json => output::print_json(&json!({
            "artifact": key, "sound": is_sound, "events": events.len(), "chain": broken, "findings": findings,
        }))?,
        Format::Text => {
            let mut text: String = findings
                .iter()
                .map(|f| format!("event {}: {}\n", f.event, output::clean(&f.detail)))
                .collect();
            text.extend(broken.iter().map(|problem| format!("{}\n", output::clean(problem))));
            let count = output::count(events.len() as u64, "event");
            text.push_str(&match is_sound {
                true => format!("the log of {key} is sound and signed: {count}\n"),
                false => format!("the log of {key} is not as it should be: {count}\n"),
            });
            output::print(&text)?;
        }
    }
    Ok(if is_sound { CommandOutcome::Done } else { CommandOutcome::Difference })
}

/// Reads the whole log; gives the number of its events and the hash of the last.
fn check_log(opened: &OpenedStore, key: &ArtifactKey) -> Result<(u64, EventHash), CliError> {
    let state = opened.runtime.block_on(opened.catalog.check_log(key))?;
    Ok((state.seq() + 1, state.head()))
}

fn verify_stored(context: &Context, args: &VerifyArgs) -> Result<CommandOutcome, CliError> {
    let reference = &args.reference;
    let (version, findings) = read_stored(context, reference, Some(&args.references))?;
    let outcome = report(context, &Subject::of(reference, &version), &findings, "in the store")?;
    let is_lost = |f: &Finding| matches!(f.problem, Problem::Damaged | Problem::Missing);
    if findings.iter().any(is_lost) && context.format() == Format::Text {
        eprintln!(
            "hint: `artfs verify --repair {reference}` stores again what this host's cache has of it, --path DIR what a \
             copy has"
        );
    }
    Ok(outcome)
}

fn verify_repaired(context: &Context, args: &VerifyArgs) -> Result<CommandOutcome, CliError> {
    let reference = &args.reference;
    let (version, findings) = read_stored(context, reference, Some(&args.references))?;
    let subject = Subject::of(reference, &version);
    if findings.is_empty() {
        return report(context, &subject, &findings, "in the store");
    }
    let copies = Copies(args.path.iter().map(|path| (None, path.clone())).collect());
    let content = OpenedContent::open(context, OnMissing::Fail)?;
    let repaired = repair(&content, reference, &version, &copies);
    content.close();
    tell_repaired(context, &repaired?)?;
    let (_, findings) = read_stored(context, reference, Some(&args.references))?;
    report(context, &subject, &findings, "in the store")
}

/// Stores again what the store lost of a version; this host's next commits refer to that.
pub(super) fn repair(
    content: &OpenedContent,
    reference: &Reference,
    version: &VersionRecord,
    copies: &Copies,
) -> Result<Repaired, CliError> {
    let artifact = &reference.artifact;
    content.opened.runtime.block_on(async {
        let work = async {
            let view = content.view(artifact, version).await?;
            let repaired = verify::repair(&content.reader, artifact, view, copies).await?;
            content.index().restore(&repaired.restored);
            Ok(repaired)
        };
        tokio::select! {
            done = work => done,
            () = interrupted() => Err(CliError::failed(format!("repairing {reference} was interrupted"))
                .with_hint("repeat the command; what was stored again already stays")),
        }
    })
}

/// Tells people what a repair did.
pub(super) fn tell_repaired(context: &Context, repaired: &Repaired) -> Result<(), CliError> {
    if context.format() == Format::Json {
        return Ok(());
    }
    let mut text = format!(
        "{}, {} stored again",
        output::count(repaired.chunks, "chunk"),
        output::size(repaired.bytes),
    );
    if repaired.manifests > 0 {
        text.push_str(&format!(", and {}", output::count(repaired.manifests, "manifest")));
    }
    if !repaired.left.is_empty() {
        text.push_str(&format!(
            "; of {} no good bytes are here",
            output::count(repaired.left.len() as u64, "damaged part")
        ));
    }
    output::print(&format!("{text}\n"))
}

impl From<RepairError> for CliError {
    fn from(error: RepairError) -> Self {
        match error {
            RepairError::Read(error) => error.into(),
            RepairError::Store(error) => error.into(),
        }
    }
}

/// Reads all of a version from the store, past the cache, and gives what is wrong. References are passed over unless it
/// is said which may be read.
pub(super) fn read_stored(
    context: &Context,
    reference: &Reference,
    allowed: Option<&ReferenceArgs>,
) -> Result<(VersionRecord, Vec<Finding>), CliError> {
    let scratch = ScratchFolder::new(context)?;
    let content = OpenedContent::open_without_cache(context, &scratch.0)?;
    let references = match allowed {
        Some(allowed) => {
            content.allow(allowed);
            References::Asked
        }
        None => References::PassedOver,
    };
    let done = stored(&content, reference, references);
    content.close();
    done
}

fn stored(
    content: &OpenedContent,
    reference: &Reference,
    references: References,
) -> Result<(VersionRecord, Vec<Finding>), CliError> {
    let key = &reference.artifact;
    check_log(&content.opened, key)?;
    content.opened.runtime.block_on(async {
        let version = content.opened.catalog.resolve(reference).await?;
        let label = format!("{key}:{}", version.version);
        let view = match VersionView::open(&content.reader, key, version.manifest, &label).await {
            Ok(view) => view,
            Err(error) if verify::is_damage(&error) => {
                let finding = verify::damage(version.version.to_string(), &error);
                return Ok((version, vec![finding]));
            }
            Err(error) => return Err(error.into()),
        };
        let progress = Arc::new(verify::VerifyProgress::default());
        let work = verify::stored(&view, &version, references, &progress);
        let work = with_line("verifying", Some(version.bytes), || progress.bytes(), work);
        tokio::select! {
            found = work => {
                let mut findings = found?;
                let store = content.opened.catalog.store();
                findings.extend(verify::details(store, key, &version).await.map_err(CatalogError::from)?);
                Ok((version.clone(), findings))
            }
            () = interrupted() => Err(stopped(reference)),
        }
    })
}

fn verify_copy(
    context: &Context,
    reference: &Reference,
    directory: &Path,
) -> Result<CommandOutcome, CliError> {
    let content = OpenedContent::open(context, OnMissing::Fail)?;
    let done = content.opened.runtime.block_on(async {
        let version = content.opened.catalog.resolve(reference).await?;
        let view = content.view(&reference.artifact, &version).await?;
        let progress = Arc::new(verify::VerifyProgress::default());
        let work = verify::copy(&view, directory, &progress);
        let work = with_line("comparing", Some(version.bytes), || progress.bytes(), work);
        tokio::select! {
            found = work => found.map(|found| (version.clone(), found)).map_err(CliError::from),
            () = interrupted() => Err(stopped(reference)),
        }
    });
    content.close();
    let (version, findings) = done?;
    report(context, &Subject::of(reference, &version), &findings, &format!("in {}", directory.display()))
}

pub(super) fn stopped(reference: &Reference) -> CliError {
    CliError::failed(format!("verifying {reference} was interrupted, and nothing is known of it"))
}

impl From<CopyCheckError> for CliError {
    fn from(error: CopyCheckError) -> Self {
        match error {
            CopyCheckError::Read(error) => ReadError::into(error),
            error @ CopyCheckError::Io { .. } => CliError::failed(error.to_string()),
        }
    }
}

/// What was verified.
pub(super) struct Subject {
    pub artifact: ArtifactKey,
    /// Not known where nothing but a digest is.
    pub version: Option<VersionNumber>,
    pub digest: Digest,
    pub files: u64,
    pub bytes: u64,
}

impl Subject {
    fn of(reference: &Reference, version: &VersionRecord) -> Self {
        Self {
            artifact: reference.artifact.clone(),
            version: Some(version.version),
            digest: version.digest,
            files: version.files,
            bytes: version.bytes,
        }
    }

    fn name(&self) -> String {
        match self.version {
            Some(version) => format!("{}:{version}", self.artifact),
            None => format!("{}@{}", self.artifact, output::short(self.digest)),
        }
    }
}

/// Tells what was found.
pub(super) fn report(
    context: &Context,
    subject: &Subject,
    findings: &[Finding],
    place: &str,
) -> Result<CommandOutcome, CliError> {
    match context.format() {
        Format::Json => output::print_json(&json!({
            "artifact": subject.artifact,
            "version": subject.version,
            "digest": subject.digest.to_string(),
            "files": subject.files,
            "bytes": subject.bytes,
            "sound": findings.is_empty(),
            "findings": findings,
        }))?,
        Format::Text => {
            let name = subject.name();
            let files = output::count(subject.files, "file");
            let mut text: String = findings
                .iter()
                .map(|f| format!("{:<9} {}\n", word(f.problem), output::clean(&f.detail)))
                .collect();
            text.push_str(&match findings.len() as u64 {
                0 => format!("{name} is sound {place}: {files}, {}\n", output::size(subject.bytes)),
                n => format!("{name} is not sound {place}: {}\n", output::count(n, "finding")),
            });
            output::print(&text)?;
        }
    }
    Ok(if findings.is_empty() { CommandOutcome::Done } else { CommandOutcome::Difference })
}

fn word(problem: Problem) -> &'static str {
    match problem {
        Problem::Damaged => "damaged",
        Problem::Missing => "missing",
        Problem::Extra => "extra",
        Problem::Different => "different",
        Problem::Changed => "changed",
        Problem::Kind => "kind",
        Problem::Mode => "mode",
        Problem::Unchecked => "unchecked",
    }
}

/// A folder of its own in the state folder, gone when this is dropped.
struct ScratchFolder(PathBuf);

impl ScratchFolder {
    fn new(context: &Context) -> Result<Self, CliError> {
        let random =
            u64::from_le_bytes(*crate::format::clock::system().random16().first_chunk().expect("8 of 16"));
        let path = context.state()?.join(format!("verify-{random:016x}"));
        durable::create_private_directory(&path)
            .map_err(|e| CliError::io(format!("cannot make {}", path.display()), &e))?;
        Ok(Self(path))
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "cannot be removed");
        }
    }
}
