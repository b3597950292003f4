//! What the parts do together, against a real PostgreSQL and a real nats-server.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by panicking; clippy knows that of test functions only"
)]

mod ai;
mod broker;
mod calls;
mod house;
mod ingest;
mod notifier;
mod ops;
mod proxy;
mod reconcile;
mod recovery;
mod relay;
mod simulate;
mod spool;
mod story;
mod transitions;
mod up;
mod wait;
mod world;
