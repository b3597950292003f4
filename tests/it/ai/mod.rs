mod batches;
mod deaths;
mod fleet;
mod requests;
mod retries;
pub(crate) mod scene;
