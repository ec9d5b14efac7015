//! What one turn does, event by event.

use std::time::Duration;

use raftwerk_raft::{
    Body, ConfState, LeaseTerms, Message, ReadDropped, Role, SnapshotMeta, Standing, Storage, Term,
};
use raftwerk_storage_mem::{MemLog, MemLogOptions};

use super::*;
use crate::config::{GroupConfig, HostConfig};
use crate::envelope::EnvelopeBody;
use crate::error::GroupError;
use crate::group::MembershipChange;
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
        standing: Standing::Sound,
        body: Body::Snapshot { meta: meta.into() },
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

/// What a group of two begins with that this host is to lead.
fn two_members() -> GroupConfig {
    let mut config = GroupConfig::bootstrap(vec![Member::new(HOST), Member::new(PEER)]);
    config.raft.pre_vote = false;
    config
}

/// Of two members, with leases of ten seconds; leads at time 100 s, and the other has answered.
fn leased() -> Bench {
    let mut config = two_members();
    config.raft.lease = Some(LeaseTerms {
        election_timeout: Duration::from_secs(11),
        drift_bound: Duration::from_secs(1),
    });
    let ticks = config.raft.election_ticks;
    let mut bench = Bench::new(config);
    // A member that was just started may have promised a leader its loyalty.
    for _ in 0..ticks {
        bench.give(Event::Tick);
    }
    bench.lead_two();
    bench.beat(Duration::from_secs(100));
    bench
}

impl Bench {
    /// Wins the election of a group of two, and what it begins its term with is committed.
    fn lead_two(&mut self) {
        self.ask(Ask::Campaign);
        self.durable();
        self.peer_says(Body::VoteResponse { reject: false });
        self.durable();
        let index = self.shared.read(|status| status.last.index);
        let reject = None;
        self.peer_says(Body::AppendResponse { index, reject });
        self.durable();
    }

    fn peer_says(&mut self, body: Body) -> Vec<Effect> {
        let term = self.shared.read(|status| status.term);
        self.give(from_peer(term, body))
    }

    /// A heartbeat of the time `now`, and its answer.
    fn beat(&mut self, now: Duration) {
        self.turn.tell_time(Some(now));
        let sent = self.give(Event::Tick);
        for effect in sent {
            let Effect::Send { envelope, .. } = effect else {
                continue;
            };
            if let EnvelopeBody::Raft(Message {
                body: Body::Heartbeat { read_position, .. },
                ..
            }) = envelope.body
            {
                self.peer_says(Body::HeartbeatResponse { read_position });
            }
        }
    }

    /// What is sent for a read at the time `now`, and the read.
    fn read(&mut self, now: Duration) -> (Vec<Effect>, Pending<LogIndex, ReadError>) {
        self.turn.tell_time(Some(now));
        let (answer, read) = pending();
        let ask = Ask::Read { answer };
        (self.give(Event::Request(Request { group: G, ask })), read)
    }
}

#[test]
fn leader_answers_reads_by_itself_as_long_as_its_lease_lasts() {
    let mut bench = leased();
    let commit = bench.shared.read(|status| status.commit);
    let (sent, read) = bench.read(Duration::from_millis(109_999));
    assert!(sent.is_empty(), "nobody is asked");
    assert_eq!(read.wait(), Ok(commit));
    let (sent, read) = bench.read(Duration::from_secs(110));
    assert_eq!(sent.len(), 1, "a round of heartbeats");
    let Effect::Send { envelope, .. } = &sent[0] else {
        panic!("something else is done");
    };
    let EnvelopeBody::Raft(Message {
        body: Body::Heartbeat { read_position, .. },
        ..
    }) = envelope.body
    else {
        panic!("something else is sent");
    };
    bench.peer_says(Body::HeartbeatResponse { read_position });
    assert_eq!(read.wait(), Ok(commit));
}

fn from_peer(term: Term, body: Body) -> Event {
    let message = Message {
        from: PEER,
        to: HOST,
        term,
        session: 0,
        standing: Standing::Sound,
        body,
    };
    let envelope = Envelope {
        group: G,
        body: EnvelopeBody::Raft(message),
    };
    let from = PEER;
    Event::Message { from, envelope }
}

/// What this sends to the peer's core.
fn sent_to_peer(effects: Vec<Effect>) -> Vec<Body> {
    let body = |effect| match effect {
        Effect::Send {
            to: PEER,
            envelope:
                Envelope {
                    body: EnvelopeBody::Raft(message),
                    ..
                },
        } => Some(message.body),
        _ => None,
    };
    effects.into_iter().filter_map(body).collect()
}

#[test]
fn peer_whose_read_waits_is_told_when_the_leader_halts() {
    let cause = "it is broken".into();
    let what = Reported::Halted { cause };
    let state_fails = Event::Report(Report { group: G, what });
    for event in [Event::Durable(Err(poisoned())), state_fails] {
        let mut bench = Bench::new(two_members());
        bench.lead_two();
        let context = Bytes::from("of the peer");
        let asked = Body::ReadIndex {
            context: context.clone(),
        };
        bench.give(from_peer(Term(0), asked));
        let effects = bench.give(event);
        let reason = ReadDropped::LostLeadership;
        let told = Body::ReadIndexDropped { context, reason };
        assert_eq!(sent_to_peer(effects), [told]);
        assert!(matches!(bench.health(), Health::Halted { .. }));
        assert_eq!(bench.shared.read(|status| status.role), Role::Follower);
    }
}

#[test]
fn read_that_a_quorum_has_confirmed_is_answered_though_the_log_fails_then() {
    let mut bench = Bench::new(two_members());
    bench.lead_two();
    let commit = bench.shared.read(|status| status.commit);
    let (sent, read) = bench.read(Duration::ZERO);
    let rounds = sent_to_peer(sent);
    let [Body::Heartbeat { read_position, .. }] = rounds[..] else {
        panic!("something else is sent");
    };
    let (late, unconfirmed) = pending();
    let term = bench.shared.read(|status| status.term);
    let confirmed = from_peer(term, Body::HeartbeatResponse { read_position });
    bench.turn.handle(confirmed);
    let ask = Ask::Read { answer: late };
    bench.turn.handle(Event::Request(Request { group: G, ask }));
    bench.give(Event::Durable(Err(poisoned())));
    assert_eq!(read.wait(), Ok(commit));
    let unconfirmed = unconfirmed.wait();
    assert!(
        matches!(unconfirmed, Err(ReadError::Halted { .. })),
        "{unconfirmed:?}"
    );
}

fn poisoned() -> Poisoned {
    Poisoned {
        cause: "the disk is gone".into(),
    }
}

#[test]
fn change_held_for_another_says_so_when_it_is_given_up() {
    let config = two_members();
    let mut bench = Bench::new(config.clone());
    bench.ask(Ask::Campaign);
    bench.durable();
    bench.peer_says(Body::VoteResponse { reject: false });
    bench.durable();
    let mut changes = Vec::new();
    for node in [3, 4] {
        let (answer, made) = pending();
        let change = MembershipChange::new().add_learner(Member::new(NodeId(node)));
        let change = change.into_conf_change();
        bench.ask(Ask::Change { change, answer });
        changes.push(made);
    }
    for _ in 0..=config.limits.leader_wait_ticks {
        bench.give(Event::Tick);
        // Heard from, so that it goes on leading.
        bench.peer_says(Body::HeartbeatResponse { read_position: 0 });
        bench.durable();
    }
    assert_eq!(bench.shared.read(|status| status.role), Role::Leader);
    let held = changes.pop().unwrap();
    assert_eq!(held.wait(), Err(ProposeError::ChangePending));
}

#[test]
fn leader_that_was_alone_tells_how_far_its_first_learner_is() {
    let mut bench = Bench::new(GroupConfig::bootstrap(vec![Member::new(HOST)]));
    bench.lead();
    let tick = |bench: &mut Bench| {
        bench.give(Event::Tick);
        for _ in 0..4 {
            bench.durable();
        }
    };
    tick(&mut bench);
    let (answer, _made) = pending();
    let change = MembershipChange::new().add_learner(Member::new(PEER));
    let change = change.into_conf_change();
    bench.ask(Ask::Change { change, answer });
    tick(&mut bench);
    tick(&mut bench);
    let learners = bench
        .shared
        .read(|status| status.conf_state.learners.clone());
    assert_eq!(learners, [PEER]);
    assert_eq!(bench.shared.read(|status| status.peers.len()), 1);
}
