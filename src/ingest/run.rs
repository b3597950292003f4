//! Ingest put together: doors, writers, closer and gap watch.

use axum::Router;

use super::closer::{self, Closer};
use super::docs;
use super::door::{self, Counts, Doors};
use super::flush::Rules;
use super::gaps::{self, GapWatch};
use super::options::Options;
use super::queries;
use super::queue::Queue;
use super::tracker::Tracker;
use super::writer::Writer;
use crate::domain::Policy;
use crate::relay;
use crate::service::health::Health;
use crate::service::tasks::Tasks;
use crate::store::{Session, Store};

/// What ingest works with.
#[derive(Clone, Debug)]
pub struct Ingest {
    /// Where packets go.
    pub store: Store,
    /// Where committed messages go.
    pub relay: relay::Handle,
    /// The times that calls live by.
    pub policy: Policy,
    /// Who is told whether packets can be stored.
    pub health: Health,
}

/// Starts ingest's tasks in `tasks` and returns its doors. They end one after the other once the
/// doors are closed: writers, then closer and gap watch.
pub fn start(options: &Options, ingest: &Ingest, tasks: &mut Tasks) -> Router {
    let (gap_watch, gap_queue) = GapWatch::new();
    let (closer, closer_queue) = Closer::new();
    let (queue, writers) = Queue::new(options.writer_count());
    let shutdown = tasks.shutdown().clone();
    for waiting in writers {
        let writer = Writer {
            session: Session::new(ingest.store.clone()),
            store: ingest.store.clone(),
            rules: Rules { policy: ingest.policy.clone(), caps: options.caps() },
            tracker: Tracker::default(),
            relay: ingest.relay.clone(),
            gaps: gap_watch.clone(),
            closer: closer.clone(),
            health: ingest.health.clone(),
        };
        tasks.spawn("packet writer", writer.run(waiting, shutdown.clone()));
    }
    tasks.spawn("gap watch", gaps::run(ingest.store.clone(), options.gap_grace, gap_queue));
    let (store, policy, relay) = (ingest.store.clone(), ingest.policy.clone(), ingest.relay.clone());
    tasks.spawn("closer", closer::run(store, policy, relay, closer_queue));
    let doors = door::router(Doors { queue, store: ingest.store.clone(), counts: Counts::new() });
    docs::with_docs(doors.merge(queries::router(ingest.store.clone())))
}
