//! The plan: which faults, in which order, over which form of NATS, each with dice of its own. All of
//! it follows from the seed and the flags.

use anyhow::{Context, ensure};
use fastrand::Rng;

use crate::faults::{self, FAULTS, Fault, When};
use crate::nats::Form;
use crate::options::Options;

/// Faults of a long run that nobody gave another number.
const ROUNDS: usize = 60;
/// The faults of the short form: over a single nats-server, and over a cluster.
const SHORT_SINGLE: &[&str] = &[
    "worker-kill",
    "worker-pause",
    "ingest-kill",
    "postgres-kill",
    "postgres-failover",
    "postgres-outage",
    "nats-kill",
    "jetstream-wiped",
    "both-down",
    "spool-switch",
    "commit-no-publish",
    "answered-kill",
    "claim-blocked",
    "work-purged",
    "apply-kill",
    "postgres-slow",
    "hand-back",
];
const SHORT_CLUSTER: &[&str] = &[
    "leader-kill",
    "jetstream-full",
    "letters-deleted",
    "notifier-kill",
    "postgres-cut",
    "rolling-restart",
    "cold-worker",
];

/// One fault to be injected.
#[derive(Clone, Copy)]
pub(crate) struct Round {
    /// Counted from 1 over the whole run.
    pub(crate) number: usize,
    pub(crate) form: Form,
    pub(crate) fault: &'static Fault,
    /// Seed of the fault's own dice.
    pub(crate) seed: u64,
}

/// The plan for a seed.
pub(crate) fn make(options: &Options, seed: u64) -> anyhow::Result<Vec<Round>> {
    let mut dice = Rng::with_seed(seed);
    let mut rounds: Vec<Round> = Vec::new();
    let forms = options.nats.forms();
    for (turn, form) in forms.iter().enumerate() {
        // The forms share the rounds; the first gets what cannot be shared.
        let share = |all: usize| (all + forms.len() - 1 - turn) / forms.len();
        let chosen = if !options.faults.is_empty() {
            by_name(&options.faults, *form, options.rounds.map(share))?
        } else if options.short {
            short(*form, &mut dice)
        } else {
            long(*form, &mut dice, share(options.rounds.unwrap_or(ROUNDS)))
        };
        for fault in chosen {
            rounds.push(Round { number: rounds.len() + 1, form: *form, fault, seed: dice.u64(..) });
        }
    }
    ensure!(!rounds.is_empty(), "these faults and this form of NATS leave nothing to do");
    Ok(rounds)
}

/// The named faults in their order, once or until there are as many as asked for.
fn by_name(names: &[String], form: Form, count: Option<usize>) -> anyhow::Result<Vec<&'static Fault>> {
    let mut named = Vec::new();
    for name in names {
        let fault = faults::named(name).with_context(|| format!("there is no fault `{name}`: --list names them"))?;
        named.extend(fault.fits(form).then_some(fault));
    }
    let count = count.unwrap_or(named.len());
    Ok(named.into_iter().cycle().take(count).collect())
}

fn short(form: Form, dice: &mut Rng) -> Vec<&'static Fault> {
    let names = if form == Form::Single { SHORT_SINGLE } else { SHORT_CLUSTER };
    let mut chosen: Vec<&Fault> = names.iter().filter_map(|name| faults::named(name)).collect();
    dice.shuffle(&mut chosen);
    chosen
}

/// All faults in a new order each time around; those that take minutes only the first time.
fn long(form: Form, dice: &mut Rng, count: usize) -> Vec<&'static Fault> {
    let mut chosen: Vec<&Fault> = Vec::new();
    while chosen.len() < count {
        let is_first = chosen.is_empty();
        let fits = |fault: &&Fault| match fault.when {
            When::Always | When::Long => fault.fits(form),
            When::Once => fault.fits(form) && is_first,
            When::Asked => false,
        };
        let mut turn: Vec<&Fault> = FAULTS.iter().filter(fits).collect();
        dice.shuffle(&mut turn);
        chosen.extend(turn);
    }
    chosen.truncate(count);
    chosen
}
