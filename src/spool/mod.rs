//! Packets to JetStream and back while PostgreSQL is away.
//!
//! Promises that what [`Spool::put`] has kept is durable, and comes out again until somebody says
//! that it is stored; and that whoever asks whether anything waits here is told `no` only when that
//! is known. Never stores anything in PostgreSQL: ingest does, on the way that all packets go.

mod put;
mod waiting;

pub use crate::broker::SpoolMessage;
pub use put::{NotKept, Spool};
pub use waiting::{Waiting, waiting};
