//! Errors as gRPC statuses: code and text are the public API's.

use tonic::{Code, Status};

use super::ReplicaError;
use crate::kv::{DecodeError, KvError, Refusal};

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::EmptyKey
            | Refusal::KeyNotFound
            | Refusal::ValueProvided
            | Refusal::LeaseProvided
            | Refusal::TooManyOps
            | Refusal::DuplicateKey
            | Refusal::RequestTooLarge
            | Refusal::InvalidSort => Code::InvalidArgument,
            Refusal::LeaseNotFound => Code::NotFound,
            Refusal::Compacted | Refusal::FutureRevision => Code::OutOfRange,
            Refusal::ResponseTooLarge => Code::ResourceExhausted,
        };
        Self::new(code, refusal.to_string())
    }
}

impl From<KvError> for Status {
    fn from(error: KvError) -> Self {
        match error {
            KvError::Refused(refusal) => refusal.into(),
            KvError::Store(_) => Self::unavailable(error.to_string()),
        }
    }
}

impl From<DecodeError> for Status {
    fn from(error: DecodeError) -> Self {
        Self::internal(error.to_string())
    }
}

impl From<ReplicaError> for Status {
    fn from(error: ReplicaError) -> Self {
        let code = match &error {
            ReplicaError::NoLeader
            | ReplicaError::LeaderChanged
            | ReplicaError::Timeout
            | ReplicaError::Unhealthy
            | ReplicaError::OutcomeUnknown
            | ReplicaError::Stopped
            | ReplicaError::Halted { .. } => Code::Unavailable,
            ReplicaError::Busy | ReplicaError::NoSpace => Code::ResourceExhausted,
            ReplicaError::TooLarge | ReplicaError::BadUrls => Code::InvalidArgument,
            ReplicaError::MemberNotFound => Code::NotFound,
            ReplicaError::NotLeader
            | ReplicaError::PeerUrlExists
            | ReplicaError::NotLearner
            | ReplicaError::LearnerNotReady
            | ReplicaError::NotEnoughStarted
            | ReplicaError::TooManyLearners
            | ReplicaError::ChangeRefused { .. }
            | ReplicaError::BadTransferee => Code::FailedPrecondition,
        };
        Self::new(code, error.to_string())
    }
}
