//! Callfleet stands between a PBX, an unreliable AI voice service and the people who supervise the
//! calls. The rooms are listed in the order in which data moves.

pub mod ai;
pub mod broker;
pub mod dev;
pub mod domain;
pub mod ingest;
pub mod notifier;
pub mod ops;
pub mod reconcile;
pub mod relay;
pub mod service;
pub mod spool;
pub mod store;
pub mod wire;
