//! A full disk stops writes and nothing else.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::fs;
use std::path::{Path, PathBuf};

use raftwerk_tests::client::{Client, is_transient, key, leader, value, verify};
use raftwerk_tests::processes::{Cluster, PATIENCE, Patience};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

const VALUE_BYTES: usize = 128 * 1024;

/// A small file system in memory; gone when dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// `None` where this process may not mount.
    fn new(folder: &Path, mebibytes: u64) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let options = std::ffi::CString::new(format!("size={mebibytes}m,mode=0700")).unwrap();
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        match mount("tmpfs", folder, "tmpfs", flags, options.as_c_str()) {
            Ok(()) => Some(Self(folder.to_owned())),
            Err(error) => {
                println!("SKIPPED: a tmpfs cannot be mounted here ({error}); run as root");
                None
            }
        }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_and_serves_again_once_there_is_space() {
    let mut cluster = Cluster::new(1, &[]);
    let Some(_disk) = Tmpfs::new(&cluster.members[0].folder, 384) else {
        return;
    };
    cluster.start_member(0);
    leader(&cluster).await;
    // Goes when space is to be freed.
    let ballast = cluster.members[0].folder.join("ballast");
    fs::write(&ballast, vec![1; 160 << 20]).unwrap();
    let mut client = Client::of_all(&cluster, 0);
    let mut acknowledged = 0;
    let patience = Patience::new(2 * PATIENCE);
    let refused = loop {
        assert!(acknowledged < 10_000, "the disk never gets full");
        let key = key("key", acknowledged);
        match client.put_once(&key, &value(&key, VALUE_BYTES)).await {
            Ok(_) => acknowledged += 1,
            Err(status) if status.message().contains("space") => break status,
            // A busy machine answers late; a disk that is nearly full, too.
            Err(status) => {
                assert!(is_transient(&status), "{status}");
                patience
                    .again(|| format!("{status}\n{}", cluster.outputs()))
                    .await;
            }
        }
    };
    println!("{acknowledged} writes of 128 KiB, then: {refused}");
    // While it is full.
    verify(&mut client, "key", acknowledged, VALUE_BYTES).await;
    assert!(cluster.members[0].runs());

    fs::remove_file(&ballast).unwrap();
    let patience = Patience::new(PATIENCE);
    while let Err(status) = client.put_once("after", b"1").await {
        patience
            .again(|| format!("{status}\n{}", cluster.outputs()))
            .await;
    }
    cluster.members[0].kill();
    cluster.start_member(0);
    verify(&mut client, "key", acknowledged, VALUE_BYTES).await;
    assert_eq!(client.get("after").await.as_deref(), Some(b"1".as_slice()));
}
