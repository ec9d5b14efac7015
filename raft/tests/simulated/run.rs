//! What the dice choose from, and what must happen once they stop.

use std::time::Duration;

use bytes::Bytes;
use raftwerk_raft::{
    Body, ConfChange, ConfChangeKind, ConfChangeStep, ConfChangeTransition, LogIndex,
    LogReader as _, Message, NodeId, RawNode, Role, SnapshotStatus, Status, codec,
};

use super::{Driver, ELECTION_TICKS, Member, Simulation, TICK_MS, sound};

/// Messages that somebody keeps.
const KEPT_MAX: usize = 300;

impl Simulation {
    /// Lets that much happen; more where time passes for all at once, and so more slowly.
    pub(crate) fn run(&mut self, events: usize) {
        let slower = if self.config.lease.is_some() { 3 } else { 1 };
        for _ in 0..events * slower {
            self.event();
        }
    }

    fn any(&mut self) -> NodeId {
        let ids: Vec<NodeId> = self.members.keys().copied().collect();
        *self.dice.pick(&ids).unwrap()
    }

    fn event(&mut self) {
        if self.kept.is_some() && self.dice.one_in(5) {
            return self.replay();
        }
        let mut id = self.any();
        while self.frozen.contains(&id) && !self.dice.one_in(20) {
            id = self.any();
        }
        match self.dice.below(1000) {
            0..400 => self.deliver(),
            400..560 => self.tick(id),
            560..720 => self.sync(id),
            720..820 => self.apply_some(id),
            820..860 => self.propose(id),
            860..875 => self.answer_log_read(id),
            875..895 => self.read(id),
            895..910 => self.lease_read(id),
            910..930 => self.snapshot(id),
            930..945 => self.change_members(id),
            945..948 => self.leave_joint(id),
            948..954 => {
                let to = self.any();
                self.with(id, |node| node.transfer_leader(to));
            }
            954..957 => self.with(id, |node| node.campaign()),
            957..960 => self.with(id, |node| node.forget_leader()),
            960..965 => {
                let peer = self.any();
                self.with(id, |node| node.report_unreachable(peer));
            }
            965..966 => self.with(id, |node| {
                // Refused by who is no follower, or alone.
                let _ = node.request_snapshot();
            }),
            966..968 => {
                let peer = self.any();
                self.with(id, |node| {
                    node.report_snapshot(peer, SnapshotStatus::Failed)
                });
            }
            968..976 => self.crash(id),
            976..979 => self.start(id),
            979..983 => self.partition(id),
            983..988 => self.cut.clear(),
            988..992 => self.freeze(id),
            992..995 => self.frozen.clear(),
            _ => self.cool(id),
        }
    }

    /// Some of what is said is kept for later.
    pub(super) fn keep(&mut self, message: &Message) {
        let Some(kept) = &mut self.kept else { return };
        let at = self.dice.below(KEPT_MAX);
        match kept.get_mut(at) {
            Some(old) if self.dice.one_in(3) => old.clone_from(message),
            Some(_) => {}
            None => kept.push(message.clone()),
        }
    }

    /// What was said long ago arrives again. Answers also come from a stranger: who leads, nobody
    /// but a member can say, since a member that joins cannot know who the others are.
    fn replay(&mut self) {
        let kept = self.kept.as_deref().unwrap_or_default();
        let Some(mut message) = self.dice.pick(kept).cloned() else {
            return;
        };
        let vote = matches!(
            message.body,
            Body::VoteResponse { .. } | Body::PreVoteResponse { .. }
        );
        if (vote || message.body.kind().is_answer()) && self.dice.one_in(3) {
            message.from = NodeId(99);
        }
        self.replay_count += 1;
        // A message that cannot be true is refused.
        self.with(message.to, |node| drop(node.step(message)));
    }

    /// Time goes on: for one member alone, or, since leases count on clocks that go alike, for
    /// all that do not stand still.
    fn tick(&mut self, id: NodeId) {
        if self.config.lease.is_none() {
            self.with(id, |node| node.tick());
        } else if self.dice.one_in(self.members.len() + 1) {
            self.tick_all();
        }
    }

    fn tick_all(&mut self) {
        self.now_ms += TICK_MS;
        for id in self.ids() {
            if !self.frozen.contains(&id) {
                let now = self.clock(id);
                self.with(id, |node| {
                    node.tell_time(now);
                    node.tick();
                });
            }
        }
    }

    fn clock(&self, id: NodeId) -> Duration {
        Duration::from_millis(self.members[&id].clock_ms + self.now_ms)
    }

    /// A read that asks nobody knows of everything that is committed anywhere.
    fn lease_read(&mut self, id: NodeId) {
        // Also at who stands still: it wakes up just for that.
        let frozen = self.frozen.first().copied().filter(|_| self.dice.one_in(2));
        let id = frozen.unwrap_or(id);
        let now = match self.driver {
            Driver::ReadsOldClock => Duration::ZERO,
            _ => self.clock(id),
        };
        let committed = self.oracle.last_committed();
        let mut read = None;
        self.with(id, |node| read = node.lease_read(now).ok());
        if let Some(index) = read {
            assert!(
                index >= committed,
                "stale lease read: {index} after {committed}"
            );
            self.lease_read_count += 1;
        }
    }

    /// Somebody stands still, mostly the leader: neither ticks nor messages reach it.
    fn freeze(&mut self, id: NodeId) {
        if self.config.lease.is_none() || !self.frozen.is_empty() {
            return;
        }
        let leader = self.leader_status().map(|status| status.id);
        self.frozen.insert(leader.unwrap_or(id));
    }

    /// A message arrives: any, perhaps twice, perhaps never.
    fn deliver(&mut self) {
        if self.network.is_empty() {
            return;
        }
        // Mostly the oldest ones; what is old enough is lost.
        let at = if self.dice.one_in(4) {
            self.dice.below(self.network.len())
        } else {
            0
        };
        let again = self.dice.one_in(20);
        let message = if again {
            self.network[at].clone()
        } else {
            self.network.remove(at)
        };
        if self.network.len() > 200 {
            let old = self.network.remove(0);
            self.report(&old, SnapshotStatus::Failed);
        }
        let lost = self.dice.one_in(20)
            || self.cut.contains(&(message.from, message.to))
            || self.frozen.contains(&message.to);
        if lost {
            self.report(&message, SnapshotStatus::Failed);
        } else {
            self.hand_over(message);
        }
    }

    fn hand_over(&mut self, message: Message) {
        let copy = message.clone();
        self.with(message.to, |node| sound(node.step(message)));
        self.report(&copy, SnapshotStatus::Finished);
    }

    /// Who sends a snapshot is told how that ended.
    fn report(&mut self, message: &Message, status: SnapshotStatus) {
        if matches!(message.body, Body::Snapshot { .. }) {
            self.with(message.from, |node| {
                node.report_snapshot(message.to, status)
            });
        }
    }

    fn apply_some(&mut self, id: NodeId) {
        if self.members[&id].node.is_some() {
            self.apply(id, 1);
        }
    }

    fn answer_log_read(&mut self, id: NodeId) {
        let member = self.members.get_mut(&id).unwrap();
        if member.reads.is_empty() || member.node.is_none() {
            return;
        }
        let read = member.reads.remove(0);
        let result = member.log.read(read.range, read.max_bytes);
        self.with(id, |node| node.log_read(read.id, result));
    }

    fn read(&mut self, id: NodeId) {
        self.proposals += 1;
        let key = self.proposals;
        self.reads.insert(key, self.oracle.last_committed());
        self.with(id, |node| {
            // Refused without a leader: then there is no answer.
            let _ = node.read_index(Bytes::copy_from_slice(&key.to_be_bytes()));
        });
    }

    fn snapshot(&mut self, id: NodeId) {
        let keep = self.dice.below(6) as u64;
        let member = self.members.get_mut(&id).unwrap();
        if member.node.is_some() && (member.snapshot_wanted || self.dice.one_in(2)) {
            member.make_snapshot(keep);
            member.snapshot_wanted = false;
            self.with(id, |_| {});
        }
    }

    fn change_members(&mut self, id: NodeId) {
        let mut steps = Vec::new();
        for _ in 0..1 + self.dice.below(3) {
            let node = self.any();
            let kinds = [
                ConfChangeKind::AddVoter,
                ConfChangeKind::AddLearner,
                ConfChangeKind::Remove,
            ];
            steps.push(ConfChangeStep {
                kind: *self.dice.pick(&kinds).unwrap(),
                node,
            });
        }
        let transitions = [
            ConfChangeTransition::Auto,
            ConfChangeTransition::JointImplicit,
            ConfChangeTransition::JointExplicit,
        ];
        let transition = *self.dice.pick(&transitions).unwrap();
        let change = ConfChange {
            transition,
            steps,
            context: Bytes::new(),
        };
        self.propose_change(id, &change);
    }

    fn propose_change(&mut self, id: NodeId, change: &ConfChange) {
        let mut data = Vec::new();
        codec::encode_conf_change(change, &mut data);
        self.propose_with(id, data.into(), |node| {
            node.propose_conf_change(change.clone()).ok()
        });
    }

    /// Leaves a joint configuration that is not left by itself.
    fn leave_joint(&mut self, id: NodeId) {
        self.propose_change(id, &ConfChange::default());
    }

    fn crash(&mut self, id: NodeId) {
        // What the disk was doing may just have been done.
        for _ in 0..self.dice.below(3) {
            if self.members[&id].node.is_some() {
                self.write(id);
            }
        }
        self.members.get_mut(&id).unwrap().crash();
        self.oracle.stops(id);
        self.forwarded.retain(|(who, _), _| *who != id);
        self.lose(id);
        // Sometimes it stays down for a while.
        if !self.dice.one_in(3) {
            self.start(id);
        }
    }

    fn lose(&mut self, id: NodeId) {
        let Some(loss) = self.dice.pick(self.losses).copied() else {
            return;
        };
        let lossy = |member: &&Member| member.disk.has_lost();
        let others = self.members.values().filter(|member| member.id != id);
        if others.filter(lossy).count() * 2 + 2 <= self.members.len() && self.dice.one_in(2) {
            let disk = &mut self.members.get_mut(&id).unwrap().disk;
            disk.lose(loss, &mut self.dice);
            self.loss_count += u64::from(disk.has_lost());
        }
    }

    fn start(&mut self, id: NodeId) {
        let config = self.config.clone();
        let member = self.members.get_mut(&id).unwrap();
        if member.node.is_none() {
            member.start(&config);
            self.with(id, |_| {});
        }
    }

    fn partition(&mut self, id: NodeId) {
        let one_way = self.dice.one_in(3);
        let others: Vec<NodeId> = self
            .members
            .keys()
            .copied()
            .filter(|other| *other != id)
            .collect();
        for other in others {
            if self.dice.one_in(2) {
                self.cut.insert((id, other));
                if !one_way {
                    self.cut.insert((other, id));
                }
            }
        }
    }

    /// Some of a log leaves memory.
    fn cool(&mut self, id: NodeId) {
        let member = &self.members[&id];
        let first = member.log.first();
        let last = member.log.last().index.next();
        let some = self
            .dice
            .below(usize::try_from(last.since(first)).unwrap() + 1);
        member.log.cool(first.plus(some as u64));
    }

    /// Everything works again: a leader is found, and what it takes reaches everybody.
    pub(crate) fn must_recover(&mut self) {
        self.cut.clear();
        self.frozen.clear();
        self.ids().into_iter().for_each(|id| self.start(id));
        (0..30).for_each(|_| self.round());
        // Without PreVote those who cannot win keep disturbing who can, so this may take a while.
        self.rounds_until("has settled", Self::has_settled);
        for _ in 0..5 {
            self.ids().into_iter().for_each(|id| self.propose(id));
            self.round();
        }
        self.rounds_until("has settled again", Self::has_settled);
        (0..ELECTION_TICKS).for_each(|_| self.round());
        let waits = self
            .forwarded
            .keys()
            .find(|(id, _)| self.members[id].node.is_some());
        assert_eq!(
            waits, None,
            "nothing is sent on without a word of what became of it"
        );
    }

    /// Somebody leads, and nothing that it took is left to be done.
    fn has_settled(&self) -> bool {
        let Some(status) = self.leader_status() else {
            return false;
        };
        let conf = &status.conf_state;
        let mut members = conf.voters.iter().chain(&conf.learners);
        conf.voters_outgoing.is_empty()
            && status.hard_state.commit == status.last.index
            && members.all(|id| self.members[id].machine.applied == status.last)
    }

    fn rounds_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        for _ in 0..1000 {
            if done(self) {
                return;
            }
            self.stop_removed();
            self.round();
        }
        panic!("liveness: nobody {what}{}", self.picture());
    }

    fn ids(&self) -> Vec<NodeId> {
        self.members.keys().copied().collect()
    }

    /// One tick for everybody; everything else as often as it is wanted.
    fn round(&mut self) {
        self.tick_all();
        if let Some(status) = self.leader_status().filter(waits_to_leave) {
            self.leave_joint(status.id);
        }
        for _ in 0..30 {
            for message in std::mem::take(&mut self.network) {
                self.hand_over(message);
            }
            for id in self.ids() {
                if self.members[&id].node.is_none() {
                    continue;
                }
                while !self.members[&id].writes.is_empty() {
                    self.sync(id);
                }
                self.apply(id, usize::MAX);
                while !self.members[&id].reads.is_empty() {
                    self.answer_log_read(id);
                }
                if self.members[&id].snapshot_wanted {
                    let member = self.members.get_mut(&id).unwrap();
                    member.make_snapshot(0);
                    member.snapshot_wanted = false;
                    self.with(id, |_| {});
                }
            }
            if self.network.is_empty() {
                break;
            }
        }
    }

    fn leader_status(&self) -> Option<Status> {
        let nodes = self
            .members
            .values()
            .filter_map(|member| member.node.as_ref());
        let leaders = nodes.filter(|node| node.role() == Role::Leader);
        leaders.max_by_key(|node| node.term()).map(RawNode::status)
    }

    /// Who was removed is switched off: without PreVote and CheckQuorum it would go on asking for
    /// votes. Not before all that are left know it, who may need its vote until then.
    fn stop_removed(&mut self) {
        if !self.has_settled() {
            return;
        }
        let Some(status) = self.leader_status() else {
            return;
        };
        let conf = status.conf_state;
        for member in self.members.values_mut() {
            if !conf.contains(member.id) {
                member.crash();
                self.oracle.stops(member.id);
            }
        }
    }

    /// Who is where, for whoever looks for the cause.
    fn picture(&self) -> String {
        let mut text = format!("\n{:?}", self.config);
        for member in self.members.values() {
            let status = member.node.as_ref().map(|node| node.status());
            text += &format!("\n{}: {:?} {status:?}", member.id, member.machine);
        }
        text
    }

    /// How far the cluster got.
    pub(crate) fn committed(&self) -> LogIndex {
        self.oracle.last_committed()
    }
}

/// In a joint configuration that nobody leaves without being told to.
fn waits_to_leave(status: &Status) -> bool {
    !status.conf_state.voters_outgoing.is_empty() && !status.conf_state.auto_leave
}
