//! What a leader knows of a follower, in etcd's words.

use std::fmt::Write as _;

use raftwerk_raft::tracker::{Progress, ProgressState};
use raftwerk_raft::{LogIndex, Standing};

pub(crate) fn shown(progress: &Progress) -> String {
    let state = match progress.state {
        ProgressState::Probe => "StateProbe",
        ProgressState::Replicate => "StateReplicate",
        ProgressState::Snapshot => "StateSnapshot",
    };
    let (matched, next) = (progress.match_index, progress.next);
    let mut out = format!("{state} match={matched} next={next}");
    if progress.is_learner {
        out += " learner";
    }
    out += match progress.standing {
        Standing::Sound => "",
        Standing::Voteless => " voteless",
        Standing::Uncounted => " uncounted",
    };
    if progress.is_paused() {
        out += " paused";
    }
    if progress.pending_snapshot > LogIndex::ZERO {
        write!(out, " pendingSnap={}", progress.pending_snapshot).unwrap();
    }
    if !progress.recent_active {
        out += " inactive";
    }
    if progress.inflights.count() > 0 {
        write!(out, " inflight={}", progress.inflights.count()).unwrap();
        if progress.inflights.is_full() {
            out += "[full]";
        }
    }
    out
}
