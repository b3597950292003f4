//! What time does to calls: settle, idle, issue again, give up, sweep.
//!
//! Promises that a call which waits for something is looked at again, whoever died meanwhile, and
//! that many reconcilers at once do no harm. Never asks the AI service, and never takes a step that
//! `domain` does not know.

mod backlog;
mod compare;
mod look;
mod run;
mod storing;
mod tick;

pub use backlog::watch_backlog;
pub use compare::{CompareError, Compared, compare};
pub use run::{Intervals, Reconciler, run};
pub use tick::{Report, tick};
