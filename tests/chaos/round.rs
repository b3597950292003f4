//! One round: load, fault, heal, recovery, drain, checks.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::checks::{self, Memory};
use crate::faults::When;
use crate::findings::{Finding, Sort};
use crate::jetstream::{SPOOL, WORK};
use crate::load::prefix;
use crate::plan::Round;
use crate::scene::{Moment, Scene};
use crate::stop::Stop;
use crate::tally::Tries;
use crate::wait;

/// Time for the load to flow before a fault strikes.
const FLOW_DEADLINE: Duration = Duration::from_secs(30);
/// Calls that were archived before a fault strikes.
const FLOWING: i64 = 5;
/// What a fault itself may take, its own waits included.
const FAULT_DEADLINE: Duration = Duration::from_secs(150);
const LONG_FAULT_DEADLINE: Duration = Duration::from_secs(900);
const RECOVERY_DEADLINE: Duration = Duration::from_secs(60);
/// Time for every sender to have its call answered.
const REST_DEADLINE: Duration = Duration::from_secs(30);
const DRAIN_DEADLINE: Duration = Duration::from_secs(60);
const READY_DEADLINE: Duration = Duration::from_secs(15);

/// What a round came to.
pub(crate) struct Report {
    pub(crate) round: Round,
    pub(crate) took: Duration,
    pub(crate) packets: u64,
    pub(crate) calls: usize,
    pub(crate) whole: Tries,
    pub(crate) one_store_down: Tries,
    pub(crate) spooled: u64,
    pub(crate) latency_p99: Duration,
    /// From the heal to the first archived call, and to the end of the backlog.
    pub(crate) first: Option<Duration>,
    pub(crate) empty: Option<Duration>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) notes: Vec<String>,
}

impl Report {
    pub(crate) fn count(&self, sort: Sort) -> u64 {
        self.findings.iter().filter(|finding| finding.sort == sort).map(|finding| finding.count).sum()
    }

    /// Whether the next fault had better find everything new: what is wrong now would be found again.
    pub(crate) fn leaves_traces(&self) -> bool {
        self.findings.iter().any(|finding| finding.sort != Sort::Goal)
    }
}

/// Runs a round.
///
/// # Errors
/// When the suite itself cannot go on.
pub(crate) async fn run(scene: &mut Scene, round: &Round, memory: &mut Memory) -> anyhow::Result<Report> {
    let began = Instant::now();
    scene.begin(round.number, round.seed);
    scene.stack.load.begin(round.number)?;
    let flowing =
        format!("SELECT count(*) FROM calls WHERE state = 'ARCHIVED' AND call_id LIKE '{}%'", prefix(round.number));
    if wait::until(FLOW_DEADLINE, async || scene.count(&flowing).await.is_ok_and(|count| count >= FLOWING)).await {
        inject(scene, round).await?;
    } else {
        scene.found(Sort::Broken, format!("no call is archived within {FLOW_DEADLINE:?}, before any fault"));
    }
    let healed = scene.healed.unwrap_or_else(Moment::now);
    let ended = scene.stack.ended_unasked();
    scene.findings.extend(ended.into_iter().map(|what| Finding::new(Sort::Broken, what)));
    scene.stack.mend().await?;
    let (first, empty) = recovery(scene, &healed).await;
    judge_recovery(scene, round, first, empty);
    settle(scene).await?;
    match checks::all(&scene.stack, round.number, memory).await {
        Ok(findings) => scene.findings.extend(findings),
        Err(error) => return Err(error.context("a check could not be made")),
    }
    let (shared, calls) = (&scene.stack.load.shared, scene.stack.load.shared.ledger.calls());
    let tally = shared.tally();
    let report = Report {
        round: *round,
        took: began.elapsed(),
        packets: tally.whole.all,
        calls,
        whole: tally.whole,
        one_store_down: tally.one_store_down,
        spooled: tally.spooled,
        latency_p99: tally.latency(0.99),
        first,
        empty,
        findings: std::mem::take(&mut scene.findings),
        notes: std::mem::take(&mut scene.notes),
    };
    drop(tally);
    Ok(report)
}

async fn inject(scene: &mut Scene, round: &Round) -> anyhow::Result<()> {
    let deadline = if round.fault.when == When::Once { LONG_FAULT_DEADLINE } else { FAULT_DEADLINE };
    match wait::within(deadline, (round.fault.run)(scene)).await {
        Some(Ok(())) => {}
        Some(Err(Stop::Product(what))) => scene.found(Sort::Broken, what),
        Some(Err(Stop::Suite(error))) => return Err(error.context(format!("in {}", round.fault.name))),
        None => scene.found(Sort::Broken, format!("the fault did not come to its end within {deadline:?}")),
    }
    Ok(())
}

/// Waits for the first call archived after the heal, and for the end of everything that had been
/// accepted whole before it.
async fn recovery(scene: &Scene, healed: &Moment) -> (Option<Duration>, Option<Duration>) {
    let backlog = scene.stack.load.shared.ledger.ended_before(healed.at);
    let (mut first, mut empty) = (None, None);
    wait::until(RECOVERY_DEADLINE, async || {
        if first.is_none() {
            first = first_archived(scene, healed.at).await.ok().flatten();
        }
        if empty.is_none() && is_empty(scene, &backlog, healed.at).await.is_ok_and(|is_empty| is_empty) {
            empty = Some(healed.instant.elapsed());
        }
        first.is_some() && empty.is_some()
    })
    .await;
    (first, empty)
}

async fn first_archived(scene: &Scene, healed: DateTime<Utc>) -> Result<Option<Duration>, sqlx::Error> {
    let first =
        sqlx::query_scalar::<_, Option<DateTime<Utc>>>("SELECT min(archived_at) FROM calls WHERE archived_at > $1");
    let first = first.bind(healed).fetch_one(scene.stack.pool()).await?;
    Ok(first.and_then(|first| (first - healed).to_std().ok()))
}

async fn is_empty(scene: &Scene, backlog: &[String], healed: DateTime<Utc>) -> Result<bool, sqlx::Error> {
    let ended = sqlx::query_scalar::<_, i64>(
        "SELECT count(*) FROM calls WHERE call_id = ANY($1) AND (state = 'ARCHIVED' OR ai_status = 'DEAD_LETTERED')",
    );
    let ended = ended.bind(backlog).fetch_one(scene.stack.pool()).await?;
    let unsent = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM outbox WHERE created_at <= $1");
    let unsent = unsent.bind(healed).fetch_one(scene.stack.pool()).await?;
    Ok(usize::try_from(ended).is_ok_and(|ended| ended == backlog.len()) && unsent == 0)
}

fn judge_recovery(scene: &mut Scene, round: &Round, first: Option<Duration>, empty: Option<Duration>) {
    let goals = round.fault.goals;
    for (what, goal, took) in [("first archived call", goals.first, first), ("backlog empty", goals.empty, empty)] {
        match (goal, took) {
            (Some(goal), Some(took)) if took > goal.mul_f64(scene.slack) => {
                let (took, goal) = (took.as_secs_f64(), goal.as_secs_f64());
                scene.found(Sort::Goal, format!("{what} {took:.1} s after the heal, the goal is {goal:.1} s"));
            }
            (_, None) => {
                scene.found(Sort::Lost, format!("{what}: not within {RECOVERY_DEADLINE:?} of the heal"));
            }
            _ => {}
        }
    }
}

/// Lets every call come to its end and says what does not.
async fn settle(scene: &mut Scene) -> anyhow::Result<()> {
    if !scene.stack.load.rest(REST_DEADLINE).await {
        scene.stack.load.check()?;
        scene.found(Sort::Lost, format!("senders are still without a 202 {REST_DEADLINE:?} after the heal"));
    }
    scene.stack.load.check()?;
    let open = "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM calls
                 WHERE NOT (state = 'ARCHIVED' OR ai_status = 'DEAD_LETTERED'))";
    let began = Instant::now();
    let drained = wait::until(DRAIN_DEADLINE, async || {
        scene.count(open).await.is_ok_and(|count| count == 0)
            && scene.messages(SPOOL).await.unwrap_or(0) == 0
            && scene.messages(WORK).await.is_some_and(|count| count == 0)
    });
    if drained.await {
        scene.notes.push(format!("drained {:.1} s after the load", began.elapsed().as_secs_f64()));
    } else {
        scene.found(Sort::Lost, format!("not drained {DRAIN_DEADLINE:?} after the end of the load"));
    }
    let unready = scene.stack.unready(READY_DEADLINE).await;
    scene.findings.extend(Finding::of(Sort::Broken, "roles that do not get ready again", &unready));
    // One that died of what came after the heal.
    let ended = scene.stack.ended_unasked();
    scene.findings.extend(ended.into_iter().map(|what| Finding::new(Sort::Broken, what)));
    let (problems, down, slowest) = {
        let mut tally = scene.stack.load.shared.tally();
        (std::mem::take(&mut tally.problems), tally.one_store_down, tally.slowest)
    };
    if down.all > 0 {
        let what = "of the first tries while one store was down";
        scene
            .notes
            .push(format!("{} of {} {what} answered 202, the slowest answer {slowest:.1?}", down.accepted, down.all));
    }
    scene.findings.extend(Finding::of(Sort::Broken, "answers that a sender should not get", &problems));
    judge_first_tries(scene, &down);
    Ok(())
}

fn judge_first_tries(scene: &mut Scene, down: &Tries) {
    // One in a few hundred is within what a run of many rounds may have: that goal is the whole run's.
    const FEW: u64 = 1;
    let Some(share) = down.share().filter(|share| *share < crate::faults::FIRST_TRY) else { return };
    if down.all - down.accepted > FEW {
        let Tries { all, refused, lost, silent, .. } = *down;
        scene.found(
            Sort::Goal,
            format!(
                "while exactly one store was down {:.2}% of {all} packets were answered 202 at their first try \
                 ({refused} refused, {lost} lost, {silent} unanswered), the goal is 99.9%",
                share * 100.0
            ),
        );
    }
}
