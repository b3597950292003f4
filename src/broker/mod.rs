//! JetStream: the connection, its streams and consumers.
//!
//! Promises that a lost connection, stream or consumer is an error that passes, never an end. Never
//! decides what a message means, and is the only home of async-nats. Subjects come and go without
//! the environment's prefix.

mod api;
mod connect;
mod consume;
pub mod feed;
mod identity;
mod options;
mod publish;
mod pull;
mod spool;
mod stall;
pub mod survey;
pub mod topology;

pub use api::ApiError;
pub use connect::{Broker, ConnectError};
pub use consume::{ConsumeError, Consumer, Deliveries, Delivery, Unreadable};
pub use identity::Identities;
pub use options::{Options, Prefix, ServerUrl, Settings};
pub use publish::{PublishError, Published};
pub use pull::PullError;
pub use spool::{SpoolMessage, SpoolState};
pub use stall::{Finding, Look, Stall};
