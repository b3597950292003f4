//! What a command prints: tables, times and hostile text made harmless.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};

use anyhow::Context;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// Prints `text`; a reader that has left (`| head`) is no error.
///
/// # Errors
/// When standard output cannot be written.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot print"),
        _ => Ok(()),
    }
}

/// Prints `value` as JSON.
///
/// # Errors
/// When standard output cannot be written.
pub(super) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// `text` in one line that does nothing to a terminal: control characters, and those that hide or
/// turn around what stands beside them, as `\u{1b}`.
pub(super) fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// As [`line()`], with line ends and tabs left in.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    escaped(text, |c| matches!(c, '\n' | '\t'))
}

fn escaped(text: &str, allowed: impl Fn(char) -> bool) -> Cow<'_, str> {
    let harmful = |c: char| does_something(c) && !allowed(c);
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if harmful(c) {
            let _infallible = write!(shown, "\\u{{{:x}}}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

const fn does_something(c: char) -> bool {
    // Controls, direction marks and overrides, invisible joiners and spaces, line separators, tags.
    c.is_ascii_control()
        || matches!(c, '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// A table without lines around it: a heading and rows.
pub(super) fn table(heading: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if !heading.is_empty() {
        table.set_header(heading.iter().map(|name| name.to_uppercase()));
    }
    table
}

/// `2026-02-01 12:10:15.123Z`.
pub(super) fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true).replacen('T', " ", 1)
}

/// `2026-02-01 12:10:15.123Z (3 s ago)`.
pub(super) fn time_and_age(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    format!("{} ({})", time(at), age(at, now))
}

/// `3 s ago`, `in 2 min`.
pub(super) fn age(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let passed = now - at;
    if passed < TimeDelta::zero() { format!("in {}", span(-passed)) } else { format!("{} ago", span(passed)) }
}

/// `40 ms`, `3.2 s`, `2 min 5 s`, `3 h 1 min`, `2 d 4 h`.
pub(super) fn span(time: TimeDelta) -> String {
    let seconds = time.num_seconds();
    match seconds {
        0 => format!("{} ms", time.num_milliseconds()),
        1..10 => format!("{}.{} s", seconds, time.subsec_millis() / 100),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// `1 call`, `2 calls`, `1,000 calls`.
pub(super) fn count(number: i64, one: &str, many: &str) -> String {
    let shown = indicatif::HumanCount(number.unsigned_abs());
    format!("{}{shown} {}", if number < 0 { "-" } else { "" }, if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::{age, count, line, span, text, time};

    #[test]
    fn hostile_text_does_nothing_to_a_terminal() {
        assert_eq!(line("a\u{1b}]0;own\u{7}ed\u{9b}2J"), "a\\u{1b}]0;own\\u{7}ed\\u{9b}2J");
        assert_eq!(line("call\u{202e}gpj.exe\u{2066}"), "call\\u{202e}gpj.exe\\u{2066}");
        assert_eq!(line("two\nlines\r"), "two\\u{a}lines\\u{d}");
        assert_eq!(text("two\nlines\r"), "two\nlines\\u{d}");
        for harmless in ["f81d4fae/7dec+11%d0<a7>65\"00\\a0?c9:1e*6b[f6]{x}(y)@host", "日本語 émoji 🎧", ""] {
            assert_eq!(line(harmless), harmless);
        }
    }

    #[test]
    fn times_are_told_as_people_tell_them() {
        let now = DateTime::from_timestamp(1_700_000_000, 123_000_000).unwrap();
        assert_eq!(time(now), "2023-11-14 22:13:20.123Z");
        assert_eq!(age(now - TimeDelta::milliseconds(3250), now), "3.2 s ago");
        assert_eq!(age(now + TimeDelta::seconds(75), now), "in 1 min 15 s");
        assert_eq!(span(TimeDelta::milliseconds(40)), "40 ms");
        assert_eq!(span(TimeDelta::minutes(181)), "3 h 1 min");
        assert_eq!(span(TimeDelta::hours(52)), "2 d 4 h");
        assert_eq!(count(1, "call", "calls"), "1 call");
        assert_eq!(count(1000, "call", "calls"), "1,000 calls");
    }
}
