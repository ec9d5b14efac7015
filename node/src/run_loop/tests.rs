//! What one turn does, event by event.

use raftwerk_raft::{Body, ConfState, Message, Role, SnapshotMeta, Storage, Term};
use raftwerk_storage_mem::{MemLog, MemLogOptions};

use super::*;
use crate::config::{GroupConfig, HostConfig};
use crate::error::GroupError;
use crate::in_memory::{InMemory, MemoryState};
use crate::in_process::InProcessNetwork;
use crate::mailbox::Mailbox;
use crate::member::Member;
use crate::oneshot::{Pending, pending};
use crate::snapshot::SnapshotStore;
use crate::status::{Health, Shared};

const G: GroupId = GroupId(1);
const HOST: NodeId = NodeId(1);
const PEER: NodeId = NodeId(2);

struct Nothing;

impl MemoryState for Nothing {
    fn apply(&mut self, _data: &[u8]) -> Bytes {
        Bytes::new()
    }
    fn save(&self) -> Bytes {
        Bytes::new()
    }
    fn load(&mut self, _saved: &[u8]) -> Result<(), String> {
        Ok(())
    }
}

/// One host's turn over a log in memory, without threads: the test says what the workers report.
struct Bench {
    turn: Turn,
    log: Arc<MemLog>,
    shared: Arc<Shared>,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new(config: GroupConfig) -> Self {
        Self::with_log(config, MemLogOptions::default()).unwrap()
    }

    fn with_log(config: GroupConfig, options: MemLogOptions) -> Result<Self, GroupError> {
        let dir = tempfile::tempdir().unwrap();
        let host = HostConfig::new(HOST, dir.path());
        let store = SnapshotStore::new(Arc::clone(&host.vfs), dir.path().to_owned(), None, 1);
        let log = Arc::new(MemLog::new(options)?);
        let shared = Arc::new(Shared::default());
        let storage = Arc::clone(&log) as Arc<dyn Storage>;
        let opening = Opening {
            group: G,
            host: HOST,
            incarnation: host.incarnation,
            config,
            seed: 1,
            storage: Arc::clone(&storage),
            snapshots: Arc::new(store),
            transport: InProcessNetwork::new().join(HOST),
            mailbox: Arc::new(Mailbox::new(&host)),
            shared: Arc::clone(&shared),
        };
        let driver = open(opening, Box::new(InMemory::new(Nothing)))?;
        let mut bench = Self {
            turn: Turn::new(storage, host.batch_bytes_max),
            log,
            shared,
            _dir: dir,
        };
        bench.report(Reported::Open(Box::new(driver)));
        Ok(bench)
    }

    /// What follows from `event`. Committed entries count as applied at once, and who waits for
    /// them learns nothing.
    fn give(&mut self, event: Event) -> Vec<Effect> {
        self.turn.handle(event);
        let mut effects = Vec::new();
        self.turn.poll(&mut effects);
        let mut followed = Vec::new();
        for effect in effects {
            match effect {
                Effect::Apply {
                    job: Job::Apply { entries, ack, .. },
                    ..
                } => {
                    let last = entries.last().unwrap().id;
                    followed.extend(self.report(Reported::Applied { last, ack }));
                }
                effect => followed.push(effect),
            }
        }
        followed
    }

    fn report(&mut self, what: Reported) -> Vec<Effect> {
        self.give(Event::Report(Report { group: G, what }))
    }

    fn durable(&mut self) -> Vec<Effect> {
        let ticket = self.turn.last_ticket();
        self.log.wait(ticket).unwrap();
        self.give(Event::Durable(Ok(ticket)))
    }

    fn health(&self) -> Health {
        self.shared.read(|status| status.health.clone())
    }
}

impl Bench {
    fn propose(&mut self, bytes: usize) -> Pending<Applied, ProposeError> {
        let (answer, result) = pending();
        let data = vec![7; bytes].into();
        self.ask(Ask::Propose { data, answer });
        result
    }

    fn ask(&mut self, ask: Ask) {
        self.give(Event::Request(Request { group: G, ask }));
    }

    /// Wins the election of a group of one.
    fn lead(&mut self) {
        self.ask(Ask::Campaign);
        for _ in 0..4 {
            self.durable();
        }
        assert_eq!(self.shared.read(|status| status.role), Role::Leader);
    }
}

/// Host 1 of two members, led by the other.
fn snapshot_of_peer(index: u64) -> Message {
    let meta = SnapshotMeta {
        last: LogId::new(Term(1), LogIndex(index)),
        conf_state: ConfState {
            voters: vec![HOST, PEER],
            ..ConfState::default()
        },
        context: Bytes::new(),
    };
    Message {
        from: PEER,
        to: HOST,
        term: Term(1),
        session: 0,
        body: Body::Snapshot { meta },
    }
}

#[test]
fn older_snapshot_that_is_restored_removes_no_file_of_the_newer_one_on_its_way() {
    let mut bench = Bench::new(GroupConfig::join(vec![Member::new(PEER)]));
    bench.report(Reported::Received(snapshot_of_peer(10)));
    let effects = bench.durable();
    let restores = effects.iter().any(|effect| {
        matches!(
            effect,
            Effect::Apply {
                job: Job::Restore { .. },
                ..
            }
        )
    });
    assert!(restores);
    bench.report(Reported::Received(snapshot_of_peer(20)));
    // The record of the second is not durable, and the first is all that a restart would find.
    let first = LogId::new(Term(1), LogIndex(10));
    let collected = |effects: Vec<Effect>| {
        effects.into_iter().find_map(|effect| match effect {
            Effect::Collect { newest, .. } => Some(newest),
            _ => None,
        })
    };
    let effects = bench.report(Reported::Restored(first));
    assert_eq!(collected(effects), Some(first));
    assert_eq!(bench.health(), Health::Installing);
    bench.durable();
    let second = LogId::new(Term(1), LogIndex(20));
    let effects = bench.report(Reported::Restored(second));
    assert_eq!(collected(effects), Some(second));
    assert_eq!(bench.health(), Health::Running);
}

#[test]
fn bytes_of_held_proposals_are_bounded_and_free_again_once_appended() {
    let mut config = GroupConfig::bootstrap(vec![Member::new(HOST)]);
    config.limits.proposals_bytes_max = 100;
    let mut bench = Bench::new(config);
    let held = [bench.propose(60), bench.propose(40)];
    assert_eq!(bench.propose(1).wait(), Err(ProposeError::Busy));
    bench.lead();
    let next = bench.propose(100);
    let last = bench.shared.read(|status| status.last.index);
    // One that adds the member, the leader's own, and the three.
    assert_eq!(last, LogIndex(5));
    drop(bench);
    for proposal in held.into_iter().chain([next]) {
        assert_eq!(proposal.wait(), Err(ProposeError::Unknown));
    }
}
