//! How entries, messages and states are printed.

use std::fmt::Write as _;

use raftwerk_raft::codec::decode_conf_change;
use raftwerk_raft::{
    Body, ConfChangeKind, ConfState, Entry, EntryKind, Fate, ForwardOutcome, HardState, LogId,
    LogIndex, Message, NodeId, Persist, PersistAck, ReadState, SnapshotMeta, Standing, Term,
};

use super::output::kind_name;

/// A message on its way: a peer's, or what one of a member's storage threads has done.
#[derive(Clone, Debug)]
pub(crate) enum Wire {
    Peer(Message),
    Persisted {
        to: NodeId,
        ack: PersistAck,
        snapshot: Option<SnapshotMeta>,
    },
    Applied {
        to: NodeId,
        ack: raftwerk_raft::ApplyAck,
        entries: Vec<Entry>,
    },
}

impl Wire {
    pub(crate) fn to(&self) -> NodeId {
        match self {
            Self::Peer(message) => message.to,
            Self::Persisted { to, .. } | Self::Applied { to, .. } => *to,
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Peer(message) => kind_name(message.body.kind()),
            Self::Persisted { .. } => "MsgStorageAppendResp",
            Self::Applied { .. } => "MsgStorageApplyResp",
        }
    }

    /// Not a message between two members.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Peer(message) => sender(message) == message.to,
            _ => true,
        }
    }

    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Peer(message) => Line::peer(message).text(""),
            Self::Persisted { to, ack, snapshot } => Line {
                from: "AppendThread".to_owned(),
                to: target(*to),
                kind: self.kind(),
                term: ack.term(),
                log: ack.last(),
                snapshot: snapshot.as_ref(),
                ..Line::default()
            }
            .text(""),
            Self::Applied { to, entries, .. } => Line {
                from: "ApplyThread".to_owned(),
                to: target(*to),
                kind: self.kind(),
                entries,
                ..Line::default()
            }
            .text(""),
        }
    }
}

/// etcd names the heir as the sender of a request for leadership.
pub(crate) fn sender(message: &Message) -> NodeId {
    match message.body {
        Body::TransferLeader { to } => to,
        _ => message.from,
    }
}

fn target(id: NodeId) -> String {
    if id == NodeId::ZERO {
        "None".to_owned()
    } else {
        format!("{:x}", id.0)
    }
}

#[derive(Default)]
struct Line<'a> {
    from: String,
    to: String,
    kind: &'static str,
    standing: Standing,
    term: Term,
    log: LogId,
    rejected: Option<LogIndex>,
    commit: LogIndex,
    vote: Option<NodeId>,
    entries: &'a [Entry],
    snapshot: Option<&'a SnapshotMeta>,
    responses: Vec<String>,
}

impl<'a> Line<'a> {
    fn peer(message: &'a Message) -> Self {
        let mut line = Self {
            from: target(sender(message)),
            to: target(message.to),
            kind: kind_name(message.body.kind()),
            standing: message.standing,
            term: message.term,
            ..Self::default()
        };
        match &message.body {
            Body::Vote { last, .. } | Body::PreVote { last } => line.log = *last,
            Body::VoteResponse { reject: true } | Body::PreVoteResponse { reject: true } => {
                line.rejected = Some(LogIndex::ZERO);
            }
            Body::Append {
                prev,
                commit,
                entries,
            } => {
                (line.log, line.commit, line.entries) = (*prev, *commit, entries);
            }
            Body::AppendResponse { index, reject } => {
                line.log = LogId::new(reject.unwrap_or_default().term, *index);
                line.rejected = reject.map(|hint| hint.index);
            }
            Body::Heartbeat { commit, .. } | Body::Commit { index: commit } => {
                line.commit = *commit;
            }
            Body::ReadIndexResponse { index, .. } => line.log.index = *index,
            Body::Snapshot { meta } => line.snapshot = Some(meta),
            Body::Propose { entries, .. } => line.entries = entries,
            Body::ProposeResponse {
                result: Ok(last), ..
            } => line.log = *last,
            Body::ProposeResponse { result: Err(_), .. } => line.rejected = Some(LogIndex::ZERO),
            Body::WantSnapshot { last } => line.log = *last,
            _ => {}
        }
        line
    }

    fn text(&self, indent: &str) -> String {
        let mut text = format!(
            "{indent}{}->{} {} Term:{} Log:{}",
            self.from, self.to, self.kind, self.term, self.log
        );
        if let Some(hint) = self.rejected {
            write!(text, " Rejected (Hint: {hint})").unwrap();
        }
        if self.standing != Standing::Sound {
            write!(text, " {:?}", self.standing).unwrap();
        }
        if self.commit > LogIndex::ZERO {
            write!(text, " Commit:{}", self.commit).unwrap();
        }
        if let Some(vote) = self.vote {
            write!(text, " Vote:{vote}").unwrap();
        }
        match self.entries {
            [] => {}
            [one] => write!(text, " Entries:[{}]", entry(one)).unwrap(),
            many => {
                text += " Entries:[";
                for one in many {
                    write!(text, "\n{indent}  {}", entry(one)).unwrap();
                }
                write!(text, "\n{indent}]").unwrap();
            }
        }
        if let Some(meta) = self
            .snapshot
            .filter(|meta| meta.last.index > LogIndex::ZERO)
        {
            write!(text, "\n{indent}  Snapshot: {}", snapshot(meta)).unwrap();
        }
        if !self.responses.is_empty() {
            text += " Responses:[";
            for response in &self.responses {
                for line in response.lines() {
                    write!(text, "\n{indent}  {line}").unwrap();
                }
            }
            write!(text, "\n{indent}]").unwrap();
        }
        text
    }
}

/// What goes to the append thread of `id`.
pub(crate) fn storage_append(id: NodeId, persist: &Persist, responses: &[Wire]) -> String {
    let state = persist.hard_state.unwrap_or_default();
    Line {
        from: target(id),
        to: "AppendThread".to_owned(),
        kind: "MsgStorageAppend",
        term: state.term,
        commit: state.commit,
        vote: state.vote,
        entries: &persist.entries,
        snapshot: persist.snapshot.as_ref(),
        responses: responses.iter().map(Wire::describe).collect(),
        ..Line::default()
    }
    .text("")
}

/// What goes to the apply thread of `id`.
pub(crate) fn storage_apply(id: NodeId, entries: &[Entry], responses: &[Wire]) -> String {
    Line {
        from: target(id),
        to: "ApplyThread".to_owned(),
        kind: "MsgStorageApply",
        entries,
        responses: responses.iter().map(Wire::describe).collect(),
        ..Line::default()
    }
    .text("")
}

pub(crate) fn entry(entry: &Entry) -> String {
    let (name, payload) = match entry.kind {
        EntryKind::Normal => ("EntryNormal", quoted(&entry.data)),
        EntryKind::ConfChangeSingle => ("EntryConfChange", change(entry)),
        EntryKind::ConfChange => ("EntryConfChangeV2", change(entry)),
    };
    format!("{} {name} {payload}", entry.id)
        .trim_end()
        .to_owned()
}

fn change(entry: &Entry) -> String {
    let change = decode_conf_change(entry.data.clone()).unwrap();
    let step = |step: &raftwerk_raft::ConfChangeStep| {
        let kind = match step.kind {
            ConfChangeKind::AddVoter => 'v',
            ConfChangeKind::AddLearner => 'l',
            ConfChangeKind::Remove => 'r',
            ConfChangeKind::Update => 'u',
        };
        format!("{kind}{}", step.node)
    };
    change.steps.iter().map(step).collect::<Vec<_>>().join(" ")
}

/// As Go's `%q` prints it.
fn quoted(data: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in data.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => text.extend(['\\', c]),
                '\n' => text += "\\n",
                '\t' => text += "\\t",
                '\r' => text += "\\r",
                c if c.is_control() => write!(text, "\\x{:02x}", u32::from(c)).unwrap(),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02x}").unwrap();
        }
    }
    text + "\""
}

pub(crate) fn fate(fate: &Fate) -> String {
    match fate {
        Fate::ReadDropped { context, reason } => {
            format!("read {} is dropped: {reason}", quoted(context))
        }
        Fate::InDoubt { first, last } => format!("entries {first} to {last} are in doubt"),
        Fate::Forwarded { outcome, .. } => match outcome {
            ForwardOutcome::Appended(last) => format!("what was sent on stands at {last}"),
            ForwardOutcome::Dropped(reason) => format!("what was sent on is dropped: {reason}"),
            ForwardOutcome::InDoubt => "what was sent on is in doubt".to_owned(),
            other => format!("{other:?}"),
        },
        other => format!("{other:?}"),
    }
}

pub(crate) fn hard_state(state: &HardState) -> String {
    let vote = state
        .vote
        .map(|vote| format!(" Vote:{vote}"))
        .unwrap_or_default();
    format!("Term:{}{vote} Commit:{}", state.term, state.commit)
}

/// As Go prints a slice of structures.
pub(crate) fn read_states(states: &[ReadState]) -> String {
    let text = |state: &ReadState| {
        let bytes: Vec<String> = state.context.iter().map(u8::to_string).collect();
        format!("{{{} [{}]}}", state.index, bytes.join(" "))
    };
    format!(
        "ReadStates [{}]",
        states.iter().map(text).collect::<Vec<_>>().join(" ")
    )
}

pub(crate) fn snapshot(meta: &SnapshotMeta) -> String {
    let state = conf_state(&meta.conf_state);
    format!(
        "Index:{} Term:{} ConfState:{state}",
        meta.last.index, meta.last.term
    )
}

fn conf_state(state: &ConfState) -> String {
    let list = |ids: &[NodeId]| {
        let ids: Vec<String> = ids.iter().map(NodeId::to_string).collect();
        format!("[{}]", ids.join(" "))
    };
    format!(
        "Voters:{} VotersOutgoing:{} Learners:{} LearnersNext:{} AutoLeave:{}",
        list(&state.voters),
        list(&state.voters_outgoing),
        list(&state.learners),
        list(&state.learners_next),
        state.auto_leave
    )
}
