//! What a group tells about itself: its status, and a bounded stream of events.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use raftwerk_raft::{ConfState, GroupId, LogId, LogIndex, Loss, NodeId, Role, Term};

use crate::member::MemberTable;
use crate::oneshot::block_on;

/// A group on this host at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupStatus {
    /// The group.
    pub group: GroupId,
    /// This host.
    pub node: NodeId,
    /// What this member does.
    pub role: Role,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// Its term.
    pub term: Term,
    /// The highest index known to be committed.
    pub commit: LogIndex,
    /// The last entry that the state machine has applied.
    pub applied: LogId,
    /// The first index of the log.
    pub first: LogIndex,
    /// The last entry of the log.
    pub last: LogId,
    /// What the newest snapshot covers.
    pub snapshot: Option<LogId>,
    /// The configuration in force.
    pub conf_state: ConfState,
    /// The member table.
    pub members: MemberTable,
    /// At the leader: how far each other member is, as of the last tick.
    pub peers: Vec<PeerStatus>,
    /// Proposals and reads that wait for an answer.
    pub pending: usize,
    /// The log has no room: reads go on, proposals are answered busy until it has.
    pub log_full: bool,
    /// How it is.
    pub health: Health,
    /// What this member's disk lost and has not been made good. Its text says what to do.
    pub loss: Option<Loss>,
    /// This member neither asks for votes nor grants any, because of that.
    pub voteless: bool,
    /// It has asked its leader for a snapshot that replaces its state, and waits for it.
    pub replacing: bool,
}

/// How far one peer of a leader is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerStatus {
    /// The peer.
    pub id: NodeId,
    /// The last index that it is known to hold.
    pub matched: LogIndex,
    /// It receives the log and has no vote.
    pub learner: bool,
    /// It was heard of within the last election timeout.
    pub active: bool,
    /// It is being sent a snapshot that covers this index.
    pub snapshot: Option<LogIndex>,
}

/// How a group is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It works.
    #[default]
    Running,
    /// A snapshot of a peer is being installed: the state machine is not to be read.
    Installing,
    /// It has stopped for good on this host.
    Halted {
        /// Why, and what to do.
        cause: Arc<str>,
    },
    /// It was stopped with its host.
    Stopped,
}

/// Something that happened to a group on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupEvent {
    /// Another leader, another role, or a new term.
    Leadership {
        /// Who leads, as far as this member knows.
        leader: Option<NodeId>,
        /// What this member does.
        role: Role,
        /// Its term.
        term: Term,
    },
    /// The configuration changed.
    Membership {
        /// The one in force.
        conf_state: ConfState,
    },
    /// A snapshot was taken here and recorded in the log.
    SnapshotTaken {
        /// What it covers.
        last: LogId,
    },
    /// A peer's snapshot replaced the state.
    SnapshotInstalled {
        /// What it covers.
        last: LogId,
    },
    /// The group has halted.
    Halted {
        /// Why, and what to do.
        cause: Arc<str>,
    },
    /// The subscriber was slow: this many events before the next one are lost.
    Missed {
        /// How many.
        count: u64,
    },
}

/// Events that wait for one slow subscriber before the oldest is dropped.
const EVENTS_MAX: usize = 256;

#[derive(Default)]
struct EventQueue {
    waiting: VecDeque<GroupEvent>,
    missed: u64,
    ended: bool,
    waker: Option<Waker>,
}

/// A subscription to a group's events; see [`crate::Group::events`]. Dropping it ends it.
pub struct Events {
    queue: Arc<Mutex<EventQueue>>,
}

impl Events {
    /// The next event; `None` when the group was stopped and no more will come.
    pub fn recv(&mut self) -> NextEvent<'_> {
        NextEvent { events: self }
    }

    /// The next event if one waits.
    pub fn try_recv(&mut self) -> Option<GroupEvent> {
        take(&mut self.queue.lock())
    }
}

fn take(queue: &mut EventQueue) -> Option<GroupEvent> {
    match std::mem::take(&mut queue.missed) {
        0 => queue.waiting.pop_front(),
        count => Some(GroupEvent::Missed { count }),
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}

/// The future of [`Events::recv`].
#[derive(Debug)]
pub struct NextEvent<'a> {
    events: &'a mut Events,
}

impl NextEvent<'_> {
    /// Blocks the thread until there is an event, or there will be none.
    #[must_use]
    pub fn wait(self) -> Option<GroupEvent> {
        block_on(self)
    }
}

impl Future for NextEvent<'_> {
    type Output = Option<GroupEvent>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut queue = self.events.queue.lock();
        if let Some(event) = take(&mut queue) {
            return Poll::Ready(Some(event));
        }
        if queue.ended {
            return Poll::Ready(None);
        }
        queue.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

/// The future of [`crate::Group::until`]. Dropping it ends the wait.
#[must_use]
pub struct Until {
    shared: Arc<Shared>,
    wanted: Box<dyn Fn(&GroupStatus) -> bool + Send>,
    place: Option<u64>,
}

impl Until {
    /// Blocks the thread until the status is as wanted, or the group was stopped.
    #[must_use]
    pub fn wait(self) -> Option<GroupStatus> {
        block_on(self)
    }
}

impl Future for Until {
    type Output = Option<GroupStatus>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Leaves the waker before it looks: what changes after the look wakes.
        let (place, status) = self.shared.watch(self.place, context.waker());
        self.place = Some(place);
        if (self.wanted)(&status) {
            Poll::Ready(Some(status))
        } else if status.health == Health::Stopped {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Until {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.shared.board.lock().watchers.remove(&place);
        }
    }
}

impl fmt::Debug for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Until")
    }
}

/// The status, and who waits for it to change.
#[derive(Default)]
struct Board {
    status: GroupStatus,
    /// At most one for each [`Until`].
    watchers: BTreeMap<u64, Waker>,
    places: u64,
}

/// What the run loop writes and the handles read.
#[derive(Default)]
pub(crate) struct Shared {
    board: Mutex<Board>,
    subscribers: Mutex<Vec<Weak<Mutex<EventQueue>>>>,
}

impl Shared {
    pub(crate) fn status(&self) -> GroupStatus {
        self.board.lock().status.clone()
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&GroupStatus) -> T) -> T {
        read(&self.board.lock().status)
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut GroupStatus)) {
        let watchers = {
            let mut board = self.board.lock();
            change(&mut board.status);
            std::mem::take(&mut board.watchers)
        };
        watchers.into_values().for_each(Waker::wake);
    }

    /// Has `waker` woken by the next change, and gives the place that it waits at.
    fn watch(&self, place: Option<u64>, waker: &Waker) -> (u64, GroupStatus) {
        let mut board = self.board.lock();
        let place = place.unwrap_or_else(|| {
            board.places = board.places.wrapping_add(1);
            board.places
        });
        board.watchers.insert(place, waker.clone());
        (place, board.status.clone())
    }

    pub(crate) fn until(
        self: &Arc<Self>,
        wanted: impl Fn(&GroupStatus) -> bool + Send + 'static,
    ) -> Until {
        Until {
            shared: Arc::clone(self),
            wanted: Box::new(wanted),
            place: None,
        }
    }

    pub(crate) fn subscribe(&self) -> Events {
        let queue = Arc::new(Mutex::new(EventQueue::default()));
        let ended = self.read(|status| status.health == Health::Stopped);
        queue.lock().ended = ended;
        let mut subscribers = self.subscribers.lock();
        subscribers.retain(|subscriber| subscriber.strong_count() > 0);
        subscribers.push(Arc::downgrade(&queue));
        drop(subscribers);
        Events { queue }
    }

    pub(crate) fn tell(&self, event: &GroupEvent) {
        self.wake(|queue| {
            if queue.waiting.len() >= EVENTS_MAX {
                queue.waiting.pop_front();
                queue.missed = queue.missed.saturating_add(1);
            }
            queue.waiting.push_back(event.clone());
        });
    }

    /// The group is gone: subscribers learn it after what still waits.
    pub(crate) fn end(&self) {
        self.update(|status| status.health = Health::Stopped);
        self.wake(|queue| queue.ended = true);
    }

    fn wake(&self, change: impl Fn(&mut EventQueue)) {
        let mut wakers = Vec::new();
        self.subscribers.lock().retain(|subscriber| {
            let Some(queue) = subscriber.upgrade() else {
                return false;
            };
            let mut queue = queue.lock();
            change(&mut queue);
            wakers.extend(queue.waker.take());
            true
        });
        wakers.into_iter().for_each(Waker::wake);
    }
}
