//! Snapshots between members: a stream of their own each, so that they never stand in the way of
//! a heartbeat; chunks under a checksum; begun where the receiver already is; given up for want
//! of progress and never for the total time.

pub(crate) mod receive;
pub(crate) mod send;
