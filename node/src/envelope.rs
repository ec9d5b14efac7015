//! What hosts say to each other.

use bytes::Bytes;
use raftwerk_raft::codec::wire::{Reader, put_bytes, put_log_id, put_u64, put_varint};
use raftwerk_raft::codec::{
    DecodeError, decode_message, encode_conf_change, encode_message, encode_snapshot_meta,
    read_snapshot_meta,
};
use raftwerk_raft::{Body, ConfChange, EntryKind, GroupId, LogId, Message, NodeId, Term};

use crate::member::{put_u128, read_u128};
use crate::transport::SnapshotHeader;

/// The first byte of every encoded envelope and header.
const VERSION: u8 = 1;

/// One message between two hosts, for one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Whose message.
    pub group: GroupId,
    /// What it says.
    pub body: EnvelopeBody,
}

/// What an [`Envelope`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvelopeBody {
    /// The core's own.
    Raft(Message),
    /// A proposal made at a follower, for its leader.
    Forward {
        /// The sender's mark for the answer.
        request: u64,
        /// What kind of entry to make of it.
        kind: EntryKind,
        /// Its payload.
        data: Bytes,
    },
    /// The answer to [`EnvelopeBody::Forward`].
    Forwarded {
        /// The mark of the request.
        request: u64,
        /// What became of it.
        result: Result<Applied, ForwardError>,
    },
}

/// An entry that was committed, applied, and what the state machine answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The entry.
    pub id: LogId,
    /// What [`raftwerk_raft::StateMachine::apply`] answered.
    pub response: Bytes,
}

/// Why a forwarded proposal has no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// Not appended: the receiver does not lead. It may be sent to `leader`.
    #[error("not the leader")]
    NotLeader {
        /// Who leads, as far as the receiver knows.
        leader: Option<NodeId>,
    },
    /// Not appended: a bound is reached, or leadership is being handed over.
    #[error("busy; retry")]
    Busy,
    /// Appended, and overwritten by another leader: it will never be applied.
    #[error("overwritten by another leader; retry")]
    Dropped,
    /// Whether it is or will be applied is not known.
    #[error("outcome unknown")]
    Unknown,
    /// Not appended, and never will be: the request makes no sense, or a change of members is
    /// not possible now.
    #[error("refused")]
    Refused,
    /// Not appended: another change of members is under way. It may be sent again.
    #[error("another change of members is under way; retry")]
    ChangePending,
}

impl Envelope {
    /// Its bytes for the wire, versioned.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.weight());
        out.push(VERSION);
        put_varint(&mut out, self.group.0);
        match &self.body {
            EnvelopeBody::Raft(message) => {
                out.push(0);
                encode_message(message, &mut out);
            }
            EnvelopeBody::Forward {
                request,
                kind,
                data,
            } => {
                out.push(1);
                put_u64(&mut out, *request);
                out.push(match kind {
                    EntryKind::Normal => 0,
                    EntryKind::ConfChangeSingle => 1,
                    EntryKind::ConfChange => 2,
                });
                put_bytes(&mut out, data);
            }
            EnvelopeBody::Forwarded { request, result } => {
                out.push(2);
                put_u64(&mut out, *request);
                put_result(&mut out, result);
            }
        }
        out.into()
    }

    /// Reads what [`Envelope::encode`] wrote. Payloads share the memory of `bytes`.
    ///
    /// # Errors
    /// [`DecodeError`] for anything else.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes);
        input.version("envelope", VERSION)?;
        let group = GroupId(input.varint()?);
        let body = match input.u8()? {
            0 => {
                return Ok(Self {
                    group,
                    body: EnvelopeBody::Raft(decode_message(input.rest())?),
                });
            }
            1 => {
                let request = input.u64()?;
                let kind = match input.u8()? {
                    0 => EntryKind::Normal,
                    1 => EntryKind::ConfChangeSingle,
                    2 => EntryKind::ConfChange,
                    found => {
                        return Err(DecodeError::Tag {
                            what: "entry kind",
                            found,
                        });
                    }
                };
                EnvelopeBody::Forward {
                    request,
                    kind,
                    data: input.bytes()?,
                }
            }
            2 => EnvelopeBody::Forwarded {
                request: input.u64()?,
                result: read_result(&mut input)?,
            },
            found => {
                return Err(DecodeError::Tag {
                    what: "envelope",
                    found,
                });
            }
        };
        input.end()?;
        Ok(Self { group, body })
    }

    /// True when it would make a follower's log grow.
    pub(crate) fn has_entries(&self) -> bool {
        matches!(&self.body, EnvelopeBody::Raft(Message { body: Body::Append { entries, .. }, .. })
            if !entries.is_empty())
    }

    /// About how many bytes it holds: what queues count against their bounds.
    #[must_use]
    pub fn weight(&self) -> usize {
        const BASE: usize = 128;
        BASE + match &self.body {
            EnvelopeBody::Raft(message) => match &message.body {
                Body::Append { entries, .. } | Body::Propose { entries, .. } => {
                    entries.iter().map(|entry| entry.data.len() + 48).sum()
                }
                Body::Snapshot { meta } => meta.context.len(),
                _ => 0,
            },
            EnvelopeBody::Forward { data, .. } => data.len(),
            EnvelopeBody::Forwarded {
                result: Ok(applied),
                ..
            } => applied.response.len(),
            EnvelopeBody::Forwarded { .. } => 0,
        }
    }
}

fn put_result(out: &mut Vec<u8>, result: &Result<Applied, ForwardError>) {
    match result {
        Ok(Applied { id, response }) => {
            out.push(0);
            put_log_id(out, *id);
            put_bytes(out, response);
        }
        Err(ForwardError::NotLeader { leader }) => {
            out.push(1);
            put_varint(out, leader.unwrap_or(NodeId::ZERO).0);
        }
        Err(ForwardError::Busy) => out.push(2),
        Err(ForwardError::Dropped) => out.push(3),
        Err(ForwardError::Unknown) => out.push(4),
        Err(ForwardError::Refused) => out.push(5),
        Err(ForwardError::ChangePending) => out.push(6),
    }
}

fn read_result(input: &mut Reader) -> Result<Result<Applied, ForwardError>, DecodeError> {
    Ok(match input.u8()? {
        0 => Ok(Applied {
            id: input.log_id()?,
            response: input.bytes()?,
        }),
        1 => {
            let leader = NodeId(input.varint()?);
            Err(ForwardError::NotLeader {
                leader: (leader != NodeId::ZERO).then_some(leader),
            })
        }
        2 => Err(ForwardError::Busy),
        3 => Err(ForwardError::Dropped),
        4 => Err(ForwardError::Unknown),
        5 => Err(ForwardError::Refused),
        6 => Err(ForwardError::ChangePending),
        found => {
            return Err(DecodeError::Tag {
                what: "answer",
                found,
            });
        }
    })
}

impl SnapshotHeader {
    /// Its bytes for the wire, versioned.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = vec![VERSION];
        put_varint(&mut out, self.group.0);
        put_varint(&mut out, self.from.0);
        put_varint(&mut out, self.to.0);
        put_varint(&mut out, self.term.0);
        put_varint(&mut out, self.session);
        put_u128(&mut out, self.snapshot);
        put_varint(&mut out, self.len_bytes);
        encode_snapshot_meta(&self.meta, &mut out);
        out.into()
    }

    /// Reads what [`SnapshotHeader::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] for anything else.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        Reader::whole(bytes, |input| {
            input.version("snapshot header", VERSION)?;
            Ok(Self {
                group: GroupId(input.varint()?),
                from: input.node()?,
                to: input.node()?,
                term: Term(input.varint()?),
                session: input.varint()?,
                snapshot: read_u128(input)?,
                len_bytes: input.varint()?,
                meta: read_snapshot_meta(input)?,
            })
        })
    }
}

pub(crate) fn encode_change(change: &ConfChange) -> Bytes {
    let mut out = Vec::new();
    encode_conf_change(change, &mut out);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftwerk_raft::{Entry, LogIndex, SnapshotMeta, Standing};

    fn bodies() -> Vec<EnvelopeBody> {
        let id = LogId::new(Term(2), LogIndex(9));
        let entries = Entry::normal(id, "payload".into()).into();
        let prev = LogId::new(Term(1), LogIndex(8));
        let body = Body::Append {
            prev,
            commit: LogIndex(3),
            entries,
        };
        let message = Message {
            from: NodeId(1),
            to: NodeId(2),
            term: Term(2),
            session: 0,
            standing: Standing::Sound,
            body,
        };
        let answers = [
            Ok(Applied {
                id,
                response: "done".into(),
            }),
            Err(ForwardError::NotLeader { leader: None }),
            Err(ForwardError::NotLeader {
                leader: Some(NodeId(3)),
            }),
            Err(ForwardError::Busy),
            Err(ForwardError::Dropped),
            Err(ForwardError::Unknown),
            Err(ForwardError::Refused),
            Err(ForwardError::ChangePending),
        ];
        let mut bodies = vec![EnvelopeBody::Raft(message)];
        for kind in [
            EntryKind::Normal,
            EntryKind::ConfChangeSingle,
            EntryKind::ConfChange,
        ] {
            bodies.push(EnvelopeBody::Forward {
                request: u64::MAX,
                kind,
                data: "data".into(),
            });
        }
        let answered = |result| EnvelopeBody::Forwarded { request: 7, result };
        bodies.extend(answers.into_iter().map(answered));
        bodies
    }

    #[test]
    fn envelopes_come_back_from_their_bytes_and_cut_bytes_are_refused() {
        for body in bodies() {
            let envelope = Envelope {
                group: GroupId(300),
                body,
            };
            let bytes = envelope.encode();
            assert_eq!(Envelope::decode(bytes.clone()), Ok(envelope.clone()));
            for len in 0..bytes.len() {
                assert!(
                    Envelope::decode(bytes.slice(..len)).is_err(),
                    "{envelope:?} cut at {len}"
                );
            }
        }
    }

    #[test]
    fn envelopes_and_snapshot_headers_keep_their_bytes() {
        let expected: [&[u8]; 12] = [
            b"\x01\xac\x02\0\x01\x05\x01\x02\x02\x01\x08\x03\x01\x02\t\0\x07payload",
            b"\x01\xac\x02\x01\xff\xff\xff\xff\xff\xff\xff\xff\0\x04data",
            b"\x01\xac\x02\x01\xff\xff\xff\xff\xff\xff\xff\xff\x01\x04data",
            b"\x01\xac\x02\x01\xff\xff\xff\xff\xff\xff\xff\xff\x02\x04data",
            b"\x01\xac\x02\x02\x07\0\0\0\0\0\0\0\0\x02\t\x04done",
            b"\x01\xac\x02\x02\x07\0\0\0\0\0\0\0\x01\0",
            b"\x01\xac\x02\x02\x07\0\0\0\0\0\0\0\x01\x03",
            b"\x01\xac\x02\x02\x07\0\0\0\0\0\0\0\x02",
            b"\x01\xac\x02\x02\x07\0\0\0\0\0\0\0\x03",
            b"\x01\xac\x02\x02\x07\0\0\0\0\0\0\0\x04",
            b"\x01\xac\x02\x02\x07\0\0\0\0\0\0\0\x05",
            b"\x01\xac\x02\x02\x07\0\0\0\0\0\0\0\x06",
        ];
        let found = bodies().into_iter().map(|body| {
            let group = GroupId(300);
            Envelope { group, body }.encode()
        });
        assert_eq!(found.collect::<Vec<_>>(), expected);
        let expected = b"\x01\x01\x02\x03\x04\x01\0 \0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\
            \x01\x04\x08\0\0\0\0\0\0";
        assert_eq!(header().encode(), expected.as_slice());
    }

    fn header() -> SnapshotHeader {
        let meta = SnapshotMeta {
            last: LogId::new(Term(4), LogIndex(8)),
            ..Default::default()
        };
        SnapshotHeader {
            group: GroupId(1),
            from: NodeId(2),
            to: NodeId(3),
            term: Term(4),
            session: 1,
            meta,
            snapshot: 1 << 77,
            len_bytes: 5,
        }
    }

    #[test]
    fn snapshot_header_comes_back_from_its_bytes() {
        let header = header();
        assert_eq!(SnapshotHeader::decode(header.encode()), Ok(header.clone()));
        assert!(SnapshotHeader::decode(header.encode().slice(..9)).is_err());
    }
}
