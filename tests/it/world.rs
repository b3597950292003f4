//! A world of its own for each test: a database and streams on the servers that `DATABASE_URL` and
//! `NATS_URL` name, and whatever roles the test starts in it.

use std::time::{Duration, Instant};

use axum::Router;
use callfleet::broker::{self, Broker};
use callfleet::domain::Policy;
use callfleet::service::health::Health;
use callfleet::service::tasks::Tasks;
use callfleet::spool::Spool;
use callfleet::store::{self, Purpose, Store};
use callfleet::{ingest, relay};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::wait;

/// One test's world. Call [`World::finish`] at the end: it proves that nothing is left over.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) broker: Broker,
    pub(crate) policy: Policy,
    pub(crate) health: Health,
    pub(crate) relay: relay::Handle,
    pub(crate) shutdown: CancellationToken,
    pub(crate) tasks: Tasks,
    pub(crate) name: String,
    /// A way to the database beside the store.
    pub(crate) pool: sqlx::PgPool,
    pub(crate) database_url: String,
    admin_url: String,
}

/// The environment variable of that name, which scripts/test sets.
pub(crate) fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests with scripts/test"))
}

impl World {
    /// A world with a schema, a topology and a relay, and nothing else in it.
    pub(crate) async fn new() -> Self {
        Self::with(Policy::default()).await
    }

    /// As [`World::new`], with times of its own.
    pub(crate) async fn with(policy: Policy) -> Self {
        let name = format!("t{}", &Uuid::new_v4().simple().to_string()[..12]);
        let admin_url = setting("DATABASE_URL");
        execute(&admin_url, &format!("CREATE DATABASE {name}")).await;
        let (server, _) = admin_url.rsplit_once('/').unwrap();
        let database_url = format!("{server}/{name}");
        let store = Store::connect_unchecked(&database(&database_url), "test", Purpose::Role).await.unwrap();
        store::schema::migrate(&store).await.unwrap();
        let pool = pool(&database_url).await;
        let health = Health::new();
        let options = broker::Options {
            nats_url: setting("NATS_URL").parse().unwrap(),
            settings: broker::Settings { nats_prefix: name.parse().unwrap(), nats_replicas: 1, ack_wait: policy.lease },
        };
        let broker = Broker::connect(&options, "test", &health).await.unwrap();
        broker::topology::ensure(&broker).await.unwrap();
        let shutdown = CancellationToken::new();
        let mut tasks = Tasks::new(shutdown.clone());
        let (relay, messages) = relay::channel();
        tasks.spawn("relay", relay::run(store.clone(), broker.clone(), messages, shutdown.clone()));
        Self { store, broker, policy, health, relay, shutdown, tasks, name, pool, database_url, admin_url }
    }

    /// Ingest's doors, in this process.
    pub(crate) fn ingest(&mut self) -> Router {
        self.ingest_with(&ingest_options())
    }

    /// As [`World::ingest`], with limits of its own.
    pub(crate) fn ingest_with(&mut self, options: &ingest::Options) -> Router {
        let ingest = ingest::Ingest {
            store: self.store.clone(),
            relay: self.relay.clone(),
            policy: self.policy.clone(),
            spool: Spool::new(self.broker.clone(), true),
            is_cold: false,
            health: self.health.clone(),
        };
        ingest::start(options, &ingest, &mut self.tasks)
    }

    /// Lets an ingest of another process store packets, and so silence count, for as long as the test
    /// lasts.
    pub(crate) async fn is_storing(&self) {
        let sign = "INSERT INTO ingests VALUES ('elsewhere', '2000-01-01', now() + interval '1 day')";
        self.execute(sign).await.unwrap();
    }

    /// The rows of a statement, as JSON objects.
    pub(crate) async fn rows(&self, statement: &str) -> Vec<Value> {
        let rows = format!("SELECT to_jsonb(r) FROM ({statement}) r");
        sqlx::query_scalar(sqlx::AssertSqlSafe(rows)).fetch_all(&self.pool).await.unwrap()
    }

    /// The one value of a statement, as JSON.
    pub(crate) async fn value(&self, statement: &str) -> Value {
        let rows = self.rows(statement).await;
        rows.first().and_then(|row| row.as_object()?.values().next().cloned()).unwrap_or(Value::Null)
    }

    /// Executes a statement, and returns what the database said against it.
    pub(crate) async fn execute(&self, statement: &str) -> Result<u64, sqlx::Error> {
        let statement = sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned()));
        statement.execute(&self.pool).await.map(|done| done.rows_affected())
    }

    /// Waits until the statement's one value is `expected`.
    pub(crate) async fn until(&self, statement: &str, expected: impl Into<Value>) {
        let expected = expected.into();
        wait::until(statement, async || self.value(statement).await == expected).await;
    }

    /// JetStream past the program.
    pub(crate) async fn jetstream(&self) -> async_nats::jetstream::Context {
        async_nats::jetstream::new(nats().await)
    }

    /// A stream's name in this world.
    pub(crate) fn stream(&self, name: &str) -> String {
        format!("{}_{name}", self.name)
    }

    /// How many messages a stream holds.
    pub(crate) async fn messages(&self, stream: &str) -> u64 {
        let mut stream = self.jetstream().await.get_stream(self.stream(stream)).await.unwrap();
        stream.info().await.unwrap().state.messages
    }

    /// Ends all roles and proves that nothing is left over: no message in the outbox, no job in the
    /// work stream but those of calls that wait for one, a dead letter for each call given up, a line
    /// in the timeline for each version, no attempt without an end. Then removes database and streams.
    pub(crate) async fn finish(self) {
        self.until("SELECT count(*) FROM outbox", 0).await;
        let waiting = "SELECT count(*) FROM calls WHERE ai_status IN ('PENDING', 'RUNNING', 'RETRY_SCHEDULED')";
        let waiting = self.value(waiting).await.as_u64().unwrap();
        wait::until("no job is left over", async || self.messages("CALL_WORK").await <= waiting).await;
        let letters = self.value("SELECT count(*) FROM dead_letters").await;
        assert_eq!(self.messages("CALL_DLQ").await, letters, "dead letters, one to one");
        let jumps = "SELECT call_id FROM calls c
                      WHERE version <> (SELECT count(*) FROM transitions t WHERE t.call_key = c.key)";
        assert_eq!(self.rows(jumps).await, [Value::Null; 0], "versions are contiguous");
        let endless = "SELECT c.call_id FROM attempts a JOIN calls c ON c.key = a.call_key
                        WHERE a.ended_at IS NULL AND c.ai_status <> 'RUNNING'";
        assert_eq!(self.rows(endless).await, [Value::Null; 0], "attempts end with their calls");
        self.abandon().await;
    }

    /// Ends all roles and removes database and streams, whatever is left in them.
    pub(crate) async fn abandon(self) {
        self.shutdown.cancel();
        drop(self.relay);
        let began = Instant::now();
        self.tasks.join().await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(20), "the roles took {:?} to end", began.elapsed());
        self.store.close(Duration::from_secs(5)).await;
        self.pool.close().await;
        let jetstream = async_nats::jetstream::new(nats().await);
        for stream in ["CALL_WORK", "CALL_STATE", "CALL_DLQ", "CALL_SPOOL"] {
            jetstream.delete_stream(format!("{}_{stream}", self.name)).await.unwrap();
        }
        execute(&self.admin_url, &format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
    }
}

/// A plain client of the server that `NATS_URL` names.
pub(crate) async fn nats() -> async_nats::Client {
    let url = setting("NATS_URL");
    let (scheme, rest) = url.split_once("://").unwrap();
    match rest.rsplit_once('@') {
        None => async_nats::connect(&url).await.unwrap(),
        Some((credentials, address)) => {
            let (user, password) = credentials.split_once(':').unwrap();
            let options = async_nats::ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned());
            options.connect(format!("{scheme}://{address}")).await.unwrap()
        }
    }
}

/// How ingest takes packets, where a test says nothing else.
pub(crate) fn ingest_options() -> ingest::Options {
    ingest::Options {
        writers: 2,
        call_max_packets: 100_000,
        call_max_bytes: 64 * 1024 * 1024,
        gap_grace: Duration::from_millis(100),
        store_deadline: Duration::from_secs(1),
        spool_r1: true,
    }
}

/// The options of a role for a database.
pub(crate) fn database(url: &str) -> store::Options {
    store::Options { database_url: url.to_owned(), database_connections: 12, database_timeout: Duration::from_secs(5) }
}

async fn pool(url: &str) -> sqlx::PgPool {
    sqlx::postgres::PgPoolOptions::new().max_connections(1).connect(url).await.unwrap()
}

async fn execute(url: &str, statement: &str) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned())).execute(&pool(url).await).await.unwrap();
}
