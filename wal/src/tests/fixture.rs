//! The bytes that this version writes, pinned: whoever changes one changes the format's version.
//! And logs that versions wrote, kept in `wal/fixtures`: every later one opens them.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use raftwerk_raft::{GroupId, GroupWrite, HardState, LogIndex, NodeId, Storage, Term, WriteBatch};
use raftwerk_storage::folder::StoreUuid;
use raftwerk_testkit::crash::Progress;
use raftwerk_testkit::fault_vfs::{CrashPlan, FaultVfs, Keep};

use super::fuzz::write_all;
use super::sites::{append, entry};
use super::workload::{DIR, Known, Small, models, open_with, options, prepare, run_on};
use crate::recovery::rewrite::begin;
use crate::segment::header::file_name;
use crate::{SYNC_BATCH, TailEnd, Verdict, Wal};

/// A log of known uuid and lives: three batches over two groups.
fn write() -> FaultVfs {
    use raftwerk_storage::vfs::Vfs;
    let vfs = FaultVfs::new();
    let dir = Path::new(DIR);
    vfs.create_dir_all(dir, SYNC_BATCH).unwrap();
    let mut begun = begin(&vfs, dir, StoreUuid([7; 16]), &options(), 42, &mut |_| {}).unwrap();
    for index in 1..=3 {
        let one = GroupWrite {
            group: GroupId(1),
            append: vec![entry(index, index, 40)],
            hard_state: Some(HardState {
                term: Term(index),
                vote: Some(NodeId(2)),
                commit: LogIndex(index - 1),
            }),
            ..GroupWrite::default()
        };
        let other = GroupWrite {
            group: GroupId(300),
            append: vec![entry(1, index, 600)],
            meta: vec![("name".into(), Some("value".into()))],
            ..GroupWrite::default()
        };
        let batch = WriteBatch {
            groups: vec![one, other],
            ..WriteBatch::default()
        };
        begun.state.submit(batch).unwrap();
        let job = begun.state.plan().unwrap().seal().unwrap();
        begun.writer.step(&job).unwrap();
        begun.state.complete(job);
    }
    vfs
}

#[test]
fn bytes_on_disk_are_those_of_this_version() {
    let vfs = write();
    let crc = |name: &str| crc32fast::hash(&vfs.read_file(&Path::new(DIR).join(name)).unwrap());
    let found = (crc(&file_name(1)), crc("WATERMARK"));
    assert_eq!(
        found,
        (0x244e_ee4f, 0x8479_9fe8),
        "{found:x?}: the format has changed"
    );
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// Everything that a log answers, as text.
fn told(wal: &Wal) -> String {
    let mut text = String::new();
    for group in wal.groups().unwrap() {
        let open = wal.open_group(group).unwrap();
        writeln!(text, "{group}: {:?}", open.state).unwrap();
        let (first, behind) = (open.log.first(), open.log.last().index.next());
        if first < behind {
            for entry in open.log.read(first..behind, u64::MAX).unwrap() {
                writeln!(text, "  {}: {:?}", entry.id, entry.data).unwrap();
            }
        }
    }
    text
}

#[test]
fn logs_that_earlier_versions_wrote_open() {
    let mut count = 0;
    for version in fs::read_dir(fixtures()).unwrap() {
        let folder = version.unwrap().path();
        let files = fs::read_dir(folder.join("log")).unwrap();
        let contents: Vec<_> = files
            .map(|file| {
                let path = file.unwrap().path();
                let name = Path::new(DIR).join(path.file_name().unwrap());
                (name, fs::read(path).unwrap())
            })
            .collect();
        let vfs = FaultVfs::new();
        write_all(&vfs, &contents);
        let wal = open_with(&vfs, Small::Pages8.options()).unwrap();
        let expected = fs::read_to_string(folder.join("expected.txt")).unwrap();
        assert_eq!(told(&wal), expected, "{}", folder.display());
        assert_eq!(wal.report().verdict(), Verdict::Torn);
        count += 1;
    }
    assert!(count > 0);
}

/// Writes the fixture of this version: once, when a version is released. A log with footers,
/// relocated entries, snapshots, a destroyed group, and a torn end.
#[test]
fn fixture_of_this_version_is_written_where_that_is_asked_for() {
    if std::env::var_os("RAFTWERK_REWRITE").is_none() {
        return;
    }
    let vfs = FaultVfs::new();
    let wal = open_with(&vfs, Small::Pages8.options()).unwrap();
    prepare(&wal);
    let progress = Progress::new(Known::default());
    let taken = run_on(&wal, &progress, &models(), Small::Pages8.history(3), 160);
    assert_eq!(taken, 160);
    wal.wait(wal.durable().unwrap()).unwrap();
    prepare(&wal);
    let last = wal.open_group(GroupId(1)).unwrap().log.last();
    vfs.disable_sync(SYNC_BATCH);
    let next = entry(last.term.0.max(1), last.index.0 + 1, 1500);
    wal.wait(append(&wal, next)).unwrap();
    drop(wal);
    let torn = vfs.crash(&CrashPlan::PowerLoss {
        data: Keep::First(2),
        names: Keep::All,
    });
    let folder = fixtures().join(crate::KIND.format_version.to_string());
    fs::create_dir_all(folder.join("log")).unwrap();
    for path in torn.files() {
        let name = path.file_name().unwrap();
        fs::write(
            folder.join("log").join(name),
            torn.read_file(&path).unwrap(),
        )
        .unwrap();
    }
    let wal = open_with(&torn, Small::Pages8.options()).unwrap();
    assert!(
        matches!(wal.report().tail, TailEnd::Torn { .. }),
        "{:?}",
        wal.report()
    );
    fs::write(folder.join("expected.txt"), told(&wal)).unwrap();
}
