//! What the fault file system promises to tests.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::io::ErrorKind;
use std::path::Path;
use std::sync::mpsc;

use raftwerk_storage::buffer::PageBuf;
use raftwerk_storage::vfs::{OpenMode, SyncSite, Vfs, VfsFile};
use raftwerk_testkit::fault_vfs::{CallKind, CrashPlan, Fault, FaultVfs, Keep, PlanLimits};

const SITE: SyncSite = SyncSite("test");

fn durable_file(vfs: &FaultVfs, path: &str, bytes: &[u8]) -> Box<dyn VfsFile> {
    let file = vfs.open(Path::new(path), OpenMode::CreateNew).unwrap();
    file.write_at(0, bytes).unwrap();
    file.sync_data(SITE).unwrap();
    vfs.sync_dir(Path::new(""), SITE).unwrap();
    file
}

fn data(keep: Keep) -> CrashPlan {
    CrashPlan::PowerLoss {
        data: keep,
        names: Keep::Nothing,
    }
}

fn names(keep: Keep) -> CrashPlan {
    CrashPlan::PowerLoss {
        data: Keep::Nothing,
        names: keep,
    }
}

fn content(vfs: &FaultVfs, path: &str) -> Vec<u8> {
    vfs.read_file(Path::new(path)).unwrap()
}

#[test]
fn any_subset_of_unsynced_sectors_may_survive() {
    let vfs = FaultVfs::new();
    let file = durable_file(&vfs, "f", &[0; 1536]);
    file.write_at(0, &[1; 1536]).unwrap();
    for mask in 0..8_u64 {
        let left = content(&vfs.image().after(&data(Keep::Only(mask))), "f");
        for sector in 0..3 {
            let expected = u8::from(mask >> sector & 1 == 1);
            assert!(
                left[sector * 512..][..512]
                    .iter()
                    .all(|byte| *byte == expected)
            );
        }
    }
}

#[test]
fn later_write_to_a_sector_carries_the_earlier_one() {
    let vfs = FaultVfs::new();
    let file = durable_file(&vfs, "f", &[0; 512]);
    file.write_at(0, &[1; 8]).unwrap();
    file.write_at(8, &[2; 8]).unwrap();
    let left = content(&vfs.image().after(&data(Keep::Only(0b10))), "f");
    assert_eq!((left[0], left[8]), (1, 2));
    let left = content(&vfs.image().after(&data(Keep::Only(0b01))), "f");
    assert_eq!((left[0], left[8]), (1, 0), "a stale sector");
}

#[test]
fn sector_may_be_torn_within() {
    let vfs = FaultVfs::new();
    let file = durable_file(&vfs, "f", &[0; 1024]);
    file.write_at(0, &[1; 1024]).unwrap();
    let left = content(
        &vfs.image().after(&data(Keep::Torn {
            whole: 1,
            bytes: 100,
        })),
        "f",
    );
    assert_eq!(left.iter().filter(|byte| **byte == 1).count(), 612);
}

#[test]
fn length_and_bytes_survive_apart() {
    let vfs = FaultVfs::new();
    let file = durable_file(&vfs, "f", &[7; 10]);
    file.write_at(512, &[1; 512]).unwrap();
    let only_length = content(&vfs.image().after(&data(Keep::Only(0b01))), "f");
    assert_eq!((only_length.len(), only_length[600]), (1024, 0));
    let only_bytes = content(&vfs.image().after(&data(Keep::Only(0b10))), "f");
    assert_eq!(only_bytes.len(), 10);
}

#[test]
fn cut_bytes_come_back_unless_the_cut_was_synced() {
    let vfs = FaultVfs::new();
    let file = durable_file(&vfs, "f", &[7; 100]);
    file.set_len(10).unwrap();
    assert_eq!(
        content(&vfs.image().after(&CrashPlan::LOSE_UNSYNCED), "f").len(),
        100
    );
    file.sync_data(SITE).unwrap();
    assert_eq!(
        content(&vfs.image().after(&CrashPlan::LOSE_UNSYNCED), "f").len(),
        10
    );
}

#[test]
fn names_survive_apart_from_files_and_renames_whole() {
    let vfs = FaultVfs::new();
    drop(durable_file(&vfs, "old", b"old"));
    let file = vfs.open(Path::new("new.tmp"), OpenMode::CreateNew).unwrap();
    file.write_at(0, b"new").unwrap();
    file.sync_data(SITE).unwrap();
    vfs.rename(Path::new("new.tmp"), Path::new("old")).unwrap();
    let left = vfs.image().after(&names(Keep::Only(0b10)));
    assert_eq!(
        (left.list(Path::new("")).unwrap(), content(&left, "old")),
        (vec!["old".into()], b"new".to_vec())
    );
    let left = vfs.image().after(&names(Keep::Only(0b01)));
    assert_eq!(left.list(Path::new("")).unwrap(), ["new.tmp", "old"]);
    assert_eq!(content(&left, "old"), b"old");
    vfs.remove_file(Path::new("old")).unwrap();
    assert_eq!(
        content(&vfs.image().after(&CrashPlan::LOSE_UNSYNCED), "old"),
        b"old"
    );
    vfs.sync_dir(Path::new(""), SITE).unwrap();
    assert!(
        vfs.image()
            .after(&CrashPlan::LOSE_UNSYNCED)
            .files()
            .is_empty()
    );
}

#[test]
fn unsynced_folder_takes_its_files_along() {
    let vfs = FaultVfs::new();
    vfs.disable_sync(SyncSite("mkdir"));
    vfs.create_dir_all(Path::new("a/b"), SyncSite("mkdir"))
        .unwrap();
    drop(vfs.open(Path::new("a/b/f"), OpenMode::CreateNew).unwrap());
    vfs.sync_dir(Path::new("a/b"), SITE).unwrap();
    assert!(
        vfs.image()
            .after(&CrashPlan::LOSE_UNSYNCED)
            .files()
            .is_empty()
    );
    assert_eq!(
        vfs.image().after(&CrashPlan::KEEP_UNSYNCED).files(),
        [Path::new("a/b/f")]
    );
    vfs.enable_sync(SyncSite("mkdir"));
    vfs.create_dir_all(Path::new("c/d"), SyncSite("mkdir"))
        .unwrap();
    assert!(
        vfs.crash(&CrashPlan::LOSE_UNSYNCED)
            .list(Path::new("c/d"))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn nothing_synced_after_a_failed_sync_makes_the_old_pages_durable() {
    let vfs = FaultVfs::new();
    let file = durable_file(&vfs, "f", &[0; 1024]);
    file.write_at(0, &[1; 512]).unwrap();
    vfs.fail_at(0, Fault::FsyncFailsOnceThenOk);
    assert!(file.sync_data(SITE).is_err());
    file.write_at(512, &[2; 512]).unwrap();
    file.sync_data(SITE).unwrap();
    let killed = vfs.image().after(&CrashPlan::Kill);
    assert_eq!(content(&killed, "f")[0], 1, "still in the cache");
    let reopened = killed.open(Path::new("f"), OpenMode::Write).unwrap();
    reopened.sync_data(SITE).unwrap();
    let left = content(&killed.crash(&CrashPlan::LOSE_UNSYNCED), "f");
    assert_eq!((left[0], left[512]), (0, 2));
    let left = content(&killed.crash(&CrashPlan::KEEP_UNSYNCED), "f");
    assert_eq!((left[0], left[512]), (1, 2), "or the disk had it after all");
    file.write_at(1, &[1]).unwrap();
    file.sync_data(SITE).unwrap();
    assert_eq!(
        content(&vfs.crash(&CrashPlan::LOSE_UNSYNCED), "f")[0],
        1,
        "dirty again, then synced"
    );
}

#[test]
fn synced_write_makes_its_own_bytes_durable_and_no_others() {
    let vfs = FaultVfs::new();
    let file = durable_file(&vfs, "a", &[b'.'; 2048]);
    file.write_at(0, &[b'1'; 512]).unwrap();
    file.write_at(1024, &[b'2'; 10]).unwrap();
    file.write_synced(1034, &[b'3'; 500], SITE).unwrap();
    file.write_at(1536, &[b'4'; 5]).unwrap();
    let after = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    let bytes = content(&after, "a");
    assert_eq!(bytes[..1024], [b'.'; 1024]);
    // The sector is written whole, with what stood in it unsynced.
    assert_eq!(bytes[1024..1034], [b'2'; 10]);
    assert_eq!(bytes[1034..1534], [b'3'; 500]);
    assert_eq!(bytes[1534..], [b'.'; 514]);
    // All that is not synced may survive all the same.
    let after = content(&vfs.crash(&CrashPlan::KEEP_UNSYNCED), "a");
    assert_eq!((after[0], after[1540]), (b'1', b'4'));
}

#[test]
fn synced_write_behind_the_end_makes_the_length_durable() {
    let vfs = FaultVfs::new();
    let file = durable_file(&vfs, "a", b"x");
    file.write_at(600, b"lost").unwrap();
    file.write_synced(2000, b"kept", SITE).unwrap();
    let bytes = content(&vfs.crash(&CrashPlan::LOSE_UNSYNCED), "a");
    assert_eq!(bytes.len(), 2004);
    assert_eq!(
        (&bytes[600..604], &bytes[2000..]),
        (&[0; 4][..], &b"kept"[..])
    );
}

#[test]
fn kill_keeps_the_cache_and_power_loss_after_it_does_not() {
    let vfs = FaultVfs::new();
    let file = durable_file(&vfs, "f", &[0; 512]);
    file.write_at(0, &[1; 512]).unwrap();
    let next = vfs.crash(&CrashPlan::Kill);
    assert_eq!(content(&next, "f")[0], 1);
    assert_eq!(content(&next.crash(&CrashPlan::LOSE_UNSYNCED), "f")[0], 0);
}

#[test]
fn crash_at_stops_everything_and_handles_die_with_their_life() {
    let vfs = FaultVfs::new();
    let file = durable_file(&vfs, "f", b"a");
    let lock = vfs.lock(Path::new("f")).unwrap();
    vfs.crash_at(vfs.calls() + 1);
    file.write_at(0, b"b").unwrap();
    assert!(file.write_at(0, b"c").is_err());
    assert!(file.read_at(0, &mut [0]).is_err());
    let next = vfs.crash(&CrashPlan::KEEP_UNSYNCED);
    assert_eq!(content(&next, "f"), b"b");
    assert!(file.len().is_err() && vfs.list(Path::new("")).is_err());
    drop(next.lock(Path::new("f")).unwrap());
    drop(lock);
}

#[test]
fn faults_hit_the_call_they_fit() {
    let vfs = FaultVfs::new();
    let file = durable_file(&vfs, "f", &[0; 8]);
    vfs.fail_at(vfs.calls(), Fault::ShortWrite);
    file.sync_data(SITE).unwrap();
    assert_eq!(
        file.write_at(0, &[1; 8]).unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    assert_eq!(content(&vfs, "f"), [1, 1, 1, 1, 0, 0, 0, 0]);
    vfs.fail_at(0, Fault::Enospc);
    assert_eq!(
        file.write_at(0, &[2; 8]).unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    vfs.fail_at(0, Fault::Eio);
    assert_eq!(
        vfs.remove_file(Path::new("f")).unwrap_err().raw_os_error(),
        Some(5)
    );
    file.write_at(0, &[3; 8]).unwrap();
    assert_eq!(
        (
            vfs.calls_of(CallKind::Write),
            vfs.calls_of(CallKind::Remove)
        ),
        (4, 1)
    );
}

#[test]
fn any_change_may_find_the_disk_full_and_then_nothing_is_done() {
    let vfs = FaultVfs::new();
    let file = durable_file(&vfs, "f", &[0; 8]);
    let full = |call: &dyn Fn() -> std::io::Result<()>| {
        vfs.fail_at(0, Fault::Enospc);
        assert_eq!(call().unwrap_err().kind(), ErrorKind::StorageFull);
    };
    let (old, new, root) = (Path::new("f"), Path::new("g"), Path::new(""));
    full(&|| vfs.open(new, OpenMode::CreateNew).map(drop));
    full(&|| vfs.rename(old, new));
    full(&|| vfs.remove_file(old));
    assert_eq!(vfs.files(), [old]);
    vfs.rename(old, new).unwrap();
    full(&|| vfs.sync_dir(root, SITE));
    vfs.sync_dir(root, SITE).unwrap();
    file.write_at(0, &[1; 8]).unwrap();
    full(&|| file.sync_data(SITE));
    file.sync_data(SITE).unwrap();
    let left = vfs.crash(&CrashPlan::LOSE_UNSYNCED);
    assert_eq!(left.files(), [old], "the second sync proves nothing");
    assert_eq!(content(&left, "f"), [0; 8]);
}

#[test]
fn full_disk_refuses_growth_and_removal_helps() {
    let vfs = FaultVfs::new();
    vfs.set_capacity(Some(8192));
    let one = durable_file(&vfs, "one", &[1; 4096]);
    let two = durable_file(&vfs, "two", &[1; 4096]);
    assert_eq!(
        two.write_at(4096, &[1]).unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    two.write_at(0, &[2; 4096]).unwrap();
    assert_eq!(vfs.space(Path::new("")).unwrap().unwrap().free_bytes, 0);
    vfs.remove_file(Path::new("one")).unwrap();
    assert!(two.write_at(4096, &[1]).is_err(), "still open");
    drop(one);
    two.write_at(4096, &[1]).unwrap();
}

#[test]
fn lock_is_exclusive_until_dropped() {
    let vfs = FaultVfs::new();
    let lock = vfs.lock(Path::new("LOCK")).unwrap();
    assert_eq!(
        vfs.lock(Path::new("LOCK")).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    drop(lock);
    drop(vfs.lock(Path::new("LOCK")).unwrap());
}

#[test]
fn hook_holds_one_call_while_others_go_on() {
    let vfs = FaultVfs::new();
    let file = durable_file(&vfs, "f", &[0; 8]);
    let (arrived, wait_arrived) = mpsc::channel();
    let (release, wait_release) = mpsc::channel::<()>();
    let wait_release = parking_lot::Mutex::new(wait_release);
    vfs.on_call(Box::new(move |_, call| {
        if call.kind == CallKind::Sync {
            arrived.send(call.site).unwrap();
            wait_release.lock().recv().unwrap();
        }
    }));
    std::thread::scope(|scope| {
        let sync = scope.spawn(|| file.sync_data(SITE));
        assert_eq!(wait_arrived.recv().unwrap(), Some(SITE));
        vfs.open(Path::new("f"), OpenMode::Write)
            .unwrap()
            .write_at(0, &[9])
            .unwrap();
        release.send(()).unwrap();
        sync.join().unwrap().unwrap();
    });
    assert_eq!(content(&vfs, "f")[0], 9);
}

#[test]
fn damage_is_done_to_the_disk_and_the_cache() {
    let vfs = FaultVfs::new();
    let file = durable_file(&vfs, "f", &[[1; 512], [2; 512]].concat());
    vfs.swap_sectors((Path::new("f"), 0), (Path::new("f"), 1))
        .unwrap();
    vfs.flip_bit(Path::new("f"), 0, 7).unwrap();
    assert_eq!((content(&vfs, "f")[0], content(&vfs, "f")[512]), (130, 1));
    vfs.zero_sector(Path::new("f"), 1).unwrap();
    let after = vfs.image().after(&CrashPlan::LOSE_UNSYNCED);
    assert_eq!(
        (content(&after, "f")[0], content(&after, "f")[512]),
        (130, 0)
    );
    vfs.break_sector(Path::new("f"), 1).unwrap();
    assert!(file.read_at(0, &mut [0; 512]).is_ok());
    assert_eq!(
        file.read_at(500, &mut [0; 100]).unwrap_err().raw_os_error(),
        Some(5)
    );
    file.write_at(512, &[3; 512]).unwrap();
    assert!(file.read_at(500, &mut [0; 100]).is_ok());
}

#[test]
fn image_of_a_large_file_shares_its_pages() {
    let vfs = FaultVfs::new();
    let file = durable_file(&vfs, "f", &vec![5; 8 << 20]);
    // 100,000 images of 8 MiB: far beyond memory if they were copies.
    let images: Vec<_> = (0..100_000).map(|_| vfs.image()).collect();
    file.write_at(0, &[6]).unwrap();
    assert_eq!(content(&images[99_999].after(&CrashPlan::Kill), "f")[0], 5);
    assert_eq!(vfs.image().plans(&PlanLimits::default()).len(), 1 + 2);
}

#[test]
fn direct_write_that_is_not_aligned_is_refused_and_changes_nothing() {
    let vfs = FaultVfs::new();
    let path = Path::new("file");
    let file = vfs.open(path, OpenMode::CreateNewDirect).unwrap();
    assert!(vfs.direct_io(path).unwrap().is_some());
    let pages = PageBuf::copy_of(&[7; 8192]);
    let bytes = pages.content();
    for (offset, part) in [(100, bytes), (0, &bytes[..100]), (0, &bytes[512..1024])] {
        let refused = file.write_at(offset, part).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(file.len().unwrap(), 0);
    file.write_at(512, bytes).unwrap();
    assert_eq!(file.len().unwrap(), 512 + 8192);
}
