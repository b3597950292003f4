//! One sender: a connection, the calls it has under way, and what the server said to each packet.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use hyper::{StatusCode, Uri};
use serde::Deserialize;
use tokio::time::Instant;

use super::connection::{Answer, Connection};
use super::load::{Load, Refusal, Sent, SentCall, Tally};
use super::path;
use super::plan::{PlannedCall, Step};
use crate::service::duration;
use crate::wire::receipt::{BatchReceipt, Durability, Receipt, Stored};

/// Time after which a packet that nobody takes ends the run: longer than a server's restart.
const GIVE_UP: Duration = Duration::from_mins(2);
/// First pause before a request is sent again; doubled up to [`BACKOFF_MAX`].
const BACKOFF_BASE: Duration = Duration::from_millis(50);
/// Longest pause of our own; a server's Retry-After is kept to as it is.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// A PBX's connection.
#[derive(Debug)]
pub(super) struct Sender {
    load: Arc<Load>,
    connection: Connection,
    batch_uri: Uri,
    dice: fastrand::Rng,
    open: Vec<OpenCall>,
    sent: Sent,
}

#[derive(Debug)]
struct OpenCall {
    planned: PlannedCall,
    uri: Uri,
    stored: u32,
}

/// A packet on its way: which of the open calls it belongs to, and what it is.
struct Drawn {
    slot: usize,
    step: Step,
}

impl Sender {
    pub(super) fn new(load: Arc<Load>, number: u32) -> anyhow::Result<Self> {
        let content_type = if load.batch > 1 { "application/x-ndjson" } else { "application/json" };
        Ok(Self {
            connection: Connection::new(load.address.clone(), content_type),
            batch_uri: load.address.uri(path::PACKETS)?,
            dice: fastrand::Rng::with_seed(number.into()),
            open: Vec::new(),
            sent: Sent::new()?,
            load,
        })
    }

    /// Sends calls until there are no more, or the run is stopped.
    pub(super) async fn run(mut self) -> anyhow::Result<Sent> {
        let stop = self.load.stop.clone();
        while self.open_calls()? {
            let drawn = self.draw();
            let load = Arc::clone(&self.load);
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = load.pace.turn(drawn.len()) => {}
            }
            Tally::add(&self.load.tally.sent, drawn.len());
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                delivered = self.deliver(drawn) => delivered?,
            }
            self.close_calls();
        }
        Ok(self.sent)
    }

    /// Takes on calls while there is room; whether any is open.
    fn open_calls(&mut self) -> anyhow::Result<bool> {
        while self.open.len() < self.load.open_calls_per_sender {
            let Some(planned) = self.load.next_call() else { break };
            let uri = self.load.address.uri(&path::packet(&planned.call_id))?;
            self.open.push(OpenCall { planned, uri, stored: 0 });
        }
        Ok(!self.open.is_empty())
    }

    /// The next packets, from calls picked by chance.
    fn draw(&mut self) -> Vec<Drawn> {
        let mut drawn = Vec::with_capacity(self.load.batch);
        let mut slots: Vec<usize> = (0..self.open.len()).collect();
        while drawn.len() < self.load.batch && !slots.is_empty() {
            let pick = self.dice.usize(..slots.len());
            let Some(&slot) = slots.get(pick) else { break };
            match self.open.get_mut(slot).and_then(|call| call.planned.steps.pop_front()) {
                Some(step) => drawn.push(Drawn { slot, step }),
                None => {
                    slots.swap_remove(pick);
                }
            }
        }
        drawn
    }

    /// Hands calls without packets left over to the outcome.
    fn close_calls(&mut self) {
        for call in self.open.extract_if(.., |call| call.planned.steps.is_empty()) {
            let OpenCall { planned, stored, .. } = call;
            let PlannedCall { call_id, dropped, .. } = planned;
            self.sent.calls.push(SentCall { call_id, stored, dropped, is_scene: false });
        }
    }

    async fn deliver(&mut self, drawn: Vec<Drawn>) -> anyhow::Result<()> {
        if self.load.batch > 1 { self.deliver_batch(drawn).await } else { self.deliver_one(drawn).await }
    }

    async fn deliver_one(&mut self, drawn: Vec<Drawn>) -> anyhow::Result<()> {
        for packet in drawn {
            let Some(call) = self.open.get(packet.slot) else { continue };
            let answer = self.answered(call.uri.clone(), packet.step.body.clone()).await?;
            if answer.status != StatusCode::ACCEPTED {
                self.refuse(&answer.body, answer.status, 1);
                continue;
            }
            let receipt: Receipt = serde_json::from_slice(&answer.body).context("the 202 is no receipt")?;
            let is_new = receipt.status == Stored::Accepted;
            self.note(&[&packet], &[status(is_new, receipt.durability)])?;
            let tally = &self.load.tally;
            Tally::add(if is_new { &tally.accepted } else { &tally.duplicates }, 1);
        }
        Ok(())
    }

    async fn deliver_batch(&mut self, drawn: Vec<Drawn>) -> anyhow::Result<()> {
        let lines: Vec<&[u8]> = drawn.iter().map(|packet| packet.step.body.as_ref()).collect();
        let answer = self.answered(self.batch_uri.clone(), Bytes::from(lines.join(&b'\n'))).await?;
        if answer.status != StatusCode::ACCEPTED {
            self.refuse(&answer.body, answer.status, drawn.len());
            return Ok(());
        }
        let receipt: BatchReceipt = serde_json::from_slice(&answer.body).context("the 202 is no receipt of a batch")?;
        for rejected in &receipt.rejected {
            self.count_refusal(&rejected.code, &rejected.detail, 1);
        }
        let is_rejected = |place: &usize| receipt.rejected.iter().any(|rejected| rejected.index == *place);
        let stored: Vec<&Drawn> =
            drawn.iter().enumerate().filter(|(place, _)| !is_rejected(place)).map(|(_, packet)| packet).collect();
        // The answer counts copies without naming them; the plan knows which they are.
        let statuses: Vec<_> = stored.iter().map(|packet| status(!packet.step.is_copy, receipt.durability)).collect();
        self.note(&stored, &statuses)?;
        Tally::add(&self.load.tally.accepted, receipt.accepted);
        Tally::add(&self.load.tally.duplicates, receipt.duplicates);
        Ok(())
    }

    /// Writes packets that were answered 202 into the ledger, then counts them as stored.
    fn note(&mut self, packets: &[&Drawn], statuses: &[&str]) -> anyhow::Result<()> {
        let named = packets.iter().zip(statuses).filter_map(|(packet, status)| {
            let call = self.open.get(packet.slot)?;
            Some((call.planned.call_id.as_str(), packet.step.sequence, *status))
        });
        self.load.ledger.write(named)?;
        for packet in packets.iter().filter(|packet| !packet.step.is_copy) {
            if let Some(call) = self.open.get_mut(packet.slot) {
                call.stored += 1;
            }
        }
        Ok(())
    }

    /// Posts until there is an answer that sending again would not change.
    async fn answered(&mut self, uri: Uri, body: Bytes) -> anyhow::Result<Answer> {
        let begun_at = Instant::now();
        let mut backoff = BACKOFF_BASE;
        loop {
            let sent_at = Instant::now();
            let answer = self.connection.post(uri.clone(), body.clone()).await;
            let (pause, reason) = match answer {
                Ok(answer) if answer.status == StatusCode::ACCEPTED => {
                    self.sent.answered_after(sent_at.elapsed())?;
                    return Ok(answer);
                }
                Ok(answer) if !may_pass(answer.status) => return Ok(answer),
                Ok(answer) => (answer.retry_after, format!("answered {}", answer.status)),
                Err(lost) => (None, lost.to_string()),
            };
            let pause = pause.unwrap_or_else(|| backoff.mul_f64(0.5 + self.dice.f64()));
            backoff = BACKOFF_MAX.min(backoff * 2);
            if begun_at.elapsed() + pause > GIVE_UP {
                bail!("gave up after {}: a packet was last {reason}", duration::show(GIVE_UP));
            }
            Tally::add(&self.load.tally.retries, 1);
            tokio::time::sleep(pause).await;
        }
    }

    fn refuse(&mut self, body: &[u8], status: StatusCode, packets: usize) {
        #[derive(Deserialize)]
        struct Problem {
            code: String,
            detail: String,
        }
        match serde_json::from_slice(body) {
            Ok(Problem { code, detail }) => self.count_refusal(&code, &detail, packets),
            Err(_) => self.count_refusal(status.as_str(), &String::from_utf8_lossy(body), packets),
        }
    }

    fn count_refusal(&mut self, code: &str, detail: &str, packets: usize) {
        Tally::add(&self.load.tally.refused, packets);
        let refusal = self.sent.refusals.entry(code.to_owned());
        let refusal = refusal.or_insert_with(|| Refusal { packets: 0, example: detail.chars().take(200).collect() });
        refusal.packets += packets as u64;
    }
}

/// How an answer is called in the ledger.
const fn status(is_new: bool, durability: Durability) -> &'static str {
    match (durability, is_new) {
        (Durability::Spooled, _) => "spooled",
        (Durability::Stored, true) => "accepted",
        (Durability::Stored, false) => "duplicate",
    }
}

/// Whether the same request may be answered otherwise later.
fn may_pass(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}
