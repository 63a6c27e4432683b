//! Where a tree that is committed stands, and where its symbolic links lead from there.
//!
//! Targets are read as text: `..` is the directory above, and nothing is followed on the disk, which could wait for this
//! very mount.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::format::name::{ArtifactKey, Selector};
use crate::format::path::TreePath;

/// Knows other mount points of the same store: where an absolute path is below the root of the tree that all of them
/// show; none if it is in none of them.
pub type OtherMounts = Arc<dyn Fn(&Path) -> Option<PathBuf> + Send + Sync>;

/// Where a tree stands.
#[derive(Clone)]
pub struct TreeLocation {
    /// Directories and files of it: under which path of the version, and where; absolute and without `.` and `..`.
    /// One may be there under several names.
    roots: Vec<(Option<TreePath>, PathBuf)>,
    mount: Option<Mount>,
}

/// The mount that a tree stands in.
#[derive(Clone)]
struct Mount {
    /// Absolute and without links.
    mountpoint: PathBuf,
    others: OtherMounts,
}

/// Where a link leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Leads {
    /// To a version of the mount or into one.
    Version(LinkTarget),
    /// Back into the tree from outside; the target that does the same from within it.
    Back(Box<[u8]>),
    /// To something else in the mount: its names there.
    Elsewhere(PathBuf),
    /// Anywhere else, or within the tree and never out of it.
    Out,
}

/// What a link may lead to, by its names below the mount point.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct LinkTarget {
    pub artifact: ArtifactKey,
    pub selector: Selector,
    pub path: Option<TreePath>,
}

impl LinkTarget {
    /// Its names below the mount point.
    pub fn names(&self) -> PathBuf {
        let top = Path::new(&self.artifact.to_string()).join(self.selector.to_string());
        self.path.as_ref().map_or(top.clone(), |path| top.join(OsStr::from_bytes(path.as_bytes())))
    }

    fn of(names: &Path) -> Option<Self> {
        let mut three = names.iter().map(OsStr::to_str);
        let (project, name, selector) = (three.next()??, three.next()??, three.next()??);
        let below: PathBuf = names.iter().skip(3).collect();
        let path = match below.as_os_str().as_bytes() {
            [] => None,
            path => Some(TreePath::new(path).ok()?),
        };
        let artifact = ArtifactKey { project: project.parse().ok()?, name: name.parse().ok()? };
        Some(Self { artifact, selector: selector.parse().ok()?, path })
    }
}

impl fmt::Debug for TreeLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("roots", &self.roots).finish_non_exhaustive()
    }
}

impl TreeLocation {
    /// Of a tree with its root at `tree`, in the mount on `mountpoint`; both absolute and without links.
    pub fn in_mount(mountpoint: PathBuf, tree: PathBuf, others: OtherMounts) -> Self {
        Self { roots: vec![(None, tree)], mount: Some(Mount { mountpoint, others }) }
    }

    /// Of local directories and files, as [`super::LocalTree::roots`] returns them. `working_directories` are names of the one that
    /// relative paths start from.
    pub fn of_folders(roots: &[(Option<TreePath>, PathBuf)], working_directories: &[PathBuf]) -> Self {
        let mut known = vec![];
        for (at, path) in roots {
            let named = working_directories.iter().filter_map(|directory| normal(&directory.join(path)));
            // What keeps its own name may be a link, which is not followed.
            let real = match (at, path.parent(), path.file_name()) {
                (Some(_), Some(parent), Some(name)) if parent.as_os_str().is_empty() => {
                    std::fs::canonicalize(".").map(|parent| parent.join(name))
                }
                (Some(_), Some(parent), Some(name)) => {
                    std::fs::canonicalize(parent).map(|parent| parent.join(name))
                }
                _ => std::fs::canonicalize(path),
            };
            for named in named.chain(real) {
                let root = (at.clone(), named);
                if !known.contains(&root) {
                    known.push(root);
                }
            }
        }
        Self { roots: known, mount: None }
    }

    /// Where a link at `path` of the tree leads.
    pub(super) fn leads(&self, path: &TreePath, link: &[u8]) -> Leads {
        for (at, root) in &self.roots {
            let Some(inside) = below(path.as_bytes(), at.as_ref()) else { continue };
            let link_at = root.join(OsStr::from_bytes(inside));
            let Some(directory) = link_at.parent() else { continue };
            let link_path = Path::new(OsStr::from_bytes(link));
            let depth = Path::new(OsStr::from_bytes(inside)).iter().count().saturating_sub(1);
            if link_path.is_relative() && stays_inside(depth, link_path) {
                return Leads::Out;
            }
            let Some(full) = normal(&directory.join(link_path)) else { continue };
            match self.leads_to(path, &full) {
                Leads::Out => {}
                found => return found,
            }
        }
        Leads::Out
    }

    fn leads_to(&self, path: &TreePath, full: &Path) -> Leads {
        if let Some(back) = self.back(path, full) {
            return back;
        }
        let Some(mount) = &self.mount else { return Leads::Out };
        let names = match full.strip_prefix(&mount.mountpoint) {
            Ok(names) => names.to_owned(),
            Err(_) => match (mount.others)(full) {
                Some(names) => names,
                None => return Leads::Out,
            },
        };
        if let Some(back) = self.back(path, &mount.mountpoint.join(&names)) {
            return back;
        }
        LinkTarget::of(&names).map_or(Leads::Elsewhere(names), Leads::Version)
    }

    /// The way back into the tree.
    fn back(&self, path: &TreePath, full: &Path) -> Option<Leads> {
        let within = |(at, root): &(Option<TreePath>, PathBuf)| {
            let rest = full.strip_prefix(root).ok()?;
            let top = at.as_ref().map_or(&b""[..], TreePath::as_bytes);
            Some(Path::new(OsStr::from_bytes(top)).join(rest))
        };
        let to = self.roots.iter().find_map(within)?;
        Some(Leads::Back(relative(path, &to)))
    }
}

/// What of a path lies below `top`; the whole path below none, its last name if it is `top` itself.
fn below<'a>(path: &'a [u8], top: Option<&TreePath>) -> Option<&'a [u8]> {
    let Some(top) = top else { return Some(path) };
    match path.strip_prefix(top.as_bytes())? {
        [] => Some(&[]),
        [b'/', rest @ ..] => Some(rest),
        _ => None,
    }
}

/// Whether a relative link in a directory `depth` levels below the root never leaves it.
fn stays_inside(mut depth: usize, link: &Path) -> bool {
    for component in link.components() {
        match component {
            Component::ParentDir if depth == 0 => return false,
            Component::ParentDir => depth -= 1,
            Component::Normal(_) => depth += 1,
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    true
}

/// The target for a link at `path` that leads to `to`, both in one tree.
fn relative(path: &TreePath, to: &Path) -> Box<[u8]> {
    let from = Path::new(OsStr::from_bytes(path.as_bytes()));
    let from: Vec<&OsStr> = from.parent().into_iter().flat_map(Path::iter).collect();
    let to: Vec<&OsStr> = to.iter().collect();
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n(OsStr::new(".."), from.len() - common);
    let names: Vec<&[u8]> = up.chain(to[common..].iter().copied()).map(OsStr::as_bytes).collect();
    if names.is_empty() { b".".as_slice().into() } else { names.join(&b'/').into() }
}

/// An absolute path without `.` and `..`; none if it is not absolute.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::RootDir => out.push("/"),
            Component::Normal(name) => out.push(name),
            Component::CurDir => {}
            Component::ParentDir => drop(out.pop()),
            Component::Prefix(_) => return None,
        }
    }
    out.is_absolute().then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(place: &TreeLocation, path: &str, link: &str) -> String {
        match place.leads(&TreePath::new(path.as_bytes()).unwrap(), link.as_bytes()) {
            Leads::Version(t) => {
                let path = t.path.map(|p| format!("/{p}")).unwrap_or_default();
                format!("{}:{}{path}", t.artifact, t.selector)
            }
            Leads::Back(link) => format!("back {}", String::from_utf8_lossy(&link)),
            Leads::Elsewhere(names) => format!("refused {}", names.display()),
            Leads::Out => "as it is".to_owned(),
        }
    }

    #[test]
    fn links_into_a_version_back_and_elsewhere_are_told_from_all_others() {
        let others: OtherMounts =
            Arc::new(|path| path.strip_prefix("/second").ok().map(|names| Path::new("p").join(names)));
        let place = TreeLocation::in_mount("/mnt".into(), "/mnt/p/a/staging".into(), others);
        for (path, link, expected) in [
            ("x", "/mnt/p/ds/v3", "p/ds:v3"),
            ("x", "/mnt//p/./ds/v3/", "p/ds:v3"),
            ("x", "/mnt/p/ds/best/images/val", "p/ds:best/images/val"),
            ("x", "../../ds/latest", "p/ds:latest"),
            ("d/x", "../../v1/sub", "p/a:v1/sub"),
            ("x", "/second/ds/v3", "p/ds:v3"),
            ("x", "/mnt/p/a/staging/ck", "back ck"),
            ("d/e/x", "/mnt/p/a/staging/ck/1", "back ../../ck/1"),
            ("d/e/x", "/mnt/p/a/staging/d/1", "back ../1"),
            ("d/e/x", "/mnt/p/a/staging/d/e", "back ."),
            ("x", "/mnt/p/a/staging", "back ."),
            ("d/x", "/mnt/p/a/staging/", "back .."),
            ("d/x", "../../staging/ck", "back ../ck"),
            ("x", "../../../p/a/staging/ck", "back ck"),
            ("x", "/tmp/../mnt/p/ds/../a/staging/ck", "back ck"),
            ("x", "/second/a/staging/ck", "back ck"),
            ("x", "y", "as it is"),
            ("d/x", "../y", "as it is"),
            ("d/x", "./../y/", "as it is"),
            ("x", "/etc/passwd", "as it is"),
            ("x", "/mntx/p/ds/v3", "as it is"),
            ("x", "/mnt/../etc", "as it is"),
            ("x", "../../../../etc", "as it is"),
            ("x", "/mnt/p/ds", "refused p/ds"),
            ("x", "/mnt", "refused "),
            ("x", "/mnt/p/ds/staging/x", "refused p/ds/staging/x"),
            ("x", "/mnt/p/a/staging.exp/x", "refused p/a/staging.exp/x"),
            ("x", "/mnt/p/ds/.artfs/log.jsonl", "refused p/ds/.artfs/log.jsonl"),
            ("x", "/mnt/.artfs/status.json", "refused .artfs/status.json"),
            ("x", "../next", "refused p/a/next"),
            ("x", "/second/b/staging", "refused p/b/staging"),
        ] {
            assert_eq!(told(&place, path, link), expected, "{path} -> {link}");
        }
    }

    #[test]
    fn links_of_folders_back_into_them_are_told_by_all_their_names() {
        let root =
            |at: Option<&str>, path: &str| (at.map(|at| TreePath::new(at.as_bytes()).unwrap()), path.into());
        let one = TreeLocation::of_folders(&[root(None, "d")], &["/real/w".into(), "/named/w".into()]);
        for (path, link, expected) in [
            ("x", "/real/w/d/ck", "back ck"),
            ("s/x", "/named/w/d/ck", "back ../ck"),
            ("s/x", "../../d/ck", "back ../ck"),
            ("x", "../other/d", "as it is"),
            ("x", "/mnt/p/ds/v3", "as it is"),
        ] {
            assert_eq!(told(&one, path, link), expected, "{path} -> {link}");
        }
        let two = TreeLocation::of_folders(&[root(Some("a"), "s/a"), root(Some("b"), "t/b")], &["/w".into()]);
        for (path, link, expected) in [
            ("a/x", "/w/t/b/y", "back ../b/y"),
            ("a/x", "../../t/b/y", "back ../b/y"),
            ("b/z/x", "/w/t/b", "back .."),
            ("b/x", "y", "as it is"),
            ("b/x", "../a/y", "as it is"),
        ] {
            assert_eq!(told(&two, path, link), expected, "{path} -> {link}");
        }
    }
}
