//! The faults: what each does, what it proves, and where it can be injected.

mod ai;
mod cold;
mod links;
mod points;
mod roles;
mod spool;
mod stores;
mod storm;
mod streams;

use std::time::Duration;

use futures_util::future::LocalBoxFuture;

use crate::nats::Form;
use crate::scene::Scene;
use crate::stop::Outcome;

/// When a fault is part of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// In every plan that has time
    Always,
    /// In long plans
    Long,
    /// In long plans, once: it takes minutes
    Once,
    /// Only when it is asked for by name
    Asked,
}

/// What must hold of the time after the heal.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Goals {
    /// Time from the heal to the first archived call.
    pub(crate) first: Option<Duration>,
    /// Time from the heal to the end of the backlog.
    pub(crate) empty: Option<Duration>,
}

/// One kind of fault.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    /// What it does, in one line.
    pub(crate) what: &'static str,
    /// The form of NATS that it needs; none when any will do.
    pub(crate) form: Option<Form>,
    pub(crate) when: When,
    pub(crate) goals: Goals,
    pub(crate) run: for<'a> fn(&'a mut Scene) -> LocalBoxFuture<'a, Outcome>,
}

/// What DESIGN.md asks for: a store that is back is used within 5 s.
const BACK: Goals = Goals { first: Some(Duration::from_secs(5)), empty: None };
const NONE: Goals = Goals { first: None, empty: None };
/// The share of packets that are answered 202 at their first try while exactly one store is down.
pub(crate) const FIRST_TRY: f64 = 0.999;

macro_rules! fault {
    ($name:literal, $form:expr, $when:ident, $goals:expr, $run:path, $what:literal) => {
        Fault {
            name: $name,
            what: $what,
            form: $form,
            when: When::$when,
            goals: $goals,
            run: |scene| Box::pin($run(scene)),
        }
    };
}

const SINGLE: Option<Form> = Some(Form::Single);
const CLUSTER: Option<Form> = Some(Form::Cluster);
const ANY: Option<Form> = None;

/// Every fault there is.
pub(crate) static FAULTS: &[Fault] = &[
    fault!("ingest-kill", ANY, Always, NONE, roles::ingest_kill, "kill -9 an ingest under load, start it again"),
    fault!("worker-kill", ANY, Always, NONE, roles::worker_kill, "kill -9 a worker that holds calls"),
    fault!(
        "notifier-kill",
        ANY,
        Always,
        NONE,
        roles::notifier_kill,
        "kill -9 the notifier that the supervisor is connected to"
    ),
    fault!("ai-kill", ANY, Long, NONE, ai::kill, "kill -9 the AI service, start it again"),
    fault!(
        "ingest-pause",
        ANY,
        Long,
        NONE,
        roles::ingest_pause,
        "SIGSTOP an ingest for longer than its clients wait, then SIGCONT"
    ),
    fault!(
        "worker-pause",
        ANY,
        Always,
        NONE,
        roles::worker_pause,
        "SIGSTOP a worker with calls in hand until another has them, then SIGCONT: a zombie with an answer"
    ),
    fault!(
        "worker-pause-last",
        ANY,
        Long,
        NONE,
        roles::worker_pause_last,
        "the same while every answer is a failure: a zombie must not write dead letters"
    ),
    fault!("notifier-pause", ANY, Long, NONE, roles::notifier_pause, "SIGSTOP the supervisor's notifier, then SIGCONT"),
    fault!(
        "rolling-restart",
        ANY,
        Always,
        NONE,
        roles::rolling_restart,
        "SIGTERM every role in turn under load and start it again"
    ),
    fault!(
        "hand-back",
        ANY,
        Always,
        NONE,
        roles::hand_back,
        "SIGTERM a worker whose AI requests hang: it hands its calls back, uncharged"
    ),
    fault!(
        "second-signal",
        ANY,
        Long,
        NONE,
        roles::second_signal,
        "SIGTERM a worker whose AI requests hang, twice: it ends at once"
    ),
    fault!(
        "postgres-restart",
        ANY,
        Always,
        BACK,
        stores::postgres_restart,
        "stop PostgreSQL in immediate mode, start it again"
    ),
    fault!("postgres-kill", ANY, Always, BACK, stores::postgres_kill, "kill -9 PostgreSQL, start it again"),
    fault!(
        "postgres-outage",
        ANY,
        Always,
        BACK,
        stores::postgres_outage,
        "PostgreSQL away for longer than the idle timeout: nothing that was merely cut off is idled"
    ),
    fault!(
        "postgres-failover",
        ANY,
        Always,
        BACK,
        stores::postgres_failover,
        "kill -9 the primary, promote its synchronous standby"
    ),
    fault!("nats-restart", ANY, Always, BACK, stores::nats_restart, "stop all nats-servers, start them again"),
    fault!("nats-kill", ANY, Always, BACK, stores::nats_kill, "kill -9 all nats-servers, start them again"),
    fault!(
        "leader-kill",
        CLUSTER,
        Always,
        BACK,
        stores::leader_kill,
        "kill -9 the nats-server that leads the work stream"
    ),
    fault!("quorum-lost", CLUSTER, Always, BACK, stores::quorum_lost, "kill -9 two of three nats-servers"),
    fault!(
        "both-down",
        ANY,
        Always,
        NONE,
        stores::both_down,
        "PostgreSQL and NATS away at once: 503 with Retry-After, never silence"
    ),
    fault!(
        "jetstream-wiped",
        ANY,
        Always,
        BACK,
        streams::wiped,
        "kill -9 all nats-servers, remove their stores, start them again"
    ),
    fault!("work-deleted", ANY, Always, NONE, streams::work_deleted, "delete the work stream"),
    fault!(
        "state-deleted",
        ANY,
        Long,
        NONE,
        streams::state_deleted,
        "delete the stream of changes that supervisors follow"
    ),
    fault!(
        "letters-deleted",
        ANY,
        Always,
        NONE,
        streams::letters_deleted,
        "let calls die, then delete the dead-letter stream"
    ),
    fault!("consumer-deleted", ANY, Always, NONE, streams::consumer_deleted, "delete the work stream's consumer"),
    fault!(
        "work-purged",
        ANY,
        Always,
        NONE,
        streams::work_purged,
        "remove the messages of the work stream, which remembers their names"
    ),
    fault!("jetstream-full", ANY, Always, NONE, streams::full, "no room in the streams (max_bytes), then room again"),
    fault!(
        "disk-full",
        SINGLE,
        Always,
        BACK,
        streams::disk_full,
        "no room on JetStream's disk; room again and a restart"
    ),
    fault!(
        "postgres-cut",
        ANY,
        Always,
        BACK,
        links::postgres_cut,
        "reset every connection to PostgreSQL, and new ones"
    ),
    fault!("nats-cut", ANY, Long, BACK, links::nats_cut, "reset every connection to NATS, and new ones"),
    fault!("ai-cut", ANY, Long, NONE, links::ai_cut, "reset every connection to the AI service, for a moment"),
    fault!(
        "postgres-silent",
        ANY,
        Always,
        BACK,
        links::postgres_silent,
        "half-open connections to PostgreSQL: they stand, and nothing passes"
    ),
    fault!("nats-silent", ANY, Always, BACK, links::nats_silent, "half-open connections to NATS"),
    fault!("ai-silent", ANY, Long, NONE, links::ai_silent, "half-open connections to the AI service"),
    fault!(
        "postgres-slow",
        ANY,
        Always,
        NONE,
        links::postgres_slow,
        "every byte to and from PostgreSQL late, then a cut in the middle of commits"
    ),
    fault!("nats-slow", ANY, Long, NONE, links::nats_slow, "every byte to and from NATS late, then a cut"),
    fault!(
        "one-link",
        ANY,
        Long,
        NONE,
        links::one_link,
        "one role's connection to one store cut or silent, the others' whole"
    ),
    fault!(
        "commit-no-publish",
        ANY,
        Always,
        NONE,
        points::commit_no_publish,
        "kill -9 an ingest after its commit and before its publish"
    ),
    fault!(
        "claimed-kill",
        ANY,
        Always,
        NONE,
        points::claimed_kill,
        "kill -9 a worker between its claim and its request"
    ),
    fault!(
        "claimed-pause",
        ANY,
        Long,
        NONE,
        points::claimed_pause,
        "SIGSTOP a worker between its claim and its request for longer than the lease"
    ),
    fault!(
        "answered-kill",
        ANY,
        Always,
        NONE,
        points::answered_kill,
        "kill -9 a worker after the answer and before its record"
    ),
    fault!(
        "claim-blocked",
        ANY,
        Always,
        NONE,
        points::claim_blocked,
        "hold a worker up in its claim while a late packet comes: it must be sent"
    ),
    fault!(
        "apply-kill",
        ANY,
        Always,
        NONE,
        points::apply_kill,
        "kill -9 `callfleet topology apply` at random milliseconds"
    ),
    fault!(
        "spool-switch",
        ANY,
        Always,
        BACK,
        spool::switch,
        "kill -9 an ingest while it spools because PostgreSQL is away"
    ),
    fault!("spool-drain", ANY, Long, BACK, spool::drain, "kill -9 an ingest while it drains the spool"),
    fault!("spool-flap", ANY, Long, BACK, spool::flap, "PostgreSQL away and back, again and again"),
    fault!(
        "cold-ingest",
        ANY,
        Always,
        NONE,
        cold::ingest,
        "start an ingest while PostgreSQL is away: it must accept packets"
    ),
    fault!("cold-ingest-nats", ANY, Long, NONE, cold::ingest_without_nats, "start an ingest while NATS is away"),
    fault!(
        "cold-worker",
        ANY,
        Always,
        NONE,
        cold::worker,
        "start a worker while NATS is away: it must work once NATS is there"
    ),
    fault!(
        "cold-worker-postgres",
        ANY,
        Long,
        NONE,
        cold::worker_without_postgres,
        "start a worker while PostgreSQL is away"
    ),
    fault!("cold-notifier", ANY, Long, NONE, cold::notifier, "start the notifiers while NATS is away"),
    fault!(
        "ai-garbage",
        ANY,
        Long,
        NONE,
        ai::garbage,
        "the AI service answers garbage for a while: calls die, each with one letter"
    ),
    fault!("ai-hang", ANY, Long, NONE, ai::hang, "the AI service hangs, drips and drops connections for a while"),
    fault!(
        "ai-outage",
        ANY,
        Asked,
        NONE,
        ai::outage,
        "the AI service is down for longer than all attempts take: nothing may die (needs the breaker)"
    ),
    fault!(
        "poison-call",
        ANY,
        Once,
        NONE,
        points::poison_call,
        "a call that kills its worker, again and again: dead after 5 attempts"
    ),
    fault!(
        "wipe-10000",
        ANY,
        Once,
        NONE,
        streams::wiped_with_backlog,
        "JetStream wiped with a backlog of 10,000 calls: whole again within 60 s"
    ),
    fault!(
        "storm",
        ANY,
        Long,
        NONE,
        storm::storm,
        "several kills, pauses and cuts at once, of random roles and stores"
    ),
];

/// The fault of that name.
pub(crate) fn named(name: &str) -> Option<&'static Fault> {
    FAULTS.iter().find(|fault| fault.name == name)
}

impl Fault {
    pub(crate) fn fits(&self, form: Form) -> bool {
        self.form.is_none_or(|needed| needed == form)
    }
}
