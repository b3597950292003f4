//! One job, step by step: claim, load, ask, record. What comes of it is a verdict, which the caller
//! carries out.

use std::future::Future;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::classify::{Answer, Failed, Outcome};
use super::client::Question;
use super::context::{Context, Room};
use super::leases::Guard;
use super::record::{fail, record};
use crate::domain::policy::NAK_DELAY_MAX;
use crate::domain::{Call, Class, Failure, Ranges, Refused, Stage};
use crate::store::claim::{Claim, Claimed};
use crate::store::group::Unanswered;
use crate::store::packets::{self, StoredPacket};
use crate::store::record::Ending;
use crate::wire;
use crate::wire::job::Job;

/// Pause between tries while the database is away, at most.
const AWAY_PAUSE: Duration = Duration::from_secs(1);
/// Pause before a call is tried again of which packets may wait in the spool.
const SPOOL_PAUSE: Duration = Duration::from_secs(1);
/// How much more memory a call's packets take on their way: the rows, and the request with its escapes.
const MEMORY_FACTOR: u64 = 3;

/// What is to become of a job's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The transcript is stored: acknowledge.
    Done,
    /// Deliver it again after so long.
    RetryAfter(Duration),
    /// It waits in the database for longer than a message can: acknowledge, the reconciler sends it again.
    Park(Duration),
    /// The call is given up: acknowledge.
    Dead,
    /// There is nothing (more) to do: acknowledge.
    Drop(&'static str),
    /// Another worker may be at it: leave the message alone.
    Leave(&'static str),
}

/// A job in hand: its call, and the lease on it.
#[derive(Debug)]
pub struct Held {
    /// The call, with the attempt counted.
    pub call: Call,
    /// The lease, renewed while this lives.
    pub lease: Guard,
    packet_bytes: u64,
}

/// A job whose packets are read.
#[derive(Debug)]
pub struct Loaded {
    /// Which sequences there were.
    pub sent: Ranges,
    question: Question,
    _room: Option<Room>,
}

/// Takes a job through its steps. `stop` asks for it back, uncharged.
pub async fn run(context: &Context, job: &Job, stop: &CancellationToken) -> Verdict {
    if stop.is_cancelled() || context.ending.is_cancelled() {
        return Verdict::RetryAfter(Duration::ZERO);
    }
    let held = match claim(context, job).await {
        Ok(held) => held,
        Err(verdict) => return verdict,
    };
    let loaded = match unless_stopped(&held, stop, load(context, job, &held)).await {
        Ok(Ok(loaded)) => loaded,
        Ok(Err(failed)) => return record(context, &held, None, fail(context, &held, failed), stop).await,
        Err(Interrupted::LeaseLost) => return Verdict::Leave("lease lost"),
        Err(Interrupted::Stopping) => return record(context, &held, None, Ending::HandedBack, stop).await,
    };
    let ending = match unless_stopped(&held, stop, ask(context, &loaded)).await {
        Ok(Outcome::Answered(Answer { http_status, transcript, response })) => {
            Ending::Answered { http_status, transcript, response }
        }
        Ok(Outcome::Failed(failed)) => fail(context, &held, failed),
        Err(Interrupted::LeaseLost) => return Verdict::Leave("lease lost"),
        Err(Interrupted::Stopping) => Ending::HandedBack,
    };
    let Loaded { sent, .. } = loaded;
    record(context, &held, Some(sent), ending, stop).await
}

/// Takes the job: the attempt is counted, and nobody else may work on the call.
///
/// # Errors
/// The verdict, when there is nothing to do, or not now.
pub async fn claim(context: &Context, job: &Job) -> Result<Held, Verdict> {
    let (key, generation) = (job.call_key(), job.generation);
    let wish = Claim { key, generation, token: Uuid::new_v4(), worker: context.worker.clone() };
    match ask_to_claim(context, wish).await {
        Ok(Claimed::Held { call, packet_bytes }) => match call.lease {
            Some(lease) => Ok(Held { lease: context.leases.hold(key, lease), call: *call, packet_bytes }),
            None => Err(Verdict::RetryAfter(Duration::ZERO)),
        },
        Ok(Claimed::Missing) => Err(refused("missing", Verdict::Drop("there is no such call"))),
        Ok(Claimed::Refused(why)) => Err(not_claimed(context, &why)),
        Err(error) => {
            let delay =
                if error.is_transient() || matches!(error, Unanswered::Gone) { AWAY_PAUSE } else { NAK_DELAY_MAX };
            tracing::warn!(call = %key, %error, "a job could not be claimed");
            Err(Verdict::RetryAfter(context.with_rng(|rng| delay.mul_f64(0.5 + rng.f64() / 2.0))))
        }
    }
}

/// Claims, and tries again while the database is away, for the length of a lease. A claim whose answer
/// was lost may have been carried out: under the same token it is found and taken up, where a new one
/// would wait for the end of the lost one's lease and be charged for it.
async fn ask_to_claim(context: &Context, wish: Claim) -> Result<Claimed, Unanswered> {
    let begun = Instant::now();
    loop {
        let answer = context.claims.ask(wish.clone()).await;
        if !matches!(&answer, Err(error) if error.is_transient()) {
            context.away.answered();
            return answer;
        }
        context.away.failed(Instant::now());
        if begun.elapsed() >= context.policy.lease {
            return answer;
        }
        tokio::select! {
            () = pause(context) => {}
            () = context.ending.cancelled() => return answer,
        }
    }
}

fn not_claimed(context: &Context, why: &Refused) -> Verdict {
    let until = |due: chrono::DateTime<chrono::Utc>| (due - context.store.now()).to_std().unwrap_or(Duration::ZERO);
    match why {
        Refused::NotDue(due) if until(*due) > NAK_DELAY_MAX => refused("not_due", Verdict::Park(until(*due))),
        Refused::NotDue(due) => refused("not_due", Verdict::RetryAfter(until(*due))),
        Refused::Spooled => refused("spooled", Verdict::RetryAfter(SPOOL_PAUSE)),
        Refused::Held(end) => refused("held", Verdict::RetryAfter(until(*end).min(NAK_DELAY_MAX))),
        Refused::Illegal { .. } => refused("illegal", Verdict::Drop("the call needs no attempt")),
        Refused::Outdated(_) => refused("outdated", Verdict::Drop("the job is of an earlier generation")),
        Refused::Exhausted => refused("exhausted", Verdict::Drop("all attempts are used up")),
        Refused::LeaseLost => refused("lease_lost", Verdict::Leave("lease lost")),
    }
}

fn refused(reason: &'static str, verdict: Verdict) -> Verdict {
    metrics::counter!("callfleet_claims_refused_total", "reason" => reason).increment(1);
    verdict
}

/// Reads the call's packets, after the claim: what comes later is late. Tried again while the database
/// is away: reading changes nothing.
///
/// # Errors
/// When the database refuses; while it is away this waits.
pub async fn load(context: &Context, job: &Job, held: &Held) -> Result<Loaded, Failed> {
    let room = context.memory.take(held.packet_bytes.saturating_mul(MEMORY_FACTOR)).await;
    let packets = loop {
        match packets::of_call(&context.store, held.call.key).await {
            Ok(packets) => break packets,
            Err(error) if error.is_transient() => {
                tracing::warn!(call = %held.call.key, %error, "packets could not be read");
                pause(context).await;
            }
            Err(error) => {
                tracing::error!(call = %held.call.key, %error, "packets cannot be read");
                let failure = Failure::new(Class::Transient, Stage::Load, None, "the packets cannot be read");
                return Err(Failed { failure, wait: None });
            }
        }
    };
    let sent = Ranges::of(packets.iter().map(|packet| packet.sequence));
    let job_id = job.id();
    let body = body(&held.call, &job_id, &packets, &sent);
    let question = Question { job_id, attempt: held.call.attempts.total(), span: held.lease.token(), body };
    Ok(Loaded { sent, question, _room: room })
}

fn body(call: &Call, job_id: &str, packets: &[StoredPacket], sent: &Ranges) -> Bytes {
    let missing = sent.missing(call.end.as_ref().and_then(|end| end.final_sequence));
    let request = wire::ai::Request {
        job_id,
        call_id: call.call_id.as_str(),
        tenant: call.tenant.as_str(),
        metadata: &call.metadata,
        packets: packets.iter().map(request_packet).collect(),
        missing: &missing,
    };
    Bytes::from(serde_json::to_vec(&request).unwrap_or_default())
}

fn request_packet(packet: &StoredPacket) -> wire::ai::RequestPacket<'_> {
    let StoredPacket { sequence, data, sent_at } = packet;
    wire::ai::RequestPacket { sequence: *sequence, data: String::from_utf8_lossy(data), timestamp: *sent_at }
}

/// Asks the AI service, and waits for its answer within the request's deadline.
pub async fn ask(context: &Context, loaded: &Loaded) -> Outcome {
    let begun = Instant::now();
    let in_flight = InFlight::begin();
    let outcome = context.client.ask(&loaded.question).await;
    drop(in_flight);
    metrics::histogram!("callfleet_ai_request_seconds", "class" => class(&outcome).as_str()).record(begun.elapsed());
    outcome
}

const fn class(outcome: &Outcome) -> Class {
    match outcome {
        Outcome::Answered(_) => Class::Done,
        Outcome::Failed(failed) => failed.failure.class,
    }
}

enum Interrupted {
    LeaseLost,
    Stopping,
}

async fn unless_stopped<T>(
    held: &Held,
    stop: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T, Interrupted> {
    tokio::select! {
        // What is done is done.
        biased;
        done = work => Ok(done),
        () = held.lease.lost() => Err(Interrupted::LeaseLost),
        () = stop.cancelled() => Err(Interrupted::Stopping),
    }
}

pub(super) async fn pause(context: &Context) {
    tokio::time::sleep(context.with_rng(|rng| AWAY_PAUSE.mul_f64(0.1 + 0.9 * rng.f64()))).await;
}

/// Counts a request while it runs.
struct InFlight;

impl InFlight {
    fn begin() -> Self {
        metrics::gauge!("callfleet_ai_in_flight").increment(1.0);
        Self
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        metrics::gauge!("callfleet_ai_in_flight").decrement(1.0);
    }
}
