//! The broker against the server that `NATS_URL` names; each test in streams of its own.

mod feed;
mod jobs;
mod restart;
mod scratch;
mod survey;
mod topology;
