//! HTTP in: packets to the store, calls back out.
//!
//! Promises that a 2xx is durable, that whatever is wrong with a request is a problem+json which
//! names it, and that a call id is percent-decoded once. Never talks to the broker itself.

pub mod call_id;
pub mod queries;
