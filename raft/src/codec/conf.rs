//! Configurations and their changes.

use bytes::Bytes;

use super::DecodeError;
use super::wire::{Reader, put_bytes, put_flag, put_varint};
use crate::entry::{ConfChange, ConfChangeKind, ConfChangeStep, ConfChangeTransition, ConfState};
use crate::types::NodeId;

/// The format of [`ConfChange`].
const CONF_CHANGE_VERSION: u8 = 1;

/// The least bytes of a step: kind, member.
const STEP_BYTES_MIN: usize = 2;

/// Appends a configuration.
pub fn encode_conf_state(conf_state: &ConfState, out: &mut Vec<u8>) {
    let ConfState {
        voters,
        learners,
        voters_outgoing,
        learners_next,
        auto_leave,
    } = conf_state;
    for list in [voters, learners, voters_outgoing, learners_next] {
        put_varint(out, list.len() as u64);
        for id in list {
            put_varint(out, id.value());
        }
    }
    put_flag(out, *auto_leave);
}

/// Takes a configuration. Each list ascends.
///
/// # Errors
/// [`DecodeError`].
pub fn read_conf_state(reader: &mut Reader) -> Result<ConfState, DecodeError> {
    Ok(ConfState {
        voters: read_members(reader)?,
        learners: read_members(reader)?,
        voters_outgoing: read_members(reader)?,
        learners_next: read_members(reader)?,
        auto_leave: reader.flag()?,
    })
}

/// The configuration that is all of `input`.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_conf_state(input: Bytes) -> Result<ConfState, DecodeError> {
    Reader::whole(input, read_conf_state)
}

fn read_members(reader: &mut Reader) -> Result<Vec<NodeId>, DecodeError> {
    let mut last = NodeId::ZERO;
    reader.list(1, |reader| {
        let id = reader.node()?;
        if id <= last {
            return Err(DecodeError::Invalid {
                reason: "list of members does not ascend",
            });
        }
        last = id;
        Ok(id)
    })
}

/// Appends a change, as it stands in an entry. The change that only leaves a joint configuration
/// is no bytes at all: such an entry must never be refused for its size.
pub fn encode_conf_change(change: &ConfChange, out: &mut Vec<u8>) {
    if *change == ConfChange::default() {
        return;
    }
    out.push(CONF_CHANGE_VERSION);
    out.push(match change.transition {
        ConfChangeTransition::Auto => 0,
        ConfChangeTransition::JointImplicit => 1,
        ConfChangeTransition::JointExplicit => 2,
    });
    put_varint(out, change.steps.len() as u64);
    for step in &change.steps {
        out.push(match step.kind {
            ConfChangeKind::AddVoter => 0,
            ConfChangeKind::AddLearner => 1,
            ConfChangeKind::Remove => 2,
            ConfChangeKind::Update => 3,
        });
        put_varint(out, step.node.value());
    }
    put_bytes(out, &change.context);
}

/// The change that is all of `input`. Its context shares the memory of the input.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_conf_change(input: Bytes) -> Result<ConfChange, DecodeError> {
    if input.is_empty() {
        return Ok(ConfChange::default());
    }
    let change = Reader::whole(input, read_conf_change)?;
    if change == ConfChange::default() {
        return Err(DecodeError::Invalid {
            reason: "empty change longer than needed",
        });
    }
    Ok(change)
}

fn read_conf_change(reader: &mut Reader) -> Result<ConfChange, DecodeError> {
    reader.version("configuration change", CONF_CHANGE_VERSION)?;
    let transition = match reader.u8()? {
        0 => ConfChangeTransition::Auto,
        1 => ConfChangeTransition::JointImplicit,
        2 => ConfChangeTransition::JointExplicit,
        found => {
            return Err(DecodeError::Tag {
                what: "transition",
                found,
            });
        }
    };
    let steps = reader.list(STEP_BYTES_MIN, read_step)?;
    Ok(ConfChange {
        transition,
        steps,
        context: reader.bytes()?,
    })
}

/// A step about nobody (zero) is allowed: it does nothing.
fn read_step(reader: &mut Reader) -> Result<ConfChangeStep, DecodeError> {
    let kind = match reader.u8()? {
        0 => ConfChangeKind::AddVoter,
        1 => ConfChangeKind::AddLearner,
        2 => ConfChangeKind::Remove,
        3 => ConfChangeKind::Update,
        found => {
            return Err(DecodeError::Tag {
                what: "kind of change",
                found,
            });
        }
    };
    Ok(ConfChangeStep {
        kind,
        node: NodeId(reader.varint()?),
    })
}
