//! The embedded default: a private PostgreSQL and a private nats-server as children of this
//! process, with their data under one folder that no second instance may use; and the mock AI.
//!
//! Promises that the servers listen on loopback only and behind a password of their own, that they
//! keep port and data between runs, that they end with this process in an order it chooses (Ctrl-C
//! does not reach them), and that what a killed run left behind is ended before new servers start.
//! Never knows what the data mean: no SQL, no subjects.
//!
//! The order of a start: [`data_dir::DataDir::open`], then [`servers::Servers::start`] (or one of
//! [`postgres::PrivatePostgres::start`] and [`nats::PrivateNats::start`]), then
//! [`data_dir::DataDir::write_env`].

mod access;
mod child;
pub mod data_dir;
pub mod mock_ai;
pub mod nats;
mod orphans;
mod owned;
pub mod postgres;
pub mod programs;
mod roles;
pub mod run;
pub mod servers;
pub mod up;

#[cfg(test)]
mod tests;
