//! A digest of a member, for those who enumerate what can happen to it.

use std::fmt::{self, Debug, Write as _};
use std::hash::{DefaultHasher, Hasher as _};

use super::Raft;
use crate::observer::Observer;
use crate::storage::LogReader;
use crate::types::Role;

/// Takes values by their `Debug` forms, which name every field, so that a new one is not forgotten.
#[derive(Default)]
pub(crate) struct Digest(DefaultHasher);

impl Digest {
    pub(crate) fn add(&mut self, value: &dyn Debug) {
        // Writing into a hasher does not fail. The end of a value is marked.
        let _ = write!(self, "{value:?};");
    }

    pub(crate) fn finish(&self) -> u64 {
        self.0.finish()
    }
}

impl fmt::Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

impl<L: LogReader, O: Observer> Raft<L, O> {
    /// Everything that decides what this member does with an input, but for how long it has been
    /// waiting for something.
    pub(crate) fn digest(&self, digest: &mut Digest) {
        // Every field stands here: who adds one has to decide.
        let Self {
            config: _,
            observer: _,
            log,
            tracker,
            sessions,
            requests,
            promotions,
            forwards,
            term,
            vote,
            leader,
            role,
            losses,
            election_elapsed: _,
            heartbeat_elapsed: _,
            transfer_elapsed: _,
            contact_elapsed: _,
            disk_elapsed: _,
            disk_at: _,
            election_timeout: _,
            jitter: _,
            transferee,
            term_start,
            pending_conf_index,
            conf_changes_out,
            conf_restored_at,
            uncommitted_bytes,
            commit_untold,
            reads,
            lease,
            cold,
            snapshot,
            snapshot_wanted,
            waiting_for_snapshot,
            messages,
            messages_after_persist,
            read_states,
            fates,
            halted,
            invalid_messages: _,
        } = self;
        log.digest(digest);
        digest.add(&(term, vote, leader, role, losses));
        digest.add(&(transferee, pending_conf_index, conf_changes_out));
        digest.add(&(conf_restored_at, uncommitted_bytes, commit_untold));
        digest.add(&(reads, lease, cold));
        digest.add(&(snapshot, snapshot_wanted, waiting_for_snapshot));
        digest.add(&(messages, messages_after_persist, read_states, fates, halted));
        let marks = forwards.as_ref().map(|forwards| forwards.marks());
        digest.add(&(&tracker.config, sessions, requests, marks));
        // What is left of an earlier office decides nothing: the next one begins anew.
        match role {
            Role::Leader => digest.add(&(&tracker.progress, term_start, promotions)),
            Role::Candidate | Role::PreCandidate => digest.add(&tracker.votes),
            Role::Follower => {}
        }
    }
}
