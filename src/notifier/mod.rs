//! State changes to supervisors: the stream in once, WebSockets out.
//!
//! Promises that a view is a snapshot followed by every later change without a hole; that `seq`
//! means "you have everything up to here" and only rises; that the heartbeat says `down` when the
//! broker is gone although the socket lives; that memory is bounded and one slow reader delays nobody
//! else. Never writes anything, never makes one consumer for each browser. Lets out [`Options`],
//! [`Notifier`], its [`router`] and [`run`], which feeds it.

mod door;
mod event;
mod feed;
mod filter;
mod hub;
mod passed;
mod session;
mod snapshot;
mod socket;
mod source;
mod view;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use clap::Args;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::service::duration;
use crate::store::Store;
pub use feed::{run, run_connecting};
use filter::Filter;
use hub::Hub;

/// Snapshots read from the database at once; the others wait, so that a fleet of supervisors that
/// comes back together does not take all its connections.
const SNAPSHOTS_AT_ONCE: usize = 4;

/// How supervisors are served.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Time between heartbeats on a WebSocket
    #[arg(long, env = "CALLFLEET_WS_HEARTBEAT", default_value = "30s", value_name = "TIME", value_parser = duration::parse_positive)]
    pub ws_heartbeat: Duration,
    /// WebSockets served at once; later ones are told to come back
    #[arg(long, env = "CALLFLEET_WS_CONNECTIONS", default_value = "10000", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub ws_connections: u32,
    /// Changes that wait for a slow reader; one that falls further behind gets a new snapshot
    #[arg(long, env = "CALLFLEET_WS_QUEUE", default_value = "4096", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub ws_queue: u32,
    /// Longest time a WebSocket may take no data before it is closed
    #[arg(long, env = "CALLFLEET_WS_WRITE_TIMEOUT", default_value = "10s", value_name = "TIME", value_parser = duration::parse_positive)]
    pub ws_write_timeout: Duration,
    /// Web origins, beside our own, whose pages may open WebSockets, such as `https://ops.example.com`
    #[arg(long = "allowed-origin", env = "CALLFLEET_ALLOWED_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    pub allowed_origins: Vec<String>,
}

/// A notifier: its connections and what they share. A clone is the same notifier.
#[derive(Clone, Debug)]
pub struct Notifier {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: Options,
    store: Store,
    hub: Arc<Hub>,
    /// Places for connections.
    places: Arc<Semaphore>,
    snapshots: Semaphore,
    connections: TaskTracker,
    shutdown: CancellationToken,
}

impl Notifier {
    /// A notifier that reads snapshots from `store`, and whose connections are told to go away on
    /// `shutdown`. It has nothing to tell until [`run`] feeds it.
    #[must_use]
    pub fn new(options: Options, store: Store, shutdown: CancellationToken) -> Self {
        let places = usize::try_from(options.ws_connections).unwrap_or(usize::MAX);
        let hub = Hub::new(usize::try_from(options.ws_queue).unwrap_or(usize::MAX));
        Self {
            shared: Arc::new(Shared {
                options,
                store,
                hub,
                places: Arc::new(Semaphore::new(places)),
                snapshots: Semaphore::new(SNAPSHOTS_AT_ONCE),
                connections: TaskTracker::new(),
                shutdown,
            }),
        }
    }
}

/// `GET /api/v1/ws/supervisor/{supervisor_id}`.
pub fn router(notifier: Notifier) -> Router {
    Router::new().route("/api/v1/ws/supervisor/{supervisor_id}", get(door::open)).with_state(notifier)
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
