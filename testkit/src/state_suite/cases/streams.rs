//! Checkpoints and restores.

use raftwerk_raft::LogId;

use crate::state_suite::home::StateFactory;
use crate::state_suite::model::StateModel;
use crate::state_suite::session::{Session, delete_range, numbered, put};
use crate::state_suite::stream::{Source, bytes_of, checkpoint};

/// A store with some contents, and its checkpoint.
fn filled(factory: &dyn StateFactory, keys: u64) -> (StateModel, Vec<u8>) {
    let mut session = Session::begin(factory);
    session.write(&numbered(0..keys, 1));
    session.write(&[put("", "empty key"), put("empty value", "")]);
    (
        session.model().clone(),
        checkpoint(session.store().as_ref()),
    )
}

pub(super) fn checkpoint_restores_into_another_store(factory: &dyn StateFactory) {
    for keys in [0, 1, 5000] {
        let (model, stream) = filled(factory, keys);
        let mut session = Session::begin(factory);
        let applied = session
            .store()
            .restore(&mut Source::whole(&stream))
            .expect("restores");
        assert_eq!(applied, model.applied);
        session.restored(model);
        session.write(&numbered(3..6, 9));
        session.reopen();
        assert_eq!(
            bytes_of(session.store().checkpoint().unwrap()),
            checkpoint(session.store().as_ref()),
            "the same state streams as the same bytes"
        );
    }
    // A store that never held anything streams, too.
    let stream = checkpoint(Session::begin(factory).store().as_ref());
    let mut session = Session::begin(factory);
    session.write(&numbered(0..5, 1));
    assert_eq!(
        session
            .store()
            .restore(&mut Source::whole(&stream))
            .unwrap(),
        LogId::ZERO
    );
    session.restored(StateModel::default());
}

pub(super) fn checkpoint_keeps_its_moment(factory: &dyn StateFactory) {
    let mut session = Session::begin(factory);
    session.write(&numbered(0..3000, 1));
    let model = session.model().clone();
    let mut source = session.store().checkpoint().unwrap();
    assert_eq!(source.applied(), model.applied);
    let mut stream = vec![0; 500];
    let count = source.read(&mut stream).unwrap();
    stream.truncate(count);
    session.write(&[delete_range("key-00100", "key-02900")]);
    session.write(&numbered(0..100, 2));
    session.persist();
    stream.extend(bytes_of(source));
    let mut other = Session::begin(factory);
    other.store().restore(&mut Source::whole(&stream)).unwrap();
    other.restored(model);
}

pub(super) fn restore_replaces_everything_durably(factory: &dyn StateFactory) {
    let (model, stream) = filled(factory, 300);
    let mut session = Session::begin(factory);
    session.write(&numbered(200..900, 7));
    session.write(&[put("only here", "x")]);
    session.persist();
    session.write(&[put("not persisted", "x")]);
    let before = session.store().view().unwrap();
    let model_before = session.model().clone();
    let applied = session
        .store()
        .restore(&mut Source::whole(&stream))
        .unwrap();
    assert_eq!(
        session.store().durable_applied().unwrap(),
        applied,
        "durable on return"
    );
    model_before.compare_view(&*before).unwrap();
    drop(before);
    session.restored(model);
    if session.power_loss(0) {
        session.verify();
    }
    session.write(&numbered(0..3, 8));
    session.reopen();
}

/// After a refused stream the store shows what it held, or refuses to show anything; and a whole
/// stream restores it.
fn refuse(session: &Session, source: &mut Source<'_>, what: &str) {
    let refused = session.store().restore(source);
    assert!(refused.is_err(), "{what} was restored as {refused:?}");
    if session.store().view().is_ok() {
        session
            .compare()
            .unwrap_or_else(|reason| panic!("{what} left something: {reason}"));
    }
}

pub(super) fn damaged_stream_is_refused(factory: &dyn StateFactory) {
    let (model, stream) = filled(factory, 6);
    let mut session = Session::begin(factory);
    session.write(&numbered(0..10, 5));
    session.persist();
    for at in 0..stream.len() {
        let mut damaged = stream.clone();
        damaged[at] ^= 1 << (at % 8);
        refuse(
            &session,
            &mut Source::whole(&damaged),
            &format!("a flipped bit at {at}"),
        );
    }
    refuse(
        &session,
        &mut Source::whole(&vec![0; stream.len()]),
        "a stream of zeros",
    );
    session
        .store()
        .restore(&mut Source::whole(&stream))
        .unwrap();
    session.restored(model);
    session.reopen();
}

pub(super) fn cut_or_extended_stream_is_refused(factory: &dyn StateFactory) {
    let (model, stream) = filled(factory, 6);
    let mut session = Session::begin(factory);
    session.write(&numbered(0..10, 5));
    for len in (0..stream.len()).step_by(3).chain([stream.len() - 1]) {
        refuse(
            &session,
            &mut Source::whole(&stream[..len]),
            &format!("{len} bytes of it"),
        );
    }
    let longer = [&stream[..], b"x"].concat();
    refuse(&session, &mut Source::whole(&longer), "a longer stream");
    let twice = [&stream[..], &stream[..]].concat();
    refuse(&session, &mut Source::whole(&twice), "the stream twice");
    session
        .store()
        .restore(&mut Source {
            piece: 1,
            ..Source::whole(&stream)
        })
        .unwrap();
    session.restored(model);
}

pub(super) fn broken_source_is_refused_and_the_restore_repeated(factory: &dyn StateFactory) {
    let (model, stream) = filled(factory, 4000);
    let mut session = Session::begin(factory);
    session.write(&numbered(0..10, 5));
    session.persist();
    for part in 0..4 {
        let bytes = &stream[..stream.len() * part / 4];
        let mut source = Source {
            breaks: true,
            ..Source::whole(bytes)
        };
        refuse(
            &session,
            &mut source,
            &format!("a source that breaks after {part}/4"),
        );
    }
    // Nor does a life later know of the broken ones.
    session.kill();
    session
        .store()
        .restore(&mut Source::whole(&stream))
        .unwrap();
    session.restored(model);
    session.reopen();
}
