//! The commands that speak to a running cluster.

pub(crate) mod connect;
pub(crate) mod json;
pub(crate) mod keys;
pub(crate) mod members;
pub(crate) mod status;
pub(crate) mod table;
