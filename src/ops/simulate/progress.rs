//! How far a long step is: a bar on a terminal, a plain line now and then elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use tokio::time::Instant;

/// Pause between two plain lines.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Progress on standard error.
#[derive(Debug)]
pub(super) struct Progress {
    what: &'static str,
    total: u64,
    look: Look,
}

#[derive(Debug)]
enum Look {
    Bar(ProgressBar),
    Lines { printed_at: Instant },
}

impl Progress {
    pub(super) fn start(what: &'static str, total: u64) -> Self {
        let look = if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(total);
            let style = ProgressStyle::with_template("{msg:10} {wide_bar} {human_pos}/{human_len} {per_sec} {elapsed}");
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar.set_message(what);
            Look::Bar(bar)
        } else {
            Look::Lines { printed_at: Instant::now() }
        };
        Self { what, total, look }
    }

    pub(super) fn at(&mut self, position: u64) {
        match &mut self.look {
            Look::Bar(bar) => {
                bar.set_length(self.total.max(position));
                bar.set_position(position);
            }
            Look::Lines { printed_at } if printed_at.elapsed() >= LINE_INTERVAL => {
                *printed_at = Instant::now();
                eprintln!("{} {} of {}", self.what, HumanCount(position), HumanCount(self.total.max(position)));
            }
            Look::Lines { .. } => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Look::Bar(bar) = &self.look {
            bar.finish_and_clear();
        }
    }
}
