//! Three members in one process agree on an entry: `cargo run --example three_nodes`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::ops::Range;
use std::sync::Mutex;

use raftwerk_raft::*;

/// A log in memory, durable as soon as it is written.
#[derive(Default)]
pub struct Log(Mutex<Vec<Entry>>);

impl LogReader for Log {
    fn first(&self) -> LogIndex {
        LogIndex(1)
    }
    fn last(&self) -> LogId {
        let log = self.0.lock().unwrap();
        log.last().map_or(LogId::ZERO, |entry| entry.id)
    }
    fn term(&self, index: LogIndex) -> Result<Term, LogError> {
        let before = index.0.checked_sub(1);
        let term = before.map(|before| self.0.lock().unwrap()[before as usize].term());
        Ok(term.unwrap_or_default())
    }
    fn entries(&self, r: Range<LogIndex>, max: u64, to: &mut Vec<Entry>) -> Result<(), LogError> {
        self.read(r, max).map(|found| to.extend(found))
    }
    fn read(&self, range: Range<LogIndex>, _max: u64) -> Result<Vec<Entry>, LogError> {
        let places = range.start.0 as usize - 1..range.end.0 as usize - 1;
        Ok(self.0.lock().unwrap()[places].to_vec())
    }
}

/// A member, and what it has applied.
pub type Member = (RawNode<Log>, Vec<Entry>);

pub fn member(id: u64) -> Member {
    let mut config = Config::new(NodeId(id), id);
    config.synchronous = true;
    let mut restart = Restart::default();
    restart.conf_state.voters = (1..=3).map(NodeId).collect();
    let node = RawNode::new(config, restart, Log::default());
    (node.unwrap(), Vec::new())
}

/// Does what a member asks for, and hands messages over until nobody has one.
pub fn settle(members: &mut [Member; 3]) {
    let mut mail = Vec::new();
    while members.iter().any(|(node, _)| node.has_ready()) {
        for (node, applied) in members.iter_mut() {
            let ready = node.ready();
            mail.extend(ready.messages);
            if let Some(persist) = ready.persist {
                let mut log = node.log().0.lock().unwrap();
                let first = persist.entries.first().map(Entry::index);
                log.truncate(first.map_or(usize::MAX, |first| first.0 as usize - 1));
                log.extend(persist.entries); // a real log writes persist.hard_state too, and syncs
                mail.extend(persist.messages);
            }
            applied.extend(ready.committed);
            node.advance();
        }
        for message in mail.drain(..) {
            let _ = members[message.to.0 as usize - 1].0.step(message);
        }
    }
}

fn main() {
    let mut members = [member(1), member(2), member(3)];
    members[0].0.campaign();
    settle(&mut members);
    members[0].0.propose("hello".into()).unwrap();
    settle(&mut members);
    for (node, applied) in &members {
        println!("{} ({}) {applied:?}", node.id(), node.role());
    }
}
