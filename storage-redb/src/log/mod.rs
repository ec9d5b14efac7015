//! The log.

mod compact;
mod engine;
mod ledger;
mod load;
mod mark;
mod salvage;
mod store;
mod value;

pub use compact::{CompactedLog, compact_log};
pub use store::{LOG_KIND, OnDamage, RedbLog, RedbLogOptions};

use raftwerk_storage::vfs::SyncSite;

use crate::file::FileNames;

/// Makes a commit of the log durable: the one sync of each round.
pub const SYNC_LOG: SyncSite = SyncSite("log-redb: commit");
/// Makes the name of a log's file durable.
pub const SYNC_LOG_NAME: SyncSite = SyncSite("log-redb: file name");
/// Makes durable what a life that ended without closing the log left. redb's own recovery syncs
/// before it changes what counts; this does not rest on that.
pub const SYNC_LOG_RENEW: SyncSite = SyncSite("log-redb: renew");
/// Makes the mark durable, when it is made and when the log is closed.
pub const SYNC_LOG_MARK: SyncSite = SyncSite("log-redb: mark");

pub(crate) const FILE: FileNames = FileNames {
    name: "log.redb",
    temporary: "log.redb.tmp",
    commit: SYNC_LOG,
    rename: SYNC_LOG_NAME,
    renew: SYNC_LOG_RENEW,
};
