//! A whole run: the plan carried out, stack after stack, and told of.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::checks::{self, Memory};
use crate::findings::Finding;
use crate::folder::Folder;
use crate::options::Options;
use crate::plan::{self, Round};
use crate::processes::Starter;
use crate::report::{self, Account};
use crate::round::{self, Report};
use crate::scene::Scene;
use crate::stack::Stack;

/// What the run says of the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Held,
    Failed,
}

/// Time a short run takes at most, when nothing is said.
const SHORT_LIMIT: Duration = Duration::from_mins(10);
/// Time a fault takes at most, on average, and a run beside its faults.
const LIMIT_PER_FAULT: Duration = Duration::from_mins(1);

/// A stack while its rounds run.
struct Running {
    scene: Scene,
    memory: Memory,
    rounds: Vec<usize>,
    has_traces: bool,
}

/// Carries out the plan.
///
/// # Errors
/// When the suite itself cannot go on.
pub(crate) async fn run(options: &Options) -> anyhow::Result<Verdict> {
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let plan = plan::make(options, seed)?;
    let folder = Folder::new()?;
    let logs = match &options.report {
        Some(report) => report.join("logs"),
        None => folder.path().join("logs"),
    };
    fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
    let starter = Arc::new(Starter::new(folder, logs));
    println!("seed {seed}: {} faults; again with: {}", plan.len(), options.replay(seed));
    let mut account = Account::new(seed, options.replay(seed));
    let ended = carry_out(options, &plan, seed, &starter, &mut account).await;
    account.end();
    // What is known is told even when the run was cut short.
    println!("\n{}", report::table(&account));
    if let Some(folder) = &options.report {
        report::write(&account, folder)?;
        println!("written: {}", folder.join("report.md").display());
    }
    ended?;
    Ok(if account.held() { Verdict::Held } else { Verdict::Failed })
}

async fn carry_out(
    options: &Options,
    plan: &[Round],
    seed: u64,
    starter: &Arc<Starter>,
    account: &mut Account,
) -> anyhow::Result<()> {
    let rounds = u32::try_from(plan.len()).unwrap_or(u32::MAX);
    let usual = if options.short { SHORT_LIMIT } else { LIMIT_PER_FAULT * rounds + SHORT_LIMIT };
    let end = Instant::now() + options.limit.unwrap_or(usual);
    let mut running: Option<Running> = None;
    for (done, round) in plan.iter().enumerate() {
        if Instant::now() >= end {
            bail!("the time is up after {done} of {} faults (--limit)", plan.len());
        }
        if running.as_ref().is_some_and(|running| running.has_traces || running.scene.stack.form() != round.form) {
            finish(running.take(), account).await?;
        }
        let current = match running.take() {
            Some(running) => running,
            None => {
                let stack = Stack::start(starter, round.form, options.senders, seed ^ round.seed).await;
                let stack = stack.context("a stack does not start")?;
                let scene = Scene::new(stack, fastrand::Rng::with_seed(seed), options.slack);
                Running { scene, memory: Memory::default(), rounds: Vec::new(), has_traces: false }
            }
        };
        let current = running.insert(current);
        current.rounds.push(round.number);
        let report = round::run(&mut current.scene, round, &mut current.memory).await?;
        current.has_traces = report.leaves_traces();
        report::say(&report, plan.len());
        keep(options, &current.scene, &report)?;
        let failed = !report.findings.is_empty();
        account.add(report);
        if failed && options.fail_fast {
            break;
        }
    }
    finish(running, account).await
}

/// The ledger of a failed round is evidence.
fn keep(options: &Options, scene: &Scene, report: &Report) -> anyhow::Result<()> {
    let Some(folder) = options.report.as_ref().filter(|_| report.leaves_traces()) else { return Ok(()) };
    for kind in ["offered", "answered"] {
        let from = scene.stack.load.shared.ledger.path(report.round.number, kind);
        let to: PathBuf = folder.join(from.file_name().unwrap_or_default());
        fs::copy(&from, &to).with_context(|| format!("cannot write {}", to.display()))?;
    }
    Ok(())
}

/// Looks at all rounds of a stack once more, has the product's own audit come to the same, and ends it.
async fn finish(running: Option<Running>, account: &mut Account) -> anyhow::Result<()> {
    let Some(Running { scene, rounds, has_traces, .. }) = running else { return Ok(()) };
    // What is wrong has been told; it would only be told again.
    if has_traces {
        return Ok(());
    }
    let mut findings: Vec<Finding> = Vec::new();
    for round in &rounds {
        let read = scene.stack.load.shared.ledger.read(*round)?;
        findings.extend(checks::of_round(&scene.stack, *round, &read).await?);
    }
    findings.extend(checks::audit::check(&scene.stack, &rounds).await?);
    report::say_end(scene.stack.form(), rounds.len(), &findings);
    account.at_the_end(scene.stack.form(), rounds.len(), findings);
    Ok(())
}
