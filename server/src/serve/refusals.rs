//! When the words of the others mean that this member must end.

use crate::cli::words::complain;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use raftwerk_raft::NodeId;
use raftwerk_transport::Refusal;
use tokio::sync::Notify;

/// A member that is behind may not know this one yet, so one word of removal is not enough: most
/// of the others must say it, and keep saying it for this long.
const REMOVED_FOR: Duration = Duration::from_secs(2);
/// A longer silence begins the count anew.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);
/// How often the same word is written to the log.
const SAID_EVERY: Duration = Duration::from_secs(60);
/// Different words in that time: their text is the peers', who may find ever new ones.
const SAID_MAX: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Removal {
    first: Instant,
    last: Instant,
}

/// What each peer said.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// Told at each word that this member is removed: one that asked for it need not wait longer.
    pub(crate) removed: Notify,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    removals: BTreeMap<NodeId, Removal>,
    /// What was written to the log lately, and when.
    said: BTreeMap<(NodeId, String), Instant>,
}

impl State {
    /// True when the word is to be written to the log.
    fn say(&mut self, peer: NodeId, word: &str, now: Instant) -> bool {
        self.said
            .retain(|_, said| now.saturating_duration_since(*said) < SAID_EVERY);
        let word = (peer, word.to_owned());
        let new = self.said.len() < SAID_MAX && !self.said.contains_key(&word);
        if new {
            self.said.insert(word, now);
        }
        new
    }
}

impl Refusals {
    /// Takes a refusal; the reason to end, once there is one. `own` is this member, `others` how
    /// many other members it knows.
    pub(crate) fn take(
        &self,
        own: NodeId,
        others: usize,
        peer: NodeId,
        refusal: &Refusal,
        now: Instant,
    ) -> Option<String> {
        let mut state = self.state.lock();
        match refusal {
            Refusal::Replaced { id } if *id == own => return Some(refusal.to_string()),
            Refusal::Removed { id } if *id == own => {
                self.removed.notify_waiters();
                let removal = state.removals.entry(peer).or_insert(Removal {
                    first: now,
                    last: now,
                });
                if now.saturating_duration_since(removal.last) > FORGOTTEN_AFTER {
                    removal.first = now;
                }
                removal.last = now;
                let sure = |removal: &&Removal| {
                    now.saturating_duration_since(removal.last) <= FORGOTTEN_AFTER
                        && removal.last.saturating_duration_since(removal.first) >= REMOVED_FOR
                };
                let saying = state.removals.values().filter(sure).count();
                if saying > others / 2 {
                    return Some(refusal.to_string());
                }
            }
            _ => {}
        }
        let say = state.say(peer, &refusal.to_string(), now);
        drop(state);
        if say {
            complain!(
                "member {peer:x} and this one do not speak: {refusal}",
                peer = peer.0
            );
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: NodeId = NodeId(2);

    fn removed() -> Refusal {
        Refusal::Removed { id: OWN }
    }

    #[test]
    fn a_replaced_store_ends_at_the_first_word() {
        let refusals = Refusals::default();
        let now = Instant::now();
        let other = Refusal::Replaced { id: NodeId(1) };
        assert_eq!(
            refusals.take(OWN, 2, NodeId(1), &other, now),
            None,
            "that is about another"
        );
        let own = Refusal::Replaced { id: OWN };
        assert!(refusals.take(OWN, 2, NodeId(1), &own, now).is_some());
    }

    #[test]
    fn a_removal_needs_most_of_the_others_and_some_time() {
        let refusals = Refusals::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        for ms in [0, 1000, 2000, 3000] {
            assert_eq!(refusals.take(OWN, 2, NodeId(1), &removed(), at(ms)), None);
        }
        assert_eq!(refusals.take(OWN, 2, NodeId(3), &removed(), at(3000)), None);
        assert_eq!(refusals.take(OWN, 2, NodeId(3), &removed(), at(4000)), None);
        assert!(
            refusals
                .take(OWN, 2, NodeId(3), &removed(), at(5000))
                .is_some()
        );
    }

    #[test]
    fn a_word_is_said_once_a_minute_and_ever_new_ones_are_bounded() {
        let mut state = State::default();
        let start = Instant::now();
        assert!(state.say(NodeId(1), "no", start));
        assert!(!state.say(NodeId(1), "no", start));
        assert!(state.say(NodeId(3), "no", start));
        for number in 0..10 * SAID_MAX {
            state.say(NodeId(1), &number.to_string(), start);
        }
        assert_eq!(state.said.len(), SAID_MAX);
        assert!(state.say(NodeId(1), "no", start + SAID_EVERY));
        assert_eq!(state.said.len(), 1);
    }

    #[test]
    fn a_passing_word_is_forgotten() {
        let refusals = Refusals::default();
        let start = Instant::now();
        assert_eq!(refusals.take(OWN, 1, NodeId(1), &removed(), start), None);
        let later = start + Duration::from_secs(60);
        assert_eq!(refusals.take(OWN, 1, NodeId(1), &removed(), later), None);
    }
}
