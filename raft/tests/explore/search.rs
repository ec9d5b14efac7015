//! The search, level by level. Two threads work out what follows from each state; what they found
//! is taken in order, so that every run finds the same.

use std::collections::{HashMap, HashSet};
use std::hash::Hash as _;
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::{Arc, RwLock};

use raftwerk_raft::{Message, NodeId};

use super::member::{Input, Member, View, hash_of, outcome};
use super::promises::History;
use super::scope::{Budget, Scope};

type Key = u64;

/// States that are expanded at once.
const BATCH: usize = 8192;

/// A member, and what is seen of it.
pub(crate) struct Stored {
    pub(crate) member: Member,
    pub(crate) view: View,
}

/// What an input made of a member.
struct Move {
    member: Key,
    sent: Vec<Key>,
    votes: Vec<(u8, u8)>,
}

/// Or which promise that broke.
type Moved = Result<Arc<Move>, String>;

/// Everything about the cluster. Members and messages stand for themselves by their keys, and the
/// messages under way are sorted: in which order they were sent says nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    members: [Key; 3],
    network: Vec<Key>,
    budget: Budget,
    history: History,
}

/// A step from one state to the next.
#[derive(Clone, Copy, Debug)]
enum Action {
    On(usize, Input),
    Deliver(Key),
    /// Delivered, and still under way.
    Duplicate(Key),
    /// Lost, of which the sender is told.
    Drop(Key),
}

/// What an exploration saw.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) states: usize,
    /// Steps from the beginning to the farthest state.
    pub(crate) depth: usize,
    /// There is nothing else in this scope.
    pub(crate) complete: bool,
    /// The first broken promise, and the shortest way there.
    pub(crate) violation: Option<(String, Vec<String>)>,
}

pub(crate) struct Explorer {
    scope: Scope,
    members: RwLock<HashMap<Key, Arc<Stored>>>,
    messages: RwLock<HashMap<Key, Arc<Message>>>,
    moves: RwLock<HashMap<(Key, Key), Moved>>,
}

type Found = Result<State, String>;

impl Explorer {
    pub(crate) fn new(scope: Scope) -> Self {
        Self {
            scope,
            members: RwLock::default(),
            messages: RwLock::default(),
            moves: RwLock::default(),
        }
    }

    fn intern(&self, member: Member) -> Key {
        let key = member.key();
        if !self.members.read().unwrap().contains_key(&key) {
            let view = member.view();
            let stored = Arc::new(Stored { member, view });
            self.members.write().unwrap().insert(key, stored);
        }
        key
    }

    fn member(&self, key: Key) -> Arc<Stored> {
        Arc::clone(&self.members.read().unwrap()[&key])
    }

    fn message(&self, key: Key) -> Arc<Message> {
        Arc::clone(&self.messages.read().unwrap()[&key])
    }

    fn intern_message(&self, message: Message) -> Key {
        let key = hash_of(&format!("{message:?}"));
        let mut messages = self.messages.write().unwrap();
        messages.entry(key).or_insert_with(|| Arc::new(message));
        key
    }

    /// What `input` makes of `member`: worked out the first time it is asked for.
    fn moved(&self, member: Key, input: Result<Input, Key>) -> Moved {
        let key = (member, hash_of(&input));
        if let Some(known) = self.moves.read().unwrap().get(&key) {
            return known.clone();
        }
        let message = input.err().map(|key| self.message(key));
        let input = input.map_err(|_| message.as_deref().unwrap());
        let result = outcome(&self.scope, &self.member(member).member, input);
        let result = result.map(|outcome| {
            let sent = outcome.sent.into_iter();
            Arc::new(Move {
                member: self.intern(outcome.member),
                sent: sent.map(|message| self.intern_message(message)).collect(),
                votes: outcome.votes,
            })
        });
        self.moves.write().unwrap().insert(key, result.clone());
        result
    }

    fn start(&self) -> State {
        let ids: [u8; 3] = [1, 2, 3];
        let members = ids.map(|id| {
            let (log, term, vote) = self.scope.disks[usize::from(id) - 1];
            self.intern(Member::new(&self.scope, id, log, term, vote))
        });
        let history = History::new(self.scope.leaders);
        let mut state = State {
            members,
            network: Vec::new(),
            budget: self.scope.budget,
            history,
        };
        if let Some(first) = self.scope.electorate.first() {
            state.budget.timeouts += 1;
            state = self.elected(state, usize::from(*first) - 1);
        }
        state
    }

    /// `first` wins an election; perhaps everything that follows from it arrives.
    fn elected(&self, state: State, first: usize) -> State {
        let takes_part = |id: NodeId| self.scope.electorate.iter().any(|n| u64::from(*n) == id.0);
        let mut state = self
            .after(&state, Action::On(first, Input::Timeout))
            .unwrap();
        loop {
            let leads = self.member(state.members[first]).view.leads;
            let writes = (0..3).find(|who| self.member(state.members[*who]).view.has_writes);
            let message = state.network.iter().copied().find(|key| {
                let message = self.message(*key);
                takes_part(message.from) && takes_part(message.to)
            });
            let action = match (writes, message) {
                _ if leads && !self.scope.settles => return state,
                (Some(who), _) => Action::On(who, Input::Sync),
                (None, Some(key)) => Action::Deliver(key),
                (None, None) => break,
            };
            state = self.after(&state, action).unwrap();
        }
        assert!(self.member(state.members[first]).view.leads);
        state
    }

    /// What can happen in `state`.
    fn actions(&self, state: &State) -> Vec<Action> {
        let mut actions = Vec::new();
        let budget = &state.budget;
        for (at, key) in state.network.iter().copied().enumerate() {
            if at > 0 && state.network[at - 1] == key {
                continue;
            }
            actions.push(Action::Deliver(key));
            if budget.duplicates > 0 {
                actions.push(Action::Duplicate(key));
            }
            if budget.drops > 0 {
                actions.push(Action::Drop(key));
            }
        }
        for who in 0..3 {
            let view = &self.member(state.members[who]).view;
            let on = |input| Action::On(who, input);
            if view.has_writes {
                actions.push(on(Input::Sync));
            }
            if budget.timeouts > 0 && !view.leads && view.term < self.scope.term_max {
                actions.push(on(Input::Timeout));
            }
            if budget.crashes > 0 {
                actions.push(on(Input::Crash));
            }
            if !view.leads {
                continue;
            }
            if budget.proposals > 0 {
                actions.push(on(Input::Propose));
            }
            if budget.beats > 0 {
                actions.push(on(Input::Beat));
            }
            if budget.removals > 0 {
                let ids = self.scope.removable.iter();
                actions.extend(ids.map(|id| on(Input::Remove(*id))));
            }
        }
        actions
    }

    fn after(&self, state: &State, action: Action) -> Found {
        let mut next = state.clone();
        let budget = &mut next.budget;
        let (who, input) = match action {
            Action::On(who, input) => {
                let spent = match input {
                    Input::Timeout => Some(&mut budget.timeouts),
                    Input::Propose => Some(&mut budget.proposals),
                    Input::Remove(_) => Some(&mut budget.removals),
                    Input::Beat => Some(&mut budget.beats),
                    Input::Crash => Some(&mut budget.crashes),
                    Input::Sync | Input::Lost(_) => None,
                };
                spent.into_iter().for_each(|count| *count -= 1);
                (who, Ok(input))
            }
            Action::Deliver(key) => (self.receiver(key), Err(key)),
            Action::Duplicate(key) => {
                budget.duplicates -= 1;
                (self.receiver(key), Err(key))
            }
            Action::Drop(key) => {
                budget.drops -= 1;
                let message = self.message(key);
                let lost = Input::Lost(u8::try_from(message.to.0).unwrap());
                (usize::try_from(message.from.0).unwrap() - 1, Ok(lost))
            }
        };
        if let Action::Deliver(key) | Action::Drop(key) = action {
            let at = next.network.binary_search(&key).unwrap();
            next.network.remove(at);
        }
        let before = self.member(state.members[who]);
        let moved = self.moved(state.members[who], input)?;
        next.members[who] = moved.member;
        for key in &moved.sent {
            let at = next.network.binary_search(key).unwrap_or_else(|at| at);
            next.network.insert(at, *key);
        }
        for (term, candidate) in &moved.votes {
            next.history.vote(who, *term, *candidate)?;
        }
        let views = next.members.map(|key| self.member(key));
        let members_stay = self.scope.budget.removals == 0;
        next.history
            .check(who, &before.view, &views, members_stay)?;
        Ok(next)
    }

    fn receiver(&self, key: Key) -> usize {
        usize::try_from(self.message(key).to.0).unwrap() - 1
    }

    /// Everything that follows from some states, in order.
    fn expand(&self, states: &[(u32, State)]) -> Vec<(u32, Action, Found)> {
        let mut found = Vec::new();
        for (from, state) in states {
            for action in self.actions(state) {
                found.push((*from, action, self.after(state, action)));
            }
        }
        found
    }

    fn expand_by_two(&self, states: &[(u32, State)]) -> Vec<(u32, Action, Found)> {
        let (left, right) = states.split_at(states.len() / 2);
        std::thread::scope(|scope| {
            let right = scope.spawn(|| self.expand(right));
            let mut found = self.expand(left);
            found.extend(right.join().unwrap());
            found
        })
    }

    /// Visits states until there are `states_max`, or no more, or a promise is broken.
    pub(crate) fn run(&self, states_max: usize) -> Report {
        let start = self.start();
        let mut seen = HashSet::from([digest(&start)]);
        // How each state was reached.
        let mut ways: Vec<(u32, Action)> = vec![(0, Action::Drop(0))];
        let mut level = vec![(0, start)];
        let mut depth = 0;
        let report = |ways: &Vec<_>, depth, complete, violation| Report {
            states: ways.len(),
            depth,
            complete,
            violation,
        };
        while !level.is_empty() {
            let mut next = Vec::new();
            for batch in level.chunks(BATCH) {
                for (from, action, found) in self.expand_by_two(batch) {
                    match found {
                        Ok(state) if seen.insert(digest(&state)) => {
                            next.push((u32::try_from(ways.len()).unwrap(), state));
                            ways.push((from, action));
                        }
                        Ok(_) => {}
                        Err(promise) => {
                            let way = self.way(&ways, from, action);
                            return report(&ways, depth + 1, false, Some((promise, way)));
                        }
                    }
                }
                if ways.len() >= states_max {
                    return report(&ways, depth + 1, false, None);
                }
            }
            depth += usize::from(!next.is_empty());
            level = next;
        }
        report(&ways, depth, true, None)
    }

    /// The steps from the beginning to `from`, and `last`.
    fn way(&self, ways: &[(u32, Action)], mut from: u32, last: Action) -> Vec<String> {
        let mut way = vec![self.words(last)];
        while from != 0 {
            let (before, action) = ways[usize::try_from(from).unwrap()];
            way.push(self.words(action));
            from = before;
        }
        way.reverse();
        way
    }

    fn words(&self, action: Action) -> String {
        match action {
            Action::On(who, input) => format!("{}: {input:?}", who + 1),
            Action::Deliver(key) => format!("deliver {:?}", self.message(key)),
            Action::Duplicate(key) => format!("deliver and keep {:?}", self.message(key)),
            Action::Drop(key) => format!("lose {:?}", self.message(key)),
        }
    }
}

/// Two numbers of 64 bits: among millions of states no two have both in common.
fn digest(state: &State) -> (u64, u64) {
    let mut second = DefaultHasher::new();
    second.write_u64(0x5851_f42d_4c95_7f2d);
    state.hash(&mut second);
    (hash_of(state), second.finish())
}
