//! What a script's commands print: text, and the core's events in etcd's words.

use std::cell::RefCell;
use std::rc::Rc;

use raftwerk_raft::{
    ConfChange, ConfChangeKind, ConfChangeRefusal, ConfChangeTransition, ConfState, Event,
    MessageKind, NodeId, Observer, Role, VoteRequest,
};

use crate::progress::shown;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    #[default]
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
    None,
}

impl Level {
    const NAMES: [(&'static str, Self); 6] = [
        ("DEBUG", Self::Debug),
        ("INFO", Self::Info),
        ("WARN", Self::Warn),
        ("ERROR", Self::Error),
        ("FATAL", Self::Fatal),
        ("NONE", Self::None),
    ];

    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        let name = name.to_uppercase();
        let found = Self::NAMES.iter().find(|(text, _)| *text == name);
        found.map(|(_, level)| *level).ok_or_else(|| {
            "log levels must be either of [DEBUG INFO WARN ERROR FATAL NONE]".to_owned()
        })
    }

    fn name(self) -> &'static str {
        Self::NAMES
            .iter()
            .find(|(_, level)| *level == self)
            .unwrap()
            .0
    }
}

#[derive(Debug, Default)]
struct Buffer {
    text: String,
    level: Level,
}

/// The output of the running command; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output(Rc<RefCell<Buffer>>);

impl Output {
    pub(crate) fn level(&self) -> Level {
        self.0.borrow().level
    }

    pub(crate) fn set_level(&self, level: Level) {
        self.0.borrow_mut().level = level;
    }

    pub(crate) fn print(&self, text: &str) {
        let mut buffer = self.0.borrow_mut();
        if buffer.level != Level::None {
            buffer.text.push_str(text);
        }
    }

    pub(crate) fn line(&self, text: &str) {
        self.print(text);
        self.print("\n");
    }

    pub(crate) fn take(&self) -> String {
        std::mem::take(&mut self.0.borrow_mut().text)
    }

    pub(crate) fn put_back(&self, before: String) {
        self.0.borrow_mut().text = before;
    }

    fn log(&self, level: Level, text: &str) {
        if level >= self.level() {
            self.line(&format!("{} {text}", level.name()));
        }
    }
}

/// Tells one member's events in etcd's words.
#[derive(Clone, Debug)]
pub(crate) struct Logger {
    pub(crate) id: NodeId,
    pub(crate) out: Output,
}

pub(crate) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Follower => "StateFollower",
        Role::PreCandidate => "StatePreCandidate",
        Role::Candidate => "StateCandidate",
        Role::Leader => "StateLeader",
    }
}

pub(crate) fn kind_name(kind: MessageKind) -> &'static str {
    match kind {
        MessageKind::Vote => "MsgVote",
        MessageKind::VoteResponse => "MsgVoteResp",
        MessageKind::PreVote => "MsgPreVote",
        MessageKind::PreVoteResponse => "MsgPreVoteResp",
        MessageKind::Append => "MsgApp",
        MessageKind::AppendResponse => "MsgAppResp",
        MessageKind::Heartbeat => "MsgHeartbeat",
        MessageKind::HeartbeatResponse => "MsgHeartbeatResp",
        MessageKind::Snapshot => "MsgSnap",
        MessageKind::TimeoutNow => "MsgTimeoutNow",
        MessageKind::Propose => "MsgProp",
        MessageKind::ProposeResponse => "ProposeResponse",
        MessageKind::ReadIndex => "MsgReadIndex",
        MessageKind::ReadIndexResponse => "MsgReadIndexResp",
        MessageKind::TransferLeader => "MsgTransferLeader",
        MessageKind::Committed => "Committed",
        MessageKind::Acked => "Acked",
        MessageKind::Lost => "Lost",
        MessageKind::WantSnapshot => "WantSnapshot",
        MessageKind::Commit => "Commit",
        MessageKind::ReadIndexDropped => "ReadIndexDropped",
    }
}

/// A change as Go prints its message.
fn change_text(change: &ConfChange) -> String {
    let transition = match change.transition {
        ConfChangeTransition::Auto => "Auto",
        ConfChangeTransition::JointImplicit => "JointImplicit",
        ConfChangeTransition::JointExplicit => "JointExplicit",
    };
    let mut text = format!("transition:ConfChangeTransition{transition} ");
    for step in &change.steps {
        let kind = match step.kind {
            ConfChangeKind::AddVoter => "AddNode",
            ConfChangeKind::AddLearner => "AddLearnerNode",
            ConfChangeKind::Remove => "RemoveNode",
            ConfChangeKind::Update => "UpdateNode",
        };
        text += &format!("changes:{{type:ConfChange{kind} node_id:{}}} ", step.node);
    }
    text.pop();
    text
}

/// A configuration as Go prints its message.
fn conf_state_text(state: &ConfState) -> String {
    let lists = [
        ("voters", &state.voters),
        ("learners", &state.learners),
        ("voters_outgoing", &state.voters_outgoing),
        ("learners_next", &state.learners_next),
    ];
    let ids = lists
        .iter()
        .flat_map(|(name, ids)| ids.iter().map(move |id| (name, id)));
    let mut text: String = ids.map(|(name, id)| format!("{name}:{id}  ")).collect();
    text += &format!("auto_leave:{}", state.auto_leave);
    text
}

fn vote_text(id: u64, request: &VoteRequest, did: &str) -> String {
    let VoteRequest {
        kind,
        from,
        candidate_last: c,
        own_last: o,
        vote,
        term,
    } = request;
    let vote = vote.unwrap_or_default().0;
    format!(
        "{id:x} [logterm: {}, index: {}, vote: {vote:x}] {did} {:x} \
         [logterm: {}, index: {}] at term {term}",
        o.term, o.index, from.0, c.term, c.index
    )
    .replace("KIND", kind_name(*kind))
}

impl Observer for Logger {
    fn event(&mut self, event: &Event<'_>) {
        // Scripts see these in what the commands answer, and by `fates`.
        if matches!(
            event,
            Event::ProposalAppended { .. }
                | Event::ProposalForwarded { .. }
                | Event::ForwardTold { .. }
                | Event::ProposalDropped { .. }
                | Event::ProposalsInDoubt { .. }
                | Event::ReadDropped { .. }
        ) {
            return;
        }
        let told = election(self.id.0, event)
            .or_else(|| membership(self.id.0, event))
            .or_else(|| replication(self.id.0, event))
            .or_else(|| log(event))
            .or_else(|| snapshot(self.id.0, event))
            .or_else(|| transfer(self.id.0, event))
            .or_else(|| losses(self.id.0, event));
        match told {
            Some((level, text)) => self.out.log(level, &text),
            None => self.out.log(Level::Fatal, &format!("{event:?}")),
        }
    }
}

type Told = Option<(Level, String)>;

/// What etcd has no words for.
fn losses(id: u64, event: &Event<'_>) -> Told {
    let text = match event {
        Event::TailLost { commit, last } => {
            format!("{id:x} has lost the tail of its log: it ends at {last}, not at {commit}")
        }
        Event::RefillStarted { first, to } => {
            format!("{id:x} replaces damaged entries from {first} on, up to {to}")
        }
        Event::RefillFinished { last } => format!("{id:x} is whole again at {last}"),
        Event::FollowerLost { from, progress } => {
            format!(
                "{id:x} hears that {:x} lost entries [{}]",
                from.0,
                shown(progress)
            )
        }
        Event::VoteInLease { from } => {
            format!(
                "{id:x} ignores the candidate {:x}: a leader may count on it",
                from.0
            )
        }
        Event::TransferToVoteless { to } => {
            format!("{id:x} does not hand over to {:x}, which has no vote", to.0)
        }
        Event::CampaignInLease => format!("{id:x} does not campaign: a leader may count on it"),
        Event::DiskStalled { waiting } => {
            format!("{id:x} steps down: its disk has not written entry {waiting}")
        }
        Event::Halted { cause } => format!("{id:x} halts: {cause}"),
        Event::LearnerPromoted { id: learner } => {
            format!(
                "{id:x} makes a voter of {:x}, which is caught up",
                learner.0
            )
        }
        Event::SnapshotRequested { from, least } => format!(
            "{id:x} hears that {:x} wants a snapshot that goes to {least} at least",
            from.0
        ),
        _ => return None,
    };
    Some((Level::Warn, text))
}

fn election(id: u64, event: &Event<'_>) -> Told {
    let text = match event {
        Event::Started {
            peers,
            term,
            commit,
            applied,
            last,
        } => {
            let peers: Vec<String> = peers.iter().map(|peer| format!("{:x}", peer.0)).collect();
            format!(
                "newRaft {id:x} [peers: [{}], term: {term}, commit: {commit}, applied: {applied}, \
                 lastindex: {}, lastterm: {}]",
                peers.join(","),
                last.index,
                last.term
            )
        }
        Event::RoleChanged { role, term } => format!("{id:x} became {role} at term {term}"),
        Event::ElectionStarted { term } => {
            format!("{id:x} is starting a new election at term {term}")
        }
        Event::VoteRequested {
            kind,
            to,
            last,
            term,
        } => format!(
            "{id:x} [logterm: {}, index: {}] sent {} request to {:x} at term {term}",
            last.term,
            last.index,
            kind_name(*kind),
            to.0
        ),
        Event::VoteReceived {
            kind,
            from,
            granted,
            term,
        } => format!(
            "{id:x} received {}{} from {:x} at term {term}",
            kind_name(*kind),
            if *granted { "" } else { " rejection" },
            from.0
        ),
        Event::VotesCounted {
            kind,
            granted,
            rejected,
        } => format!(
            "{id:x} has received {granted} {} votes and {rejected} vote rejections",
            kind_name(*kind)
        ),
        _ => return answers(id, event),
    };
    Some((Level::Info, text))
}

fn answers(id: u64, event: &Event<'_>) -> Told {
    let text = match event {
        Event::HigherTerm {
            kind,
            from,
            term,
            message_term,
        } => format!(
            "{id:x} [term: {term}] received a {} message with higher term from {:x} \
             [term: {message_term}]",
            kind_name(*kind),
            from.0
        ),
        Event::LowerTerm {
            kind,
            from,
            term,
            message_term,
        } => format!(
            "{id:x} [term: {term}] ignored a {} message with lower term from {:x} \
             [term: {message_term}]",
            kind_name(*kind),
            from.0
        ),
        Event::VoteCast(request) => vote_text(id, request, "cast KIND for"),
        Event::VoteRefused(request) => vote_text(id, request, "rejected KIND from"),
        Event::VoteIgnored {
            request,
            remaining_ticks,
        } => format!(
            "{}: lease is not expired (remaining ticks: {remaining_ticks})",
            vote_text(id, request, "ignored KIND from")
        ),
        Event::LeaderForgotten { leader, term } => {
            format!("{id:x} forgetting leader {:x} at term {term}", leader.0)
        }
        _ => return election_warnings(id, event),
    };
    Some((Level::Info, text))
}

fn election_warnings(id: u64, event: &Event<'_>) -> Told {
    Some(match event {
        Event::Unpromotable => (
            Level::Warn,
            format!("{id:x} is unpromotable and can not campaign"),
        ),
        Event::CampaignBlocked { term } => (
            Level::Warn,
            format!(
                "{id:x} cannot campaign at term {term} since there are still pending \
                 configuration changes to apply"
            ),
        ),
        Event::QuorumLost => (
            Level::Warn,
            format!("{id:x} stepped down to follower since quorum is not active"),
        ),
        Event::ForgetLeaderRefused => (
            Level::Error,
            "ignoring MsgForgetLeader due to ReadOnlyLeaseBased".to_owned(),
        ),
        Event::CampaignByLeader => (
            Level::Debug,
            format!("{id:x} ignoring MsgHup because already leader"),
        ),
        _ => return None,
    })
}

fn membership(id: u64, event: &Event<'_>) -> Told {
    Some(match event {
        Event::ConfSwitched { config } => (
            Level::Info,
            format!("{id:x} switched to configuration {config}"),
        ),
        Event::LeavingJoint { config } => (
            Level::Info,
            format!("initiating automatic transition out of joint configuration {config}"),
        ),
        Event::NotLeavingJoint { config, .. } => (
            Level::Debug,
            format!(
                "not initiating automatic transition out of joint configuration {config}: \
                 raft proposal dropped"
            ),
        ),
        Event::ConfChangeRefused {
            change,
            config,
            reason,
        } => (
            Level::Info,
            format!(
                "{id:x} ignoring conf change {} at config {config}: {}",
                change_text(change),
                refusal_text(reason)
            ),
        ),
        Event::NoLeader { kind, term } => {
            let what = match kind {
                MessageKind::Propose => "proposal",
                MessageKind::TransferLeader => "leader transfer msg",
                _ => "index reading msg",
            };
            (
                Level::Info,
                format!("{id:x} no leader at term {term}; dropping {what}"),
            )
        }
        Event::UncommittedFull => (
            Level::Warn,
            format!(
                "{id:x} appending new entries to log would exceed uncommitted entry size limit; \
                 dropping proposal"
            ),
        ),
        _ => return None,
    })
}

fn replication(id: u64, event: &Event<'_>) -> Told {
    let text = match event {
        Event::NoProgress { from } => format!("{id:x} no progress available for {:x}", from.0),
        Event::EarlierSession { from, kind } => format!(
            "{id:x} ignores what {:x} answered before it was removed: {}",
            from.0,
            kind_name(*kind)
        ),
        Event::AppendRejected {
            from,
            prev,
            own_term,
        } => format!(
            "{id:x} [logterm: {own_term}, index: {}] rejected MsgApp [logterm: {}, index: {}] \
             from {:x}",
            prev.index, prev.term, prev.index, from.0
        ),
        Event::RejectReceived { from, index, hint } => format!(
            "{id:x} received MsgAppResp(rejected, hint: (index {}, term {})) from {:x} for index \
             {index}",
            hint.index, hint.term, from.0
        ),
        Event::ProgressDecreased { of, progress } => {
            format!(
                "{id:x} decreased progress of {:x} to [{}]",
                of.0,
                shown(progress)
            )
        }
        Event::PeerUnreachable { peer, progress } => format!(
            "{id:x} failed to send message to {:x} because it is unreachable [{}]",
            peer.0,
            shown(progress)
        ),
        _ => return None,
    };
    Some((Level::Debug, text))
}

fn log(event: &Event<'_>) -> Told {
    let text = match event {
        Event::UnstableReplaced { from } => {
            format!("replace the unstable entries from index {from}")
        }
        Event::UnstableTruncated { from } => {
            format!("truncate the unstable entries before index {from}")
        }
        Event::LogConflict {
            index,
            existing,
            conflicting,
        } => format!(
            "found conflict at index {index} [existing term: {existing}, conflicting term: \
             {conflicting}]"
        ),
        Event::PersistAckMissing { index } => {
            format!("entry at index {index} missing from unstable log; ignoring")
        }
        Event::PersistAckMismatched { acked, held } => format!(
            "entry at (index,term)=({},{}) mismatched with entry at ({},{held}) in unstable log; \
             ignoring",
            acked.index, acked.term, acked.index
        ),
        Event::PersistAckInSnapshot { index } => {
            format!("entry at index {index} matched unstable snapshot; ignoring")
        }
        Event::SnapshotRestoreStarted {
            committed,
            applied,
            applying,
            offset,
            offset_in_progress,
            unstable,
            snapshot,
        } => format!(
            "log [committed={committed}, applied={applied}, applying={applying}, \
             unstable.offset={offset}, unstable.offsetInProgress={offset_in_progress}, \
             len(unstable.Entries)={unstable}] starts to restore snapshot [index: {}, term: {}]",
            snapshot.index, snapshot.term
        ),
        _ => return None,
    };
    Some((Level::Info, text))
}

fn snapshot(id: u64, event: &Event<'_>) -> Told {
    Some(match event {
        Event::StalePersistAck { term, ack_term } => (
            Level::Info,
            format!(
                "{id:x} [term: {term}] ignored entry appends from a MsgStorageAppendResp message \
                 with lower term [term: {ack_term}]"
            ),
        ),
        Event::SnapshotRestored {
            commit,
            last,
            snapshot: s,
        } => (
            Level::Info,
            format!(
                "{id:x} [commit: {commit}, lastindex: {}, lastterm: {}] restored snapshot \
                 [index: {}, term: {}]\nINFO {id:x} [commit: {commit}] restored snapshot \
                 [index: {}, term: {}]",
                last.index, last.term, s.index, s.term, s.index, s.term
            ),
        ),
        Event::SnapshotFastForwarded {
            commit,
            last,
            snapshot: s,
        } => (
            Level::Info,
            format!(
                "{id:x} [commit: {commit}, lastindex: {}, lastterm: {}] fast-forwarded commit to \
                 snapshot [index: {}, term: {}]",
                last.index, last.term, s.index, s.term
            ),
        ),
        Event::SnapshotIgnored {
            commit,
            snapshot: s,
        } => (
            Level::Info,
            format!(
                "{id:x} [commit: {commit}] ignored snapshot [index: {}, term: {}]",
                s.index, s.term
            ),
        ),
        Event::SnapshotForeign { conf_state } => (
            Level::Warn,
            format!(
                "{id:x} attempted to restore snapshot but it is not in the ConfState {}; should \
                 never happen",
                conf_state_text(conf_state)
            ),
        ),
        _ => return snapshot_sending(id, event),
    })
}

fn snapshot_sending(id: u64, event: &Event<'_>) -> Told {
    let text = match event {
        Event::SnapshotSent {
            to,
            first,
            commit,
            snapshot: s,
            progress,
        } => format!(
            "{id:x} [firstindex: {first}, commit: {commit}] sent snapshot[index: {}, term: {}] to \
             {:x} [{}]",
            s.index,
            s.term,
            to.0,
            shown(progress)
        ),
        Event::ReplicationPaused { to, progress } => {
            format!(
                "{id:x} paused sending replication messages to {:x} [{}]",
                to.0,
                shown(progress)
            )
        }
        Event::SnapshotAcknowledged { from, progress } => format!(
            "{id:x} recovered from needing snapshot, resumed sending replication messages to {:x} \
             [{}]",
            from.0,
            shown(progress)
        ),
        Event::SnapshotReported {
            to,
            finished,
            progress,
        } => format!(
            "{id:x} snapshot {}, resumed sending replication messages to {:x} [{}]",
            if *finished { "succeeded" } else { "failed" },
            to.0,
            shown(progress)
        ),
        Event::SnapshotToInactive { to } => {
            format!(
                "ignore sending snapshot to {:x} since it is not recently active",
                to.0
            )
        }
        Event::SnapshotUnavailable { to } => format!(
            "{id:x} failed to send snapshot to {:x} because snapshot is temporarily unavailable",
            to.0
        ),
        _ => return None,
    };
    Some((Level::Debug, text))
}

fn transfer(id: u64, event: &Event<'_>) -> Told {
    let info = |text| Some((Level::Info, text));
    let debug = |text| Some((Level::Debug, text));
    match event {
        Event::ProposalInTransfer { to, term } => debug(format!(
            "{id:x} [term {term}] transfer leadership to {:x} is in progress; dropping proposal",
            to.0
        )),
        Event::TransferStarted { to, term } => info(format!(
            "{id:x} [term {term}] starts to transfer leadership to {:x}",
            to.0
        )),
        Event::TransferRunning { to, term } => info(format!(
            "{id:x} [term {term}] transfer leadership to {:x} is in progress, ignores request to \
             same node {:x}",
            to.0, to.0
        )),
        Event::TransferReplaced { to, term } => info(format!(
            "{id:x} [term {term}] abort previous transferring leadership to {:x}",
            to.0
        )),
        Event::TransferToLearner => debug(format!(
            "{id:x} is learner. Ignored transferring leadership"
        )),
        Event::TransferToSelf => debug(format!(
            "{id:x} is already leader. Ignored transferring leadership to self"
        )),
        Event::TimeoutNowSent {
            to,
            after_catching_up: true,
        } => info(format!(
            "{id:x} sent MsgTimeoutNow to {:x} after received MsgAppResp",
            to.0
        )),
        Event::TimeoutNowSent { to, .. } => info(format!(
            "{id:x} sends MsgTimeoutNow to {:x} immediately as {:x} already has up-to-date log",
            to.0, to.0
        )),
        Event::TimeoutNowReceived { from, term } => info(format!(
            "{id:x} [term {term}] received MsgTimeoutNow from {:x} and starts an election to get \
             leadership.",
            from.0
        )),
        Event::TimeoutNowIgnored { from, term, role } => debug(format!(
            "{id:x} [term {term} state {}] ignored MsgTimeoutNow from {:x}",
            role_name(*role),
            from.0
        )),
        _ => None,
    }
}

/// Why a change is refused, as etcd says it.
fn refusal_text(reason: &ConfChangeRefusal) -> String {
    match reason {
        ConfChangeRefusal::Pending { index, applied } => {
            format!("possible unapplied conf change at index {index} (applied to {applied})")
        }
        ConfChangeRefusal::Joint => "must transition out of joint config first".to_owned(),
        ConfChangeRefusal::NotJoint => "not in joint state; refusing empty conf change".to_owned(),
        other => other.to_string(),
    }
}
