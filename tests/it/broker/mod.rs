//! The broker against the server that `NATS_URL` names; each test in streams of its own.

mod jobs;
mod scratch;
mod topology;
