//! What a fault has at hand: the stack, dice from the seed, and a place for what it finds.

use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::{DateTime, Utc};
use sqlx::types::Uuid;
use sqlx::{AssertSqlSafe, PgPool};

use crate::findings::{Finding, Sort};
use crate::jetstream;
use crate::roles::{Kind, Role};
use crate::stack::{Stack, in_time};
use crate::stop::{Outcome, Stop};
use crate::wait;

/// Time for what a fault waits for so as to strike at the right moment.
pub(crate) const MOMENT_DEADLINE: Duration = Duration::from_secs(15);

/// A moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) at: DateTime<Utc>,
    pub(crate) instant: Instant,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { at: Utc::now(), instant: Instant::now() }
    }
}

/// One round, while it runs.
pub(crate) struct Scene {
    pub(crate) stack: Stack,
    pub(crate) dice: fastrand::Rng,
    pub(crate) round: usize,
    /// What goals of time are multiplied by.
    pub(crate) slack: f64,
    pub(crate) findings: Vec<Finding>,
    /// What else is worth telling.
    pub(crate) notes: Vec<String>,
    pub(crate) healed: Option<Moment>,
}

impl Scene {
    pub(crate) const fn new(stack: Stack, dice: fastrand::Rng, slack: f64) -> Self {
        Self { stack, dice, round: 0, slack, findings: Vec::new(), notes: Vec::new(), healed: None }
    }

    /// Begins the next round.
    pub(crate) fn begin(&mut self, round: usize, seed: u64) {
        self.round = round;
        self.dice = fastrand::Rng::with_seed(seed);
        self.findings.clear();
        self.notes.clear();
        self.healed = None;
    }

    /// From here on the product has all it needs: its recovery is counted from the last call of this.
    pub(crate) fn healed(&mut self) {
        self.healed = Some(Moment::now());
    }

    pub(crate) fn found(&mut self, sort: Sort, what: impl Into<String>) {
        self.findings.push(Finding::new(sort, what));
    }

    /// A goal of time, which a busy machine may be given more of.
    pub(crate) fn goal(&mut self, what: &str, goal: Duration, took: Duration) {
        self.notes.push(format!("{what}: {:.1} s", took.as_secs_f64()));
        if took > goal.mul_f64(self.slack) {
            self.found(
                Sort::Goal,
                format!("{what} took {:.1} s, the goal is {:.1} s", took.as_secs_f64(), goal.as_secs_f64()),
            );
        }
    }

    /// One of the roles of a kind.
    pub(crate) fn pick(&mut self, kind: Kind) -> usize {
        let all = self.stack.all(kind);
        let chosen = self.dice.usize(..all.len().max(1));
        all.get(chosen).copied().unwrap_or_default()
    }

    pub(crate) fn role(&mut self, place: usize) -> Outcome<&mut Role> {
        self.stack.role(place)
    }

    /// A time between two bounds, from the dice.
    pub(crate) fn time_ms(&mut self, between: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.dice.u64(between))
    }

    /// Lets the fault last for a time between two bounds.
    pub(crate) async fn hold_ms(&mut self, between: std::ops::Range<u64>) {
        wait::hold(self.time_ms(between)).await;
    }

    /// From now on, until told otherwise, exactly one store is down.
    pub(crate) fn one_store_down(&self, is_down: bool) {
        self.stack.load.shared.set_one_store_down(is_down);
    }

    /// The one number that a statement gives.
    pub(crate) async fn count(&self, statement: &str) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar(AssertSqlSafe(statement.to_owned())).fetch_one(self.stack.pool()).await
    }

    /// Waits until a statement counts something.
    pub(crate) async fn until_some(&self, what: &str, statement: &str) -> Outcome {
        let counted = async || self.count(statement).await.is_ok_and(|count| count > 0);
        in_time(MOMENT_DEADLINE, what, counted).await
    }

    /// Waits until the worker holds a call.
    pub(crate) async fn until_holding(&mut self, worker: usize) -> Outcome {
        let actor = self.role(worker)?.actor();
        let holds = async || leases_of(self.stack.pool(), &actor).await.is_ok_and(|leases| !leases.is_empty());
        in_time(MOMENT_DEADLINE, &format!("{actor} holds a call"), holds).await
    }

    /// The lease tokens that the worker holds.
    pub(crate) async fn leases_of(&mut self, worker: usize) -> Outcome<Vec<Uuid>> {
        let actor = self.role(worker)?.actor();
        Ok(leases_of(self.stack.pool(), &actor).await?)
    }

    /// Waits until nobody holds the leases any more, and says how long that took since `moment`.
    pub(crate) async fn until_taken_over(
        &self,
        leases: &[Uuid],
        since: Instant,
        deadline: Duration,
    ) -> Outcome<Duration> {
        let gone = wait::until(deadline, async || {
            let held = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM calls WHERE lease_token = ANY($1)");
            held.bind(leases).fetch_one(self.stack.pool()).await.is_ok_and(|count| count == 0)
        });
        let gone = gone.await;
        crate::stop::expect(gone, || format!("calls of a worker that is gone are not taken over within {deadline:?}"))?;
        Ok(since.elapsed())
    }

    /// How many messages a stream holds; none when there is no such stream or nobody answers.
    pub(crate) async fn messages(&self, stream: &str) -> Option<u64> {
        let found = jetstream::stream(self.stack.nats.client(), stream).await;
        found.ok().flatten().map(|stream| stream.messages)
    }

    /// Opens a transaction past all wires and runs a statement in it that holds something.
    pub(crate) async fn lock(&self, statement: &str) -> Outcome<sqlx::Transaction<'static, sqlx::Postgres>> {
        let mut tx = self.stack.pool().begin().await?;
        let locked = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut *tx).await;
        locked.with_context(|| format!("the suite's own lock: {statement}")).map_err(Stop::from)?;
        Ok(tx)
    }
}

/// The lease tokens of calls that the actor was the last to claim: from the timeline, not from the
/// attempts, which are under test themselves.
async fn leases_of(pool: &PgPool, actor: &str) -> Result<Vec<Uuid>, sqlx::Error> {
    let leases = sqlx::query_scalar(
        "SELECT c.lease_token FROM calls c
          CROSS JOIN LATERAL (SELECT actor FROM transitions t WHERE t.call_key = c.key AND t.actor <> 'ingest'
                               ORDER BY t.version DESC LIMIT 1) last
          WHERE c.lease_token IS NOT NULL AND last.actor = $1",
    );
    leases.bind(actor).fetch_all(pool).await
}
