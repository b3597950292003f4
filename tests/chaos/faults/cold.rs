//! Roles that are started while a store is away: they have to wait for it, not to give up.

use std::time::Duration;

use crate::http::Connection;
use crate::load::{ANSWER_DEADLINE, Sender, prefix};
use crate::roles::{Kind, READY_DEADLINE};
use crate::scene::Scene;
use crate::script;
use crate::stop::{Outcome, expect};
use crate::wait;

use super::stores::{moves_again, nats_back};

/// Longer than a role's patience with a server that does not answer at its start.
const AWAY: Duration = Duration::from_secs(12);

pub(super) async fn ingest(scene: &mut Scene) -> Outcome {
    let place = scene.pick(Kind::Ingest);
    scene.stack.postgres.kill().await?;
    scene.role(place)?.kill().await?;
    scene.role(place)?.start()?;
    let accepts = accepts(scene, place).await;
    scene.hold_ms(300..1000).await;
    scene.stack.postgres.start_again().await?;
    scene.healed();
    accepts
}

pub(super) async fn ingest_without_nats(scene: &mut Scene) -> Outcome {
    let place = scene.pick(Kind::Ingest);
    let all = scene.stack.nats.all();
    scene.stack.nats.kill(&all).await?;
    scene.role(place)?.kill().await?;
    scene.role(place)?.start()?;
    let accepts = accepts(scene, place).await;
    scene.hold_ms(300..1000).await;
    nats_back(scene).await?;
    accepts
}

/// Whether the ingest that was just started takes a packet, with one store away.
async fn accepts(scene: &mut Scene, place: usize) -> Outcome {
    let port = scene.role(place)?.port();
    let packet = script::packet(&format!("{}cold", prefix(scene.round)), 1, "the first packet", true);
    let shared = std::sync::Arc::clone(&scene.stack.load.shared);
    shared.ledger.offer(&packet.offered)?;
    let mut last = "nothing".to_owned();
    let accepted = wait::until(Duration::from_secs(10), async || {
        let answer = Connection::new(port).post(&packet.path(), &packet.body(), ANSWER_DEADLINE).await;
        last = answer.as_ref().map_or_else(|lost| format!("{lost:?}"), |answer| answer.status.to_string());
        answer.is_ok_and(|answer| answer.status == 202)
    });
    let accepted = accepted.await;
    let role = scene.role(place)?;
    let (name, up, said) = (role.name().to_owned(), role.is_up(), role.tail(3));
    if accepted {
        // The answer comes into the ledger by way of a copy.
        shared.send(&mut Sender::new(&shared, 0), &packet).await?;
    }
    expect(accepted, || {
        format!(
            "{name}, started while a store is away, takes no packet (the last answer: {last}; running: {up}):\n{said}"
        )
    })
}

pub(super) async fn worker(scene: &mut Scene) -> Outcome {
    let all = scene.stack.nats.all();
    scene.one_store_down(true);
    scene.stack.nats.kill(&all).await?;
    restart_workers_and_wait(scene).await?;
    nats_back(scene).await?;
    they_live(scene, Kind::Worker).await
}

pub(super) async fn worker_without_postgres(scene: &mut Scene) -> Outcome {
    scene.stack.postgres.kill().await?;
    restart_workers_and_wait(scene).await?;
    scene.stack.postgres.start_again().await?;
    scene.healed();
    they_live(scene, Kind::Worker).await
}

/// All of them: none is left that was there before and could do their work.
async fn restart_workers_and_wait(scene: &mut Scene) -> Outcome {
    for place in scene.stack.all(Kind::Worker) {
        scene.role(place)?.kill().await?;
        scene.role(place)?.start()?;
    }
    wait::hold(AWAY).await;
    Ok(())
}

pub(super) async fn notifier(scene: &mut Scene) -> Outcome {
    let all = scene.stack.nats.all();
    scene.one_store_down(true);
    scene.stack.nats.kill(&all).await?;
    for place in scene.stack.all(Kind::Notifier) {
        scene.role(place)?.kill().await?;
        scene.role(place)?.start()?;
    }
    wait::hold(AWAY).await;
    nats_back(scene).await?;
    they_live(scene, Kind::Notifier).await
}

/// Those that were started are there still, get ready, and the fleet moves.
async fn they_live(scene: &mut Scene, kind: Kind) -> Outcome {
    let since = chrono::Utc::now();
    let mut dead = Vec::new();
    for place in scene.stack.all(kind) {
        let role = scene.role(place)?;
        if let Some((status, said)) = role.ended_unasked() {
            dead.push(format!("{} ({status}): {}", role.name(), said.lines().next_back().unwrap_or_default()));
        }
    }
    expect(dead.is_empty(), || format!("started while a store is away, they gave up:\n{}", dead.join("\n")))?;
    for place in scene.stack.all(kind) {
        let role = scene.role(place)?;
        let ready = role.until_ready(READY_DEADLINE).await;
        let (name, says) = (role.name().to_owned(), role.readiness().await);
        expect(ready, || format!("{name}, started while a store was away, does not get ready: {says}"))?;
    }
    moves_again(scene, since).await
}
