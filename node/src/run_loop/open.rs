//! Opening a group: from what the log, the state machine and the snapshot files hold, to a core
//! that agrees with all three.

use std::ops::Range;
use std::sync::Arc;

use raftwerk_raft::{
    ConfChange, ConfChangeKind, ConfChangeStep, Entry, EntryKind, GroupId, GroupState, GroupWrite,
    HardState, LogId, LogIndex, LogReader, NodeId, OpenGroup, RawNode, Restart, SnapshotMeta,
    StateMachine, Storage, Term, WriteBatch,
};

use super::driver::{Driver, DriverParts};
use crate::apply::Actor;
use crate::config::{GroupConfig, Start, random_seed};
use crate::envelope::encode_change;
use crate::error::GroupError;
use crate::mailbox::Mailbox;
use crate::member::{Incarnation, Member, MemberTable};
use crate::snapshot::SnapshotStore;
use crate::status::Shared;
use crate::transport::Transport;

/// What a group is opened with.
pub(crate) struct Opening {
    pub(crate) group: GroupId,
    pub(crate) host: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) config: GroupConfig,
    pub(crate) seed: u64,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) snapshots: Arc<SnapshotStore>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) shared: Arc<Shared>,
}

/// Opens a group; blocks on the disk.
pub(crate) fn open(
    opening: Opening,
    mut machine: Box<dyn StateMachine>,
) -> Result<Driver, GroupError> {
    prepare(&opening)?;
    let Opening {
        group,
        host,
        config,
        storage,
        snapshots,
        ..
    } = &opening;
    let (group, host) = (*group, *host);
    let OpenGroup { state, log } = storage.open_group(group)?;
    let state = begin(group, &config.start, storage, state, machine.applied())?;
    let applied = restored(&opening, machine.as_mut(), &state)?;
    let known = known(log.as_ref(), applied, &state)?;
    let newest = state.snapshot.as_ref().map_or(LogId::ZERO, |m| m.last);
    let (mut restart, members) = recover(group, &state, log.as_ref(), known.index)?;
    // The commit index is a hint that may be behind; what was applied was committed.
    restart.hard_state.commit = restart.hard_state.commit.max(applied.index);
    // Only a snapshot whose file is here can be sent to others.
    let sendable = |meta: &SnapshotMeta| snapshots.find(group, meta.last).is_some();
    restart.snapshot = restart.snapshot.filter(sendable);
    let conf_state = restart.conf_state.clone();
    let mut table = MemberTable::new();
    table.update(&members, &conf_state);
    let mut raft = config.raft.clone();
    raft.id = host;
    raft.seed = opening.seed;
    let node = RawNode::new(raft, restart, Arc::clone(&log))?;
    let commit = state.hard_state.commit.min(node.commit());
    let Opening {
        config,
        incarnation,
        snapshots,
        transport,
        mailbox,
        shared,
        ..
    } = opening;
    // Entries that the state machine has and the log must get back first.
    let ahead = Some(applied).filter(|applied| *applied != known);
    let ahead = ahead.unwrap_or_default();
    let actor = Actor::new(group, machine, ahead, mailbox, transport, snapshots);
    let actor = Arc::new(actor);
    Ok(Driver::new(DriverParts {
        group,
        host,
        node,
        log,
        config,
        incarnation,
        // Not the given one: the marks of an earlier life must not come again.
        seed: random_seed(),
        shared,
        actor,
        members: table,
        conf_state,
        applied: known,
        ahead: ahead.index,
        // Without what was lost, nobody may take this member for further than it is.
        hard_state: HardState {
            commit,
            ..state.hard_state
        },
        snapshot: newest,
    }))
}

/// Refuses what cannot work, and makes the folder of its snapshots.
fn prepare(opening: &Opening) -> Result<(), GroupError> {
    opening.config.check(opening.host)?;
    check_limits(&opening.config, opening.storage.as_ref())?;
    let snapshots = &opening.snapshots;
    let failed = |error: std::io::Error| GroupError::SnapshotFile {
        path: snapshots.dir.display().to_string(),
        reason: error.to_string(),
    };
    snapshots.open_group(opening.group).map_err(failed)
}

/// What the core starts from at `applied`, and the records of all members that the newest snapshot
/// and the changes since tell of, of those too who have gone.
fn recover(
    group: GroupId,
    state: &GroupState,
    log: &dyn LogReader,
    applied: LogIndex,
) -> Result<(Restart, MemberTable), GroupError> {
    let context = state.snapshot.clone().unwrap_or_default().context;
    let mut members = MemberTable::decode(&context).map_err(|error| unreadable(group, error))?;
    let restart = Restart::recover_with(state, log, applied, |change| {
        // What cannot be read changed no record when it was made either.
        let changed = MemberTable::decode(&change.context).unwrap_or_default();
        for member in changed.iter() {
            members.insert(member.clone());
        }
    })?;
    Ok((restart, members))
}

/// An entry that the log can never take halts its group wherever it is to be appended.
fn check_limits(config: &GroupConfig, storage: &dyn Storage) -> Result<(), GroupError> {
    let max = config.limits.proposal_bytes_max as u64;
    match storage.entry_bytes_max() {
        Some(entry_max) if max > entry_max => Err(GroupError::Option {
            name: "limits.proposal_bytes_max",
            reason: "larger than the log's largest entry: lower it or raise that",
        }),
        _ => Ok(()),
    }
}

fn unreadable(group: GroupId, error: impl ToString) -> GroupError {
    GroupError::Log {
        group,
        reason: error.to_string(),
    }
}

/// A new group's log begins with the changes that add its first members: one entry each, in order
/// of id, so that all of them write the same without having talked to each other, and whoever joins
/// later reads them there like any other change.
fn begin(
    group: GroupId,
    start: &Start,
    storage: &Arc<dyn Storage>,
    state: GroupState,
    applied: LogId,
) -> Result<GroupState, GroupError> {
    let is_new = state.hard_state == HardState::default()
        && state.snapshot.is_none()
        && state.last == LogId::ZERO;
    let members = match start {
        _ if !is_new => return Ok(state),
        // It is one of old whose record is gone, and with it how it voted and in which term.
        _ if state.health.vote_unknown => return Err(GroupError::VoteUnknown { group }),
        Start::Existing => return Err(GroupError::NotFound { group }),
        // The state machine had a log once: with a new one this member would vote a second time.
        _ if applied != LogId::ZERO => {
            let last = LogId::ZERO;
            return Err(GroupError::ForeignState { applied, last });
        }
        Start::Join { .. } => return Ok(state),
        Start::Bootstrap { members } => members,
    };
    let mut members = members.clone();
    members.sort_by_key(|member| member.id);
    let term = Term(1);
    let append: Vec<Entry> = (1..)
        .zip(&members)
        .map(|(at, member)| first(at, member))
        .collect();
    let last = append.last().map_or(LogId::ZERO, |entry| entry.id);
    let hard_state = HardState {
        term,
        vote: None,
        commit: last.index,
    };
    let write = GroupWrite {
        group,
        append,
        hard_state: Some(hard_state),
        ..GroupWrite::default()
    };
    let batch = WriteBatch {
        groups: vec![write],
        ..WriteBatch::default()
    };
    let ticket = storage
        .submit(batch)
        .map_err(|error| unreadable(group, error))?;
    storage
        .wait(ticket)
        .map_err(|error| unreadable(group, error))?;
    Ok(GroupState {
        hard_state,
        first: LogIndex(1),
        last,
        ..state
    })
}

fn first(index: u64, member: &Member) -> Entry {
    let step = ConfChangeStep {
        kind: ConfChangeKind::AddVoter,
        node: member.id,
    };
    let table: MemberTable = [member.clone()].into_iter().collect();
    let change = ConfChange {
        steps: vec![step],
        context: table.encode(),
        ..ConfChange::default()
    };
    Entry {
        id: LogId::new(Term(1), LogIndex(index)),
        kind: EntryKind::ConfChange,
        data: encode_change(&change),
    }
}

/// Brings a state machine that is older than the log's beginning up to the snapshot there.
fn restored(
    opening: &Opening,
    machine: &mut dyn StateMachine,
    state: &GroupState,
) -> Result<LogId, GroupError> {
    let applied = machine.applied();
    let Some(meta) = state
        .snapshot
        .as_ref()
        .filter(|meta| applied.index < meta.last.index)
    else {
        return Ok(applied);
    };
    let file = |error: std::io::Error| GroupError::SnapshotFile {
        path: opening.snapshots.dir.display().to_string(),
        reason: error.to_string(),
    };
    let source = opening.snapshots.state(opening.group, meta).map_err(file)?;
    let Some(mut source) = source else {
        return Err(GroupError::SnapshotMissing {
            applied,
            snapshot: meta.last,
        });
    };
    machine.restore(meta, source.as_mut())?;
    Ok(meta.last)
}

/// Up to where the log stands for what the state machine has applied. Where its disk lost entries
/// of that, the group opens with what is before them: the leader sends them again, and the state
/// machine passes over what it has.
fn known(log: &dyn LogReader, applied: LogId, state: &GroupState) -> Result<LogId, GroupError> {
    let last = log.last();
    if applied == LogId::ZERO || applied.index < state.first {
        return Ok(applied);
    }
    let foreign = Err(GroupError::ForeignState { applied, last });
    // The term of a damaged entry may be made up: what stood there is told when it comes again.
    let damaged = |range: &Range<LogIndex>| range.contains(&applied.index);
    let told = applied.index <= last.index && !state.health.faulty.iter().any(damaged);
    if told && log.term(applied.index) != Ok(applied.term) {
        return foreign;
    }
    let snapshot = state
        .snapshot
        .as_ref()
        .map_or(LogIndex::ZERO, |meta| meta.last.index);
    let mut end = applied.index.min(last.index);
    for range in &state.health.faulty {
        if range.start <= end && range.end > snapshot.next() {
            end = range.start.prev().max(snapshot);
        }
    }
    log.term(end)
        .map_or(foreign, |term| Ok(LogId::new(term, end)))
}

#[cfg(test)]
mod tests {
    use raftwerk_storage_mem::{MemLog, MemLogOptions};

    use super::*;

    #[test]
    fn group_whose_record_is_lost_is_not_begun_as_a_new_one() {
        let storage: Arc<dyn Storage> = Arc::new(MemLog::new(MemLogOptions::default()).unwrap());
        let group = GroupId(1);
        let members = vec![Member::new(NodeId(1))];
        let joins = Start::Join {
            contacts: members.clone(),
        };
        for start in [Start::Bootstrap { members }, joins, Start::Existing] {
            let mut state = storage.open_group(group).unwrap().state;
            state.health.vote_unknown = true;
            let begun = begin(group, &start, &storage, state, LogId::ZERO);
            assert!(matches!(begun, Err(GroupError::VoteUnknown { .. })));
        }
    }

    #[test]
    fn what_the_disk_lost_of_what_is_applied_is_to_come_again() {
        let storage: Arc<dyn Storage> = Arc::new(MemLog::new(MemLogOptions::default()).unwrap());
        let group = GroupId(1);
        let members = (1..=5).map(|id| Member::new(NodeId(id))).collect();
        let start = Start::Bootstrap { members };
        let OpenGroup { state, log } = storage.open_group(group).unwrap();
        let mut state = begin(group, &start, &storage, state, LogId::ZERO).unwrap();
        let id = |index| LogId::new(Term(1), LogIndex(index));
        let known = |applied, state: &GroupState| known(log.as_ref(), applied, state).ok();
        assert_eq!(known(id(4), &state), Some(id(4)));
        assert_eq!(known(id(9), &state), Some(id(5)), "the log ends before");
        state.health.faulty = vec![LogIndex(3)..LogIndex(4)];
        assert_eq!(known(id(2), &state), Some(id(2)));
        assert_eq!(known(id(9), &state), Some(id(2)));
        state.health.faulty = vec![LogIndex(3)..LogIndex(5)];
        let guessed = LogId::new(Term(2), LogIndex(4));
        assert_eq!(known(guessed, &state), Some(id(2)), "its term is not known");
        state.health.faulty = vec![LogIndex(3)..LogIndex(4), LogIndex(1)..LogIndex(2)];
        assert_eq!(known(id(4), &state), Some(LogId::ZERO));
        let last = id(3);
        state.snapshot = Some(SnapshotMeta {
            last,
            ..SnapshotMeta::default()
        });
        assert_eq!(known(id(4), &state), Some(id(4)), "a snapshot covers it");
        let other = LogId::new(Term(2), LogIndex(4));
        assert_eq!(known(other, &state), None, "another group's state");
    }
}
