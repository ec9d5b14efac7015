//! What is proposed, and what applying it answers: a version, a kind, then the message.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use super::error::Refusal;
use crate::proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, TxnRequest, TxnResponse,
};

const VERSION: u8 = 1;
const PUT: u8 = 1;
const DELETE: u8 = 2;
const TXN: u8 = 3;
const DONE: u8 = 0;

/// A change of the key space, as it stands in the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Writes one key.
    Put(PutRequest),
    /// Removes keys.
    Delete(DeleteRangeRequest),
    /// Does several things at one revision.
    Txn(TxnRequest),
}

/// Bytes that are no command of a version known here, or no outcome of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be decoded: {reason}")]
pub struct DecodeError {
    what: &'static str,
    reason: String,
}

impl Command {
    /// The bytes to propose.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Put(request) => tagged(&[VERSION, PUT], request),
            Self::Delete(request) => tagged(&[VERSION, DELETE], request),
            Self::Txn(request) => tagged(&[VERSION, TXN], request),
        }
    }

    /// Reads a log entry's bytes; keys and values share them.
    ///
    /// # Errors
    /// [`DecodeError`] when a newer version wrote them, or nobody did.
    pub fn decode(data: &Bytes) -> Result<Self, DecodeError> {
        let body = || data.slice(2..);
        let decoded = match data.get(..2) {
            Some([VERSION, PUT]) => PutRequest::decode(body()).map(Self::Put),
            Some([VERSION, DELETE]) => DeleteRangeRequest::decode(body()).map(Self::Delete),
            Some([VERSION, TXN]) => TxnRequest::decode(body()).map(Self::Txn),
            _ => {
                return Err(DecodeError::new(
                    "command",
                    "unknown version or kind".to_owned(),
                ));
            }
        };
        decoded.map_err(|error| DecodeError::new("command", error.to_string()))
    }
}

impl DecodeError {
    fn new(what: &'static str, reason: String) -> Self {
        Self { what, reason }
    }
}

fn tagged(tag: &[u8], message: &impl Message) -> Bytes {
    let mut out = BytesMut::with_capacity(tag.len().saturating_add(message.encoded_len()));
    out.put_slice(tag);
    message.encode_raw(&mut out);
    out.freeze()
}

/// What a command of one kind answers.
pub trait Answer: Message + Default {}

impl Answer for PutResponse {}
impl Answer for DeleteRangeResponse {}
impl Answer for TxnResponse {}

/// Appends the outcome of a command to `out`.
pub(super) fn encode_outcome(outcome: Result<&impl Answer, Refusal>, out: &mut BytesMut) {
    match outcome {
        Ok(answer) => {
            out.reserve(answer.encoded_len().saturating_add(1));
            out.put_u8(DONE);
            answer.encode_raw(out);
        }
        Err(refusal) => out.put_u8(refusal.code()),
    }
}

/// Reads what applying a command answered.
///
/// # Errors
/// [`DecodeError`] when the bytes are no outcome of such a command.
pub fn decode_outcome<A: Answer>(bytes: &Bytes) -> Result<Result<A, Refusal>, DecodeError> {
    match bytes.first() {
        None => Err(DecodeError::new("outcome", "empty".to_owned())),
        Some(&DONE) => A::decode(bytes.slice(1..))
            .map(Ok)
            .map_err(|error| DecodeError::new("outcome", error.to_string())),
        Some(code) => Refusal::from_code(*code)
            .map(Err)
            .ok_or_else(|| DecodeError::new("outcome", format!("unknown refusal {code}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::etcdserverpb::ResponseHeader;

    #[test]
    fn commands_and_outcomes_keep_their_bytes() {
        let key = Bytes::from_static(b"key");
        let put = PutRequest {
            key: key.clone(),
            value: Bytes::from_static(b"value"),
            ..PutRequest::default()
        };
        let delete = DeleteRangeRequest {
            key,
            ..DeleteRangeRequest::default()
        };
        for (command, expected) in [
            (
                Command::Put(put),
                b"\x01\x01\n\x03key\x12\x05value".as_slice(),
            ),
            (Command::Delete(delete), b"\x01\x02\n\x03key"),
            (Command::Txn(TxnRequest::default()), b"\x01\x03"),
        ] {
            assert_eq!(command.encode(), expected);
            assert_eq!(Command::decode(&command.encode()), Ok(command));
        }
        let header = ResponseHeader {
            revision: 300,
            ..ResponseHeader::default()
        };
        let answer = PutResponse {
            header: Some(header),
            prev_kv: None,
        };
        let mut out = BytesMut::new();
        encode_outcome(Ok(&answer), &mut out);
        let out = out.freeze();
        assert_eq!(out, b"\0\n\x03\x18\xac\x02".as_slice());
        assert_eq!(decode_outcome(&out), Ok(Ok(answer)));
    }

    #[test]
    fn commands_of_another_version_and_unknown_outcomes_are_refused() {
        for bytes in [b"".as_slice(), b"\x01", b"\x02\x01", b"\x01\x09"] {
            assert!(Command::decode(&Bytes::from_static(bytes)).is_err());
        }
        for bytes in [b"".as_slice(), b"\xff", b"\0\xff"] {
            assert!(decode_outcome::<PutResponse>(&Bytes::from_static(bytes)).is_err());
        }
    }
}
