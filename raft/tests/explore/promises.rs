//! What must hold in every state (Raft paper, figure 3), and the history that it speaks of.

use std::sync::Arc;

use raftwerk_raft::{ConfState, NodeId};

use super::member::View;
use super::search::Stored;

const TERMS: usize = 6;
const ENTRIES: usize = 8;

/// What has happened on the way to a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct History {
    /// Who led each term.
    leaders: [u8; TERMS],
    /// To whom each member gave its vote in each term.
    votes: [[u8; TERMS]; 3],
    /// The term of each committed entry, and the term of the leader that committed it.
    committed: [(u8, u8); ENTRIES],
}

impl History {
    pub(crate) fn new(leaders: &[(u8, u8)]) -> Self {
        let mut history = Self::default();
        for (term, leader) in leaders {
            history.leaders[usize::from(*term)] = *leader;
        }
        history
    }

    /// A member votes once a term, also across restarts.
    pub(crate) fn vote(&mut self, who: usize, term: u8, candidate: u8) -> Result<(), String> {
        let vote = &mut self.votes[who][usize::from(term)];
        if *vote != 0 && *vote != candidate {
            let who = who + 1;
            return Err(format!("{who} voted twice in term {term}"));
        }
        *vote = candidate;
        Ok(())
    }

    /// Member `who` is now as `views` say; before, it was `before`.
    pub(crate) fn check(
        &mut self,
        who: usize,
        before: &View,
        views: &[Arc<Stored>; 3],
        members_stay: bool,
    ) -> Result<(), String> {
        let view = &views[who].view;
        if view.leads && !(before.leads && before.term == view.term) {
            self.leads(who, view)?;
        }
        let led = view.leads || before.leads;
        let news = self.commits(who, view, led)?;
        let all = [&views[0].view, &views[1].view, &views[2].view];
        if news {
            // What was committed may be a change that is in force already.
            self.has_quorum(view.commit, &before.conf, &all)
                .or_else(|_| self.has_quorum(view.commit, &view.conf, &all))?;
        }
        for (other, theirs) in all.iter().enumerate() {
            if other != who {
                log_matching(view, theirs)?;
            }
        }
        if view.applied.len() > view.disk.len() {
            return Err("an entry is applied and not on the disk".to_owned());
        }
        for (position, term) in view.applied.iter().enumerate() {
            if self.committed[position].0 != *term {
                let index = position + 1;
                return Err(format!(
                    "state machine safety: {index} is applied differently"
                ));
            }
        }
        if members_stay {
            self.stays_durable(&all)?;
        }
        Ok(())
    }

    /// Election safety and leader completeness.
    fn leads(&mut self, who: usize, view: &View) -> Result<(), String> {
        let id = u8::try_from(who + 1).unwrap();
        let leader = &mut self.leaders[usize::from(view.term)];
        if *leader != 0 && *leader != id {
            return Err(format!(
                "election safety: two leaders in term {}",
                view.term
            ));
        }
        *leader = id;
        for (position, (term, known_in)) in self.committed.iter().enumerate() {
            let has = view.log.get(position).map(|entry| entry.0);
            if *term != 0 && *known_in < view.term && has != Some(*term) {
                let index = position + 1;
                return Err(format!(
                    "leader completeness: {id} leads term {} without entry {index}",
                    view.term
                ));
            }
        }
        Ok(())
    }

    /// What is committed stays, and leaders alone commit. True when something is.
    fn commits(&mut self, who: usize, view: &View, led: bool) -> Result<bool, String> {
        let mut news = false;
        for position in 0..view.commit {
            let (term, _) = view.log[position];
            let known = &mut self.committed[position];
            if known.0 == 0 {
                if !led {
                    let who = who + 1;
                    return Err(format!("{who} knows of a commit that no leader has made"));
                }
                *known = (term, view.term);
                news = true;
            } else if known.0 != term {
                let index = position + 1;
                return Err(format!("committed entry {index} was replaced"));
            }
        }
        Ok(news)
    }

    /// A leader commits what a quorum has on its disks.
    fn has_quorum(&self, commit: usize, conf: &ConfState, all: &[&View; 3]) -> Result<(), String> {
        for half in [&conf.voters, &conf.voters_outgoing] {
            let has = |id: &&NodeId| {
                let disk = &all[usize::try_from(id.0).unwrap() - 1].disk;
                self.is_durable(disk, commit - 1)
            };
            let count = half.iter().filter(has).count();
            if !half.is_empty() && count <= half.len() / 2 {
                return Err(format!("entry {commit} is committed and on {count} disks"));
            }
        }
        Ok(())
    }

    fn is_durable(&self, disk: &[u8], position: usize) -> bool {
        disk.get(position) == Some(&self.committed[position].0)
    }

    /// As long as the members stay the same a quorum keeps what is committed.
    fn stays_durable(&self, all: &[&View; 3]) -> Result<(), String> {
        for (position, (term, _)) in self.committed.iter().enumerate() {
            let count = all
                .iter()
                .filter(|view| self.is_durable(&view.disk, position));
            let count = count.count();
            if *term != 0 && count < 2 {
                let index = position + 1;
                return Err(format!("committed entry {index} is left on {count} disks"));
            }
        }
        Ok(())
    }
}

/// Two logs that have an entry of one term at one index agree up to there.
fn log_matching(ours: &View, theirs: &View) -> Result<(), String> {
    let mut pairs = ours.log.iter().zip(&theirs.log);
    let Some(last) = pairs.rposition(|(ours, theirs)| ours.0 == theirs.0) else {
        return Ok(());
    };
    if ours.log[..=last] == theirs.log[..=last] {
        return Ok(());
    }
    Err(format!(
        "log matching: logs differ before entry {}",
        last + 1
    ))
}
