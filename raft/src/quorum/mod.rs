//! When enough members agree: one majority, or the two of a joint configuration (thesis, section
//! 4.3).

mod joint;
mod majority;

pub use joint::JointConfig;
pub use majority::MajorityConfig;
pub(crate) use majority::held_by_quorum;

/// How an election stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VoteResult {
    /// Not decided: the votes that are missing decide.
    Pending,
    /// So many refused that a quorum is out of reach.
    Lost,
    /// A quorum granted.
    Won,
}
