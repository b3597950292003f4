//! Whether the database is there, what its clock says, and what its failover would lose, for as long
//! as a process lives. It also sees to it that connections which fell silent while nobody used them
//! are replaced before somebody does.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Store, replication};
use crate::service::health::Health;

/// Time between looks: a quarter of what people wait before they reload.
const INTERVAL: Duration = Duration::from_secs(1);
/// Time between looks at the standbys.
const STANDBYS_INTERVAL: Duration = Duration::from_secs(30);

/// Reads the database's clock every second and reports to `health` whether that worked.
///
/// # Errors
/// Never; the type is that of a role's tasks.
pub async fn run(store: Store, health: Health, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut standbys = Standbys::default();
    loop {
        match store.sync_clock().await {
            Ok(()) => {
                health.ok("postgres");
                standbys.look(&store).await;
            }
            Err(error) => health.failing("postgres", error.to_string()),
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

/// What was said last about the standbys.
#[derive(Default)]
struct Standbys {
    looked_at: Option<Instant>,
    risk: Option<replication::Asynchronous>,
}

impl Standbys {
    /// Warns once, and again when it is otherwise.
    async fn look(&mut self, store: &Store) {
        if self.looked_at.is_some_and(|at| at.elapsed() < STANDBYS_INTERVAL) {
            return;
        }
        self.looked_at = Some(Instant::now());
        let risk = match replication::asynchronous(store).await {
            Ok(risk) => risk,
            // A server that does not let us see: there is nothing to say.
            Err(error) => return tracing::debug!(%error, "the standbys could not be looked at"),
        };
        let same = |one: &replication::Asynchronous, other: &replication::Asynchronous| {
            (&one.standbys, &one.why) == (&other.standbys, &other.why)
        };
        match (&risk, &self.risk) {
            (Some(now), Some(before)) if same(now, before) => {}
            (Some(replication::Asynchronous { standbys, why, behind_bytes }), _) => tracing::warn!(
                standbys,
                why,
                behind_bytes,
                "standbys follow asynchronously: a failover would lose the packets answered 202, and the \
                 transcripts, of its last moments; name them in synchronous_standby_names and leave synchronous_commit on"
            ),
            (None, Some(_)) => tracing::info!("no standby follows asynchronously any more"),
            (None, None) => {}
        }
        self.risk = risk;
    }
}
