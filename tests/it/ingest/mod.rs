//! The doors: what a PBX sees, and what is stored of what it sent.

mod bodies;
mod client;
mod concurrency;
mod endings;
mod order;
