//! Why the key space refused a request.

use raftwerk_raft::StateError;

/// A request that the key space does not carry out. The text is the public API's own, because
/// clients tell errors apart by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The key is empty.
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    /// An update of something that is not there, or an operation without contents.
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// A value, and the wish to keep the old one.
    #[error("etcdserver: value is provided")]
    ValueProvided,
    /// A lease, and the wish to keep the old one.
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    /// The lease does not exist: none does, leases are not served.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// More operations in a transaction than [`super::TXN_OPS_MAX`].
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    /// A transaction writes one key twice.
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    /// The revision asked for lies in the past, which is not kept.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    /// The revision asked for has not come yet.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
    /// The request exceeds [`super::REQUEST_BYTES_MAX`].
    #[error("etcdserver: request is too large")]
    RequestTooLarge,
    /// The answer exceeds [`super::RESPONSE_BYTES_MAX`]: ask for less, with a limit.
    #[error("answer is too large; ask for fewer keys at once, with a limit")]
    ResponseTooLarge,
    /// An order or a target to sort by that the API does not have.
    #[error("etcdserver: invalid sort option")]
    InvalidSort,
}

impl Refusal {
    /// In the order of their numbers: new ones come last.
    const ALL: [Self; 12] = [
        Self::EmptyKey,
        Self::KeyNotFound,
        Self::ValueProvided,
        Self::LeaseProvided,
        Self::LeaseNotFound,
        Self::TooManyOps,
        Self::DuplicateKey,
        Self::Compacted,
        Self::FutureRevision,
        Self::RequestTooLarge,
        Self::ResponseTooLarge,
        Self::InvalidSort,
    ];

    /// Its number in an encoded outcome; zero is none's.
    pub(super) fn code(self) -> u8 {
        let position = Self::ALL
            .iter()
            .position(|refusal| *refusal == self)
            .unwrap_or(0);
        u8::try_from(position).unwrap_or(u8::MAX).saturating_add(1)
    }

    /// The refusal of that number.
    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code.checked_sub(1)?)).copied()
    }
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KvError {
    /// The request is refused; the same everywhere and again.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store underneath failed.
    #[error("state store: {0}")]
    Store(#[from] StateError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_survives_its_number() {
        for refusal in Refusal::ALL {
            assert_eq!(Refusal::from_code(refusal.code()), Some(refusal));
        }
        assert_eq!(Refusal::from_code(0), None);
        assert_eq!(Refusal::from_code(200), None);
    }
}
