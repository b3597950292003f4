//! Durations as people write them in settings: `300ms`, `5s`, `2m`, `1h`.

use std::time::Duration;

/// Reads `300ms`, `5s`, `2m`, `1h` (also with a fraction, `1.5s`); a bare number is refused because
/// nobody can tell its unit.
///
/// # Errors
/// Says what a duration looks like when `text` is not one.
pub fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds_per_unit = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("`{text}` is not a duration: write 300ms, 5s, 2m or 1h")),
    };
    let number: f64 =
        number.trim().parse().map_err(|_| format!("`{text}` is not a duration: write 300ms, 5s, 2m or 1h"))?;
    Duration::try_from_secs_f64(number * seconds_per_unit)
        .map_err(|_| format!("`{text}` is out of range for a duration"))
}

/// Reads a duration that must not be zero, for settings where zero would mean "never" or "always".
///
/// # Errors
/// As [`parse`], and for zero.
pub fn parse_positive(text: &str) -> Result<Duration, String> {
    let duration = parse(text)?;
    if duration.is_zero() {
        return Err(format!("`{text}` must be longer than zero"));
    }
    Ok(duration)
}

/// The shortest of the forms that [`parse`] reads, for messages to people.
#[must_use]
pub fn show(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0 => "0s".to_owned(),
        m if m % 3_600_000 == 0 => format!("{}h", m / 3_600_000),
        m if m % 60_000 == 0 => format!("{}m", m / 60_000),
        m if m % 1000 == 0 => format!("{}s", m / 1000),
        m => format!("{m}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::{parse, parse_positive, show};
    use std::time::Duration;

    #[test]
    fn the_units_that_the_settings_name_are_read_and_shown_alike() {
        for text in ["300ms", "5s", "2m", "1h", "1500ms"] {
            assert_eq!(show(parse(text).unwrap()), text);
        }
        assert_eq!(parse("1.5s").unwrap(), Duration::from_millis(1500));
    }

    #[test]
    fn a_number_without_a_unit_or_below_zero_is_refused() {
        for text in ["5", "", "s", "-1s", "1 day", "1e400s"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse_positive("0s").is_err());
    }
}
