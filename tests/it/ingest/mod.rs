//! The doors: what a PBX sees, and what is stored of what it sent.

mod bodies;
pub(crate) mod client;
mod concurrency;
mod endings;
mod order;
mod queries;
