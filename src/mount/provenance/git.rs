//! The git working tree that a run works in.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::redact;
use crate::format::run::Git;

/// How long `git` may take to compare the working tree.
const GIT_LIMIT: Duration = Duration::from_secs(5);
/// The longest file of git that is read.
const MAX_GIT_FILE_BYTES: u64 = 8 << 20;

/// Whose working tree it is. `git` runs what the configuration of a tree says, so it is not run in those of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// This user's own.
    Own,
    /// Another user's.
    Foreign,
}

/// Reads the git working tree around a directory; `None` if there is none.
pub(super) fn working_tree(directory: &Path, trust: Trust) -> Option<Git> {
    let top = directory.ancestors().find(|folder| folder.join(".git").exists())?;
    let dot = top.join(".git");
    let folder = if dot.is_dir() {
        dot
    } else {
        // In a linked working tree or a submodule it is a file that names the folder.
        let text = read(&dot)?;
        top.join(text.strip_prefix("gitdir:")?.trim())
    };
    let common =
        read(&folder.join("commondir")).map_or_else(|| folder.clone(), |text| folder.join(text.trim()));
    let head = read(&folder.join("HEAD"))?;
    let (commit, branch) = match head.trim().strip_prefix("ref: ") {
        None => (Some(head.trim().to_owned()), None),
        Some(name) => {
            let commit = read(&folder.join(name)).or_else(|| read(&common.join(name)));
            let commit = commit.map(|text| text.trim().to_owned()).or_else(|| packed(&common, name));
            (commit, Some(name.trim_start_matches("refs/heads/").to_owned()))
        }
    };
    let is_hash = |text: &String| text.len() >= 40 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let dirty = if trust == Trust::Own { is_dirty(top) } else { None };
    Some(Git {
        commit: commit.filter(is_hash),
        branch: branch.map(|name| name.chars().take(256).collect()),
        dirty,
        remote: read(&common.join("config")).and_then(|config| origin(&config)),
    })
}

fn read(path: &Path) -> Option<String> {
    // Reading a pipe would never end.
    let meta = fs::metadata(path).ok()?;
    if !meta.is_file() || meta.len() > MAX_GIT_FILE_BYTES {
        return None;
    }
    String::from_utf8(fs::read(path).ok()?).ok()
}

fn packed(common: &Path, name: &str) -> Option<String> {
    let refs = read(&common.join("packed-refs"))?;
    let found = refs.lines().filter_map(|line| line.split_once(' ')).find(|(_, at)| *at == name);
    found.map(|(commit, _)| commit.to_owned())
}

/// Returns the URL of `origin`, without credentials.
fn origin(config: &str) -> Option<String> {
    let mut lines = config.lines().map(str::trim).skip_while(|line| *line != "[remote \"origin\"]").skip(1);
    let value = lines.by_ref().take_while(|line| !line.starts_with('[')).find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == "url").then(|| value.trim().to_owned())
    });
    redact::url(&value?)
}

/// Returns whether tracked files differ from the commit; `None` if git is not installed or takes too long.
fn is_dirty(top: &Path) -> Option<bool> {
    // Without hooks and monitors. Filters do run: they are those of the owner, who is this user.
    let mut git = Command::new("git")
        .args(["--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"])
        .args(["diff", "--quiet", "--no-ext-diff", "--no-textconv", "HEAD", "--"])
        .current_dir(top)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let begun = Instant::now();
    loop {
        match git.try_wait() {
            Ok(Some(status)) => {
                return status.code().and_then(|code| {
                    [Some(false), Some(true)].get(usize::try_from(code).ok()?).copied().flatten()
                });
            }
            Ok(None) if begun.elapsed() < GIT_LIMIT => std::thread::sleep(Duration::from_millis(10)),
            _ => {
                let _ = git.kill();
                let _ = git.wait();
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(folder: &Path, words: &[&str]) {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]);
        let done =
            command.args(words).current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(done.unwrap().success(), "{words:?}");
    }

    #[test]
    fn the_working_tree_is_recorded_with_its_state_and_without_credentials() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(working_tree(dir.path(), Trust::Own), None);
        let deep = dir.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        git(dir.path(), &["init", "-q"]);
        fs::write(dir.path().join("f"), "x").unwrap();
        git(dir.path(), &["add", "f"]);
        git(dir.path(), &["commit", "-qm", "m"]);
        git(dir.path(), &["remote", "add", "origin", "https://ann:pw@example.org/t/x.git"]);
        let found = working_tree(&deep, Trust::Own).unwrap();
        assert_eq!(found.commit.as_ref().map(String::len), Some(40));
        assert_eq!(found.branch.as_deref(), Some("main"));
        assert_eq!(found.remote.as_deref(), Some("https://example.org/t/x.git"));
        assert_eq!(found.dirty, Some(false));
        fs::write(dir.path().join("f"), "yy").unwrap();
        assert_eq!(working_tree(&deep, Trust::Own).unwrap().dirty, Some(true));
        assert_eq!(working_tree(&deep, Trust::Foreign).unwrap().dirty, None, "git is not run for others");
        git(dir.path(), &["pack-refs", "--all"]);
        assert_eq!(working_tree(&deep, Trust::Own).unwrap().commit, found.commit);
    }
}
