//! Roles that die, freeze and are asked to end.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::findings::Sort;
use crate::proxy::Wire;
use crate::roles::{Kind, READY_DEADLINE, To};
use crate::scene::Scene;
use crate::stack::LEASE;
use crate::stop::{Outcome, expect};
use crate::wait;

/// Calls of a worker that is gone are another's within the lease and this.
const TAKE_OVER: Duration = Duration::from_secs(2);
/// What never happens is given up on after this.
const TAKE_OVER_DEADLINE: Duration = Duration::from_secs(30);
/// A worker hands back what it could not finish within its deadline, and then has to end.
const HAND_BACK: Duration = Duration::from_secs(12);

/// Ends a role as a crash does and starts it again after a while.
async fn kill_and_restart(scene: &mut Scene, place: usize) -> Outcome {
    scene.role(place)?.kill().await?;
    scene.healed();
    scene.hold_ms(300..1500).await;
    scene.role(place)?.start()?;
    Ok(())
}

pub(super) async fn ingest_kill(scene: &mut Scene) -> Outcome {
    let place = scene.pick(Kind::Ingest);
    kill_and_restart(scene, place).await
}

pub(super) async fn worker_kill(scene: &mut Scene) -> Outcome {
    let place = scene.pick(Kind::Worker);
    scene.stack.ai.control(&json!({ "latency_ms": 800 })).await?;
    scene.until_holding(place).await?;
    // Held still first, so that it is known what it holds when it is killed.
    scene.role(place)?.signal(Signal::SIGSTOP)?;
    let leases = scene.leases_of(place).await?;
    let killed = Instant::now();
    scene.role(place)?.kill().await?;
    scene.healed();
    scene.notes.push(format!("it held {} calls", leases.len()));
    scene.stack.ai.control(&crate::ai::Ai::normal()).await?;
    let took = scene.until_taken_over(&leases, killed, TAKE_OVER_DEADLINE).await?;
    scene.goal("calls of the killed worker taken over", LEASE + TAKE_OVER, took);
    scene.role(place)?.start()?;
    Ok(())
}

pub(super) async fn notifier_kill(scene: &mut Scene) -> Outcome {
    let place = supervisors_notifier(scene);
    kill_and_restart(scene, place).await
}

/// The notifier that the supervisor is connected to.
fn supervisors_notifier(scene: &Scene) -> usize {
    let notifiers = scene.stack.all(Kind::Notifier);
    let at = scene.stack.supervisor.view().at.unwrap_or(0);
    notifiers.get(at).copied().unwrap_or_default()
}

pub(super) async fn ingest_pause(scene: &mut Scene) -> Outcome {
    let place = scene.pick(Kind::Ingest);
    // Its clients are right to find it silent, and go to the other one.
    scene.stack.load.shared.set_may_be_silent(true);
    scene.role(place)?.signal(Signal::SIGSTOP)?;
    scene.hold_ms(5500..8000).await;
    scene.role(place)?.signal(Signal::SIGCONT)?;
    scene.healed();
    Ok(())
}

pub(super) async fn notifier_pause(scene: &mut Scene) -> Outcome {
    let place = supervisors_notifier(scene);
    scene.role(place)?.signal(Signal::SIGSTOP)?;
    scene.hold_ms(2000..7000).await;
    scene.role(place)?.signal(Signal::SIGCONT)?;
    scene.healed();
    Ok(())
}

pub(super) async fn worker_pause(scene: &mut Scene) -> Outcome {
    pause_with_answers(scene, 0.0).await
}

pub(super) async fn worker_pause_last(scene: &mut Scene) -> Outcome {
    pause_with_answers(scene, 1.0).await
}

/// Freezes a worker whose answers are under way, and wakes it while another works on its calls: the
/// answers are there when it wakes, and it must not record one of them.
async fn pause_with_answers(scene: &mut Scene, failure_rate: f64) -> Outcome {
    let place = scene.pick(Kind::Worker);
    // Long enough for the second worker to be at it still when the first wakes.
    let slow = json!({ "latency_ms": 3000, "jitter_ms": 0, "failure_rate": failure_rate });
    scene.stack.ai.control(&slow).await?;
    scene.until_holding(place).await?;
    wait::hold(Duration::from_millis(300)).await;
    let paused = Instant::now();
    scene.role(place)?.signal(Signal::SIGSTOP)?;
    let leases = scene.leases_of(place).await?;
    expect(!leases.is_empty(), || "the worker lost its calls before it was paused".to_owned())?;
    let taken = scene.until_taken_over(&leases, paused, TAKE_OVER_DEADLINE).await;
    scene.role(place)?.signal(Signal::SIGCONT)?;
    scene.healed();
    let took = taken?;
    // It had its leases renewed at most just before it was paused.
    scene.goal("calls of the paused worker taken over", LEASE + TAKE_OVER, took);
    wait::hold(Duration::from_millis(500)).await;
    scene.stack.ai.control(&crate::ai::Ai::normal()).await?;
    Ok(())
}

pub(super) async fn rolling_restart(scene: &mut Scene) -> Outcome {
    // Long answers: whoever is asked to end has calls in hand.
    scene.stack.ai.control(&json!({ "latency_ms": 1000 })).await?;
    let began = chrono::Utc::now();
    let mut places: Vec<usize> = (0..scene.stack.roles.len()).collect();
    scene.dice.shuffle(&mut places);
    for place in places {
        let asked = Instant::now();
        let role = scene.role(place)?;
        let (name, ended) = (role.name().to_owned(), role.terminate().await?);
        scene.notes.push(format!("{name} ended after {:.1} s", asked.elapsed().as_secs_f64()));
        if !ended.is_some_and(|status| status.success()) {
            let said = scene.role(place)?.tail(5);
            scene.found(Sort::Broken, format!("{name} did not end cleanly on SIGTERM: {ended:?}\n{said}"));
        }
        scene.role(place)?.start()?;
        let ready = scene.role(place)?.until_ready(READY_DEADLINE).await;
        expect(ready, || format!("{name} does not get ready after a restart"))?;
    }
    scene.healed();
    scene.stack.ai.control(&crate::ai::Ai::normal()).await?;
    nobody_paid(scene, began).await?;
    slowest_job(scene, began).await?;
    let whole = scene.stack.load.shared.tally().whole;
    scene.notes.push(format!("first tries: {} of {} lost with a connection", whole.lost, whole.all));
    if whole.refused + whole.silent > 0 {
        let (refused, silent) = (whole.refused, whole.silent);
        let what = format!("a rolling restart refused {refused} first tries and left {silent} without an answer");
        scene.found(Sort::Goal, what);
    }
    Ok(())
}

/// No job waits for longer than a worker may take to hand it back, its own retries apart.
async fn slowest_job(scene: &mut Scene, since: chrono::DateTime<chrono::Utc>) -> Outcome {
    let slowest = sqlx::query_scalar::<_, Option<f64>>(
        "SELECT max(extract(epoch FROM archived_at - completed_at))::float8 FROM calls
          WHERE completed_at >= $1 AND attempts_charged <= 1",
    );
    let slowest = slowest.bind(since).fetch_one(scene.stack.pool()).await?.unwrap_or(0.0);
    scene.goal("slowest job during the restart", HAND_BACK, Duration::from_secs_f64(slowest.max(0.0)));
    Ok(())
}

/// Asking a worker to end costs no call an attempt.
async fn nobody_paid(scene: &mut Scene, since: chrono::DateTime<chrono::Utc>) -> Outcome {
    let paid = sqlx::query_scalar::<_, String>(
        "SELECT format('%s: attempt %s by %s ended as %s, charged %s', c.call_id, a.attempt, a.worker, a.class, a.charged)
           FROM attempts a JOIN calls c ON c.key = a.call_key
          WHERE a.ended_at >= $1 AND (a.class = 'crash' OR (a.class = 'handed_back' AND a.charged)) LIMIT 20",
    );
    let paid = paid.bind(since).fetch_all(scene.stack.pool()).await?;
    let what = "a worker that was asked to end left or charged calls";
    scene.findings.extend(crate::findings::Finding::of(Sort::Broken, what, &paid));
    Ok(())
}

/// A worker whose requests hang, all of them begun.
async fn with_hanging_requests(scene: &mut Scene) -> Outcome<usize> {
    let place = scene.pick(Kind::Worker);
    scene.role(place)?.wires.set(To::Ai, Wire::Silent);
    scene.until_holding(place).await?;
    Ok(place)
}

pub(super) async fn hand_back(scene: &mut Scene) -> Outcome {
    let began = chrono::Utc::now();
    // The requests must outlast the worker's patience, not run into their own time-out.
    let place = with_hanging_requests(scene).await?;
    let leases = scene.leases_of(place).await?;
    let asked = Instant::now();
    scene.role(place)?.signal(Signal::SIGTERM)?;
    let took = scene.until_taken_over(&leases, asked, HAND_BACK + LEASE).await?;
    scene.goal("calls handed back", HAND_BACK, took);
    let name = scene.role(place)?.name().to_owned();
    let ended = scene.role(place)?.end(HAND_BACK).await?;
    if !ended.is_some_and(|status| status.success()) {
        scene.found(Sort::Broken, format!("{name} did not end cleanly on SIGTERM: {ended:?}"));
    }
    scene.role(place)?.wires.set(To::Ai, Wire::Whole);
    scene.healed();
    scene.role(place)?.start()?;
    nobody_paid(scene, began).await
}

pub(super) async fn second_signal(scene: &mut Scene) -> Outcome {
    const AT_ONCE: Duration = Duration::from_secs(1);
    let place = with_hanging_requests(scene).await?;
    scene.role(place)?.signal(Signal::SIGTERM)?;
    scene.hold_ms(200..400).await;
    let asked = Instant::now();
    scene.role(place)?.signal(Signal::SIGTERM)?;
    let ended = scene.role(place)?.end(HAND_BACK).await?;
    scene.goal("end after a second signal", AT_ONCE, asked.elapsed());
    expect(ended.is_some(), || "a worker does not end on a second signal".to_owned())?;
    scene.role(place)?.wires.set(To::Ai, Wire::Whole);
    scene.healed();
    scene.role(place)?.start()?;
    Ok(())
}
