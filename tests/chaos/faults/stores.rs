//! Stores that go away and come back: PostgreSQL, NATS, and both.

use std::time::{Duration, Instant};

use crate::findings::Sort;
use crate::http::Connection;
use crate::jetstream;
use crate::load::{ANSWER_DEADLINE, prefix};
use crate::roles::Kind;
use crate::scene::{MOMENT_DEADLINE, Scene};
use crate::script;
use crate::stack::IDLE;
use crate::stop::{Outcome, expect};
use crate::wait;

/// Time for a worker to say that it is not ready.
const RED_DEADLINE: Duration = Duration::from_secs(8);

pub(super) async fn postgres_restart(scene: &mut Scene) -> Outcome {
    scene.one_store_down(true);
    scene.stack.postgres.stop_at_once().await?;
    scene.hold_ms(800..2500).await;
    postgres_back(scene).await
}

pub(super) async fn postgres_kill(scene: &mut Scene) -> Outcome {
    scene.one_store_down(true);
    scene.stack.postgres.kill().await?;
    scene.hold_ms(800..2500).await;
    postgres_back(scene).await
}

pub(super) async fn postgres_outage(scene: &mut Scene) -> Outcome {
    scene.one_store_down(true);
    scene.stack.postgres.stop_at_once().await?;
    let since = chrono::Utc::now();
    workers_say_so(scene).await?;
    wait::hold(IDLE + scene.time_ms(1500..3000)).await;
    postgres_back(scene).await?;
    none_idled(scene, since).await
}

async fn postgres_back(scene: &mut Scene) -> Outcome {
    scene.stack.postgres.start_again().await?;
    scene.one_store_down(false);
    scene.healed();
    Ok(())
}

/// Senders that were merely cut off did not fall silent: their calls go on.
async fn none_idled(scene: &mut Scene, since: chrono::DateTime<chrono::Utc>) -> Outcome {
    // The ticks of all reconcilers, and the senders' next tries.
    wait::hold(Duration::from_secs(2)).await;
    let idled = sqlx::query_scalar::<_, String>(
        "SELECT c.call_id FROM transitions t JOIN calls c ON c.key = t.call_key
          WHERE t.to_state = 'COMPLETED' AND t.reason = 'idle' AND t.at >= $1 ORDER BY 1 LIMIT 200",
    );
    let idled = idled.bind(since).fetch_all(scene.stack.pool()).await?;
    let what = "calls were idled that were merely cut off by an outage";
    scene.findings.extend(crate::findings::Finding::of(Sort::Broken, what, &idled));
    Ok(())
}

/// There is work and none moves: `/readyz` has to say so.
async fn workers_say_so(scene: &mut Scene) -> Outcome {
    let place = scene.pick(Kind::Worker);
    let role = scene.role(place)?;
    let red = wait::until(RED_DEADLINE, async || !role.is_ready().await).await;
    let name = role.name().to_owned();
    if !red {
        scene.found(Sort::Broken, format!("/readyz of {name} stays green for {RED_DEADLINE:?} with a store away"));
    }
    Ok(())
}

pub(super) async fn postgres_failover(scene: &mut Scene) -> Outcome {
    scene.stack.postgres.add_standby().await?;
    // Everything until here is on both.
    scene.hold_ms(300..800).await;
    scene.one_store_down(true);
    scene.stack.postgres.kill().await?;
    scene.hold_ms(500..1500).await;
    scene.stack.postgres.promote().await?;
    scene.one_store_down(false);
    scene.healed();
    Ok(())
}

pub(super) async fn nats_restart(scene: &mut Scene) -> Outcome {
    let all = scene.stack.nats.all();
    scene.one_store_down(true);
    scene.stack.nats.terminate(&all).await?;
    scene.hold_ms(800..2500).await;
    nats_back(scene).await
}

pub(super) async fn nats_kill(scene: &mut Scene) -> Outcome {
    let all = scene.stack.nats.all();
    scene.one_store_down(true);
    scene.stack.nats.kill(&all).await?;
    workers_say_so(scene).await?;
    scene.hold_ms(300..1500).await;
    nats_back(scene).await
}

pub(super) async fn nats_back(scene: &mut Scene) -> Outcome {
    scene.stack.nats.start_again().await?;
    scene.one_store_down(false);
    scene.healed();
    Ok(())
}

pub(super) async fn leader_kill(scene: &mut Scene) -> Outcome {
    let stream = jetstream::stream(scene.stack.nats.client(), jetstream::WORK).await?;
    let leader = stream.and_then(|stream| stream.leader).unwrap_or_default();
    let place = scene.stack.nats.named(&leader).unwrap_or(0);
    scene.one_store_down(true);
    scene.stack.nats.kill(&[place]).await?;
    // The two others elect one of them: that is all the fleet needs.
    scene.healed();
    scene.hold_ms(2500..4000).await;
    scene.stack.nats.start_again().await?;
    scene.one_store_down(false);
    Ok(())
}

pub(super) async fn quorum_lost(scene: &mut Scene) -> Outcome {
    let mut places = scene.stack.nats.all();
    scene.dice.shuffle(&mut places);
    places.truncate(2);
    scene.one_store_down(true);
    scene.stack.nats.kill(&places).await?;
    scene.hold_ms(1500..3500).await;
    nats_back(scene).await
}

pub(super) async fn both_down(scene: &mut Scene) -> Outcome {
    const PROBES: usize = 6;
    let all = scene.stack.nats.all();
    scene.stack.postgres.kill().await?;
    scene.stack.nats.kill(&all).await?;
    wait::hold(Duration::from_millis(500)).await;
    let mut probes = Vec::new();
    for place in scene.stack.all(Kind::Ingest).into_iter().cycle().take(PROBES) {
        let port = scene.role(place)?.port();
        // Offered once, and not sent again.
        let packet = script::packet(&format!("{}probe-{}", prefix(scene.round), probes.len()), 1, "not now", true);
        scene.stack.load.shared.ledger.offer(&packet.offered)?;
        probes.push(probe(port, packet));
    }
    let probed = futures_util::future::join_all(probes).await;
    for what in probed.into_iter().flatten() {
        scene.found(Sort::Broken, format!("both stores down: {what}"));
    }
    scene.hold_ms(300..1000).await;
    if scene.dice.bool() {
        scene.stack.postgres.start_again().await?;
        scene.hold_ms(200..1000).await;
        nats_back(scene).await
    } else {
        scene.stack.nats.start_again().await?;
        scene.hold_ms(200..1000).await;
        postgres_back(scene).await
    }
}

/// What was answered, unless it is 503 with Retry-After.
async fn probe(port: u16, packet: script::Packet) -> Option<String> {
    let began = Instant::now();
    match Connection::new(port).post(&packet.path(), &packet.body(), ANSWER_DEADLINE).await {
        Ok(answer) if answer.status == 503 && answer.retry_after.is_some() => None,
        Ok(answer) => Some(format!("{} with Retry-After {:?} instead of 503", answer.status, answer.retry_after)),
        Err(lost) => Some(format!("no 503 but {lost:?} after {:?}", began.elapsed())),
    }
}

/// Waits until the fleet moves again: a call is archived after `since`.
pub(super) async fn moves_again(scene: &Scene, since: chrono::DateTime<chrono::Utc>) -> Outcome {
    let moved = wait::until(MOMENT_DEADLINE, async || {
        let archived = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM calls WHERE archived_at > $1");
        archived.bind(since).fetch_one(scene.stack.pool()).await.is_ok_and(|count| count > 0)
    });
    expect(moved.await, || format!("no call is archived within {MOMENT_DEADLINE:?}"))
}
