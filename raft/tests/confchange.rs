//! Configuration changes: the scripts, and sequences of changes against a model made of sets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod datadriven;
#[path = "support/progress.rs"]
mod progress;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use datadriven::Command;
use progress::shown;
use proptest::prelude::*;
use raftwerk_raft::confchange::{Changer, ConfChangeError, restore};
use raftwerk_raft::tracker::{Config, NodeMap, Progress, ProgressTracker};
use raftwerk_raft::{
    ConfChange, ConfChangeKind, ConfChangeStep, ConfChangeTransition, ConfState, LogIndex, NodeId,
};

type Changed = Result<(Config, NodeMap<Progress>), ConfChangeError>;

#[test]
fn scripts_give_the_expected_output() {
    let (own, extra) = (
        datadriven::own_scripts("confchange"),
        datadriven::extra_traces("confchange"),
    );
    for path in own.iter().chain(&extra) {
        let mut tracker = ProgressTracker::new(10, 0);
        let mut last_index = LogIndex::ZERO;
        datadriven::run_file(path, |command| {
            let out = handle(command, &mut tracker, last_index);
            last_index = last_index.next();
            out
        });
    }
    println!(
        "confchange scripts: {} of our own, {} more",
        own.len(),
        extra.len()
    );
}

fn handle(command: &Command, tracker: &mut ProgressTracker, last_index: LogIndex) -> String {
    let steps = steps(&command.input);
    let changer = Changer {
        tracker,
        last_index,
    };
    let changed = match command.cmd.as_str() {
        "simple" => changer.simple(&steps),
        "enter-joint" => changer.enter_joint(command.flag("autoleave"), &steps),
        "leave-joint" if !steps.is_empty() => return "this command takes no input\n".to_owned(),
        "leave-joint" => changer.leave_joint(),
        other => panic!("unknown command {other}"),
    };
    match changed {
        Err(error) => format!("{error}\n"),
        Ok((config, progress)) => {
            let mut out = format!("{config}\n");
            for (id, progress) in &progress {
                writeln!(out, "{id}: {}", shown(progress)).unwrap();
            }
            tracker.config = config;
            tracker.progress = progress;
            out
        }
    }
}

fn steps(text: &str) -> Vec<ConfChangeStep> {
    let step = |word: &str| {
        let (kind, id) = word.split_at(1);
        let kind = match kind {
            "v" => ConfChangeKind::AddVoter,
            "l" => ConfChangeKind::AddLearner,
            "r" => ConfChangeKind::Remove,
            "u" => ConfChangeKind::Update,
            _ => panic!("unknown step {word}"),
        };
        ConfChangeStep {
            kind,
            node: NodeId(id.parse().unwrap()),
        }
    };
    text.split_whitespace().map(step).collect()
}

fn ids(ids: &[u64]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

fn restored(conf_state: &ConfState) -> Changed {
    restore(&ProgressTracker::new(10, 0), LogIndex(7), conf_state)
}

/// Broken in one list.
fn with(list: fn(&mut ConfState) -> &mut Vec<NodeId>, members: &[u64]) -> ConfState {
    let mut conf_state = joint_state();
    *list(&mut conf_state) = ids(members);
    conf_state
}

fn joint_state() -> ConfState {
    ConfState {
        voters: ids(&[1, 2]),
        learners: ids(&[5]),
        voters_outgoing: ids(&[1, 3, 4]),
        learners_next: ids(&[4]),
        auto_leave: true,
    }
}

#[test]
fn restore_refuses_a_state_that_no_change_leads_to() {
    restored(&joint_state()).unwrap();
    let broken = [
        with(|state| &mut state.voters, &[2, 1]),
        with(|state| &mut state.voters, &[1, 1, 2]),
        with(|state| &mut state.voters, &[0, 1]),
        with(|state| &mut state.voters, &[1, 5]),
        with(|state| &mut state.voters, &[1, 4]),
        with(|state| &mut state.learners, &[0]),
        with(|state| &mut state.learners, &[3]),
        with(|state| &mut state.learners, &[4]),
        with(|state| &mut state.learners_next, &[6]),
        with(|state| &mut state.voters_outgoing, &[0, 1, 3, 4]),
        with(|state| &mut state.voters_outgoing, &[3, 1, 4]),
        with(|state| &mut state.voters_outgoing, &[1, 3]),
        with(|state| &mut state.voters_outgoing, &[]),
    ];
    for conf_state in broken {
        let error = restored(&conf_state).expect_err(&format!("{conf_state:?}"));
        assert_eq!(error, ConfChangeError::Unreachable, "{conf_state:?}");
    }
    let nobody = with(|state| &mut state.voters, &[]);
    assert_eq!(restored(&nobody), Err(ConfChangeError::RemovedAllVoters));
}

#[test]
fn restored_member_is_probed_and_counts_as_active() {
    let (config, progress) = restored(&ConfState {
        voters: ids(&[1, 10]),
        learners: ids(&[3]),
        ..ConfState::default()
    })
    .unwrap();
    assert_eq!(config.to_string(), "voters=(1 a) learners=(3)");
    let shown: Vec<String> = progress.values().map(shown).collect();
    assert_eq!(
        shown,
        [
            "StateProbe match=0 next=7",
            "StateProbe match=0 next=7 learner",
            "StateProbe match=0 next=7"
        ]
    );
}

#[test]
fn change_enters_a_joint_configuration_unless_it_is_one_step_without_a_wish() {
    use ConfChangeTransition::{Auto, JointExplicit, JointImplicit};
    let change = |transition, steps_text: &str| ConfChange {
        transition,
        steps: steps(steps_text),
        context: bytes::Bytes::from_static(b"context"),
    };
    assert_eq!(change(Auto, "v1").enter_joint(), None);
    assert_eq!(change(Auto, "").enter_joint(), None);
    assert_eq!(change(Auto, "v1 r2").enter_joint(), Some(true));
    assert_eq!(change(JointImplicit, "v1").enter_joint(), Some(true));
    assert_eq!(change(JointExplicit, "v1").enter_joint(), Some(false));
    assert_eq!(change(JointExplicit, "v1 r2").enter_joint(), Some(false));
    assert!(change(Auto, "").leave_joint());
    assert!(!change(Auto, "v1").leave_joint());
    assert!(!change(JointExplicit, "").leave_joint());
}

#[test]
fn broken_tracker_is_refused_before_anything_is_changed() {
    let state = ConfState {
        voters: ids(&[1, 2]),
        learners: ids(&[3]),
        ..ConfState::default()
    };
    let (config, progress) = restored(&state).unwrap();
    let refused = |break_it: &dyn Fn(&mut ProgressTracker)| {
        let mut tracker = ProgressTracker::new(10, 0);
        (tracker.config, tracker.progress) = (config.clone(), progress.clone());
        break_it(&mut tracker);
        let changer = Changer {
            tracker: &tracker,
            last_index: LogIndex(9),
        };
        changer.simple(&steps("v4")).unwrap_err().to_string()
    };
    let three = NodeId(3);
    assert_eq!(
        refused(&|t| drop(t.progress.remove(&three))),
        "no progress for 3"
    );
    assert_eq!(
        refused(&|t| t.progress.get_mut(&three).unwrap().is_learner = false),
        "3 is in Learners, but is not marked as learner"
    );
    assert_eq!(
        refused(&|t| t.config.voters.incoming.0.extend([three])),
        "3 is in Learners and Voters[0]"
    );
    assert_eq!(
        refused(&|t| t.config.voters.outgoing.0.extend([three])),
        "3 is in Learners and Voters[1]"
    );
    assert_eq!(
        refused(&|t| t.config.learners_next.extend([three])),
        "3 is in LearnersNext, but not Voters[1]"
    );
    assert_eq!(
        refused(&|t| {
            t.config.voters.outgoing.0.insert(NodeId(2));
            t.config.learners_next.insert(NodeId(2));
            t.progress.get_mut(&NodeId(2)).unwrap().is_learner = true;
        }),
        "2 is in LearnersNext, but is already marked as learner"
    );
    assert_eq!(
        refused(&|t| t.config.auto_leave = true),
        "AutoLeave must be false when not joint"
    );
}

/// What a member is, in each half and behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    incoming: BTreeSet<NodeId>,
    outgoing: BTreeSet<NodeId>,
    /// Those who shall learn once nothing makes them vote.
    learning: BTreeSet<NodeId>,
    auto_leave: bool,
}

impl Model {
    fn conf_state(&self) -> ConfState {
        let list = |set: BTreeSet<NodeId>| set.into_iter().collect();
        ConfState {
            voters: list(self.incoming.clone()),
            learners: list(&self.learning - &self.outgoing),
            voters_outgoing: list(self.outgoing.clone()),
            learners_next: list(&self.learning & &self.outgoing),
            auto_leave: self.auto_leave,
        }
    }

    fn apply(&mut self, steps: &[ConfChangeStep]) {
        for ConfChangeStep { kind, node } in steps {
            if *node == NodeId::ZERO || *kind == ConfChangeKind::Update {
                continue;
            }
            self.incoming.remove(node);
            self.learning.remove(node);
            match kind {
                ConfChangeKind::AddVoter => self.incoming.extend([node]),
                ConfChangeKind::AddLearner => self.learning.extend([node]),
                ConfChangeKind::Remove | ConfChangeKind::Update => {}
            }
        }
    }

    /// The next model, or none if the change is not allowed.
    fn change(&self, change: &Change) -> Option<Self> {
        let mut next = self.clone();
        let joint = !self.outgoing.is_empty();
        match change {
            Change::Simple(steps) => {
                next.apply(steps);
                let moved = self.incoming.symmetric_difference(&next.incoming).count();
                (!joint && moved <= 1 && !next.incoming.is_empty()).then_some(next)
            }
            Change::Enter(auto_leave, steps) => {
                next.outgoing = self.incoming.clone();
                next.auto_leave = *auto_leave;
                next.apply(steps);
                (!joint && !self.incoming.is_empty() && !next.incoming.is_empty()).then_some(next)
            }
            Change::Leave => {
                next.outgoing.clear();
                next.auto_leave = false;
                joint.then_some(next)
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Change {
    Simple(Vec<ConfChangeStep>),
    Enter(bool, Vec<ConfChangeStep>),
    Leave,
}

impl Change {
    fn removes(&self, id: NodeId) -> bool {
        match self {
            Self::Simple(steps) | Self::Enter(_, steps) => steps
                .iter()
                .any(|step| step.kind == ConfChangeKind::Remove && step.node == id),
            Self::Leave => false,
        }
    }
}

fn any_steps(count: usize) -> impl Strategy<Value = Vec<ConfChangeStep>> {
    let kind = prop_oneof![
        3 => Just(ConfChangeKind::AddVoter),
        2 => Just(ConfChangeKind::AddLearner),
        2 => Just(ConfChangeKind::Remove),
        1 => Just(ConfChangeKind::Update),
    ];
    let step = (kind, 0..6_u64).prop_map(|(kind, id)| ConfChangeStep {
        kind,
        node: NodeId(id),
    });
    prop::collection::vec(step, 0..=count)
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => any_steps(3).prop_map(Change::Simple),
        2 => (any::<bool>(), any_steps(5)).prop_map(|(auto, steps)| Change::Enter(auto, steps)),
        2 => Just(Change::Leave),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn sequence_of_changes_follows_the_set_model(
        changes in prop::collection::vec(any_change(), 1..20),
    ) {
        let mut tracker = ProgressTracker::new(10, 0);
        let mut model = Model::default();
        for (last_index, change) in changes.iter().enumerate() {
            let last_index = LogIndex(last_index as u64);
            let changer = Changer { tracker: &tracker, last_index };
            let changed = match change {
                Change::Simple(steps) => changer.simple(steps),
                Change::Enter(auto_leave, steps) => changer.enter_joint(*auto_leave, steps),
                Change::Leave => changer.leave_joint(),
            };
            let next = model.change(change);
            prop_assert_eq!(changed.is_ok(), next.is_some(), "{:?} of {:?}", changed, change);
            if let (Ok((config, progress)), Some(next)) = (changed, next) {
                // Who stays keeps its progress; who is new, or goes and comes, begins anew.
                for (id, kept) in &progress {
                    let before = tracker.progress.get(id);
                    if let Some(before) = before.filter(|_| !change.removes(*id)) {
                        prop_assert_eq!(kept.next, before.next);
                    } else {
                        let fresh = last_index.max(LogIndex(1));
                        let kept_by_outgoing = before.is_some_and(|p| p.next == kept.next);
                        prop_assert!(kept.next == fresh || kept_by_outgoing);
                        prop_assert!(kept.recent_active);
                    }
                }
                (tracker.config, tracker.progress, model) = (config, progress, next);
            }
            prop_assert_eq!(tracker.conf_state(), model.conf_state());
            let members: BTreeSet<NodeId> =
                &(&model.incoming | &model.outgoing) | &model.learning;
            prop_assert_eq!(tracker.progress.keys().copied().collect::<BTreeSet<_>>(), members);
            for (id, progress) in &tracker.progress {
                prop_assert_eq!(progress.is_learner, tracker.config.learners.contains(id));
            }
            // What is stored leads back to the same configuration.
            let (config, progress) = restored(&tracker.conf_state()).unwrap();
            prop_assert_eq!(&config, &tracker.config);
            prop_assert!(progress.keys().eq(tracker.progress.keys()));
        }
    }
}
