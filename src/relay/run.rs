//! The relay's tasks: what this process commits goes out at once, what any process left behind
//! within seconds.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::at_once::at_once;
use super::forget::{self, forget};
use super::sweep::keep_sweeping;
use super::{Receiver, jittered};
use crate::broker::{self, Broker};
use crate::service::health::Health;
use crate::store::Store;

/// Pause between two tries to connect at the start.
const CONNECT_PAUSE: Duration = Duration::from_secs(1);

/// Relays what comes over `messages` until the last handle is gone, and what was left behind until
/// `shutdown`.
///
/// After `shutdown` it waits some seconds for handles that are still out; what comes later stays in
/// the outbox.
///
/// # Errors
/// Never; the type is that of a role's tasks.
pub async fn run(store: Store, broker: Broker, messages: Receiver, shutdown: CancellationToken) -> anyhow::Result<()> {
    let (published, safe) = forget::channel();
    tokio::join!(
        at_once(&broker, messages, published, &shutdown),
        forget(&store, safe, &shutdown),
        keep_sweeping(&store, &broker, &shutdown),
    );
    Ok(())
}

/// As [`run`], for roles that work while the broker is away: connects first, for as long as it takes.
///
/// # Errors
/// Never; the type is that of a role's tasks.
pub async fn run_connecting(
    store: Store,
    broker: broker::Options,
    messages: Receiver,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    // Not the role's own health: it is ready as long as it can store.
    let health = Health::new();
    loop {
        let connected = tokio::select! {
            connected = connect(&broker, &health) => connected,
            // What was handed over stays in the outbox, where the next relay finds it.
            () = shutdown.cancelled() => return Ok(()),
        };
        match connected {
            Ok(broker) => return run(store, broker, messages, shutdown).await,
            Err(error) => tracing::warn!(%error, "no broker yet: announcements wait in the outbox"),
        }
        tokio::time::sleep(jittered(CONNECT_PAUSE)).await;
    }
}

async fn connect(options: &broker::Options, health: &Health) -> anyhow::Result<Broker> {
    let broker = Broker::connect(options, "relay", health).await?;
    broker::topology::ensure(&broker).await?;
    Ok(broker)
}
