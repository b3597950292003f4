//! Every JSON shape and every subject name that leaves the process, and nowhere else.
//!
//! Promises that a shape read by another program changes only with its version, and that a call id
//! never becomes part of a subject.

pub mod ai;
pub mod call;
pub mod dead_letter;
pub mod feed;
pub mod job;
pub mod outgoing;
pub mod packet;
pub mod receipt;
pub mod spool;
pub mod subject;
