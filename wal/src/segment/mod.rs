//! The bytes of a segment; `docs/format.md` describes each.

pub(crate) mod checkpoint;
pub(crate) mod footer;
pub(crate) mod format;
pub(crate) mod header;
