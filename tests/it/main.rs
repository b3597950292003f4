//! What the parts do together, against a real PostgreSQL and a real nats-server.

mod broker;
mod house;
mod simulate;
