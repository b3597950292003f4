//! PostgreSQL: the truth. One file per table or job, one function per statement; the only home of SQL.
//!
//! Promises that a change of a call, its line in the timeline and the message that announces it
//! commit together; that every statement names itself; that no transaction is open while anything
//! but the database is waited for. Never decides what a call may become: `domain` does.

pub mod agenda;
pub mod attempts;
pub mod audit;
pub mod calls;
pub mod change;
pub mod claim;
pub mod clock;
mod connections;
pub mod counts;
pub mod dead_letters;
pub mod error;
pub mod group;
pub mod ingests;
pub mod letters;
pub mod link;
pub mod lists;
pub mod options;
pub mod outbox;
pub mod packets;
pub mod pool;
pub mod present;
pub mod record;
pub mod replication;
pub mod results;
mod rows;
pub mod schema;
pub mod session;
mod snapshot;
pub mod spool_letters;
pub mod timeline;
pub mod transaction;
pub mod views;
pub mod watch;

pub use clock::Clock;
pub use error::StoreError;
pub use link::Link;
pub use options::Options;
pub use pool::{NoStore, Purpose, Store};
pub use session::Session;
pub use transaction::Transaction;
