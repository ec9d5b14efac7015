//! Reads by the leader's lease: a cluster whose clock is the test's, and members that stand still.

use std::time::Duration;

use raftwerk_raft::{
    Body, Config, ConfigError, LeaseReadError, LeaseTerms, LogIndex, MessageKind, NodeId, RawNode,
    Role,
};

use crate::solo::{Solo, append, change, id, setup};

const TICK_MS: u64 = 100;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Ten ticks of election timeout, so nine that count; the lease lasts 800 ms.
fn leases(config: &mut Config) {
    config.check_quorum = true;
    config.pre_vote = true;
    config.lease = Some(LeaseTerms {
        election_timeout: ms(900),
        drift_bound: ms(100),
    });
}

/// Three members, and the time since the test began.
struct Trio {
    members: Vec<Solo>,
    /// Who stands still: no ticks, no messages in or out.
    paused: Vec<u64>,
    now: u64,
}

impl Trio {
    fn new() -> Self {
        let member = |id| {
            let own = |config: &mut Config| {
                config.id = NodeId(id);
                config.seed = id;
            };
            setup().options(leases).options(own).start()
        };
        Self {
            members: (1..=3).map(member).collect(),
            paused: Vec::new(),
            now: 0,
        }
    }

    /// With leader 1, that has committed in its term.
    fn led() -> Self {
        let mut trio = Self::new();
        // Nobody votes so soon after the start.
        trio.now = 1000;
        for member in &mut trio.members {
            member.node.set_election_timeout(100);
            member.tick(10);
        }
        trio.at(1).campaign();
        trio.deliver();
        trio.tick();
        assert_eq!(trio.at(1).node.role(), Role::Leader);
        trio
    }

    fn at(&mut self, id: u64) -> &mut Solo {
        &mut self.members[usize::try_from(id).unwrap() - 1]
    }

    fn deliver(&mut self) {
        loop {
            let sent: Vec<_> = self.members.iter_mut().flat_map(Solo::take).collect();
            if sent.is_empty() {
                return;
            }
            for message in sent {
                // Member 4 is not here.
                if message.to.0 > 3 {
                    continue;
                }
                if self.paused.contains(&message.to.0) || self.paused.contains(&message.from.0) {
                    continue;
                }
                self.at(message.to.0)
                    .try_step(message.from.0, message.term.0, message.body)
                    .unwrap();
            }
        }
    }

    /// A tick of time goes by for everybody who does not stand still.
    fn tick(&mut self) {
        self.now += TICK_MS;
        for id in 1..=3 {
            if !self.paused.contains(&id) {
                let now = ms(self.now);
                self.at(id).node.tell_time(now);
                self.at(id).tick(1);
            }
        }
        self.deliver();
    }

    /// Who would answer a read by its lease at this moment, woken up just for that.
    fn readers(&mut self) -> Vec<u64> {
        let now = ms(self.now);
        let reads = |id: &u64| self.at(*id).node.lease_read(now).is_ok();
        (1..=3).filter(reads).collect()
    }
}

#[test]
fn a_lease_begins_when_the_heartbeat_left_and_not_when_its_answer_came() {
    let mut trio = Trio::led();
    let sent = trio.now;
    trio.paused = vec![2, 3];
    for _ in 0..7 {
        trio.tick();
        assert_eq!(trio.readers(), [1], "{} ms", trio.now - sent);
    }
    let leader = &mut trio.at(1).node;
    assert_eq!(leader.lease_read(ms(sent + 799)), Ok(LogIndex(1)));
    let expired = Err(LeaseReadError::Expired);
    assert_eq!(leader.lease_read(ms(sent + 800)), expired);
    assert_eq!(
        leader.lease_read(ms(sent)),
        expired,
        "time does not go back"
    );
}

#[test]
fn an_answer_that_was_long_on_its_way_renews_only_from_when_it_was_asked_for() {
    let mut trio = Trio::led();
    trio.paused = vec![2, 3];
    trio.tick();
    let asked = trio.now;
    trio.now += 700;
    let now = ms(trio.now);
    trio.at(1).node.tell_time(now);
    // Whichever position that round had.
    let mut positions = 1..10;
    let renewed = |trio: &mut Trio, read_position| {
        trio.at(1)
            .step(2, 1, Body::HeartbeatResponse { read_position });
        trio.at(1).node.lease_read(ms(asked + 799)).is_ok()
    };
    assert!(positions.any(|position| renewed(&mut trio, position)));
    let late = trio.at(1).node.lease_read(ms(asked + 800));
    assert_eq!(late, Err(LeaseReadError::Expired));
}

#[test]
fn a_leader_that_stood_still_answers_nothing_once_others_may_have_been_elected() {
    let mut trio = Trio::led();
    assert_eq!(trio.readers(), [1]);
    trio.paused = vec![1];
    let mut elected = false;
    for _ in 0..60 {
        trio.tick();
        let others = (2..=3).any(|id| trio.at(id).node.role() == Role::Leader);
        elected |= others;
        let readers = trio.readers();
        assert!(readers.len() < 2, "{readers:?} at {}", trio.now);
        if others {
            assert!(!readers.contains(&1), "at {}", trio.now);
        }
    }
    assert!(elected);
    assert!(trio.readers().iter().all(|reader| *reader != 1));
    // It wakes up and follows.
    trio.paused.clear();
    trio.tick();
    trio.tick();
    assert_eq!(trio.at(1).node.role(), Role::Follower);
    assert_eq!(trio.readers().len(), 1);
}

#[test]
fn a_follower_that_stands_still_costs_no_lease_as_long_as_a_quorum_answers() {
    let mut trio = Trio::led();
    trio.paused = vec![3];
    for _ in 0..50 {
        trio.tick();
        assert_eq!(trio.readers(), [1]);
    }
}

#[test]
fn nobody_reads_by_a_lease_before_the_first_commit_of_the_term() {
    let mut trio = Trio::new();
    for member in &mut trio.members {
        member.node.set_election_timeout(100);
        member.tick(10);
    }
    let leader = trio.at(1);
    leader.campaign();
    leader.step(2, 1, Body::PreVoteResponse { reject: false });
    leader.step(2, 1, Body::VoteResponse { reject: false });
    assert_eq!(leader.node.role(), Role::Leader);
    leader.tick(1);
    leader.step(2, 1, Body::HeartbeatResponse { read_position: 1 });
    let early = leader.node.lease_read(ms(0));
    assert_eq!(early, Err(LeaseReadError::NotReady));
    leader.ack(2, 1);
    assert_eq!(leader.node.lease_read(ms(0)), Ok(LogIndex(1)));
}

#[test]
fn leadership_that_was_offered_to_another_is_no_ground_for_a_lease_any_more() {
    let mut trio = Trio::led();
    trio.at(1).node.transfer_leader(NodeId(2));
    trio.at(1).drain();
    // Lost, or only late: nobody knows when it arrives.
    trio.at(1).take();
    assert!(trio.readers().is_empty());
    for _ in 0..20 {
        trio.tick();
        assert!(trio.readers().is_empty(), "at {}", trio.now);
    }
    assert_eq!(trio.at(1).node.status().transferee, None);
    trio.at(2).step(1, 1, Body::TimeoutNow);
    trio.deliver();
    assert_eq!(trio.at(2).node.role(), Role::Leader);
    trio.tick();
    trio.tick();
    assert_eq!(trio.readers(), [2], "another term, another lease");
}

#[test]
fn a_lease_ends_with_the_leadership_and_with_the_quorum_it_came_from() {
    let mut trio = Trio::led();
    trio.at(1)
        .node
        .propose_conf_change(change(raftwerk_raft::ConfChangeKind::AddVoter, 4))
        .unwrap();
    trio.at(1).drain();
    trio.deliver_appends();
    assert!(trio.readers().is_empty());
    trio.tick();
    assert_eq!(trio.readers(), [1]);
    trio.at(1).step(2, 9, append(1, 1, &[], 1));
    let leader = Some(NodeId(2));
    let refused = trio.at(1).node.lease_read(ms(0));
    assert_eq!(refused, Err(LeaseReadError::NotLeader { leader }));
}

impl Trio {
    /// Everything but what answers heartbeats.
    fn deliver_appends(&mut self) {
        for _ in 0..6 {
            for member in 1..=3 {
                for message in self.at(member).take() {
                    if message.to.0 <= 3 && message.body.kind() != MessageKind::HeartbeatResponse {
                        self.at(message.to.0)
                            .step(message.from.0, message.term.0, message.body);
                    }
                }
            }
        }
    }
}

#[test]
fn who_has_just_started_or_heard_from_a_leader_elects_nobody_in_any_term() {
    let vote = Body::Vote {
        last: id(9, 9),
        transfer: false,
    };
    let mut solo = setup().options(leases).start();
    solo.step(2, 5, vote.clone());
    solo.step(2, 5, Body::PreVote { last: id(9, 9) });
    solo.campaign();
    assert!(solo.take().is_empty(), "it may have been heard before");
    solo.tick(9);
    solo.step(2, 5, vote.clone());
    assert!(solo.take().is_empty());
    solo.node.set_election_timeout(1);
    solo.tick(1);
    assert_eq!(
        solo.node.role(),
        Role::PreCandidate,
        "not earlier than anybody"
    );
    solo.step(3, 5, append(0, 0, &[5], 0));
    // An old refusal brings it into a later term, in which it knows no leader.
    solo.step(2, 7, Body::PreVoteResponse { reject: true });
    assert_eq!((solo.node.leader(), solo.node.term().0), (None, 7));
    solo.take();
    solo.step(2, 7, vote.clone());
    solo.step(2, 8, vote.clone());
    solo.campaign();
    solo.node.forget_leader();
    assert!(solo.take().is_empty());
    solo.tick(10);
    solo.step(2, 8, vote);
    let yes = Body::VoteResponse { reject: false };
    assert_eq!(solo.sent_to(2, MessageKind::VoteResponse), [&yes]);
}

#[test]
fn without_the_option_there_is_no_lease_and_no_silence() {
    let mut solo = setup().start();
    solo.lead();
    solo.ack(2, 1);
    assert_eq!(solo.node.lease_read(ms(1)), Err(LeaseReadError::Off));
    let refused = |change: fn(&mut Config)| {
        let setup = setup().options(leases).options(change);
        let node = RawNode::new(setup.config, setup.restart, setup.log);
        matches!(node, Err(ConfigError::Option { name: "lease", .. }))
    };
    assert!(!refused(|_| {}));
    assert!(refused(|config| config.check_quorum = false));
    assert!(refused(|config| {
        config.lease = Some(LeaseTerms {
            election_timeout: ms(100),
            drift_bound: ms(100),
        });
    }));
}

#[test]
fn a_single_voter_needs_nobody_for_its_lease() {
    let alone = crate::solo::voters(&[1]);
    let mut solo = setup().conf(alone).options(leases).start();
    solo.campaign();
    assert_eq!(solo.node.lease_read(ms(1)), Ok(LogIndex(1)));
}

#[test]
fn a_leader_whose_disk_stands_still_makes_room_for_others() {
    let stalled = |steps_down: bool| {
        let slow = |config: &mut Config| {
            config.synchronous = false;
            config.step_down_on_stalled_disk = steps_down;
        };
        let mut solo = setup().options(slow).start();
        solo.lead();
        solo.tick(30);
        assert_eq!(solo.node.role(), Role::Leader, "there is nothing to write");
        solo.propose("a");
        solo.tick(9);
        solo.propose("b");
        assert_eq!(solo.node.role(), Role::Leader);
        solo.tick(1);
        solo
    };
    let mut solo = stalled(true);
    assert_eq!(solo.node.role(), Role::Follower);
    assert!(solo.saw("DiskStalled"));
    assert_eq!(stalled(false).node.role(), Role::Leader);
}

#[test]
fn a_leader_whose_disk_is_slow_but_moves_stays() {
    let slow = |config: &mut Config| config.synchronous = false;
    let mut solo = setup().options(slow).start();
    solo.lead();
    for _ in 0..10 {
        solo.propose("a");
        solo.tick(9);
        solo.propose("b");
        let receipt = |solo: &mut Solo| solo.writes.remove(0).ack;
        let ack = std::iter::repeat_with(|| receipt(&mut solo)).find_map(|ack| ack);
        solo.node.persisted(ack.unwrap());
        assert_eq!(solo.node.role(), Role::Leader);
    }
}

#[test]
fn who_should_rather_not_lead_waits_longer() {
    for seed in 0..50 {
        let own = |config: &mut Config| {
            config.seed = seed;
            config.election_delay_ticks = 10;
        };
        let mut solo = setup().options(own).start();
        solo.tick(19);
        assert_eq!(solo.node.role(), Role::Follower);
        solo.tick(10);
        assert!(solo.saw("ElectionStarted"));
    }
}
