//! The view at rest is the filter over the calls as they are, whatever the interleaving.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::DateTime;
use proptest::collection::vec;
use proptest::prelude::*;

use super::event::Shown;
use super::filter::Filter;
use super::hub::{Hub, Lane, LaneEnd};
use super::testing::call;
use super::view::View;
use crate::domain::{CallId, CallKey, State, Tenant};
use crate::wire::call::CallSummary;
use crate::wire::feed::StateChanged;

const CALLS: usize = 4;
const QUEUES: [Option<&str>; 3] = [None, Some("sales"), Some("support")];

fn key(id: &str) -> CallKey {
    CallKey::derive(&Tenant::open_mode(), &CallId::new(id).unwrap())
}

fn change(from: Option<State>, call: &CallSummary) -> StateChanged {
    StateChanged {
        v: 1,
        from,
        to: call.state,
        at: DateTime::UNIX_EPOCH,
        actor: "test".to_owned(),
        reason: "test".to_owned(),
        call: call.clone(),
    }
}

/// One thing that happens somewhere.
#[derive(Clone, Debug)]
enum Step {
    /// A call changes in the database.
    Commit { call: usize, state: usize, queue: usize },
    /// One of the announcements that are under way reaches the hub, and perhaps stays for a second time.
    Deliver { which: prop::sample::Index, again: bool },
    /// The stream is wiped with everything that was under way.
    Wipe,
    /// The snapshot under way reads the next call.
    Read,
    /// The client takes what is in its lane.
    Take,
    /// The client goes and comes back.
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..CALLS, 0..State::ALL.len(), 0..QUEUES.len())
            .prop_map(|(call, state, queue)| Step::Commit { call, state, queue }),
        6 => (any::<prop::sample::Index>(), prop::bool::weighted(0.2))
            .prop_map(|(which, again)| Step::Deliver { which, again }),
        1 => Just(Step::Wipe),
        4 => Just(Step::Read),
        4 => Just(Step::Take),
        1 => Just(Step::Reconnect),
    ]
}

fn filter() -> impl Strategy<Value = Filter> {
    prop_oneof![
        Just(vec![]),
        Just(vec![("state", "FAILED")]),
        Just(vec![("state", "FAILED,ARCHIVED")]),
        Just(vec![("queue", "sales")]),
        Just(vec![("state", "IN_PROGRESS,FAILED"), ("queue", "sales,support")]),
        Just(vec![("call_id", "call-1")]),
    ]
    .prop_map(|pairs| Filter::parse(pairs).unwrap())
}

struct World {
    hub: Arc<Hub>,
    calls: BTreeMap<String, CallSummary>,
    under_way: Vec<StateChanged>,
    stream_seq: u64,
    filter: Arc<Filter>,
    client: Client,
}

struct Client {
    lane: Lane,
    view: View,
    /// Calls that the snapshot has still to read.
    to_read: Vec<String>,
    sees: BTreeMap<String, CallSummary>,
    seq: u64,
}

impl World {
    fn new(filter: Filter, lane_events: usize) -> Self {
        let hub = Hub::new(lane_events);
        let filter = Arc::new(filter);
        let client = Client::connect(&hub, &filter, 0);
        Self { hub, calls: BTreeMap::new(), under_way: Vec::new(), stream_seq: 0, filter, client }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Commit { call, state, queue } => self.commit(call, State::ALL[state], QUEUES[queue]),
            Step::Deliver { which, again } if !self.under_way.is_empty() => {
                self.deliver(which.index(self.under_way.len()), again);
            }
            Step::Deliver { .. } => {}
            Step::Wipe => {
                self.under_way.clear();
                self.stream_seq = 0;
                self.hub.reset(0);
            }
            Step::Read => self.client.read(&self.hub, &self.calls, &self.filter),
            Step::Take => {
                if self.client.to_read.is_empty() && self.client.take().is_err() {
                    self.reconnect();
                }
            }
            Step::Reconnect => self.reconnect(),
        }
    }

    fn commit(&mut self, call_number: usize, state: State, queue: Option<&str>) {
        let id = format!("call-{call_number}");
        let before = self.calls.get(&id);
        // Nothing leaves the archive.
        let state = before.map_or(state, |before| if before.state == State::Archived { before.state } else { state });
        let after = call(&id, before.map_or(1, |before| before.version + 1), state, queue);
        self.under_way.push(change(before.map(|before| before.state), &after));
        self.calls.insert(id, after);
    }

    fn deliver(&mut self, which: usize, again: bool) {
        let change = if again { self.under_way[which].clone() } else { self.under_way.remove(which) };
        self.stream_seq += 1;
        self.hub.dispatch(self.stream_seq, key(&change.call.call_id), change);
    }

    fn reconnect(&mut self) {
        self.client = Client::connect(&self.hub, &self.filter, self.client.seq);
    }

    fn come_to_rest(&mut self) {
        while !self.under_way.is_empty() {
            self.deliver(0, false);
            self.settle_client();
        }
        self.settle_client();
    }

    fn settle_client(&mut self) {
        loop {
            while !self.client.to_read.is_empty() {
                self.take(&Step::Read);
            }
            if self.client.take().is_ok() {
                return;
            }
            self.reconnect();
        }
    }
}

impl Client {
    fn connect(hub: &Arc<Hub>, filter: &Arc<Filter>, seq: u64) -> Self {
        let lane = hub.subscribe(Arc::clone(filter));
        assert!(lane.start >= seq, "seq fell from {seq} to {}", lane.start);
        let seq = lane.start;
        let to_read = (0..CALLS).map(|n| format!("call-{n}")).collect();
        Self { lane, view: View::new(Arc::clone(filter)), to_read, sees: BTreeMap::new(), seq }
    }

    fn read(&mut self, hub: &Hub, calls: &BTreeMap<String, CallSummary>, filter: &Filter) {
        let Some(id) = self.to_read.pop() else { return };
        let Some(call) = calls.get(&id).filter(|call| filter.matches(call)) else { return };
        let had_passed = hub.had_passed([(key(&id), call.version)], self.lane.start);
        self.view.show(key(&id), call.version, call.state, had_passed[0]);
        self.sees.insert(id, call.clone());
    }

    fn take(&mut self) -> Result<(), LaneEnd> {
        while let Some(event) = self.lane.try_next()? {
            assert!(event.seq > self.seq, "seq {} after {}", event.seq, self.seq);
            self.seq = event.seq;
            let call = &event.change.call;
            match self.view.take(&event) {
                Some(Shown::Left) => drop(self.sees.remove(&call.call_id)),
                Some(Shown::Enter | Shown::Update) => {
                    let before = self.sees.insert(call.call_id.clone(), call.clone());
                    assert!(before.is_none_or(|before| before.version < call.version), "a call went back");
                }
                None => {}
            }
        }
        if let Some(position) = self.lane.caught_up() {
            assert!(position >= self.seq);
            self.seq = position;
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_view_at_rest_is_the_filter_over_the_calls_as_they_are(
        filter in filter(),
        lane_events in prop_oneof![Just(2_usize), Just(64)],
        steps in vec(step(), 0..120),
    ) {
        let mut world = World::new(filter, lane_events);
        for step in &steps {
            world.take(step);
        }
        world.come_to_rest();
        let should: BTreeMap<_, _> =
            world.calls.iter().filter(|(_, call)| world.filter.matches(call)).map(|(k, v)| (k.clone(), v.clone())).collect();
        prop_assert_eq!(&world.client.sees, &should);
    }
}

fn dispatch(hub: &Hub, seq: u64, from: Option<State>, call: &CallSummary) {
    hub.dispatch(seq, key(&call.call_id), change(from, call));
}

#[test]
fn a_version_that_has_gone_by_is_dropped() {
    let hub = Hub::new(8);
    let mut lane = hub.subscribe(Arc::default());
    dispatch(&hub, 1, Some(State::Completed), &call("a", 3, State::ProcessingAi, None));
    dispatch(&hub, 2, Some(State::InProgress), &call("a", 2, State::Completed, None));
    dispatch(&hub, 3, Some(State::Completed), &call("a", 3, State::ProcessingAi, None));
    assert_eq!(lane.try_next().unwrap().unwrap().seq, 1);
    assert!(lane.try_next().unwrap().is_none());
    assert_eq!(lane.caught_up(), Some(3));
}

#[test]
fn a_lane_that_overflows_ends_and_the_others_go_on() {
    let hub = Hub::new(2);
    let (mut slow, mut fast) = (hub.subscribe(Arc::default()), hub.subscribe(Arc::default()));
    for seq in 1..=5 {
        dispatch(&hub, seq, None, &call(&format!("c{seq}"), 1, State::InProgress, None));
        assert_eq!(fast.try_next().unwrap().unwrap().seq, seq);
    }
    assert_eq!(slow.try_next().unwrap_err(), LaneEnd::Full(3));
    assert_eq!(slow.caught_up(), None);
}

#[test]
fn only_connections_that_a_change_concerns_are_woken() {
    let hub = Hub::new(8);
    let failed = Filter::parse([("state", "FAILED")]).unwrap();
    let mut lane = hub.subscribe(Arc::new(failed));
    dispatch(&hub, 1, None, &call("a", 1, State::InProgress, None));
    dispatch(&hub, 2, Some(State::InProgress), &call("a", 2, State::Completed, None));
    assert!(lane.try_next().unwrap().is_none());
    dispatch(&hub, 3, Some(State::ProcessingAi), &call("a", 4, State::Completed, None));
    assert_eq!(lane.try_next().unwrap().unwrap().seq, 3, "version 3 may have been FAILED");
}

#[test]
fn an_event_is_written_once_for_all_who_see_it_alike() {
    let hub = Hub::new(8);
    let (mut one, mut other) = (hub.subscribe(Arc::default()), hub.subscribe(Arc::default()));
    dispatch(&hub, 1, None, &call("a", 1, State::InProgress, None));
    let frames = [&mut one, &mut other].map(|lane| lane.try_next().unwrap().unwrap().frame(Shown::Enter));
    assert_eq!(frames[0].as_ptr(), frames[1].as_ptr());
    let frame: serde_json::Value = serde_json::from_str(&frames[0]).unwrap();
    assert_eq!((&frame["event_type"], &frame["change"]), (&"call.state_changed".into(), &"enter".into()));
}

#[test]
fn after_a_reset_positions_go_on_rising() {
    let hub = Hub::new(8);
    hub.advance(100);
    let mut lane = hub.subscribe(Arc::default());
    hub.reset(0);
    assert_eq!(lane.try_next().unwrap_err(), LaneEnd::Reset);
    let mut lane = hub.subscribe(Arc::default());
    dispatch(&hub, 1, None, &call("a", 1, State::InProgress, None));
    assert_eq!((lane.start, lane.try_next().unwrap().unwrap().seq), (100, 101));
    hub.reset(1);
    assert_eq!(hub.position(), 101);
}
