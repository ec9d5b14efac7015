//! The versioned binary form of entries, records and messages, on disk and between members.
//! `docs/format.md` describes every byte.
//!
//! For each type there is `encode_` (appends to a buffer), `read_` (takes one value from a
//! [`wire::Reader`], where more may follow) and `decode_` (the value takes all of the bytes).
//! A value has exactly one encoding: what is accepted encodes to the same bytes again. Decoding
//! takes anything: it gives a typed error, never a panic, allocates no more than a small multiple
//! of the input, and copies no payload.

mod conf;
mod log;
mod message;
pub mod wire;

pub use conf::{
    decode_conf_change, decode_conf_state, encode_conf_change, encode_conf_state, read_conf_state,
};
pub use log::{
    decode_entry, decode_hard_state, decode_snapshot_meta, encode_entry, encode_hard_state,
    encode_snapshot_meta, entry_len, read_entry, read_hard_state, read_snapshot_meta,
};
pub use message::{decode_message, encode_message};

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// They end inside a value, or a length points behind their end.
    #[error("bytes end too early")]
    Truncated,
    /// Written by another version of this program.
    #[error("{what} has format version {found}; this build reads version {supported}")]
    Version {
        /// What was to be read.
        what: &'static str,
        /// What the bytes say.
        found: u8,
        /// What this build reads.
        supported: u8,
    },
    /// A byte that chooses between alternatives has none of their values.
    #[error("{found} is no {what}")]
    Tag {
        /// What was to be chosen.
        what: &'static str,
        /// What the bytes say.
        found: u8,
    },
    /// A number of more than 64 bits.
    #[error("number exceeds 64 bits")]
    TooLong,
    /// Something follows where nothing may.
    #[error("{bytes} bytes left over")]
    Trailing {
        /// How much.
        bytes: usize,
    },
    /// It can be read, and cannot be true.
    #[error("invalid value: {reason}")]
    Invalid {
        /// What is wrong.
        reason: &'static str,
    },
}
