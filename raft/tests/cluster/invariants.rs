//! Each promise of the oracle is one that can be broken: a history that breaks it, and nothing
//! else, is told apart from the one that keeps it.

use raftwerk_raft::{ConfState, Entry, LogId, LogIndex, NodeId, Role, Term};

use crate::simulated::oracle::{Machine, Oracle, View};
use crate::{caught, simulated};

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);

fn id(term: u64, index: u64) -> LogId {
    LogId::new(Term(term), LogIndex(index))
}

fn view(role: Role, term: u64, commit: u64, last: LogId) -> View {
    View {
        role,
        term: Term(term),
        commit: LogIndex(commit),
        first: LogIndex(1),
        last,
        ..View::default()
    }
}

/// `kept` is a history that is fine; `broken` goes on with what must be noticed, by that name.
#[track_caller]
fn notices(reason: &str, kept: impl Fn(&mut Oracle), broken: impl Fn(&mut Oracle)) {
    let mut oracle = Oracle::default();
    kept(&mut oracle);
    let found = caught(move || broken(&mut oracle)).expect("went unnoticed");
    assert!(found.contains(reason), "{found}");
}

/// A log with entries of these terms, from index 1 on.
fn log(terms: &'static [u64]) -> impl Fn(LogIndex) -> Option<Term> {
    move |index| {
        let at = usize::try_from(index.0).unwrap().checked_sub(1)?;
        terms.get(at).copied().map(Term)
    }
}

#[test]
fn two_leaders_in_one_term_break_election_safety() {
    let led = |id, term| {
        move |oracle: &mut Oracle| {
            oracle.moves(id, view(Role::Leader, term, 0, LogId::ZERO), log(&[]));
        }
    };
    led(TWO, 5)(&mut {
        let mut oracle = Oracle::default();
        led(ONE, 4)(&mut oracle);
        oracle
    });
    notices("election safety", led(ONE, 4), led(TWO, 4));
}

#[test]
fn a_leader_that_cuts_its_log_breaks_leader_append_only() {
    let start = |oracle: &mut Oracle| {
        oracle.moves(ONE, view(Role::Leader, 4, 0, id(4, 3)), log(&[1, 1, 4]));
        oracle.moves(ONE, view(Role::Leader, 4, 0, id(4, 4)), log(&[1, 1, 4, 4]));
    };
    notices("leader append-only", start, |oracle| {
        oracle.moves(ONE, view(Role::Leader, 4, 0, id(4, 3)), log(&[1, 1, 4]));
    });
    notices("leader append-only", start, |oracle| {
        let last = id(4, 5);
        oracle.moves(ONE, view(Role::Leader, 4, 0, last), log(&[1, 1, 4, 3, 4]));
    });
}

#[test]
fn entries_that_differ_or_follow_different_ones_break_log_matching() {
    let start = |oracle: &mut Oracle| {
        oracle.holds(&Entry::normal(id(2, 7), "a".into()), Term(1));
        oracle.holds(&Entry::normal(id(2, 7), "a".into()), Term(1));
        oracle.holds(&Entry::normal(id(3, 7), "b".into()), Term(2));
    };
    notices("log matching", start, |oracle| {
        oracle.holds(&Entry::normal(id(2, 7), "b".into()), Term(1));
    });
    notices("log matching", start, |oracle| {
        oracle.holds(&Entry::normal(id(2, 7), "a".into()), Term(2));
    });
}

#[test]
fn a_leader_without_a_committed_entry_breaks_leader_completeness() {
    let start = |oracle: &mut Oracle| {
        assert!(oracle.commits(LogIndex(1), Term(1), Term(2)));
        assert!(oracle.commits(LogIndex(2), Term(2), Term(2)));
        assert!(!oracle.commits(LogIndex(2), Term(2), Term(3)), "no news");
        oracle.moves(ONE, view(Role::Leader, 3, 0, id(2, 2)), log(&[1, 2]));
    };
    notices("leader completeness", start, |oracle| {
        oracle.moves(TWO, view(Role::Leader, 4, 0, id(1, 1)), log(&[1]));
    });
    notices("leader completeness", start, |oracle| {
        oracle.moves(TWO, view(Role::Leader, 4, 0, id(3, 2)), log(&[1, 3]));
    });
    notices("was replaced", start, |oracle| {
        oracle.commits(LogIndex(2), Term(3), Term(3));
    });
}

#[test]
fn states_that_differ_break_state_machine_safety() {
    let machine = |hash| Machine {
        applied: id(1, 1),
        hash,
        ..Machine::default()
    };
    let start = |oracle: &mut Oracle| {
        oracle.commits(LogIndex(1), Term(1), Term(1));
        oracle.applies(&machine(5));
        oracle.applies(&machine(5));
        assert_eq!(oracle.state_at(id(1, 1)), 5);
    };
    notices("states differ", start, |oracle| oracle.applies(&machine(6)));
    let early = Machine {
        applied: id(1, 2),
        ..Machine::default()
    };
    notices("before it was committed", start, |oracle| {
        oracle.applies(&early);
    });
    notices("that was not committed", start, |oracle| {
        oracle.state_at(id(2, 1));
    });
    notices("nobody has applied", start, |oracle| {
        oracle.state_at(id(1, 2));
    });
}

#[test]
fn what_goes_back_is_noticed() {
    let at = |term, commit, applied| View {
        applied: LogIndex(applied),
        ..view(Role::Follower, term, commit, id(3, 9))
    };
    let terms: &[u64] = &[3; 9];
    let start = |oracle: &mut Oracle| {
        oracle.moves(ONE, at(4, 6, 5), log(terms));
        oracle.moves(ONE, at(5, 7, 6), log(terms));
        // Who was killed may come back with less.
        oracle.moves(TWO, at(5, 7, 6), log(terms));
        oracle.stops(TWO);
        oracle.moves(TWO, at(4, 2, 2), log(terms));
    };
    let cases = [
        ("term went back", at(4, 7, 6)),
        ("commit index went back", at(5, 6, 6)),
        ("applied index went back", at(5, 7, 5)),
        ("applied what is not committed", at(5, 7, 8)),
        ("commit index beyond the log", at(5, 10, 6)),
    ];
    for (reason, next) in cases {
        notices(reason, start, |oracle| oracle.moves(ONE, next, log(terms)));
    }
}

#[test]
fn two_votes_in_one_term_are_noticed() {
    let start = |oracle: &mut Oracle| {
        oracle.votes(ONE, Term(2), TWO);
        oracle.votes(ONE, Term(2), TWO);
        oracle.votes(ONE, Term(3), ONE);
    };
    notices("voted twice", start, |oracle| {
        oracle.votes(ONE, Term(2), ONE);
    });
    let voted = |term, vote| View {
        vote: Some(vote),
        ..view(Role::Follower, term, 0, LogId::ZERO)
    };
    let start = |oracle: &mut Oracle| {
        oracle.moves(ONE, voted(2, TWO), log(&[]));
        oracle.moves(ONE, voted(3, ONE), log(&[]));
    };
    notices("changed its vote", start, |oracle| {
        oracle.moves(ONE, voted(3, TWO), log(&[]));
    });
}

#[test]
fn a_commit_that_is_not_on_a_quorums_disks_is_noticed() {
    let ids = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
    let joint = ConfState {
        voters: ids(&[1, 2, 3]),
        voters_outgoing: ids(&[1, 4]),
        learners: ids(&[5]),
        ..ConfState::default()
    };
    let durable = |disks: &'static [u64]| {
        let on_disk = |id: NodeId| disks.contains(&id.0);
        let joint = joint.clone();
        caught(move || Oracle::is_durable(&joint, LogIndex(7), on_disk))
    };
    assert_eq!(durable(&[1, 2, 4]), None);
    for disks in [&[1, 2][..], &[1, 4], &[1, 4, 5], &[2, 3, 4], &[]] {
        let found = durable(disks).expect("went unnoticed");
        assert!(found.contains("on their disks"), "{found}");
    }
}

#[test]
fn a_history_is_told_from_one_that_differs_in_a_single_event() {
    let history = |events| {
        let mut simulation = simulated::Simulation::new(3, simulated::Driver::Sound);
        simulation.run(events);
        simulation.history()
    };
    assert_eq!(history(400), history(400));
    assert_ne!(history(400), history(500));
}
