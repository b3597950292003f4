//! A job to a result: claim, load, ask, record.
//!
//! Promises that an attempt is counted before it begins, that a result is recorded only under the
//! lease that the claim gave, and that no failure of the service loses a call. Never logs what was
//! said in one.

pub mod backoff;
pub mod classify;
pub mod client;
pub mod context;
mod feeding;
pub mod job;
mod lane;
pub mod leases;
mod moves;
mod options;
pub mod record;
mod run;
mod slots;

pub use client::Client;
pub use context::{Context, Parts};
pub use job::Verdict;
pub use options::Options;
pub use run::{Worker, run};
