//! Folders: which names are there, which of them durably.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Dir,
    File(u64),
}

type Table = BTreeMap<PathBuf, Node>;

/// One unsynced change. Atomic, whatever it touches.
#[derive(Clone, Debug)]
struct Change {
    order: u64,
    gone: Option<PathBuf>,
    made: Option<(PathBuf, Node)>,
    /// The folders whose sync it still waits for.
    waits: BTreeSet<PathBuf>,
    /// A sync failed over it: later syncs think it is done.
    stranded: bool,
}

impl Change {
    fn apply(&self, table: &mut Table) {
        if let Some(path) = &self.gone {
            table.remove(path);
        }
        if let Some((path, node)) = &self.made {
            table.insert(path.clone(), *node);
        }
    }

    fn touches(&self, path: &Path) -> bool {
        self.gone.as_deref() == Some(path)
            || self.made.as_ref().is_some_and(|(made, _)| made == path)
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    now: Arc<Table>,
    durable: Arc<Table>,
    changes: Arc<Vec<Change>>,
}

/// The path without `.` parts and trailing slashes.
pub(super) fn plain(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| !matches!(part, Component::CurDir))
        .collect()
}

fn parent(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}

fn is_root(path: &Path) -> bool {
    path.parent().is_none()
}

impl Names {
    pub(super) fn is_dir(&self, path: &Path) -> bool {
        is_root(path) || self.now.get(path) == Some(&Node::Dir)
    }

    /// Whether anything stands under this name.
    pub(super) fn exists(&self, path: &Path) -> bool {
        is_root(path) || self.now.contains_key(path)
    }

    pub(super) fn file_at(&self, path: &Path) -> io::Result<u64> {
        match self.now.get(&plain(path)) {
            Some(Node::File(id)) => Ok(*id),
            Some(Node::Dir) => Err(io::Error::from(io::ErrorKind::IsADirectory)),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (&Path, u64)> {
        self.now.iter().filter_map(|(path, node)| match node {
            Node::File(id) => Some((path.as_path(), *id)),
            Node::Dir => None,
        })
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        if !self.is_dir(dir) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        let inside = self.now.keys().filter(|path| path.parent() == Some(dir));
        let mut names: Vec<String> = inside
            .filter_map(|path| path.file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    fn change(&mut self, order: u64, gone: Option<PathBuf>, made: Option<(PathBuf, Node)>) {
        let touched = gone.iter().chain(made.as_ref().map(|(path, _)| path));
        let waits = touched.map(|path| parent(path)).collect();
        let change = Change {
            order,
            gone,
            made,
            waits,
            stranded: false,
        };
        change.apply(Arc::make_mut(&mut self.now));
        Arc::make_mut(&mut self.changes).push(change);
    }

    fn make(&mut self, path: &Path, node: Node, order: u64) -> io::Result<()> {
        if self.exists(path) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        if !self.is_dir(&parent(path)) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        self.change(order, None, Some((path.to_owned(), node)));
        Ok(())
    }

    pub(super) fn create_file(&mut self, path: &Path, id: u64, order: u64) -> io::Result<()> {
        self.make(path, Node::File(id), order)
    }

    pub(super) fn create_dir(&mut self, path: &Path, order: u64) -> io::Result<()> {
        self.make(path, Node::Dir, order)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path, order: u64) -> io::Result<()> {
        let id = self.file_at(from)?;
        if !self.is_dir(&parent(to)) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        if self.is_dir(to) {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        if from != to {
            self.change(
                order,
                Some(from.to_owned()),
                Some((to.to_owned(), Node::File(id))),
            );
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path, order: u64) -> io::Result<()> {
        self.file_at(path)?;
        self.change(order, Some(path.to_owned()), None);
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) {
        let durable = Arc::make_mut(&mut self.durable);
        let mut left: Vec<Change> = Vec::new();
        for mut change in std::mem::take(Arc::make_mut(&mut self.changes)) {
            if change.stranded || !change.waits.remove(dir) || !change.waits.is_empty() {
                left.push(change);
                continue;
            }
            change.apply(durable);
            // An older change of the same name is history now.
            left.retain(|older| {
                !older.stranded
                    || !(change.gone.as_ref().is_some_and(|path| older.touches(path))
                        || change
                            .made
                            .as_ref()
                            .is_some_and(|(path, _)| older.touches(path)))
            });
        }
        self.changes = Arc::new(left);
    }

    /// A sync of the folder failed: its changes count as done and are not.
    pub(super) fn strand(&mut self, dir: &Path) {
        for change in Arc::make_mut(&mut self.changes) {
            change.stranded |= change.waits.contains(dir);
        }
    }

    pub(super) fn unsynced(&self) -> usize {
        self.changes.len()
    }

    /// Every file that some name may still lead to.
    pub(super) fn known_files(&self) -> BTreeSet<u64> {
        let nodes = self.now.values().chain(self.durable.values());
        let made = self
            .changes
            .iter()
            .filter_map(|change| change.made.as_ref());
        nodes
            .chain(made.map(|(_, node)| node))
            .filter_map(|node| match node {
                Node::File(id) => Some(*id),
                Node::Dir => None,
            })
            .collect()
    }

    /// The durable names and those changes that `kept` (by their order, from 0) picks.
    pub(super) fn lose_power(&mut self, kept: impl Fn(usize) -> bool) {
        if self.changes.is_empty() {
            self.now = Arc::clone(&self.durable);
            return;
        }
        let mut changes = std::mem::take(Arc::make_mut(&mut self.changes));
        changes.sort_by_key(|change| change.order);
        let mut table = Table::clone(&self.durable);
        for (_, change) in changes
            .iter()
            .enumerate()
            .filter(|(number, _)| kept(*number))
        {
            change.apply(&mut table);
        }
        // A folder that is gone takes what was in it along.
        let paths: Vec<PathBuf> = table.keys().cloned().collect();
        for path in paths {
            let above = parent(&path);
            if !is_root(&above) && table.get(&above) != Some(&Node::Dir) {
                table.remove(&path);
            }
        }
        self.now = Arc::new(table);
        self.durable = Arc::clone(&self.now);
        self.changes = Arc::default();
    }
}
