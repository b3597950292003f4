//! Ingest put together: doors, writers, closer and gap watch.

use axum::Router;

use super::closer::{self, Closer};
use super::docs;
use super::door::{self, Counts, Doors};
use super::drain::{self, Drain};
use super::flush::Rules;
use super::gaps::{self, GapWatch};
use super::options::Options;
use super::queries;
use super::queue::Queue;
use super::reach::{Reach, keep_looking};
use super::tracker::Tracker;
use super::writer::Writer;
use crate::domain::Policy;
use crate::relay;
use crate::service::health::Health;
use crate::service::tasks::Tasks;
use crate::spool::Spool;
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
    /// Where packets go while the store does not answer.
    pub spool: Spool,
    /// PostgreSQL has not answered yet.
    pub is_cold: bool,
    /// Who is told whether packets are accepted.
    pub health: Health,
}

/// Starts ingest's tasks in `tasks` and returns its doors. They end one after the other once the
/// doors are closed: writers, then closer and gap watch.
pub fn start(options: &Options, ingest: &Ingest, tasks: &mut Tasks) -> Router {
    let (gap_watch, gap_queue) = GapWatch::new();
    let (closer, closer_queue) = Closer::new();
    let (queue, writers) = Queue::new(options.writer_count());
    let reach = Reach::new(!ingest.is_cold);
    let shutdown = tasks.shutdown().clone();
    let looking = keep_looking(
        ingest.store.clone(),
        ingest.spool.clone(),
        reach.clone(),
        ingest.health.clone(),
        shutdown.clone(),
    );
    tasks.spawn("signs of life", looking);
    for waiting in writers {
        let writer = Writer {
            session: Session::new(ingest.store.clone()),
            store: ingest.store.clone(),
            rules: Rules { policy: ingest.policy.clone(), caps: options.caps() },
            tracker: Tracker::default(),
            relay: ingest.relay.clone(),
            gaps: gap_watch.clone(),
            closer: closer.clone(),
            spool: ingest.spool.clone(),
            reach: reach.clone(),
            deadline: options.store_deadline,
        };
        tasks.spawn("packet writer", writer.run(waiting, shutdown.clone()));
    }
    tasks.spawn("gap watch", gaps::run(ingest.store.clone(), ingest.spool.clone(), options.gap_grace, gap_queue));
    let (store, policy, relay) = (ingest.store.clone(), ingest.policy.clone(), ingest.relay.clone());
    tasks.spawn("closer", closer::run(store, policy, relay, closer_queue));
    let drain = Drain {
        spool: ingest.spool.clone(),
        queue: queue.clone(),
        reach,
        store: ingest.store.clone(),
        relay: ingest.relay.clone(),
    };
    tasks.spawn("drain", drain::run(drain, shutdown));
    let doors = door::router(Doors { queue, store: ingest.store.clone(), counts: Counts::new() });
    docs::with_docs(doors.merge(queries::router(ingest.store.clone())))
}
