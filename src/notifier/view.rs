//! What one client has been shown, as far as this must be known to show it what comes next.

use std::collections::HashMap;
use std::sync::Arc;

use super::event::{Event, Shown};
use super::filter::Filter;
use crate::domain::{CallKey, State};

/// Calls that one view keeps track of; a view that outgrows this begins anew with a snapshot.
const TRACKED_MAX: usize = 200_000;

/// A client's view. A filtered one remembers the calls in it that can still leave, so that each of them
/// is told to leave exactly when the client has it; an unfiltered one only those whose news
/// from before the snapshot are still under way.
#[derive(Debug)]
pub(super) struct View {
    filter: Arc<Filter>,
    tracked: HashMap<CallKey, i32>,
}

impl View {
    /// A view with nothing in it.
    pub(super) fn new(filter: Arc<Filter>) -> Self {
        Self { filter, tracked: HashMap::new() }
    }

    /// Takes note of a call that the snapshot shows; `settled` says that no older news of it can come.
    pub(super) fn show(&mut self, key: CallKey, version: i32, state: State, settled: bool) {
        let can_leave = !self.filter.is_all() && state != State::Archived;
        if can_leave || !settled {
            self.tracked.insert(key, version);
        }
    }

    /// What the client is to be told of `event`; none when it has it already or never had the call.
    pub(super) fn take(&mut self, event: &Event) -> Option<Shown> {
        let call = &event.change.call;
        let known = self.tracked.get(&event.key).copied();
        if known.is_some_and(|version| version >= call.version) {
            return None;
        }
        if !self.filter.matches(call) {
            let had = self.tracked.remove(&event.key).is_some();
            // Archived calls are not tracked, and stay archived: the client is told for safety.
            let may_have_had = event.change.from == Some(State::Archived) && self.filter.takes(State::Archived);
            return (had || may_have_had).then_some(Shown::Left);
        }
        if self.filter.is_all() {
            self.tracked.remove(&event.key);
            return Some(if event.change.from.is_none() { Shown::Enter } else { Shown::Update });
        }
        if call.state == State::Archived {
            self.tracked.remove(&event.key);
        } else {
            self.tracked.insert(event.key, call.version);
        }
        let had = known.is_some() || event.change.from == Some(State::Archived);
        Some(if had { Shown::Update } else { Shown::Enter })
    }

    /// Whether there is more in it than may be kept track of.
    pub(super) fn is_overgrown(&self) -> bool {
        self.tracked.len() > TRACKED_MAX
    }
}
