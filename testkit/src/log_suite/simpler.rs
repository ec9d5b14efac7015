//! Random steps made simpler, and batches said in few words.

use raftwerk_raft::{Durability, GroupWrite, SnapshotMeta, WriteBatch};

use super::random::{Append, Change, Step};

/// Ways to say less with a step, the shortest first.
pub(super) fn simpler(step: &Step) -> Vec<Step> {
    match step {
        Step::Write { changes, lazy } => {
            let mut ways: Vec<Step> = fewer(changes)
                .into_iter()
                .map(|changes| write(changes, *lazy))
                .collect();
            ways.extend(lazy.then(|| write(changes.clone(), false)));
            ways
        }
        Step::Wait => Vec::new(),
        Step::Reopen => vec![Step::Wait],
        Step::Kill => vec![Step::Reopen],
        Step::PowerLoss(0) => vec![Step::Kill],
        Step::PowerLoss(_) => vec![Step::Kill, Step::PowerLoss(0)],
    }
}

fn write(changes: Vec<Change>, lazy: bool) -> Step {
    Step::Write { changes, lazy }
}

fn fewer(changes: &[Change]) -> Vec<Vec<Change>> {
    let mut ways = Vec::new();
    let without = |at: usize| {
        let mut rest = changes.to_vec();
        rest.remove(at);
        rest
    };
    if changes.len() > 1 {
        ways.extend((0..changes.len()).map(without));
    }
    for (at, change) in changes.iter().enumerate() {
        ways.extend(change.simpler().into_iter().map(|simple| {
            let mut changes = changes.to_vec();
            changes[at] = simple;
            changes
        }));
    }
    ways
}

impl Change {
    fn simpler(&self) -> Vec<Self> {
        let mut ways = Vec::new();
        let mut add = |applies: bool, edit: &dyn Fn(&mut Self)| {
            let mut simple = self.clone();
            edit(&mut simple);
            ways.extend(applies.then_some(simple));
        };
        add(self.destroy, &|change| change.destroy = false);
        add(self.reset.is_some(), &|change| change.reset = None);
        add(self.snapshot.is_some(), &|change| change.snapshot = None);
        add(self.append.is_some(), &|change| change.append = None);
        add(self.hard_state.is_some(), &|change| {
            change.hard_state = None
        });
        add(self.compact.is_some(), &|change| change.compact = None);
        add(!self.meta.is_empty(), &|change| {
            change.meta.pop();
        });
        let below = |value: Option<u64>| value.filter(|value| *value > 0);
        add(below(self.reset).is_some(), &|change| {
            change.reset = Some(0)
        });
        add(below(self.hard_state).is_some(), &|change| {
            change.hard_state = Some(0);
        });
        for append in self.append.iter().flat_map(Append::simpler) {
            ways.push(Self {
                append: Some(append),
                ..self.clone()
            });
        }
        ways
    }
}

impl Append {
    fn simpler(&self) -> Vec<Self> {
        let ways = [
            (self.count > 1).then(|| Self {
                count: 1,
                ..self.clone()
            }),
            (self.count > 1).then(|| Self {
                count: self.count - 1,
                ..self.clone()
            }),
            (self.back > 0).then(|| Self {
                back: 0,
                ..self.clone()
            }),
            (self.back > 1).then(|| Self {
                back: self.back - 1,
                ..self.clone()
            }),
            self.new_term.then(|| Self {
                new_term: false,
                ..self.clone()
            }),
            (self.len_max > 0).then(|| Self {
                len_max: 0,
                ..self.clone()
            }),
        ];
        ways.into_iter().flatten().collect()
    }
}

/// What a batch does, without its payload.
pub(super) fn describe(batch: &WriteBatch) -> String {
    let how = match batch.durability {
        Durability::Sync => "submit",
        Durability::Lazy => "submit lazily",
    };
    let groups: Vec<String> = batch.groups.iter().map(describe_step).collect();
    format!("{how} {}", groups.join("; "))
}

fn describe_step(write: &GroupWrite) -> String {
    let mut parts = Vec::new();
    parts.extend(write.destroy.then(|| "destroy".to_owned()));
    let at = |what: &str, meta: &SnapshotMeta| format!("{what} {}", meta.last);
    parts.extend(write.reset_to.iter().map(|meta| at("reset to", meta)));
    parts.extend(write.snapshot.iter().map(|meta| at("snapshot", meta)));
    if let (Some(first), Some(last)) = (write.append.first(), write.append.last()) {
        let bytes: usize = write.append.iter().map(|entry| entry.data.len()).sum();
        let (from, to, term) = (first.index(), last.index(), first.term());
        parts.push(format!(
            "append {from}..={to} of term {term} ({bytes} bytes)"
        ));
    }
    parts.extend(write.hard_state.iter().map(|state| {
        let vote = state.vote.map_or(0, |vote| vote.0);
        format!(
            "hard state term {} vote {vote} commit {}",
            state.term, state.commit
        )
    }));
    parts.extend(write.compact_to.iter().map(|to| format!("compact to {to}")));
    for (name, value) in &write.meta {
        let len = value.as_ref().map(|value| value.len());
        parts.push(match len {
            Some(len) => format!("set {name:?} ({len} bytes)"),
            None => format!("remove {name:?}"),
        });
    }
    format!("group {}: {}", write.group, parts.join(", "))
}
