//! A link to PostgreSQL on which nothing passes and that does not say so.

use std::time::{Duration, Instant};

use callfleet::domain::CallKey;
use callfleet::service::health::Health;
use callfleet::store::{Options, Purpose, Session, Store, StoreError, calls, claim, outbox, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::wire::{Wire, server};
use crate::wait::{soon, until};
use crate::world::{World, database};

/// The time after which PostgreSQL counts as away, in these tests.
const TIMEOUT: Duration = Duration::from_millis(500);
/// Within this every statement has ended: a connection to get, and the statement with its slack.
const BOUND: Duration = Duration::from_secs(8);

/// A world's database at the end of a wire.
struct Far {
    world: World,
    wire: Wire,
    store: Store,
}

impl Far {
    async fn new() -> Self {
        let world = World::new().await;
        let wire = Wire::to(&server(&world.database_url)).await;
        let options = Options { database_timeout: TIMEOUT, ..database(&wire.through(&world.database_url)) };
        let store = Store::connect(&options, "far", Purpose::Role).await.unwrap();
        Self { world, wire, store }
    }

    /// As many connections as there may be, all idle.
    async fn with_idle_connections() -> Self {
        let far = Self::new().await;
        let mut open = Vec::new();
        for _ in 0..database("").database_connections {
            open.push(far.store.begin().await.unwrap());
        }
        for tx in open {
            tx.rollback().await.unwrap();
        }
        until("all are idle", async || far.backends().await >= u64::from(database("").database_connections)).await;
        far
    }

    /// Connections that the server knows.
    async fn backends(&self) -> u64 {
        let ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'callfleet far'
                       AND datname = current_database()";
        self.world.count(ours).await
    }

    async fn end(self) {
        self.wire.mend();
        self.store.close(Duration::from_secs(5)).await;
        self.world.finish().await;
    }
}

fn is_away<T: std::fmt::Debug>(answer: &Result<T, StoreError>) {
    assert!(matches!(answer, Err(error) if error.is_transient()), "{answer:?}");
}

#[tokio::test]
async fn a_statement_on_a_silent_link_ends_in_time_and_the_next_one_is_answered() {
    let far = Far::new().await;
    let key = far.world.open("a", &[1]).await;
    let mut session = Session::new(far.store.clone());
    assert_eq!(calls::load(session.connection().await.unwrap(), &[key]).await.unwrap().len(), 1);

    far.wire.strand();
    let began = Instant::now();
    is_away(&calls::load(session.connection().await.unwrap(), &[key]).await);
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    // The same session, and everybody else: on new connections.
    let began = Instant::now();
    assert_eq!(calls::load(session.connection().await.unwrap(), &[key]).await.unwrap().len(), 1);
    assert!(calls::find(&far.store, key).await.unwrap().is_some());
    assert!(began.elapsed() < TIMEOUT * 10, "{:?}", began.elapsed());
    drop(session);
    far.end().await;
}

#[tokio::test]
async fn a_commit_on_a_silent_link_ends_in_time_and_leaves_no_lock_behind() {
    let far = Far::new().await;
    let key = far.world.open("a", &[1]).await;
    let mut tx = far.store.begin().await.unwrap();
    let mark = calls::EndMark { key, reason: "hangup".to_owned(), final_sequence: None, settled_at: far.store.now() };
    calls::mark_ended(&mut tx, &[mark], far.store.now()).await.unwrap();
    far.wire.strand();
    let began = Instant::now();
    is_away(&tx.commit().await);
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    // The server has heard nothing of it, and ends a transaction that stands still.
    far.world.until("SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'", 0).await;
    assert!(far.world.call(key).await.end.is_none());
    far.world.end(key, None).await;
    far.end().await;
}

#[tokio::test]
async fn connections_that_died_in_silence_cost_one_wait_and_not_one_each() {
    let far = Far::with_idle_connections().await;
    far.wire.strand();
    let began = Instant::now();
    let statements = (0..40).map(|_| outbox::depth(&far.store));
    for answer in futures_util::future::join_all(statements).await {
        answer.unwrap();
    }
    assert!(began.elapsed() < TIMEOUT * 10, "{:?}", began.elapsed());
    far.end().await;
}

#[tokio::test]
async fn while_nothing_passes_every_statement_ends_in_time_and_works_again_when_it_does() {
    let far = Far::with_idle_connections().await;
    let key = far.world.open("a", &[1]).await;
    far.wire.silence();
    for _ in 0..3 {
        let began = Instant::now();
        let mut session = Session::new(far.store.clone());
        let wish = claim::Claim { key, generation: 1, token: uuid::Uuid::new_v4(), worker: "w".into() };
        let claims = async { claim::claim(&mut session, &[wish], None, &far.world.policy).await.map(drop) };
        let (found, opened, claimed) = tokio::join!(calls::find(&far.store, key), far.store.begin(), claims);
        is_away(&found);
        is_away(&opened);
        is_away(&claimed);
        assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    }
    far.wire.mend();
    let began = Instant::now();
    assert!(calls::find(&far.store, key).await.unwrap().is_some());
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    far.end().await;
}

#[tokio::test]
async fn an_idle_role_notices_silence_by_itself_and_is_ready_again_by_itself() {
    let far = Far::with_idle_connections().await;
    let (health, stop, tasks) = (Health::new(), CancellationToken::new(), TaskTracker::new());
    tasks.spawn(watch::run(far.store.clone(), health.clone(), stop.clone()));
    tasks.close();
    far.wire.silence();
    until("red", async || health.failures().contains_key("postgres")).await;
    far.wire.mend();
    until("green", async || health.failures().is_empty()).await;
    stop.cancel();
    soon("the end of the watch", tasks.wait()).await;
    far.end().await;
}

#[tokio::test]
async fn a_statement_that_its_caller_gave_up_leaves_nothing_to_the_next_one() {
    let far = Far::new().await;
    let key: CallKey = far.world.open("a", &[1]).await;
    let mut holder = far.world.pool.begin().await.unwrap();
    sqlx::query("SELECT FROM calls FOR UPDATE").execute(&mut *holder).await.unwrap();
    // More than there are connections, each waiting for the row and left by its caller.
    for _ in 0..3 * database("").database_connections {
        let key = [key];
        let marked = calls::mark_over_limit(&far.store, &key);
        assert!(tokio::time::timeout(Duration::from_millis(20), marked).await.is_err());
    }
    let began = Instant::now();
    assert_eq!(calls::find(&far.store, key).await.unwrap().unwrap().key, key);
    assert!(began.elapsed() < TIMEOUT * 10, "{:?}", began.elapsed());
    holder.rollback().await.unwrap();
    far.end().await;
}
