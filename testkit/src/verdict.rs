//! What a log may answer whose disk has rotted: the judge of those answers, for any backend.
#![allow(clippy::expect_used)]

use raftwerk_raft::{
    GroupId, GroupWrite, HardState, LogError, LogHealth, LogIndex, LogReader, NodeId, Storage,
    Term, WriteBatch,
};

use crate::log_suite::model::{GroupModel, LogModel};

/// How a damaged log answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// Nothing is missing.
    Intact,
    /// What is missing is named, and the rest is right.
    Named,
    /// It does not open or not read, and says why.
    Refused,
}

/// Compares a log that opened with what it should hold, `model`: whatever it gives must be right,
/// and what it does not give must be named.
///
/// # Errors
/// In words, what is wrong, or missing and not named.
pub fn judge(log: &dyn Storage, model: &LogModel) -> Result<Answer, String> {
    let mut answer = Answer::Intact;
    for (id, expected) in &model.groups {
        answer = answer.max(judge_group(log, *id, expected)?);
    }
    for id in log.groups().map_err(|error| error.to_string())? {
        if !model.groups.contains_key(&id) {
            return Err(format!("group {id} appeared"));
        }
    }
    Ok(answer)
}

fn judge_group(log: &dyn Storage, id: GroupId, expected: &GroupModel) -> Result<Answer, String> {
    let open = log.open_group(id).map_err(|error| error.to_string())?;
    let (found, wanted) = (&open.state, expected.state());
    if found.health.vote_unknown {
        return Ok(Answer::Named);
    }
    let same = found.hard_state == wanted.hard_state
        && found.snapshot == wanted.snapshot
        && found.meta == wanted.meta
        && open.log.last() == wanted.last;
    if !same {
        return Err(format!("group {id} differs silently: {found:?}"));
    }
    let mut answer = Answer::Intact;
    for entry in &expected.entries {
        let range = entry.index()..entry.index().next();
        let term = open.log.term(entry.index());
        if term != Ok(entry.term()) && !is_guess(&*open.log, &found.health, entry.index()) {
            return Err(format!("group {id}: {term:?} is the term of {}", entry.id));
        }
        match open.log.read(range, u64::MAX) {
            Ok(found) if found.as_slice() == std::slice::from_ref(entry) => {}
            Err(LogError::Faulty { .. }) if !found.health.is_intact() => answer = Answer::Named,
            other => return Err(format!("group {id}, {}: {other:?}", entry.id)),
        }
    }
    Ok(answer)
}

/// Whether the log may be mistaken about the term at `index`: it is lost, and so is the next one,
/// which would tell it. Then it lies between those of the entries around what is lost.
fn is_guess(log: &dyn LogReader, health: &LogHealth, index: LogIndex) -> bool {
    let lost = health.faulty.iter().find(|range| range.contains(&index));
    let Some(lost) = lost.filter(|range| index.next() < range.end) else {
        return false;
    };
    let ends = [lost.start.prev(), index, lost.end.prev()];
    let terms = ends.map(|index| log.term(index).ok());
    terms.iter().all(Option::is_some) && terms.is_sorted()
}

/// A group's first write: it votes in the term of its own number.
#[must_use]
pub fn vote(group: u64) -> GroupWrite {
    GroupWrite {
        group: GroupId(group),
        hard_state: Some(HardState {
            term: Term(group),
            vote: Some(NodeId(2)),
            commit: LogIndex(0),
        }),
        ..GroupWrite::default()
    }
}

/// Stores one group's write, durably, and has `model` take it too.
///
/// # Panics
/// When it is not taken.
pub fn store(log: &dyn Storage, model: &mut LogModel, write: GroupWrite) {
    let batch = WriteBatch {
        groups: vec![write],
        ..WriteBatch::default()
    };
    *model = model.after(&batch).expect("a valid write");
    let ticket = log.submit(batch).expect("the write is taken");
    log.wait(ticket).expect("the write becomes durable");
}

/// How a group in doubt begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebirth {
    /// Destroyed and made anew in one write, the first since the damage.
    AtOnce,
    /// The same, after it has written what does not take the doubt away.
    AfterAVote,
    /// Destroyed in one life, and made anew in a later one.
    InTwoLives,
}

/// All ways.
pub const REBIRTHS: [Rebirth; 3] = [Rebirth::AtOnce, Rebirth::AfterAVote, Rebirth::InTwoLives];

/// A log of which group `doubted` is damaged keeps that group in doubt through all lives, whatever
/// others or it itself write, and all other groups as in `model`; made anew, it has no past.
/// `open` begins the next life.
///
/// # Panics
/// When the log does otherwise.
pub fn doubt_lasts_until_the_group_is_made_anew<L: Storage>(
    doubted: u64,
    mut model: LogModel,
    rebirth: Rebirth,
    mut open: impl FnMut() -> L,
) {
    let stranger = 1 + model.groups.keys().map(|group| group.0).max().unwrap_or(0);
    let health = |log: &L, group: GroupId| {
        let opened = log.open_group(group).expect("the group opens");
        opened.state.health
    };
    let lives: u64 = if rebirth == Rebirth::AfterAVote { 4 } else { 2 };
    for life in 0..lives {
        let log = open();
        assert_eq!(judge(&log, &model), Ok(Answer::Named), "life {life}");
        for group in model.groups.keys() {
            let health = health(&log, *group);
            assert_eq!(health.vote_unknown, group.0 == doubted, "{group} in {life}");
        }
        match life {
            0 => store(&log, &mut model, vote(stranger)),
            2 => {
                // What it voted before is not known by that.
                store(&log, &mut LogModel::default(), vote(doubted));
                assert!(health(&log, GroupId(doubted)).vote_unknown);
            }
            _ => {}
        }
    }
    let gone = GroupWrite {
        group: GroupId(doubted),
        destroy: true,
        ..GroupWrite::default()
    };
    if rebirth == Rebirth::InTwoLives {
        store(&open(), &mut model, gone.clone());
        assert_eq!(judge(&open(), &model), Ok(Answer::Intact), "{rebirth:?}");
        store(&open(), &mut model, vote(doubted));
    } else {
        let anew = GroupWrite {
            hard_state: vote(doubted).hard_state,
            ..gone
        };
        store(&open(), &mut model, anew);
    }
    assert_eq!(judge(&open(), &model), Ok(Answer::Intact), "{rebirth:?}");
}
