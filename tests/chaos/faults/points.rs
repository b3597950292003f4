//! Chosen points: the steps between which a crash does the most harm, reached without any hook in the
//! product, by holding up what it waits for.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use sqlx::AssertSqlSafe;
use tokio::process::Command;

use crate::ai::Ai;
use crate::load::{Sender, prefix};
use crate::proxy::Wire;
use crate::roles::{Kind, To};
use crate::scene::{MOMENT_DEADLINE, Scene};
use crate::script::{self, Packet};
use crate::stack::{LEASE, in_time};
use crate::stop::{Outcome, Stop, expect};
use crate::wait;

pub(super) async fn commit_no_publish(scene: &mut Scene) -> Outcome {
    let place = scene.pick(Kind::Ingest);
    // It commits, and what it publishes gets no further than this wire.
    scene.role(place)?.wires.set(To::Nats, Wire::Silent);
    let left = "SELECT count(*) FROM outbox WHERE created_at < now() - interval '300 milliseconds'";
    scene.until_some("committed messages wait in the outbox", left).await?;
    scene.role(place)?.kill().await?;
    scene.role(place)?.wires.set(To::Nats, Wire::Whole);
    scene.healed();
    scene.hold_ms(300..2000).await;
    scene.role(place)?.start()?;
    Ok(())
}

/// Waits until a worker has claimed a call and its request gets no further than the wire.
async fn claimed(scene: &mut Scene) -> Outcome<usize> {
    let place = scene.pick(Kind::Worker);
    scene.role(place)?.wires.set(To::Ai, Wire::Silent);
    // Held since before the wire fell silent, it might be answered still.
    wait::hold(Duration::from_millis(300)).await;
    scene.until_holding(place).await?;
    Ok(place)
}

pub(super) async fn claimed_kill(scene: &mut Scene) -> Outcome {
    let place = claimed(scene).await?;
    scene.role(place)?.kill().await?;
    scene.role(place)?.wires.set(To::Ai, Wire::Whole);
    scene.healed();
    scene.hold_ms(300..1500).await;
    scene.role(place)?.start()?;
    Ok(())
}

pub(super) async fn claimed_pause(scene: &mut Scene) -> Outcome {
    let place = claimed(scene).await?;
    scene.role(place)?.signal(Signal::SIGSTOP)?;
    wait::hold(LEASE + scene.time_ms(1000..4000)).await;
    scene.role(place)?.wires.set(To::Ai, Wire::Whole);
    scene.role(place)?.signal(Signal::SIGCONT)?;
    scene.healed();
    Ok(())
}

pub(super) async fn answered_kill(scene: &mut Scene) -> Outcome {
    let place = scene.pick(Kind::Worker);
    for other in scene.stack.all(Kind::Worker).into_iter().filter(|other| *other != place) {
        // So that every answer is the chosen worker's.
        scene.role(other)?.wires.set(To::Ai, Wire::Silent);
    }
    wait::hold(Duration::from_millis(300)).await;
    // Nothing can be recorded until this ends.
    let lock = scene.lock("LOCK TABLE results IN ACCESS EXCLUSIVE MODE").await?;
    let before = scene.stack.ai.stats().await?.successes;
    let answered = async || scene.stack.ai.stats().await.is_ok_and(|stats| stats.successes > before);
    in_time(MOMENT_DEADLINE, "the AI service answers", answered).await?;
    waits_for(scene, "results.append").await?;
    scene.role(place)?.kill().await?;
    lock.rollback().await?;
    for other in scene.stack.all(Kind::Worker) {
        scene.role(other)?.wires.set(To::Ai, Wire::Whole);
    }
    scene.healed();
    scene.hold_ms(300..1500).await;
    scene.role(place)?.start()?;
    Ok(())
}

/// Waits until a statement of that name waits for a lock.
async fn waits_for(scene: &Scene, statement: &str) -> Outcome {
    let waiting = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '/* {statement} */%'"
    );
    scene.until_some(&format!("`{statement}` waits for a lock"), &waiting).await
}

/// A packet that was answered 202 before the claim belongs to what the attempt sends: packets are read
/// after the claim. The call's second attempt is held up in its claim by a lock on the call's row.
pub(super) async fn claim_blocked(scene: &mut Scene) -> Outcome {
    const TRIES: usize = 5;
    // The first attempt fails, and its retry is what is held up.
    scene.stack.ai.control(&json!({ "failure_rate": 0.0, "fail_first": 1 })).await?;
    let mut blocked = false;
    for number in 0..TRIES {
        let call_id = format!("{}late-{number}", prefix(scene.round));
        blocked = blocked_once(scene, &call_id).await?;
        if blocked {
            break;
        }
    }
    scene.stack.ai.control(&Ai::normal()).await?;
    scene.healed();
    expect(blocked, || "no claim was held up: no retry came while its call was locked".to_owned())
}

async fn blocked_once(scene: &mut Scene, call_id: &str) -> Outcome<bool> {
    // The end says 3, and 3 comes late.
    let first = script::packet(call_id, 1, "in time", false);
    let second = script::packet(call_id, 2, "in time as well", false).ending_at(3);
    send(scene, &[first, second]).await?;
    let waits = format!("SELECT count(*) FROM calls WHERE call_id = '{call_id}' AND ai_status = 'RETRY_SCHEDULED'");
    scene.until_some("the first attempt fails", &waits).await?;
    let locking = format!(
        "SET LOCAL lock_timeout = '50ms';
         SELECT key FROM calls WHERE call_id = '{call_id}' AND ai_status = 'RETRY_SCHEDULED' FOR UPDATE"
    );
    // The retry may be faster than the lock: then another call is tried.
    let Ok(lock) = scene.lock(&locking).await else { return Ok(false) };
    if scene.count(&waits).await? == 0 {
        lock.rollback().await?;
        return Ok(false);
    }
    let waiting = waits_for(scene, "calls.lock").await;
    if waiting.is_ok() {
        // Whoever reads packets before its claim has read them by now.
        send(scene, &[script::packet(call_id, 3, "late, and before the claim", false)]).await?;
        wait::hold(Duration::from_millis(1500)).await;
    }
    lock.rollback().await?;
    waiting.map(|()| true)
}

async fn send(scene: &Scene, packets: &[Packet]) -> Outcome {
    let shared = &scene.stack.load.shared;
    let mut sender = Sender::new(shared, 0);
    for packet in packets {
        shared.send(&mut sender, packet).await.map_err(Stop::from)?;
    }
    Ok(())
}

pub(super) async fn apply_kill(scene: &mut Scene) -> Outcome {
    let client = scene.stack.nats.client().clone();
    for _ in 0..4 {
        // Something to do for it.
        crate::jetstream::delete_consumer(&client, crate::jetstream::WORK, "replay").await.map_err(Stop::from)?;
        crate::jetstream::configure(&client, crate::jetstream::WORK, &json!({ "max_bytes": 100_000_000 })).await?;
        let mut apply: Command = scene.stack.command(&["topology", "apply"]);
        let mut applying = apply.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn()?;
        scene.hold_ms(0..80).await;
        // It may be done already.
        let _killed_or_done = applying.kill().await;
    }
    scene.healed();
    for command in [["topology", "apply"], ["topology", "check"]] {
        let done = scene.stack.callfleet(&command).await;
        expect(done.is_ok(), || {
            format!("after a killed apply: {:#}", done.err().unwrap_or_else(|| anyhow::anyhow!("?")))
        })?;
    }
    Ok(())
}

/// A call that takes its worker with it whenever it is tried.
pub(super) async fn poison_call(scene: &mut Scene) -> Outcome {
    const KILLS_MAX: usize = 8;
    scene.stack.load.rest(Duration::from_secs(10)).await;
    scene.stack.ai.control(&json!({ "mode": "hang" })).await?;
    let call_id = format!("{}poison", prefix(scene.round));
    send(scene, &[script::packet(&call_id, 1, "poison", true)]).await?;
    let dead = format!("SELECT count(*) FROM calls WHERE call_id = '{call_id}' AND ai_status = 'DEAD_LETTERED'");
    for _ in 0..KILLS_MAX {
        let taken = wait::until(LEASE * 4, async || {
            scene.count(&dead).await.is_ok_and(|dead| dead > 0) || scene.holder_of(&call_id).await.is_some()
        });
        expect(taken.await, || "nobody takes the call, and it is not given up".to_owned())?;
        let Some(holder) = scene.holder_of(&call_id).await else { break };
        kill_by_name(scene, &holder).await?;
    }
    let given_up = wait::until(LEASE * 4, async || scene.count(&dead).await.is_ok_and(|dead| dead > 0)).await;
    scene.stack.ai.control(&Ai::normal()).await?;
    scene.healed();
    expect(given_up, || "a call that kills every worker is not given up".to_owned())?;
    let attempts = format!(
        "SELECT count(*) FROM attempts a JOIN calls c ON c.key = a.call_key WHERE c.call_id = '{call_id}' AND a.charged"
    );
    let attempts = scene.count(&attempts).await?;
    expect(attempts == 5, || format!("a call that kills its worker was given up after {attempts} attempts, not 5"))
}

async fn kill_by_name(scene: &mut Scene, actor: &str) -> Outcome {
    for place in scene.stack.all(Kind::Worker) {
        if scene.role(place)?.actor() == actor {
            scene.role(place)?.kill().await?;
            scene.role(place)?.start()?;
        }
    }
    Ok(())
}

impl Scene {
    /// The worker that holds the call, of those that run.
    async fn holder_of(&self, call_id: &str) -> Option<String> {
        let statement = "SELECT a.worker FROM attempts a JOIN calls c ON c.key = a.call_key
                          WHERE c.call_id = $1 AND a.ended_at IS NULL AND c.lease_until > now()";
        let holder = sqlx::query_scalar::<_, String>(AssertSqlSafe(statement)).bind(call_id);
        let holder = holder.fetch_optional(self.stack.pool()).await.ok().flatten()?;
        self.stack.roles.iter().any(|role| role.actor() == holder).then_some(holder)
    }
}
