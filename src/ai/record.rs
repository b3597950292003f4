//! The last step: what came of an attempt is recorded, and becomes the job's verdict.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::backoff;
use super::classify::Failed;
use super::context::Context;
use super::job::{Held, Verdict, pause};
use crate::domain::policy::NAK_DELAY_MAX;
use crate::domain::{AiStatus, Call, CallKey, Class, Failure, Ranges};
use crate::store::calls;
use crate::store::record::{Ending, Record};

/// Records what came of the attempt. While the database is away this tries again for as long as the
/// lease stands and nobody asks to `stop`: a record that was carried out although its answer was lost
/// has ended the lease, so that the next try can change nothing, and finds what the first one did.
pub async fn record(
    context: &Context,
    held: &Held,
    sent: Option<Ranges>,
    ending: Ending,
    stop: &CancellationToken,
) -> Verdict {
    let (key, token) = (held.call.key, held.lease.token());
    let record = Arc::new(Record { key, token, worker: context.worker.clone(), sent, ending });
    let mut is_in_doubt = false;
    loop {
        match context.records.ask(Arc::clone(&record)).await {
            Ok(Ok(call)) => {
                context.away.answered();
                return recorded(&call, &record.ending);
            }
            Ok(Err(why)) => {
                let found = if is_in_doubt { ended(context, key).await } else { None };
                if let Some(call) = found {
                    return recorded(&call, &record.ending);
                }
                tracing::info!(call = %key, %why, "the result came too late and was dropped");
                metrics::counter!("callfleet_results_refused_total").increment(1);
                return Verdict::Leave("lease lost");
            }
            Err(error) if error.is_transient() && !stop.is_cancelled() && held.lease.stands(context.store.now()) => {
                tracing::warn!(call = %key, %error, "a result could not be recorded yet");
                context.away.failed(Instant::now());
                is_in_doubt = true;
                pause(context).await;
            }
            Err(error) => {
                tracing::error!(call = %key, %error, "a result could not be recorded");
                return Verdict::Leave("not recorded");
            }
        }
    }
}

/// The call, unless a worker is at it.
async fn ended(context: &Context, key: CallKey) -> Option<Call> {
    let found = calls::find(&context.store, key).await;
    found.ok().flatten().filter(|call| call.ai_status != AiStatus::Running)
}

fn recorded(call: &Call, ending: &Ending) -> Verdict {
    let (class, delay) = match ending {
        Ending::Answered { .. } => (Class::Done, Duration::ZERO),
        Ending::Failed { failure, delay } => (failure.class, *delay),
        Ending::HandedBack => (Class::HandedBack, Duration::ZERO),
    };
    metrics::counter!("callfleet_attempts_total", "class" => class.as_str()).increment(1);
    log(call, ending);
    match call.ai_status {
        AiStatus::Succeeded => {
            let ended = call.end.as_ref().map(|end| end.at).or(call.completed_at).unwrap_or(call.created_at);
            let latency = (call.updated_at - ended).to_std().unwrap_or(Duration::ZERO);
            metrics::histogram!("callfleet_transcript_latency_seconds").record(latency);
            Verdict::Done
        }
        AiStatus::DeadLettered => Verdict::Dead,
        _ if delay > NAK_DELAY_MAX => Verdict::Park(delay),
        _ => Verdict::RetryAfter(delay),
    }
}

fn log(call: &Call, ending: &Ending) {
    let (key, attempt) = (call.key, call.attempts.total());
    match ending {
        Ending::Answered { .. } => tracing::debug!(call = %key, attempt, "transcript stored"),
        Ending::HandedBack => tracing::info!(call = %key, attempt, "handed back"),
        Ending::Failed { failure, delay } => {
            let Failure { class, message: why, .. } = failure;
            if call.ai_status == AiStatus::DeadLettered {
                tracing::warn!(call = %key, attempt, %class, why, "call given up");
            } else if *class == Class::Account {
                tracing::error!(call = %key, %class, why, "the AI service refuses our account");
            } else {
                tracing::info!(call = %key, attempt, %class, why, ?delay, "attempt failed");
            }
        }
    }
}

/// A failure's ending: the next attempt's delay is drawn here, once.
pub(super) fn fail(context: &Context, held: &Held, failed: Failed) -> Ending {
    let delay = context.with_rng(|rng| backoff::after(&failed, held.call.attempts, &context.policy, rng));
    Ending::Failed { failure: failed.failure, delay }
}
