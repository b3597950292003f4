//! HTTP in: packets to the store, calls back out.
//!
//! Promises that a 2xx is durable (in PostgreSQL, or in the spool while that does not answer), that whatever is wrong with a request is a problem+json which
//! names it, and that a call id is percent-decoded once. Never talks to the broker itself.

mod batch;
mod body;
pub mod call_id;
mod closer;
mod docs;
mod door;
mod drain;
mod flush;
mod gaps;
mod options;
mod queries;
mod queue;
mod reach;
mod refusal;
mod run;
mod spooled;
mod tracker;
mod writer;

pub use docs::openapi;
pub use options::Options;
pub use run::{Ingest, start};
