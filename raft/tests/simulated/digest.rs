//! A number that stands for all that a history put out, the same on every machine and in every
//! profile.

use raftwerk_raft::{Message, Ready, Role, codec};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    pub(crate) const fn value(self) -> u64 {
        self.0
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.0 = (self.0 ^ number)
            .wrapping_mul(0x0000_0100_0000_01b3)
            .rotate_left(23);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.number(u64::from_le_bytes(word));
        }
    }

    fn messages(&mut self, messages: &[Message]) {
        let mut encoded = Vec::new();
        for message in messages {
            codec::encode_message(message, &mut encoded);
        }
        self.bytes(&encoded);
    }

    /// Everything in it.
    pub(crate) fn ready(&mut self, ready: &Ready) {
        let mut encoded = Vec::new();
        self.messages(&ready.messages);
        if let Some(persist) = &ready.persist {
            if let Some(state) = &persist.hard_state {
                codec::encode_hard_state(state, &mut encoded);
            }
            if let Some(meta) = &persist.snapshot {
                codec::encode_snapshot_meta(meta, &mut encoded);
            }
            for entry in &persist.entries {
                codec::encode_entry(entry, &mut encoded);
            }
            self.number(u64::from(persist.must_sync));
            self.messages(&persist.messages);
            for (name, value) in &persist.meta {
                self.bytes(name);
                self.bytes(value.as_deref().unwrap_or_default());
            }
        }
        for entry in &ready.committed {
            codec::encode_entry(entry, &mut encoded);
        }
        self.bytes(&encoded);
        if let Some(state) = ready.soft_state {
            let role = match state.role {
                Role::Follower => 0,
                Role::PreCandidate => 1,
                Role::Candidate => 2,
                Role::Leader => 3,
            };
            self.number(role);
            self.number(state.leader.map_or(0, |leader| leader.0));
        }
        for state in &ready.read_states {
            self.number(state.index.0);
            self.bytes(&state.context);
        }
        self.number(u64::from(ready.snapshot_wanted));
        // What has no encoding of its own.
        let receipt = ready.persist.as_ref().and_then(|persist| persist.ack);
        let receipts = (receipt, ready.apply_ack);
        let rest = format!("{:?} {:?} {receipts:?}", ready.reads, ready.fates);
        self.bytes(rest.as_bytes());
    }
}
