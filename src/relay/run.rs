//! The relay's tasks: what this process commits goes out at once, what any process left behind
//! within seconds.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::at_once::at_once;
use super::forget::{self, forget};
use super::sweep::keep_sweeping;
use super::{Receiver, jittered};
use crate::broker::{self, Broker};
use crate::store::Store;

/// Pause between two looks at a broker that cannot be used yet.
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

/// As [`run`], for roles that work while the broker is away: waits for it, for as long as it takes.
///
/// # Errors
/// Never; the type is that of a role's tasks.
pub async fn run_once_connected(
    store: Store,
    broker: Broker,
    messages: Receiver,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        let usable = async {
            broker.connected().await;
            broker.can_be_used().await?;
            broker::topology::ensure(&broker).await?;
            anyhow::Ok(())
        };
        let usable = tokio::select! {
            usable = usable => usable,
            // What was handed over stays in the outbox, where the next relay finds it.
            () = shutdown.cancelled() => return Ok(()),
        };
        match usable {
            Ok(()) => return run(store, broker, messages, shutdown).await,
            Err(error) => tracing::warn!(%error, "no broker yet: announcements wait in the outbox"),
        }
        tokio::time::sleep(jittered(CONNECT_PAUSE)).await;
    }
}
