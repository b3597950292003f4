//! All rounds of a run, summed up by fault.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::faults::FAULTS;
use crate::findings::{Finding, Sort};
use crate::nats::Form;
use crate::round::Report;

/// Everything that is told of a run.
pub(crate) struct Account {
    pub(super) seed: u64,
    pub(super) replay: String,
    pub(super) began_at: DateTime<Utc>,
    pub(super) took: Duration,
    began: Instant,
    pub(super) reports: Vec<Report>,
    /// What the last look at each stack found.
    pub(super) ends: Vec<(Form, usize, Vec<Finding>)>,
}

/// One line of the table: a fault, over one form of NATS.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) fault: &'static str,
    pub(super) form: &'static str,
    pub(super) rounds: usize,
    pub(super) packets: u64,
    pub(super) calls: usize,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) broken: u64,
    pub(super) goals_missed: u64,
    pub(super) down: u64,
    pub(super) down_accepted: u64,
    first: Vec<Duration>,
    empty: Vec<Duration>,
}

impl Account {
    pub(crate) fn new(seed: u64, replay: String) -> Self {
        let (began_at, began) = (Utc::now(), Instant::now());
        Self { seed, replay, began_at, took: Duration::ZERO, began, reports: Vec::new(), ends: Vec::new() }
    }

    pub(crate) fn add(&mut self, report: Report) {
        self.reports.push(report);
    }

    pub(crate) fn at_the_end(&mut self, form: Form, rounds: usize, findings: Vec<Finding>) {
        self.ends.push((form, rounds, findings));
    }

    pub(crate) fn end(&mut self) {
        self.took = self.began.elapsed();
    }

    /// Whether the product did all it promises.
    pub(crate) fn held(&self) -> bool {
        self.reports.iter().all(|report| report.findings.is_empty())
            && self.ends.iter().all(|(_, _, findings)| findings.is_empty())
    }

    /// The table's lines, in the order of [`FAULTS`].
    pub(super) fn lines(&self) -> Vec<Line> {
        let kinds = FAULTS.iter().flat_map(|fault| [(fault, Form::Single), (fault, Form::Cluster)]);
        kinds
            .filter_map(|(fault, form)| {
                let of_it = |report: &&Report| report.round.fault.name == fault.name && report.round.form == form;
                let reports: Vec<&Report> = self.reports.iter().filter(of_it).collect();
                (!reports.is_empty()).then(|| Line::of(fault.name, form.as_str(), &reports))
            })
            .collect()
    }

    /// All rounds as one line.
    pub(super) fn total(&self) -> Line {
        Line::of("all", "", &self.reports.iter().collect::<Vec<_>>())
    }
}

impl Line {
    fn of(fault: &'static str, form: &'static str, reports: &[&Report]) -> Self {
        let mut line = Self { fault, form, rounds: reports.len(), ..Self::default() };
        for report in reports {
            line.packets += report.packets;
            line.calls += report.calls;
            line.lost += report.count(Sort::Lost);
            line.duplicated += report.count(Sort::Duplicated);
            line.broken += report.findings.iter().filter(|finding| finding.sort == Sort::Broken).count() as u64;
            line.goals_missed += report.count(Sort::Goal);
            line.down += report.one_store_down.all;
            line.down_accepted += report.one_store_down.accepted;
            line.first.extend(report.first);
            line.empty.extend(report.empty);
        }
        line.first.sort_unstable();
        line.empty.sort_unstable();
        line
    }

    /// Median and worst time to the first archived call, and to the end of the backlog.
    pub(super) fn times(&self) -> [Option<Duration>; 4] {
        let median = |times: &[Duration]| times.get(times.len() / 2).copied();
        [median(&self.first), self.first.last().copied(), median(&self.empty), self.empty.last().copied()]
    }

    /// The share of first tries answered 202 while exactly one store was down, as text.
    #[expect(clippy::cast_precision_loss, reason = "a run has far fewer than 2^52 packets")]
    pub(super) fn share(&self) -> String {
        if self.down == 0 {
            return "–".to_owned();
        }
        // Rounded down: 100% is said of all alone.
        let share = (self.down_accepted as f64 / self.down as f64 * 10_000.0).floor() / 100.0;
        format!("{share}% of {}", self.down)
    }

    pub(super) fn verdict(&self) -> &'static str {
        if self.lost + self.duplicated + self.broken > 0 {
            "FAILED"
        } else if self.goals_missed > 0 {
            "goal missed"
        } else {
            "held"
        }
    }
}
