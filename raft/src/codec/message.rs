//! Messages between members.

use bytes::Bytes;

use super::DecodeError;
use super::log::{
    ENTRY_BYTES_MIN, encode_entry, encode_snapshot_meta, entry_len, read_entry, read_position,
    read_snapshot_meta,
};
use super::wire::{Reader, put_bytes, put_flag, put_log_id, put_varint};
use crate::entries::Entries;
use crate::entry::Entry;
use crate::message::{Body, Message, Standing};
use crate::ready::{ProposalDropped, ReadDropped};
use crate::types::{ForwardMark, LogId, LogIndex, Term};

/// The format of [`Message`].
const MESSAGE_VERSION: u8 = 1;

const VOTE: u8 = 1;
const VOTE_RESPONSE: u8 = 2;
const PRE_VOTE: u8 = 3;
const PRE_VOTE_RESPONSE: u8 = 4;
const APPEND: u8 = 5;
const APPEND_RESPONSE: u8 = 6;
const HEARTBEAT: u8 = 7;
const HEARTBEAT_RESPONSE: u8 = 8;
const SNAPSHOT: u8 = 9;
const TIMEOUT_NOW: u8 = 10;
const PROPOSE: u8 = 11;
const READ_INDEX: u8 = 12;
const READ_INDEX_RESPONSE: u8 = 13;
const TRANSFER_LEADER: u8 = 14;
const COMMITTED: u8 = 15;
const ACKED: u8 = 16;
const LOST: u8 = 17;
const WANT_SNAPSHOT: u8 = 18;
const READ_INDEX_DROPPED: u8 = 19;
const COMMIT: u8 = 20;
const PROPOSE_RESPONSE: u8 = 21;
const PROPOSE_MARKED: u8 = 22;

/// Set in the tag when a session follows the term: it is zero but for who was removed in the term.
const WITH_SESSION: u8 = 0x80;
/// Set in the tag of an answer: what the sender's standing is when it is not sound.
const UNCOUNTED: u8 = 0x40;
const VOTELESS: u8 = 0x20;

/// Appends a message.
pub fn encode_message(message: &Message, out: &mut Vec<u8>) {
    out.push(MESSAGE_VERSION);
    let with_session = message.session > 0;
    let session = if with_session { WITH_SESSION } else { 0 };
    let standing = match message.standing {
        Standing::Sound => 0,
        Standing::Voteless => VOTELESS,
        Standing::Uncounted => UNCOUNTED,
    };
    out.push(tag(&message.body) | session | standing);
    put_varint(out, message.from.value());
    put_varint(out, message.to.value());
    put_varint(out, message.term.value());
    if with_session {
        put_varint(out, message.session);
    }
    match &message.body {
        Body::Vote { last, transfer } => {
            put_log_id(out, *last);
            put_flag(out, *transfer);
        }
        Body::PreVote { last }
        | Body::Committed { last }
        | Body::Lost { kept: last }
        | Body::WantSnapshot { last } => put_log_id(out, *last),
        Body::Acked { index } | Body::Commit { index } => put_varint(out, index.value()),
        Body::VoteResponse { reject } | Body::PreVoteResponse { reject } => put_flag(out, *reject),
        Body::Append {
            prev,
            commit,
            entries,
        } => {
            put_log_id(out, *prev);
            put_varint(out, commit.value());
            put_entries(out, entries);
        }
        Body::AppendResponse { index, reject } => {
            put_varint(out, index.value());
            put_flag(out, reject.is_some());
            if let Some(hint) = reject {
                put_log_id(out, *hint);
            }
        }
        Body::Heartbeat {
            commit,
            read_position,
        } => {
            put_varint(out, commit.value());
            put_varint(out, *read_position);
        }
        Body::HeartbeatResponse { read_position } => put_varint(out, *read_position),
        Body::Snapshot { meta } => encode_snapshot_meta(meta, out),
        Body::TimeoutNow => {}
        Body::Propose { mark, entries } => put_proposals(out, *mark, entries),
        Body::ProposeResponse { mark, result } => put_propose_response(out, *mark, *result),
        Body::ReadIndex { context } => put_bytes(out, context),
        Body::ReadIndexResponse { index, context } => {
            put_varint(out, index.value());
            put_bytes(out, context);
        }
        Body::ReadIndexDropped { context, reason } => {
            put_dropped(out, *reason);
            put_bytes(out, context);
        }
        Body::TransferLeader { to } => put_varint(out, to.value()),
    }
}

const fn tag(body: &Body) -> u8 {
    match body {
        Body::Vote { .. } => VOTE,
        Body::VoteResponse { .. } => VOTE_RESPONSE,
        Body::PreVote { .. } => PRE_VOTE,
        Body::PreVoteResponse { .. } => PRE_VOTE_RESPONSE,
        Body::Append { .. } => APPEND,
        Body::AppendResponse { .. } => APPEND_RESPONSE,
        Body::Heartbeat { .. } => HEARTBEAT,
        Body::HeartbeatResponse { .. } => HEARTBEAT_RESPONSE,
        Body::Snapshot { .. } => SNAPSHOT,
        Body::TimeoutNow => TIMEOUT_NOW,
        Body::Propose { mark, .. } if mark.value() == 0 => PROPOSE,
        Body::Propose { .. } => PROPOSE_MARKED,
        Body::ProposeResponse { .. } => PROPOSE_RESPONSE,
        Body::ReadIndex { .. } => READ_INDEX,
        Body::ReadIndexResponse { .. } => READ_INDEX_RESPONSE,
        Body::TransferLeader { .. } => TRANSFER_LEADER,
        Body::Committed { .. } => COMMITTED,
        Body::Acked { .. } => ACKED,
        Body::Lost { .. } => LOST,
        Body::WantSnapshot { .. } => WANT_SNAPSHOT,
        Body::ReadIndexDropped { .. } => READ_INDEX_DROPPED,
        Body::Commit { .. } => COMMIT,
    }
}

fn put_proposals(out: &mut Vec<u8>, mark: ForwardMark, entries: &[Entry]) {
    if mark != ForwardMark::ZERO {
        put_varint(out, mark.value());
    }
    put_entries(out, entries);
}

fn put_entries(out: &mut Vec<u8>, entries: &[Entry]) {
    out.reserve(entries.iter().map(entry_len).sum());
    put_varint(out, entries.len() as u64);
    for entry in entries {
        encode_entry(entry, out);
    }
}

/// The message that is all of `input`. Payloads share the memory of the input. What no member can
/// have meant is refused here, so that the core need not look again: appended entries that leave
/// a gap, or whose terms go down or beyond the message's; requests of term zero.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_message(input: Bytes) -> Result<Message, DecodeError> {
    Reader::whole(input, read_message)
}

fn read_message(reader: &mut Reader) -> Result<Message, DecodeError> {
    reader.version("message", MESSAGE_VERSION)?;
    let tagged = reader.u8()?;
    let tag = tagged & !(WITH_SESSION | UNCOUNTED | VOTELESS);
    let (from, to, term) = (reader.node()?, reader.node()?, reader.term()?);
    if term == Term::ZERO
        && matches!(
            tag,
            VOTE | PRE_VOTE
                | APPEND
                | HEARTBEAT
                | SNAPSHOT
                | TIMEOUT_NOW
                | ACKED
                | LOST
                | WANT_SNAPSHOT
                | COMMIT
        )
    {
        return Err(DecodeError::Invalid {
            reason: "request without a term",
        });
    }
    let session = if tagged & WITH_SESSION == 0 {
        0
    } else {
        read_session(reader)?
    };
    let body = read_body(reader, tag, term)?;
    Ok(Message {
        from,
        to,
        term,
        session,
        standing: standing(tagged, &body)?,
        body,
    })
}

fn standing(tagged: u8, body: &Body) -> Result<Standing, DecodeError> {
    match tagged & (UNCOUNTED | VOTELESS) {
        0 => Ok(Standing::Sound),
        VOTELESS if body.kind().is_answer() => Ok(Standing::Voteless),
        UNCOUNTED if body.kind().is_answer() => Ok(Standing::Uncounted),
        _ => Err(DecodeError::Invalid {
            reason: "standing that says nothing",
        }),
    }
}

fn read_session(reader: &mut Reader) -> Result<u64, DecodeError> {
    match reader.varint()? {
        0 => Err(DecodeError::Invalid {
            reason: "session zero is not written",
        }),
        session => Ok(session),
    }
}

fn read_body(reader: &mut Reader, tag: u8, term: Term) -> Result<Body, DecodeError> {
    Ok(match tag {
        VOTE => Body::Vote {
            last: reader.log_id()?,
            transfer: reader.flag()?,
        },
        VOTE_RESPONSE => Body::VoteResponse {
            reject: reader.flag()?,
        },
        PRE_VOTE => Body::PreVote {
            last: reader.log_id()?,
        },
        PRE_VOTE_RESPONSE => Body::PreVoteResponse {
            reject: reader.flag()?,
        },
        APPEND => {
            let prev = read_position(reader)?;
            let commit = reader.index()?;
            Body::Append {
                prev,
                commit,
                entries: read_appended(reader, prev, term)?,
            }
        }
        APPEND_RESPONSE => {
            let index = reader.index()?;
            let reject = if reader.flag()? {
                Some(reader.log_id()?)
            } else {
                None
            };
            Body::AppendResponse { index, reject }
        }
        HEARTBEAT => Body::Heartbeat {
            commit: reader.index()?,
            read_position: reader.varint()?,
        },
        HEARTBEAT_RESPONSE => Body::HeartbeatResponse {
            read_position: reader.varint()?,
        },
        SNAPSHOT => read_snapshot(reader)?,
        TIMEOUT_NOW => Body::TimeoutNow,
        _ => return read_wish_or_loss(reader, tag),
    })
}

/// What is neither an election nor the leader's work.
fn read_wish_or_loss(reader: &mut Reader, tag: u8) -> Result<Body, DecodeError> {
    Ok(match tag {
        PROPOSE => Body::Propose {
            mark: ForwardMark::ZERO,
            entries: read_proposals(reader)?,
        },
        PROPOSE_MARKED => Body::Propose {
            mark: read_mark(reader)?,
            entries: read_proposals(reader)?,
        },
        PROPOSE_RESPONSE => Body::ProposeResponse {
            mark: reader.varint()?.into(),
            result: read_propose_result(reader)?,
        },
        READ_INDEX => Body::ReadIndex {
            context: reader.bytes()?,
        },
        READ_INDEX_RESPONSE => Body::ReadIndexResponse {
            index: reader.index()?,
            context: reader.bytes()?,
        },
        TRANSFER_LEADER => Body::TransferLeader { to: reader.node()? },
        COMMITTED => Body::Committed {
            last: reader.log_id()?,
        },
        ACKED => Body::Acked {
            index: reader.index()?,
        },
        LOST => Body::Lost {
            kept: reader.log_id()?,
        },
        WANT_SNAPSHOT => Body::WantSnapshot {
            last: reader.log_id()?,
        },
        COMMIT => Body::Commit {
            index: reader.index()?,
        },
        READ_INDEX_DROPPED => Body::ReadIndexDropped {
            reason: read_dropped(reader)?,
            context: reader.bytes()?,
        },
        found => {
            return Err(DecodeError::Tag {
                what: "message",
                found,
            });
        }
    })
}

fn read_mark(reader: &mut Reader) -> Result<ForwardMark, DecodeError> {
    match reader.varint()? {
        0 => Err(DecodeError::Invalid {
            reason: "mark zero is not written",
        }),
        mark => Ok(ForwardMark(mark)),
    }
}

fn put_propose_response(
    out: &mut Vec<u8>,
    mark: ForwardMark,
    result: Result<LogId, ProposalDropped>,
) {
    put_varint(out, mark.value());
    match result {
        Ok(last) => {
            out.push(0);
            put_log_id(out, last);
        }
        Err(ProposalDropped::NoLeader) => out.push(1),
        Err(ProposalDropped::Busy) => out.push(2),
        Err(ProposalDropped::Refused) => out.push(3),
    }
}

fn read_propose_result(reader: &mut Reader) -> Result<Result<LogId, ProposalDropped>, DecodeError> {
    Ok(match reader.u8()? {
        0 => Ok(reader.log_id()?),
        1 => Err(ProposalDropped::NoLeader),
        2 => Err(ProposalDropped::Busy),
        3 => Err(ProposalDropped::Refused),
        found => {
            return Err(DecodeError::Tag {
                what: "result",
                found,
            });
        }
    })
}

fn put_dropped(out: &mut Vec<u8>, reason: ReadDropped) {
    out.push(match reason {
        ReadDropped::NoLeader => 1,
        ReadDropped::Busy => 2,
        ReadDropped::LostLeadership => 3,
    });
}

fn read_dropped(reader: &mut Reader) -> Result<ReadDropped, DecodeError> {
    match reader.u8()? {
        1 => Ok(ReadDropped::NoLeader),
        2 => Ok(ReadDropped::Busy),
        3 => Ok(ReadDropped::LostLeadership),
        found => Err(DecodeError::Tag {
            what: "reason",
            found,
        }),
    }
}

fn read_snapshot(reader: &mut Reader) -> Result<Body, DecodeError> {
    let meta = read_snapshot_meta(reader)?;
    if meta.last.index == LogIndex::ZERO {
        return Err(DecodeError::Invalid {
            reason: "snapshot of nothing",
        });
    }
    let meta = Box::new(meta);
    Ok(Body::Snapshot { meta })
}

/// Entries that continue `prev` and come from a leader of `term`.
fn read_appended(reader: &mut Reader, prev: LogId, term: Term) -> Result<Entries, DecodeError> {
    if prev.term > term {
        return Err(DecodeError::Invalid {
            reason: "entry of a later term than the message",
        });
    }
    let mut last = prev;
    reader
        .list(ENTRY_BYTES_MIN, |reader| {
            let entry = read_entry(reader)?;
            if last.index.value().checked_add(1) != Some(entry.index().value()) {
                return Err(DecodeError::Invalid {
                    reason: "entries leave a gap",
                });
            }
            if entry.term() == Term::ZERO || entry.term() < last.term {
                return Err(DecodeError::Invalid {
                    reason: "terms of entries go down",
                });
            }
            if entry.term() > term {
                return Err(DecodeError::Invalid {
                    reason: "entry of a later term than the message",
                });
            }
            last = entry.id;
            Ok(entry)
        })
        .map(Entries::from)
}

/// Proposals: at least one, none with a place in the log yet.
fn read_proposals(reader: &mut Reader) -> Result<Entries, DecodeError> {
    let entries = reader.list(ENTRY_BYTES_MIN, |reader| match read_entry(reader)? {
        entry if entry.id == LogId::ZERO => Ok(entry),
        _ => Err(DecodeError::Invalid {
            reason: "proposal with a place in the log",
        }),
    })?;
    if entries.is_empty() {
        return Err(DecodeError::Invalid {
            reason: "no proposals",
        });
    }
    Ok(entries.into())
}
