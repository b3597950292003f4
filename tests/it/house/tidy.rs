//! Things that no file holds.

use super::tokens::sources;

/// Lines in the longest file; most have a third of it.
const FILE_MAX_LINES: usize = 350;

#[test]
fn no_file_is_long() {
    for source in sources("src") {
        let lines = source.text.lines().count();
        assert!(lines <= FILE_MAX_LINES, "{} has {lines} lines", source.path.display());
    }
}

#[test]
fn nothing_is_left_for_later_and_nothing_waits_by_the_clock() {
    let later = ["TO", "DO"].concat();
    let stub = ["unimple", "mented!"].concat();
    for source in sources("src") {
        for word in [&later, &stub, "todo!(", "#[allow(", "#[ignore"] {
            assert!(!source.text.contains(word), "{} holds {word}", source.path.display());
        }
    }
    let sleep = ["time::", "sleep"].concat();
    for source in sources("tests") {
        let is_wait = source.path.ends_with("wait.rs");
        assert!(is_wait || !source.text.contains(&sleep), "{} sleeps: wait for an event", source.path.display());
    }
}

#[test]
fn every_statement_names_itself() {
    for source in sources("src/store") {
        for (index, _) in source.text.match_indices("sqlx::query") {
            let call = source.text.get(index..).unwrap();
            let Some(quote) = call.find('"') else { continue };
            let statement = call.get(quote + 1..).unwrap();
            assert!(statement.starts_with("/* "), "{}: {}", source.path.display(), call.lines().nth(1).unwrap_or(call));
        }
    }
}
