//! Whose folder it is, on the real disk.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use raftwerk_raft::StorageError;
use raftwerk_storage::folder::{
    Folder, FolderMode, IDENTITY_FILE, Kind, LOCK_FILE, MIGRATION_FILE, SYNC_CREATE, SYNC_IDENTITY,
    SYNC_RENAME,
};
use raftwerk_storage::vfs::{CountingVfs, OpenMode, RealVfs, SyncSite, Vfs};

const KIND: Kind = Kind {
    name: "wal",
    format_version: 3,
};

/// A folder of its own for each test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("raftwerk-folder-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn store(&self) -> PathBuf {
        self.0.join("a/store")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn open(path: &Path, kind: Kind, mode: FolderMode) -> Result<Folder, StorageError> {
    Folder::open(Arc::new(RealVfs), path, kind, mode)
}

fn create(path: &Path) -> Folder {
    open(path, KIND, FolderMode::CreateIfMissing).unwrap()
}

fn names(path: &Path) -> Vec<String> {
    RealVfs.list(path).unwrap()
}

#[test]
fn store_keeps_its_identity_over_reopening() {
    let scratch = Scratch::new();
    let path = scratch.store();
    let first = create(&path).identity().clone();
    assert_eq!((first.backend.as_str(), first.format_version), ("wal", 3));
    let again = open(&path, KIND, FolderMode::MustExist).unwrap();
    assert_eq!(again.identity(), &first);
    assert_eq!(Folder::peek(&RealVfs, &path).unwrap(), first);
    assert_eq!(names(&path), [IDENTITY_FILE, LOCK_FILE]);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn stores_differ_in_their_uuid() {
    let scratch = Scratch::new();
    let one = create(&scratch.0.join("one"));
    let other = create(&scratch.0.join("other"));
    assert_ne!(one.uuid(), other.uuid());
}

#[test]
fn second_opener_is_refused_until_the_first_lets_go() {
    let scratch = Scratch::new();
    let path = scratch.store();
    let first = create(&path);
    let refused = open(&path, KIND, FolderMode::CreateIfMissing).unwrap_err();
    assert!(matches!(refused, StorageError::Locked { .. }), "{refused}");
    assert!(
        Folder::peek(&RealVfs, &path).is_ok(),
        "looking needs no lock"
    );
    drop(first);
    create(&path);
}

#[test]
fn other_backend_and_other_version_are_refused_untouched() {
    let scratch = Scratch::new();
    let path = scratch.store();
    drop(create(&path));
    fs::remove_file(path.join(LOCK_FILE)).unwrap();
    for kind in [
        Kind {
            name: "redb-log",
            format_version: 3,
        },
        Kind {
            name: "wal",
            format_version: 4,
        },
    ] {
        let refused = open(&path, kind, FolderMode::CreateIfMissing).unwrap_err();
        let StorageError::WrongStore {
            found, expected, ..
        } = &refused
        else {
            panic!("{refused}");
        };
        assert_eq!(found, "a wal store of format 3");
        assert_eq!(expected, &kind.to_string());
        assert_eq!(names(&path), [IDENTITY_FILE]);
    }
}

#[test]
fn foreign_folder_is_refused_untouched() {
    let scratch = Scratch::new();
    fs::write(scratch.0.join("thesis.tex"), "years of work").unwrap();
    let refused = open(&scratch.0, KIND, FolderMode::CreateIfMissing).unwrap_err();
    assert!(
        matches!(refused, StorageError::WrongStore { .. }),
        "{refused}"
    );
    assert_eq!(names(&scratch.0), ["thesis.tex"]);
}

#[test]
fn missing_store_is_not_made_when_it_must_exist() {
    let scratch = Scratch::new();
    assert!(open(&scratch.store(), KIND, FolderMode::MustExist).is_err());
    assert!(names(&scratch.0).is_empty());
    assert!(Folder::peek(&RealVfs, &scratch.store()).is_err());
}

#[test]
fn creation_cut_short_anywhere_is_taken_up_again() {
    let scratch = Scratch::new();
    for (count, leftovers) in [
        vec![],
        vec![LOCK_FILE],
        vec!["IDENTITY.tmp"],
        vec![LOCK_FILE, "IDENTITY.tmp"],
    ]
    .into_iter()
    .enumerate()
    {
        let path = scratch.0.join(count.to_string());
        fs::create_dir(&path).unwrap();
        for name in leftovers {
            fs::write(path.join(name), "half").unwrap();
        }
        drop(create(&path));
        assert_eq!(names(&path), [IDENTITY_FILE, LOCK_FILE]);
    }
}

#[test]
fn damaged_identity_is_corrupt_wherever_it_is() {
    let scratch = Scratch::new();
    let path = scratch.store();
    drop(create(&path));
    let file = path.join(IDENTITY_FILE);
    let whole = fs::read(&file).unwrap();
    for bit in (0..whole.len() * 8).step_by(5) {
        let mut damaged = whole.clone();
        *damaged.get_mut(bit / 8).unwrap() ^= 1 << (bit % 8);
        fs::write(&file, damaged).unwrap();
        let refused = open(&path, KIND, FolderMode::CreateIfMissing).unwrap_err();
        assert!(
            matches!(refused, StorageError::Corrupt { .. }),
            "bit {bit}: {refused}"
        );
    }
    fs::write(&file, "").unwrap();
    assert!(matches!(
        Folder::peek(&RealVfs, &path),
        Err(StorageError::Corrupt { .. })
    ));
}

#[test]
fn every_step_of_the_creation_is_synced() {
    let scratch = Scratch::new();
    let vfs = CountingVfs::new(Arc::new(RealVfs));
    let path = scratch.store();
    let mode = FolderMode::CreateIfMissing;
    drop(Folder::open(Arc::new(vfs.clone()), &path, KIND, mode).unwrap());
    let created = vfs.counts();
    let wanted = [(SYNC_CREATE, 2), (SYNC_IDENTITY, 1), (SYNC_RENAME, 1)];
    assert_eq!(created.syncs, wanted.into());
    drop(Folder::open(Arc::new(vfs.clone()), &path, KIND, mode).unwrap());
    assert_eq!(
        vfs.counts().since(&created).syncs,
        [(SYNC_RENAME, 1)].into()
    );
}

#[test]
fn real_files_read_and_write_where_they_are_told() {
    let scratch = Scratch::new();
    let vfs = CountingVfs::new(Arc::new(RealVfs));
    let path = scratch.0.join("file");
    let site = SyncSite("test");
    assert!(
        vfs.open(&path, OpenMode::Write).is_err(),
        "only CreateNew makes files"
    );
    let file = vfs.open(&path, OpenMode::CreateNew).unwrap();
    assert!(vfs.open(&path, OpenMode::CreateNew).is_err());
    file.write_at(3, b"abc").unwrap();
    file.sync_data(site).unwrap();
    assert_eq!(file.len().unwrap(), 6);
    let mut buffer = [9; 8];
    assert_eq!(file.read_at(2, &mut buffer).unwrap(), 4);
    assert_eq!(&buffer, b"\0abc\x09\x09\x09\x09");
    assert_eq!(file.read_at(100, &mut buffer).unwrap(), 0);
    file.set_len(0).unwrap();
    assert!(file.is_empty().unwrap());
    assert!(
        vfs.open(&path, OpenMode::Read)
            .unwrap()
            .write_at(0, b"x")
            .is_err()
    );
    vfs.rename(&path, &scratch.0.join("renamed")).unwrap();
    vfs.sync_dir(&scratch.0, site).unwrap();
    assert_eq!(vfs.list(&scratch.0).unwrap(), ["renamed"]);
    vfs.remove_file(&scratch.0.join("renamed")).unwrap();
    let space = vfs.space(&scratch.0).unwrap().unwrap();
    assert!(space.free_bytes > 0 && space.free_bytes <= space.total_bytes);
    let counts = vfs.counts();
    assert_eq!(
        (counts.syncs_total(), counts.writes, counts.written_bytes),
        (2, 2, 4)
    );
    assert_eq!((counts.reads, counts.read_bytes, counts.opens), (2, 4, 4));
}

#[test]
fn copy_takes_the_uuid_of_its_original_and_only_in_an_empty_folder() {
    let scratch = Scratch::new();
    let original = create(&scratch.store());
    let path = scratch.0.join("copy");
    let other = Kind {
        name: "log-redb",
        format_version: 1,
    };
    let copy = Folder::create_copy(Arc::new(RealVfs), &path, other, original.uuid()).unwrap();
    assert_eq!(copy.uuid(), original.uuid());
    drop(copy);
    let again = Folder::create_copy(Arc::new(RealVfs), &path, other, original.uuid());
    assert!(
        matches!(again, Err(StorageError::WrongStore { .. })),
        "{again:?}"
    );
    let opened = open(&path, other, FolderMode::MustExist).unwrap();
    assert_eq!(opened.uuid(), original.uuid());
}

#[test]
fn unfinished_copy_is_no_store() {
    let scratch = Scratch::new();
    for identity in [false, true] {
        let path = scratch.0.join(format!("identity-{identity}"));
        fs::create_dir(&path).unwrap();
        if identity {
            drop(create(&path));
        }
        fs::write(path.join(MIGRATION_FILE), "").unwrap();
        let before = names(&path);
        let refused = open(&path, KIND, FolderMode::CreateIfMissing).unwrap_err();
        assert!(refused.to_string().contains("not finished"), "{refused}");
        assert_eq!(names(&path), before);
    }
}
