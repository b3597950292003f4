//! What dies, sleeps, falls silent or is asked to go, and what the others do about it.

mod cluster;
mod failover;
mod hand_back;
mod leave;
mod lost_answers;
mod nats_faults;
mod oracle;
mod pair;
mod relays;
mod rolling;
mod silence;
mod stall;
mod wire;
