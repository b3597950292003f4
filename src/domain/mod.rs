//! What a call is: states, packets, gaps, attempts, error classes.
//!
//! Promises that every change of a call goes through a method that refuses what is not legal, and
//! says what it refused. Pure: no async, SQL, HTTP, NATS, clock or randomness; time is an argument.

pub mod attempt;
pub mod call;
pub mod change;
pub mod gaps;
pub mod id;
pub mod metadata;
pub mod packet;
pub mod policy;
pub mod state;
pub mod waiting;

pub use attempt::{Attempts, Class, Failure, Stage};
pub use call::{Call, End, Holder, Lease};
pub use change::{Change, Issue, Lane, Refused};
pub use gaps::Ranges;
pub use id::{CallId, CallKey, InvalidId, Tenant};
pub use metadata::Metadata;
pub use packet::Packet;
pub use policy::Policy;
pub use state::{AiStatus, State};
pub use waiting::LastAttempt;
