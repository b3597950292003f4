//! Four small scenes that show what holds when a PBX does everything at once.

use std::time::Duration;

use anyhow::{bail, ensure};
use futures_util::future::{try_join, try_join_all};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::ledger::Ledger;
use super::load::SentCall;
use super::server::Server;
use crate::domain::State;
use crate::wire::call::{CallView, Timeline, TimelineEntry};
use crate::wire::receipt::{Receipt, Stored};

/// Time in which a call must come to look as its packets say: counts may trail the 202.
const DEADLINE: Duration = Duration::from_secs(15);
/// Pause between two looks at a call.
const PAUSE: Duration = Duration::from_millis(100);
/// What the scenes' packets say when they were sent.
const SENT_AT: f64 = 1_738_411_815.123;

/// How a scene went.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Scene {
    pub(super) name: &'static str,
    pub(super) ok: bool,
    /// What was seen
    pub(super) detail: String,
}

/// Where the scenes play.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    pub(super) server: &'a Server,
    pub(super) ledger: &'a Ledger,
    pub(super) prefix: &'a str,
}

/// Plays all four, each on a call of its own; the calls are left to be transcribed.
///
/// A scene that fails is an outcome, not an error.
pub(super) async fn play(stage: &Stage<'_>, mut seen: impl FnMut(&Scene)) -> (Vec<Scene>, Vec<SentCall>) {
    let mut scenes = Vec::new();
    let mut note = |name, outcome: anyhow::Result<String>| {
        let (ok, detail) = match outcome {
            Ok(detail) => (true, detail),
            Err(error) => (false, format!("{error:#}")),
        };
        let scene = Scene { name, ok, detail };
        seen(&scene);
        scenes.push(scene);
    };
    note("duplicates are stored once", stage.duplicates().await);
    note("packets of the same instant are both stored", stage.same_instant().await);
    note("50 requests at once lose no update", stage.fifty_at_once().await);
    note("changes at once end consistent", stage.changes_at_once().await);
    let calls = [("copies", 5), ("instant", 2), ("fifty", 50), ("changes", 10)];
    let calls =
        calls.map(|(name, stored)| SentCall { call_id: stage.call_id(name), stored, dropped: 0, is_scene: true });
    (scenes, calls.into())
}

impl Stage<'_> {
    async fn duplicates(&self) -> anyhow::Result<String> {
        let call_id = self.call_id("copies");
        let sends = (0..15).map(|copy| self.send(&call_id, packet(copy % 5 + 1)));
        let receipts = try_join_all(sends).await?;
        let new = receipts.iter().filter(|receipt| receipt.status == Stored::Accepted).count();
        ensure!(new == 5, "{new} of 15 copies of 5 packets were called new");
        let call =
            self.eventually(&call_id, |call| call.packets.received == 5 && call.packets.duplicates == 10).await?;
        self.server.end(&call_id, 5).await?;
        Ok(format!(
            "5 packets sent 3 times at once: {} stored, {} duplicates",
            call.packets.received, call.packets.duplicates
        ))
    }

    async fn same_instant(&self) -> anyhow::Result<String> {
        let call_id = self.call_id("instant");
        let receipts = try_join(self.send(&call_id, packet(1)), self.send(&call_id, packet(2))).await?;
        let new = receipts.0.status == Stored::Accepted && receipts.1.status == Stored::Accepted;
        ensure!(new, "one of two packets with one timestamp was taken for a copy of the other");
        self.eventually(&call_id, |call| call.packets.received == 2 && call.packets.missing.is_empty()).await?;
        self.server.end(&call_id, 2).await?;
        Ok("packets 1 and 2 with one timestamp: 2 stored".to_owned())
    }

    async fn fifty_at_once(&self) -> anyhow::Result<String> {
        let call_id = self.call_id("fifty");
        try_join_all((1..=50).map(|sequence| self.send(&call_id, packet(sequence)))).await?;
        let call =
            self.eventually(&call_id, |call| call.packets.received == 50 && call.packets.missing.is_empty()).await?;
        self.server.end(&call_id, 50).await?;
        Ok(format!("50 packets at once to one call: {} stored, none missing", call.packets.received))
    }

    async fn changes_at_once(&self) -> anyhow::Result<String> {
        let call_id = self.call_id("changes");
        let mut packets = (1..=10).map(|sequence| {
            let mut packet = packet(sequence);
            let call = json!({ "queue": "support", "tags": { format!("tag{sequence}"): "set" } });
            packet.as_object_mut().map(|fields| fields.insert("call".to_owned(), call));
            self.send(&call_id, packet)
        });
        // The call opens with its first packet: an end before it would end nothing.
        if let Some(first) = packets.next() {
            first.await?;
        }
        let ends = try_join(self.server.end(&call_id, 10), self.server.end(&call_id, 10));
        try_join(try_join_all(packets), ends).await?;
        let over = |call: &CallView| call.packets.received == 10 && call.call.state != State::InProgress;
        let tagged = |call: &CallView| call.call.metadata.tags.len() == 10;
        self.eventually(&call_id, |call| over(call) && tagged(call)).await?;
        let Some(timeline) = self.server.timeline(&call_id).await? else { bail!("the call has no timeline") };
        let versions = contiguous_versions(&timeline)?;
        Ok(format!("10 changes and 2 ends at once: completed once, versions 1 to {versions} without a hole"))
    }

    async fn send(&self, call_id: &str, packet: Value) -> anyhow::Result<Receipt> {
        let receipt = self.server.packet(call_id, &packet).await?;
        let status = if receipt.status == Stored::Accepted { "accepted" } else { "duplicate" };
        let sequence = u32::try_from(receipt.sequence)?;
        self.ledger.write(std::iter::once((call_id, sequence, status)))?;
        Ok(receipt)
    }

    /// The call once it looks as it should.
    async fn eventually(&self, call_id: &str, should: impl Fn(&CallView) -> bool) -> anyhow::Result<CallView> {
        let asked_at = Instant::now();
        loop {
            let call = self.server.call(call_id).await?;
            match call {
                Some(call) if should(&call) => return Ok(call),
                Some(call) if asked_at.elapsed() > DEADLINE => {
                    bail!("{call_id} is {} with {}", call.call.state, serde_json::to_string(&call.packets)?)
                }
                None if asked_at.elapsed() > DEADLINE => bail!("{call_id} is not known"),
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    fn call_id(&self, scene: &str) -> String {
        format!("{}-scene-{scene}", self.prefix)
    }
}

fn packet(sequence: u32) -> Value {
    json!({ "sequence": sequence, "data": format!("part {sequence}"), "timestamp": SENT_AT })
}

/// The newest version, when the transitions have each version from 1 once and complete the call once.
fn contiguous_versions(timeline: &Timeline) -> anyhow::Result<i32> {
    let mut newest = 0;
    let mut completions = 0;
    for entry in &timeline.entries {
        if let TimelineEntry::Transition { version, from, to, .. } = entry {
            ensure!(*version == newest + 1, "version {version} follows version {newest}");
            newest = *version;
            completions += u32::from(*from == Some(State::InProgress) && *to == State::Completed);
        }
    }
    ensure!(completions == 1, "the call was completed {completions} times");
    Ok(newest)
}
