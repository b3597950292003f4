//! After the load: looking at the run's calls until each is archived or dead.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::load::SentCall;
use super::server::Server;
use crate::domain::{AiStatus, State};
use crate::wire::call::{CallView, Timeline};

/// Calls looked at in one round, the oldest first: they are done first.
const ROUND: usize = 400;
/// Calls asked for at once: the server is busy with other things.
const QUESTIONS_AT_ONCE: usize = 8;
/// Pause after a round that found most calls still on their way.
const PAUSE: Duration = Duration::from_millis(250);
/// Calls whose timelines are read for the report; of more calls, an even choice.
const MAX_TIMELINES: usize = 2000;

/// A call as it was last seen.
#[derive(Clone, Debug)]
pub(super) struct SeenCall {
    pub(super) sent: SentCall,
    /// `None` when the server does not know it
    pub(super) view: Option<Seen>,
}

/// The part of a call's view that the outcome is made from.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) state: State,
    pub(super) ai_status: AiStatus,
    version: i32,
    pub(super) received: i64,
    pub(super) missing: i64,
    pub(super) late: i64,
    pub(super) ended_at: Option<DateTime<Utc>>,
    pub(super) archived_at: Option<DateTime<Utc>>,
}

impl From<CallView> for Seen {
    fn from(view: CallView) -> Self {
        Self {
            state: view.call.state,
            ai_status: view.call.ai_status,
            version: view.call.version,
            received: view.packets.received,
            missing: view.packets.missing.count(),
            late: view.packets.late,
            ended_at: view.ended_at,
            archived_at: view.call.archived_at,
        }
    }
}

impl SeenCall {
    pub(super) fn is_archived(&self) -> bool {
        self.view.as_ref().is_some_and(|seen| seen.state == State::Archived)
    }

    pub(super) fn is_dead(&self) -> bool {
        self.view.as_ref().is_some_and(|seen| seen.ai_status == AiStatus::DeadLettered)
    }

    /// Nothing more will happen to it by itself.
    pub(super) fn is_done(&self) -> bool {
        // A call of which every packet was refused is not there to be waited for.
        self.is_archived() || self.is_dead() || self.sent.stored == 0
    }
}

/// Looks until all calls are done, none has moved for `patience`, or `stop`.
pub(super) async fn until_done(
    server: &Server,
    sent: Vec<SentCall>,
    patience: Duration,
    stop: &CancellationToken,
    mut progress: impl FnMut(usize),
) -> Vec<SeenCall> {
    let mut waiting: VecDeque<SeenCall> = sent.into_iter().map(|sent| SeenCall { sent, view: None }).collect();
    let mut done = Vec::with_capacity(waiting.len());
    let mut moved_at = Instant::now();
    while !waiting.is_empty() && moved_at.elapsed() < patience && !stop.is_cancelled() {
        let round: Vec<SeenCall> = waiting.drain(..ROUND.min(waiting.len())).collect();
        let asked = round.len();
        let mut looks = stream::iter(round).map(|call| look(server, call)).buffer_unordered(QUESTIONS_AT_ONCE);
        let mut finished = 0;
        while let Some((call, moved)) = looks.next().await {
            if moved {
                moved_at = Instant::now();
            }
            if call.is_done() {
                finished += 1;
                done.push(call);
            } else {
                waiting.push_back(call);
            }
        }
        progress(done.len());
        if finished * 2 < asked {
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.cancelled() => {}
            }
        }
    }
    done.extend(waiting);
    done.sort_by(|a, b| a.sent.call_id.cmp(&b.sent.call_id));
    done
}

/// Asks for one call once more; whether it has moved since.
async fn look(server: &Server, mut call: SeenCall) -> (SeenCall, bool) {
    // A server that does not answer now is asked again: it may be the one being restarted.
    let Ok(Some(view)) = server.call(&call.sent.call_id).await else { return (call, false) };
    let seen = Seen::from(view);
    let moved = call.view.as_ref().is_none_or(|before| before.version != seen.version);
    call.view = Some(seen);
    (call, moved)
}

/// What happened to the calls, or to an even choice of [`MAX_TIMELINES`] of them.
pub(super) async fn timelines(server: &Server, calls: &[SeenCall]) -> Vec<Timeline> {
    let step = calls.len().div_ceil(MAX_TIMELINES).max(1);
    stream::iter(calls.iter().step_by(step))
        .map(|call| server.timeline(&call.sent.call_id))
        .buffer_unordered(QUESTIONS_AT_ONCE)
        .filter_map(|timeline| std::future::ready(timeline.ok().flatten()))
        .collect()
        .await
}
