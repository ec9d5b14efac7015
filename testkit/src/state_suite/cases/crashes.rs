//! What survives.

use raftwerk_raft::StateOp;

use crate::state_suite::home::StateFactory;
use crate::state_suite::session::{Session, id, numbered, put};

pub(super) fn persisted_state_survives_a_kill(factory: &dyn StateFactory) {
    let mut session = Session::begin(factory);
    for round in 1..6 {
        session.write(&numbered(0..40, round));
        session.persist();
        session.write(&numbered(40..60, round));
        session.kill();
    }
    session.reopen();
}

pub(super) fn persisted_state_survives_power_loss(factory: &dyn StateFactory) {
    for seed in 0..8 {
        let mut session = Session::begin(factory);
        session.write(&numbered(0..100, 1));
        session.write(&numbered(50..150, 2));
        session.persist();
        let durable = session.model().applied;
        session.write(&numbered(0..150, 3));
        if !session.power_loss(seed) {
            return;
        }
        assert!(session.model().applied >= durable);
        session.write(&numbered(0..10, 4));
        session.persist();
        assert!(session.power_loss(0));
    }
}

pub(super) fn batches_survive_whole_with_their_applied_id(factory: &dyn StateFactory) {
    for seed in 0..16 {
        let mut session = Session::begin(factory);
        session.write(&[put("first", "0"), put("last", "0")]);
        session.persist();
        for round in 1..=6 {
            let said = format!("{round}");
            let filler = (0..20).map(|key| put(format!("filler {key}"), vec![b'x'; 300]));
            let ops: Vec<StateOp> = [put("first", &said), put("last", &said)]
                .into_iter()
                .chain(filler)
                .collect();
            session.write(&ops);
        }
        // The comparison after it finds contents and applied id of one batch, or fails.
        if !session.power_loss(seed) {
            return;
        }
    }
}

pub(super) fn durable_applied_is_never_ahead_of_what_survives(factory: &dyn StateFactory) {
    for seed in 0..8 {
        let mut session = Session::begin(factory);
        for round in 1..=10 {
            session.write(&numbered(0..20, round));
            if round == seed {
                session.persist();
                assert!(session.store().durable_applied().unwrap() >= id(seed));
            }
        }
        let durable = session.store().durable_applied().unwrap();
        assert!(durable <= session.model().applied);
        if !session.power_loss(0) {
            return;
        }
        let left = session.model().applied;
        assert!(
            left >= durable,
            "{durable} was called durable and {left} is left"
        );
        assert_eq!(session.store().durable_applied().unwrap(), left);
    }
}

pub(super) fn failed_persist_is_not_called_durable(factory: &dyn StateFactory) {
    let mut session = Session::begin(factory);
    session.write(&numbered(0..20, 1));
    session.persist();
    session.write(&numbered(0..20, 2));
    if !session.fail_next_sync() {
        return;
    }
    session
        .store()
        .persist()
        .expect_err("a failed sync persists nothing");
    if let Ok(durable) = session.store().durable_applied() {
        assert_eq!(durable, id(1));
    }
    if let Ok(durable) = session.store().persist() {
        // Not refused for ever: then it must be true, which a power cut will tell.
        assert_eq!(durable, id(2));
        session.persist();
    }
    if session.power_loss(0) {
        session.write(&numbered(0..5, 3));
        session.reopen();
    }
}
