//! Files that are written past the page cache, on the disk that temporary files are on.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::io::{self, Write};
use std::sync::Arc;

use raftwerk_storage::buffer::PageBuf;
use raftwerk_storage::vfs::{CountingVfs, DirectIo, OpenMode, RealVfs, SyncSite, Vfs};

const SITE: SyncSite = SyncSite("test");
const PAGE: usize = 4096;

#[test]
fn direct_write_is_seen_by_whoever_had_the_place_in_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, vec![1; 4 * PAGE]).unwrap();
    if RealVfs.direct_io(&path).unwrap().is_none() {
        let _ = writeln!(io::stderr().lock(), "SKIPPED: no direct writes here");
        return;
    }
    let cached = RealVfs.open(&path, OpenMode::Read).unwrap();
    let direct = RealVfs.open(&path, OpenMode::WriteDirect).unwrap();
    let mut found = vec![0; 4 * PAGE];
    assert_eq!(cached.read_at(0, &mut found).unwrap(), 4 * PAGE);
    let page = PageBuf::copy_of(&[2; PAGE]);
    direct.write_at(PAGE as u64, page.content()).unwrap();
    direct.sync_data(SITE).unwrap();
    let mut expected = vec![1; 4 * PAGE];
    expected[PAGE..2 * PAGE].fill(2);
    for reader in [&cached, &direct] {
        found.fill(0);
        // At an odd place and of an odd length: reads need no alignment.
        assert_eq!(reader.read_at(3, &mut found[3..]).unwrap(), 4 * PAGE - 3);
        assert_eq!(found[3..], expected[3..]);
    }
    // It grows as any file does.
    let end = direct.len().unwrap();
    direct.write_at(end, page.content()).unwrap();
    assert_eq!(cached.len().unwrap(), end + PAGE as u64);
}

#[test]
fn write_with_its_sync_is_one_of_each_and_its_bytes_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, vec![1; 2 * PAGE]).unwrap();
    let mut modes = vec![OpenMode::Write];
    match RealVfs.direct_io(&path).unwrap() {
        Some(_) => modes.push(OpenMode::WriteDirect),
        None => drop(writeln!(
            io::stderr().lock(),
            "SKIPPED: no direct writes here"
        )),
    }
    for (mode, byte) in modes.into_iter().zip(2..) {
        let vfs = CountingVfs::new(Arc::new(RealVfs));
        let file = vfs.open(&path, mode).unwrap();
        let page = PageBuf::copy_of(&[byte; PAGE]);
        file.write_synced(PAGE as u64, page.content(), SITE)
            .unwrap();
        let found = fs::read(&path).unwrap();
        assert_eq!(found[..PAGE], [1; PAGE], "{mode:?}");
        assert_eq!(found[PAGE..], [byte; PAGE], "{mode:?}");
        let counts = vfs.counts();
        assert_eq!((counts.writes, counts.written_bytes), (1, PAGE as u64));
        assert_eq!(counts.syncs.into_iter().collect::<Vec<_>>(), [(SITE, 1)]);
        let map = file.map().unwrap();
        let refused = file.write_synced(0, page.content(), SITE).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
        drop(map);
    }
}

#[test]
fn file_that_cannot_be_opened_directly_is_not_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    match RealVfs.open(&path, OpenMode::CreateNewDirect) {
        Ok(file) => assert_eq!(file.len().unwrap(), 0),
        Err(_) => assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0),
    }
}

#[test]
fn offset_length_and_memory_have_to_be_aligned() {
    let needs = DirectIo {
        memory_bytes: 4096,
        offset_bytes: 512,
    };
    let pages = PageBuf::zeros(2 * PAGE);
    let bytes = pages.content();
    assert!(needs.allows(512, bytes));
    assert!(!needs.allows(256, bytes), "offset");
    assert!(!needs.allows(512, &bytes[..700]), "length");
    assert!(!needs.allows(512, &bytes[512..1024]), "memory");
}
