//! JetStream loses its memory, or has no room for more.

use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};

use super::ai;
use super::stores::nats_back;
use crate::ai::Ai;
use crate::findings::Sort;
use crate::jetstream::{self, DLQ, STATE, WORK};
use crate::load::{Sender, prefix};
use crate::scene::{MOMENT_DEADLINE, Scene};
use crate::script;
use crate::stack::in_time;
use crate::stop::{Outcome, Stop, expect};
use crate::wait;

/// Ends all servers, removes their stores, and starts them again.
pub(super) async fn wiped(scene: &mut Scene) -> Outcome {
    scene.one_store_down(true);
    wipe(scene).await?;
    scene.hold_ms(200..1500).await;
    nats_back(scene).await
}

async fn wipe(scene: &mut Scene) -> Outcome {
    let all = scene.stack.nats.all();
    scene.stack.nats.kill(&all).await?;
    scene.stack.nats.wipe(&all)?;
    Ok(())
}

pub(super) async fn work_deleted(scene: &mut Scene) -> Outcome {
    // Slow answers, so that jobs are on the stream and in hands when it goes.
    scene.stack.ai.control(&json!({ "latency_ms": 500 })).await?;
    scene.hold_ms(700..1000).await;
    scene.one_store_down(true);
    jetstream::delete_stream(scene.stack.nats.client(), WORK).await?;
    scene.healed();
    there_again(scene, WORK).await?;
    scene.stack.ai.control(&Ai::normal()).await?;
    Ok(())
}

pub(super) async fn state_deleted(scene: &mut Scene) -> Outcome {
    scene.one_store_down(true);
    jetstream::delete_stream(scene.stack.nats.client(), STATE).await?;
    scene.healed();
    there_again(scene, STATE).await
}

pub(super) async fn letters_deleted(scene: &mut Scene) -> Outcome {
    ai::let_calls_die(scene).await?;
    scene.one_store_down(true);
    jetstream::delete_stream(scene.stack.nats.client(), DLQ).await?;
    scene.healed();
    there_again(scene, DLQ).await
}

/// Roles create what is missing.
async fn there_again(scene: &mut Scene, stream: &str) -> Outcome {
    let again = async || scene.messages(stream).await.is_some();
    let came = in_time(MOMENT_DEADLINE, &format!("{stream} is created again"), again).await;
    scene.one_store_down(false);
    came
}

pub(super) async fn consumer_deleted(scene: &mut Scene) -> Outcome {
    scene.stack.ai.control(&json!({ "latency_ms": 500 })).await?;
    scene.hold_ms(500..1000).await;
    jetstream::delete_consumer(scene.stack.nats.client(), WORK, "live").await?;
    scene.healed();
    scene.hold_ms(500..1000).await;
    scene.stack.ai.control(&Ai::normal()).await?;
    Ok(())
}

pub(super) async fn work_purged(scene: &mut Scene) -> Outcome {
    // Failures that come back soon: their messages wait on the stream.
    scene.stack.ai.control(&json!({ "failure_rate": 1.0 })).await?;
    scene.hold_ms(700..1000).await;
    scene.stack.ai.control(&Ai::normal()).await?;
    jetstream::purge(scene.stack.nats.client(), WORK).await?;
    scene.healed();
    Ok(())
}

pub(super) async fn full(scene: &mut Scene) -> Outcome {
    let client = scene.stack.nats.client().clone();
    let mut rooms: Vec<(&str, Value)> = Vec::new();
    for name in [WORK, DLQ] {
        let stream = jetstream::stream(&client, name).await?.context("a stream is missing")?;
        rooms.push((name, stream.config.get("max_bytes").cloned().unwrap_or_default()));
        jetstream::configure(&client, name, &json!({ "max_bytes": 1 })).await?;
    }
    scene.one_store_down(true);
    scene.hold_ms(2500..4000).await;
    for (name, max_bytes) in rooms {
        jetstream::configure(&client, name, &json!({ "max_bytes": max_bytes })).await?;
    }
    scene.one_store_down(false);
    scene.healed();
    Ok(())
}

pub(super) async fn disk_full(scene: &mut Scene) -> Outcome {
    let Some(disk) = scene.stack.nats.disk() else {
        scene.notes.push("NOT RUN: this machine lets us mount no file system of our own".to_owned());
        scene.healed();
        return Ok(());
    };
    disk.fill()?;
    scene.one_store_down(true);
    scene.hold_ms(3000..4500).await;
    // What an operator does: room first, then a restart, for nats-server takes nothing more until then.
    scene.stack.nats.disk().context("the disk is gone")?.free()?;
    let all = scene.stack.nats.all();
    scene.stack.nats.kill(&all).await?;
    nats_back(scene).await
}

/// 10,000 calls wait; their messages go; how long until every job is on the stream again?
pub(super) async fn wiped_with_backlog(scene: &mut Scene) -> Outcome {
    const CALLS: usize = 10_000;
    const SENDERS: usize = 16;
    const WHOLE: Duration = Duration::from_secs(60);
    // Answers so slow that the backlog stays one.
    scene.stack.ai.control(&json!({ "latency_ms": 10_000, "jitter_ms": 0, "failure_rate": 0.0 })).await?;
    let shared = std::sync::Arc::clone(&scene.stack.load.shared);
    let name = format!("{}wipe-", prefix(scene.round));
    let batches = (0..SENDERS).map(|number| {
        let (shared, name) = (std::sync::Arc::clone(&shared), name.clone());
        async move {
            let mut sender = Sender::new(&shared, number);
            for call in (number..CALLS).step_by(SENDERS) {
                let packet = script::packet(&format!("{name}{call}"), 1, "one of many", true);
                shared.send(&mut sender, &packet).await?;
            }
            anyhow::Ok(())
        }
    });
    futures_util::future::try_join_all(batches).await.map_err(Stop::from)?;
    let waiting = "SELECT count(*) FROM calls WHERE ai_status IN ('PENDING', 'RETRY_SCHEDULED')";
    let at_least = i64::try_from(CALLS / 2).unwrap_or(0);
    let piled = async || scene.count(waiting).await.is_ok_and(|count| count > at_least);
    in_time(MOMENT_DEADLINE, "a backlog piles up", piled).await?;
    wipe(scene).await?;
    nats_back(scene).await?;
    let back = Instant::now();
    let whole = wait::until(WHOLE * 3, async || {
        let jobs = scene.messages(WORK).await.unwrap_or(0);
        scene.count(waiting).await.is_ok_and(|count| u64::try_from(count).is_ok_and(|count| jobs >= count && count > 0))
    });
    let whole = whole.await;
    scene.stack.ai.control(&json!({ "latency_ms": 0, "failure_rate": 0.0 })).await?;
    expect(whole, || "the backlog is not whole again".to_owned())?;
    scene.goal("backlog of 10,000 calls whole again", WHOLE, back.elapsed());
    drain(scene, waiting).await
}

/// Lets the backlog go through before the round's own patience begins.
async fn drain(scene: &mut Scene, waiting: &str) -> Outcome {
    const PATIENCE: Duration = Duration::from_secs(240);
    let drained = wait::until(PATIENCE, async || scene.count(waiting).await.is_ok_and(|count| count < 100)).await;
    if !drained {
        scene.found(Sort::Lost, format!("the backlog does not drain within {PATIENCE:?}"));
    }
    scene.healed();
    Ok(())
}
