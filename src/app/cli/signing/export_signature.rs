//! `artfs export-signature`: signs a version's files for tools that know nothing of artfs.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Args;
use futures::TryStreamExt;
use ring::digest;

use crate::app::cli::args::PolicyArgs;
use crate::app::cli::content::opened::OpenedContent;
use crate::app::cli::content::trusted::resolve;
use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::ui::escape;
use crate::app::cli::ui::progress::with_line;
use crate::format::entry::EntryBody;
use crate::format::id::FileHash;
use crate::format::listing::ListingHasher;
use crate::format::modelsigning::{EcKey, Model};
use crate::format::name::Reference;
use crate::host::durable::Wrote;
use crate::repo::catalog::VersionRecord;
use crate::repo::view::ByteSource;
use crate::store::OnMissing;

/// Sign a version's files for the model-signing tool
#[derive(Debug, Args)]
#[command(
    long_about = "Sign a version's files for OpenSSF's model-signing tool.\n\n\
        Writes a Sigstore bundle with the SHA-256 of every file, signed with an elliptic-curve key. The \
        signature is valid for a directory copied from the mount or with `artfs get`. The command reads and \
        checks all content.",
    after_help = "\
Examples:
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem
  openssl pkey -in key.pem -pubout -out key.pub.pem
  artfs export-signature proj/bert:v7 --key key.pem --model-signing bert.sig
  artfs get proj/bert:v7 bert
  model_signing verify key --signature bert.sig --public_key key.pub.pem bert"
)]
pub struct ExportSignatureArgs {
    /// The version
    #[arg(value_name = "REF")]
    reference: Reference,
    /// A private key in PEM, on P-256 or P-384
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where to write the bundle; - is standard output
    #[arg(long, value_name = "FILE")]
    model_signing: PathBuf,
    #[command(flatten)]
    policy: PolicyArgs,
}

/// Runs the command.
pub fn run(context: &Context, args: &ExportSignatureArgs) -> Result<CommandOutcome, CliError> {
    let shown = args.key.display();
    let pem = std::fs::read_to_string(&args.key);
    let pem = pem.map_err(|e| CliError::io(format!("cannot read the key {shown}"), &e))?;
    let key = EcKey::from_pem(&pem).map_err(|e| {
        CliError::failed(format!("cannot use the key {shown}: {}", e.problem)).with_hint(
            "create one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem`",
        )
    })?;
    let policy = args.policy.policy()?;
    let content = OpenedContent::open(context, OnMissing::Fail)?;
    let done = content.opened.runtime.block_on(async {
        let version = resolve(policy, context, &content, &args.reference).await?;
        let hashed = AtomicU64::new(0);
        let work = bundle(&content, &args.reference, &version, &key, &hashed);
        with_line("hashing", Some(version.bytes), || hashed.load(Ordering::Relaxed), work).await
    });
    content.close();
    let (bundle, ignored) = done?;
    let wrote = context.ui().write_file(&args.model_signing, bundle.as_bytes())?;
    if !ignored.is_empty() {
        context.ui().note(&format!(
            "not covered by the signature, because model-signing ignores them: {}",
            ignored.join(", ")
        ));
    }
    if wrote == Wrote::File {
        let shown = escape::line(&args.model_signing.to_string_lossy());
        context.ui().print(&format!("{} is signed in {shown}\n", args.reference))?;
    }
    Ok(CommandOutcome::Done)
}

/// The bundle, and the paths that it leaves out.
async fn bundle(
    content: &OpenedContent,
    reference: &Reference,
    version: &VersionRecord,
    key: &EcKey,
    done: &AtomicU64,
) -> Result<(String, Vec<String>), CliError> {
    let refused = |problem: String| {
        CliError::failed(format!("{reference} cannot be signed for model-signing: {problem}"))
    };
    let damaged = |what: &str| {
        CliError::failed(format!("{reference} was not signed: {what}")).with_hint(
            "`artfs verify REF` lists the damage; `artfs verify --repair REF` repairs it from a copy",
        )
    };
    let view = content.view(&reference.artifact, version).await?;
    let (mut model, mut listing) = (Model::default(), ListingHasher::default());
    let mut entries = view.entries(0);
    loop {
        let batch = entries.next_batch().await?;
        if batch.is_empty() {
            break;
        }
        for (ordinal, entry) in &batch {
            listing.push(entry);
            if !model.covers(&entry.path) {
                continue;
            }
            let path = &entry.path;
            let file = match &entry.body {
                EntryBody::File(file) => file,
                EntryBody::Directory => continue,
                EntryBody::Symlink { .. } => return Err(refused(format!("{path} is a symbolic link"))),
                EntryBody::Reference(_) => return Err(refused(format!("{path} is not in the store"))),
                EntryBody::Contained(_) => return Err(refused(format!("{path} belongs to another version"))),
            };
            let file_content = view.open_file(*ordinal, path, file).await?;
            let (mut sha256, mut blake3) = (digest::Context::new(&digest::SHA256), blake3::Hasher::new());
            let mut parts = std::pin::pin!(file_content.parts(ByteSource::Any));
            while let Some(part) = parts.try_next().await? {
                sha256.update(&part);
                blake3.update(&part);
                done.fetch_add(part.len() as u64, Ordering::Relaxed);
            }
            if FileHash::from_hash(blake3.finalize()) != file.hash {
                return Err(damaged(&format!("the content of {path} is not what was committed")));
            }
            let sha256 = sha256.finish().as_ref().try_into().expect("SHA-256 has 32 bytes");
            model.push(path, sha256).map_err(|e| refused(e.problem))?;
        }
    }
    // Only what was committed is signed, whatever the manifest says.
    if listing.digest() != version.digest {
        return Err(damaged("its entries do not match its digest"));
    }
    let ignored = std::mem::take(&mut model.ignored);
    Ok((model.sign(&reference.to_string(), key).map_err(|e| refused(e.problem))?, ignored))
}
