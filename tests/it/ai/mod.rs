mod batches;
mod deaths;
mod fleet;
mod requests;
mod retries;
mod scene;
