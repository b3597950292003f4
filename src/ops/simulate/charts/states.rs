//! Calls by state over time, stacked, from their timelines.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::frame::{Axis, Frame};
use crate::domain::{AiStatus, State};
use crate::wire::call::{Timeline, TimelineEntry};

/// Moments that the areas are drawn through.
const MOMENTS: u32 = 240;

/// The bands of the chart from bottom to top: class in the page's style, and what it means.
pub(in crate::ops::simulate) const PHASES: [(&str, &str); 6] = [
    ("archived", "archived"),
    ("dead", "dead"),
    ("retry", "failed, to be tried again"),
    ("asking", "the AI is being asked"),
    ("waiting", "complete, waiting for a worker"),
    ("talking", "in progress"),
];

fn phase(state: State, ai_status: AiStatus) -> usize {
    match (state, ai_status) {
        (State::Archived, _) => 0,
        (State::Failed, AiStatus::DeadLettered | AiStatus::Discarded) => 1,
        (State::Failed, _) => 2,
        (State::ProcessingAi, _) => 3,
        (State::Completed, _) => 4,
        (State::InProgress, _) => 5,
    }
}

/// The chart; `None` when there is nothing to draw.
pub(in crate::ops::simulate) fn states(timelines: &[Timeline]) -> Option<String> {
    let steps = steps(timelines);
    let (from, to) = (steps.first()?.0, steps.last()?.0);
    let seconds = (to - from).as_seconds_f64().max(0.001);
    let moments = sampled(&steps, from, seconds);
    let calls = u32::try_from(timelines.len()).map_or(f64::MAX, f64::from);
    let mut frame = Frame::new(
        "states",
        "Calls by state over time",
        Axis::linear(seconds, "seconds since the first packet"),
        Axis::linear(calls, "calls"),
    );
    for (band, (class, _)) in PHASES.iter().enumerate() {
        let upper = moments.iter().map(|(at, counts)| (*at, stacked(counts, band + 1)));
        let lower = moments.iter().rev().map(|(at, counts)| (*at, stacked(counts, band)));
        frame.path(class, upper.chain(lower), true);
    }
    Some(frame.finish())
}

type Counts = [u32; PHASES.len()];

/// A call entering a phase, and the phase it leaves.
type Step = (DateTime<Utc>, Option<usize>, usize);

/// Every call's steps, in order of time.
fn steps(timelines: &[Timeline]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut now: HashMap<&str, usize> = HashMap::with_capacity(timelines.len());
    for timeline in timelines {
        for entry in &timeline.entries {
            if let TimelineEntry::Transition { at, to, ai_status, .. } = entry {
                let to = phase(*to, *ai_status);
                steps.push((*at, now.insert(&timeline.call_id, to), to));
            }
        }
    }
    steps.sort_by_key(|(at, ..)| *at);
    steps
}

/// How many calls are in each phase at each moment, in seconds since `from`.
fn sampled(steps: &[Step], from: DateTime<Utc>, seconds: f64) -> Vec<(f64, Counts)> {
    let mut counts = Counts::default();
    let mut steps = steps.iter().peekable();
    let mut moments = Vec::new();
    for moment in 0..=MOMENTS {
        let at = seconds * f64::from(moment) / f64::from(MOMENTS);
        while let Some((_, before, after)) = steps.next_if(|(when, ..)| (*when - from).as_seconds_f64() <= at + 1e-6) {
            if let Some(left) = before.and_then(|before| counts.get_mut(before)) {
                *left = left.saturating_sub(1);
            }
            if let Some(entered) = counts.get_mut(*after) {
                *entered += 1;
            }
        }
        moments.push((at, counts));
    }
    moments
}

fn stacked(counts: &Counts, bands: usize) -> f64 {
    counts.iter().take(bands).copied().map(f64::from).sum()
}

#[cfg(test)]
mod tests {
    use super::{sampled, steps};
    use crate::domain::{AiStatus, State};
    use crate::wire::call::{Timeline, TimelineEntry};
    use chrono::DateTime;

    fn timeline(call_id: &str, transitions: &[(i64, State, AiStatus)]) -> Timeline {
        let entries = transitions.iter().zip(1..).map(|((at, to, ai_status), version)| TimelineEntry::Transition {
            at: DateTime::from_timestamp(*at, 0).unwrap(),
            version,
            from: None,
            to: *to,
            ai_status: *ai_status,
            actor: String::new(),
            reason: String::new(),
        });
        let (_, state, ai_status) = transitions[transitions.len() - 1];
        Timeline {
            call_id: call_id.into(),
            state,
            ai_status,
            waiting_for: None,
            earlier_left_out: false,
            entries: entries.collect(),
        }
    }

    #[test]
    fn every_call_is_in_one_band_at_every_moment() {
        let timelines = [
            timeline("a", &[(0, State::InProgress, AiStatus::None), (10, State::Archived, AiStatus::Succeeded)]),
            timeline("b", &[(0, State::InProgress, AiStatus::None), (5, State::Failed, AiStatus::DeadLettered)]),
        ];
        let steps = steps(&timelines);
        let moments = sampled(&steps, steps[0].0, 10.0);
        assert!(moments.iter().all(|(_, counts)| counts.iter().sum::<u32>() == 2));
        assert_eq!(moments[0].1, [0, 0, 0, 0, 0, 2]);
        assert_eq!(moments[moments.len() / 2].1, [0, 1, 0, 0, 0, 1]);
        assert_eq!(moments[moments.len() - 1].1, [1, 1, 0, 0, 0, 0]);
    }
}
