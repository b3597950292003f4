//! Which calls a supervisor sees.

use std::collections::BTreeSet;

use crate::domain::{CallId, State};
use crate::wire::call::CallSummary;

/// Values that one dimension of a filter takes.
pub(super) const VALUES_MAX: usize = 100;
/// Bytes in the longest name of a queue.
const QUEUE_MAX_BYTES: usize = 255;

/// Which calls a supervisor sees: AND between its dimensions, OR within, all of a dimension that
/// names nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    states: BTreeSet<State>,
    queues: BTreeSet<String>,
    call_ids: BTreeSet<String>,
}

/// A subscription that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {detail}")]
pub(super) struct BadFilter {
    /// The parameter at fault.
    pub(super) field: &'static str,
    /// What it should be.
    pub(super) detail: String,
}

/// What a call was before a change, as far as this is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// It was not there.
    Nothing,
    /// The same call in this state.
    At(State),
    /// Anything: a change in between was not seen, or what else filters ask about has changed too.
    Unknown,
}

impl Filter {
    /// Reads the pairs of a query string: `state`, `queue` and `call_id`, each repeated or separated by
    /// commas. A queue or call id that itself holds commas stands for itself and for each of its parts.
    ///
    /// # Errors
    /// Names the parameter at fault.
    pub(super) fn parse<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, BadFilter> {
        let mut filter = Self::default();
        for (name, value) in pairs {
            match name {
                "state" => filter.add_states(value)?,
                "queue" => filter.add_queues(value)?,
                "call_id" => filter.add_call_ids(value)?,
                _ => {
                    let detail = format!("`{}` is no filter: there are state, queue and call_id", name.escape_debug());
                    return Err(BadFilter { field: "query", detail });
                }
            }
        }
        Ok(filter)
    }

    /// Whether every call matches.
    pub(super) fn is_all(&self) -> bool {
        self.states.is_empty() && self.queues.is_empty() && self.call_ids.is_empty()
    }

    /// Whether the call matches.
    pub(super) fn matches(&self, call: &CallSummary) -> bool {
        self.matches_in(call.state, call)
    }

    /// Whether a change of the call may concern a view through this filter: the call matches, or may
    /// have matched before.
    pub(super) fn concerns(&self, call: &CallSummary, before: Before) -> bool {
        self.matches(call)
            || match before {
                Before::Nothing => false,
                Before::At(state) => self.matches_in(state, call),
                Before::Unknown => named(&self.call_ids, Some(&call.call_id)),
            }
    }

    /// Whether calls in `state` can match.
    pub(super) fn takes(&self, state: State) -> bool {
        self.states.is_empty() || self.states.contains(&state)
    }

    /// The states whose calls can match.
    pub(super) fn states(&self) -> impl Iterator<Item = State> + '_ {
        State::ALL.into_iter().filter(|state| self.takes(*state))
    }

    /// The queues asked for; none for all.
    pub(super) fn queues(&self) -> Option<Vec<String>> {
        (!self.queues.is_empty()).then(|| self.queues.iter().cloned().collect())
    }

    /// The call ids asked for; none for all.
    pub(super) fn call_ids(&self) -> Option<&BTreeSet<String>> {
        (!self.call_ids.is_empty()).then_some(&self.call_ids)
    }

    fn matches_in(&self, state: State, call: &CallSummary) -> bool {
        self.takes(state)
            && named(&self.queues, call.metadata.queue.as_deref())
            && named(&self.call_ids, Some(&call.call_id))
    }

    fn add_states(&mut self, value: &str) -> Result<(), BadFilter> {
        for name in value.split(',') {
            let state = name.parse().map_err(|error| BadFilter { field: "state", detail: format!("{error}") })?;
            self.states.insert(state);
        }
        Ok(())
    }

    fn add_queues(&mut self, value: &str) -> Result<(), BadFilter> {
        let detail = || format!("takes names of 1 to {QUEUE_MAX_BYTES} bytes");
        add(&mut self.queues, "queue", value, |queue| {
            if (1..=QUEUE_MAX_BYTES).contains(&queue.len()) { Ok(()) } else { Err(detail()) }
        })
    }

    fn add_call_ids(&mut self, value: &str) -> Result<(), BadFilter> {
        add(&mut self.call_ids, "call_id", value, |id| CallId::new(id).map(drop).map_err(|error| error.to_string()))
    }
}

fn named(dimension: &BTreeSet<String>, value: Option<&str>) -> bool {
    dimension.is_empty() || value.is_some_and(|value| dimension.contains(value))
}

fn add(
    dimension: &mut BTreeSet<String>,
    field: &'static str,
    value: &str,
    check: impl Fn(&str) -> Result<(), String>,
) -> Result<(), BadFilter> {
    let is_list = value.contains(',');
    // Taken whole, a list may be longer than any name.
    if !is_list || check(value).is_ok() {
        check(value).map_err(|detail| BadFilter { field, detail })?;
        dimension.insert(value.to_owned());
    }
    for part in is_list.then(|| value.split(',')).into_iter().flatten() {
        check(part).map_err(|detail| BadFilter { field, detail })?;
        dimension.insert(part.to_owned());
    }
    if dimension.len() > VALUES_MAX {
        return Err(BadFilter { field, detail: format!("takes {VALUES_MAX} values at most") });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Before, Filter, VALUES_MAX};
    use crate::domain::State;
    use crate::notifier::testing::call;

    fn parse(pairs: &[(&str, &str)]) -> Result<Filter, String> {
        Filter::parse(pairs.iter().copied()).map_err(|bad| bad.field.to_owned())
    }

    #[test]
    fn dimensions_are_joined_by_and_and_values_by_or() {
        let filter = parse(&[("state", "FAILED,ARCHIVED"), ("state", "COMPLETED"), ("queue", "sales")]).unwrap();
        assert!(filter.matches(&call("a", 1, State::Failed, Some("sales"))));
        assert!(filter.matches(&call("a", 1, State::Completed, Some("sales"))));
        assert!(!filter.matches(&call("a", 1, State::InProgress, Some("sales"))));
        assert!(!filter.matches(&call("a", 1, State::Failed, Some("support"))));
        assert!(!filter.matches(&call("a", 1, State::Failed, None)));
        assert!(parse(&[]).unwrap().is_all());
    }

    #[test]
    fn a_value_with_commas_stands_for_itself_and_for_its_parts() {
        let filter = parse(&[("call_id", "a,b")]).unwrap();
        for (id, seen) in [("a", true), ("b", true), ("a,b", true), ("c", false)] {
            assert_eq!(filter.matches(&call(id, 1, State::Failed, None)), seen, "{id}");
        }
        let long: Vec<String> = (0..VALUES_MAX).map(|n| format!("queue-{n}")).collect();
        assert!(parse(&[("queue", &long.join(","))]).is_ok());
    }

    #[test]
    fn a_bad_value_is_named() {
        let many: Vec<String> = (0..=VALUES_MAX).map(|n| n.to_string()).collect();
        for (pair, field) in [
            (("state", "failed"), "state"),
            (("state", ""), "state"),
            (("state", "FAILED,"), "state"),
            (("queue", ""), "queue"),
            (("queue", &"q".repeat(256)), "queue"),
            (("call_id", "a\0"), "call_id"),
            (("call_id", &"x".repeat(256)), "call_id"),
            (("call_id", &many.join(",")), "call_id"),
            (("stat", "FAILED"), "query"),
        ] {
            assert_eq!(parse(&[pair]).unwrap_err(), field, "{pair:?}");
        }
    }

    #[test]
    fn a_change_concerns_a_view_that_the_call_may_have_been_in() {
        let filter = parse(&[("state", "FAILED"), ("call_id", "a")]).unwrap();
        let now = |id| call(id, 2, State::ProcessingAi, None);
        assert!(filter.concerns(&now("a"), Before::At(State::Failed)));
        assert!(!filter.concerns(&now("a"), Before::At(State::Completed)));
        assert!(!filter.concerns(&now("a"), Before::Nothing));
        assert!(filter.concerns(&now("a"), Before::Unknown));
        assert!(!filter.concerns(&now("b"), Before::Unknown));
    }
}
