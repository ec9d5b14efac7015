//! The bytes that this version writes, pinned: whoever changes one changes the format's version.

use std::path::Path;

use raftwerk_raft::{GroupId, GroupWrite, HardState, LogIndex, NodeId, Term, WriteBatch};
use raftwerk_storage::folder::StoreUuid;
use raftwerk_testkit::fault_vfs::FaultVfs;

use super::sites::entry;
use super::workload::{DIR, options};
use crate::recovery::rewrite::begin;
use crate::segment::header::file_name;
use crate::sites::SYNC_BATCH;

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
