//! What the README says is so.

use std::collections::BTreeMap;
use std::process::Command;

const README: &str = include_str!("../../../README.md");

const PROGRAMS: &[(&str, &str)] = &[
    ("ingest", env!("CARGO_BIN_EXE_ingest")),
    ("ai-worker", env!("CARGO_BIN_EXE_ai-worker")),
    ("notifier", env!("CARGO_BIN_EXE_notifier")),
    ("mock-ai", env!("CARGO_BIN_EXE_mock-ai")),
    ("callfleet", env!("CARGO_BIN_EXE_callfleet")),
];

fn help(program: &str, arguments: &[&str]) -> String {
    let (_, path) = PROGRAMS.iter().find(|(name, _)| *name == program).unwrap();
    let output = Command::new(path).args(arguments).arg("--help").output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?} --help");
    String::from_utf8(output.stdout).unwrap()
}

/// Environment variable to default, of all settings that `--help` shows.
fn settings(help: &str) -> BTreeMap<String, String> {
    // Wrapped lines belong to the option above them.
    let flat = help.split_whitespace().collect::<Vec<_>>().join(" ");
    flat.split("[env: ")
        .skip(1)
        .map(|rest| {
            let (name, after) = rest.split_once(['=', ']']).unwrap();
            let until_next = after.split("[env: ").next().unwrap();
            // The default stands right behind the variable, on either side of which nothing else has one.
            let default = until_next
                .split_once("[default: ")
                .filter(|(between, _)| between.trim_start_matches([']', ' ']).is_empty())
                .map_or("", |(_, rest)| rest.split(']').next().unwrap());
            (name.to_owned(), default.to_owned())
        })
        .collect()
}

/// The README's settings table: variable to (flag, default).
fn table() -> BTreeMap<String, (String, String)> {
    let cell = |text: &str| text.trim().trim_matches('`').to_owned();
    README
        .lines()
        .skip_while(|line| !line.starts_with("| flag | environment |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').collect();
            (cell(cells[2]), (cell(cells[1]), cell(cells[3])))
        })
        .collect()
}

#[test]
fn the_settings_table_names_every_setting_with_its_default() {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    for (name, _) in PROGRAMS.iter().filter(|(name, _)| *name != "callfleet") {
        for (variable, default) in settings(&help(name, &[])) {
            let earlier = known.insert(variable.clone(), default.clone());
            let agrees = earlier.is_none_or(|earlier| earlier == default) || variable == "CALLFLEET_LISTEN";
            assert!(agrees, "{variable} differs between programs");
        }
    }
    let table = table();
    for (variable, default) in &known {
        let (_, written) = table.get(variable).unwrap_or_else(|| panic!("the README does not name {variable}"));
        assert!(variable == "CALLFLEET_LISTEN" || written == default, "{variable}: README {written}, code {default}");
    }
    for variable in table.keys() {
        assert!(known.contains_key(variable), "the README names {variable}, which no program reads");
    }
}

#[test]
fn the_commands_of_the_readme_are_commands() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let blocks = README.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    for line in blocks.flat_map(str::lines).filter(|line| !line.trim().is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let program = words[0];
        if let Some(name) = program.strip_prefix("target/release/") {
            let (commands, flags): (Vec<&str>, Vec<&str>) =
                words[1..].iter().partition(|w| w.bytes().all(|b| b.is_ascii_lowercase()));
            let commands: Vec<&str> = commands.into_iter().take_while(|w| !w.is_empty()).collect();
            let help = help(name, &commands);
            for flag in flags.iter().filter(|flag| flag.starts_with("--") && flag.len() > 2) {
                assert!(help.contains(*flag), "`{line}`: {flag} is not in its help");
            }
        } else if program.contains('/') {
            assert!(root.join(program).is_file(), "`{line}`: no such file");
        } else {
            assert!(["curl", "export", "docker", "git", "cd"].contains(&program), "`{line}`: what is {program}?");
        }
    }
}
