//! What supervisors see.

mod client;
mod door;
mod faults;
mod stage;
mod view;
mod watch;
