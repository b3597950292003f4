//! What operators see, and the proof that everything balances.

mod audit;
mod commands;
pub(crate) mod stages;
