//! What a state store holds, as plainly as it can be said.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use raftwerk_raft::{LogId, ScanOrder, StateOp, StateStore, View};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StateModel {
    pub(super) map: BTreeMap<Bytes, Bytes>,
    pub(super) applied: LogId,
}

impl StateModel {
    pub(super) fn write(&mut self, ops: &[StateOp], applied: LogId) {
        for op in ops {
            match op {
                StateOp::Put { key, value } => {
                    self.map.insert(key.clone(), value.clone());
                }
                StateOp::Delete { key } => {
                    self.map.remove(key);
                }
                StateOp::DeleteRange { start, end } => {
                    self.map.retain(|key, _| key < start || key >= end);
                }
            }
        }
        self.applied = applied;
    }

    /// Compares what the store shows now.
    pub(super) fn compare(&self, store: &dyn StateStore) -> Result<(), String> {
        let view = store.view().map_err(|error| format!("view: {error}"))?;
        self.compare_view(&*view)
    }

    pub(super) fn compare_view(&self, view: &dyn View) -> Result<(), String> {
        if view.applied() != self.applied {
            return Err(format!(
                "applied is {}, not {}",
                view.applied(),
                self.applied
            ));
        }
        let found = everything(view);
        let wanted: Vec<(Bytes, Bytes)> = self.map.clone().into_iter().collect();
        if found != wanted {
            let different = found.iter().zip(&wanted).find(|(one, other)| one != other);
            let mut text = format!(
                "{} keys, not {}; the first that differ: {different:?}",
                found.len(),
                wanted.len()
            );
            text.truncate(600);
            return Err(text);
        }
        for (key, value) in self.map.iter().step_by(1 + self.map.len() / 20) {
            let found = view.get(key).map_err(|error| format!("get: {error}"))?;
            if found.as_ref() != Some(value) {
                return Err(format!("get of {key:?} disagrees with the scan"));
            }
        }
        Ok(())
    }
}

/// All keys and values, ascending.
pub(super) fn everything(view: &dyn View) -> Vec<(Bytes, Bytes)> {
    scan(
        view,
        Bound::Unbounded,
        Bound::Unbounded,
        ScanOrder::Ascending,
    )
}

pub(super) fn scan(
    view: &dyn View,
    from: Bound<&[u8]>,
    to: Bound<&[u8]>,
    order: ScanOrder,
) -> Vec<(Bytes, Bytes)> {
    let mut found = Vec::new();
    view.scan((from, to), order, &mut |key, value| {
        found.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        ControlFlow::Continue(())
    })
    .expect("scan");
    found
}
