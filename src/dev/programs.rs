//! Where the server programs are: named by the user, or found where systems put them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use tokio::process::Command;
use tokio::time::timeout;

/// The oldest PostgreSQL that is supported by its makers.
const POSTGRES_MAJOR_MIN: u32 = 14;
/// The first nats-server with all that the streams ask for.
const NATS_VERSION_MIN: (u32, u32) = (2, 12);
/// A program that does not tell its version within this is not the one that is looked for.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);

/// Which server programs to run; found when not named.
#[derive(Args, Clone, Debug, Default)]
pub struct Programs {
    /// Folder of PostgreSQL's server programs [default: the newest that is installed]
    #[arg(long, env = "CALLFLEET_PG_BIN", value_name = "DIR")]
    pub postgres_bin: Option<PathBuf>,
    /// The nats-server program [default: the one on PATH, or the one that scripts/up fetched]
    #[arg(long, env = "CALLFLEET_NATS_SERVER", value_name = "FILE")]
    pub nats_server: Option<PathBuf>,
}

/// PostgreSQL's server programs of one version.
#[derive(Clone, Debug)]
pub(super) struct PostgresPrograms {
    pub(super) bin: PathBuf,
    major: u32,
}

impl Programs {
    /// PostgreSQL's programs: those of `data_major` when data of that version exist, else the newest.
    pub(super) async fn postgres(&self, data_major: Option<u32>) -> anyhow::Result<PostgresPrograms> {
        let bins = self.postgres_bin.clone().map_or_else(postgres_bins, |bin| vec![bin]);
        let mut found = Vec::new();
        for bin in bins.into_iter().filter(|bin| bin.join("postgres").is_file() && bin.join("initdb").is_file()) {
            match version(&bin.join("postgres")).await {
                Ok((major, _)) => found.push(PostgresPrograms { bin, major }),
                Err(error) => tracing::debug!(bin = %bin.display(), ?error, "not usable"),
            }
        }
        if let Some(wanted) = data_major {
            return found.into_iter().find(|programs| programs.major == wanted).with_context(|| {
                format!(
                    "the data were written by PostgreSQL {wanted}, which is not installed: install \
                     postgresql-{wanted}, or begin anew with another --data-dir"
                )
            });
        }
        // The first of equals, so that a system's own folder is preferred to a link to it.
        let newest = found.into_iter().rev().max_by_key(|programs| programs.major);
        newest.filter(|programs| programs.major >= POSTGRES_MAJOR_MIN).with_context(|| {
            format!(
                "no PostgreSQL server programs (postgres and initdb, version {POSTGRES_MAJOR_MIN} or later) in {}: \
                 run scripts/up, which installs them, or `apt-get install postgresql`, or `brew install postgresql@17`; \
                 CALLFLEET_PG_BIN names a folder that is not looked in",
                self.postgres_bin.as_ref().map_or_else(
                    || "/usr/lib/postgresql, on PATH or in Homebrew".to_owned(),
                    |bin| bin.display().to_string()
                )
            )
        })
    }

    /// The nats-server program.
    pub(super) async fn nats(&self) -> anyhow::Result<PathBuf> {
        let (major, minor) = NATS_VERSION_MIN;
        if let Some(program) = &self.nats_server {
            let found = version(program).await?;
            if found < NATS_VERSION_MIN {
                bail!(
                    "{} is nats-server {}.{}: {major}.{minor} or later is needed",
                    program.display(),
                    found.0,
                    found.1
                );
            }
            return Ok(program.clone());
        }
        for program in nats_programs().into_iter().filter(|program| program.is_file()) {
            match version(&program).await {
                Ok(found) if found >= NATS_VERSION_MIN => return Ok(program),
                Ok(found) => tracing::debug!(program = %program.display(), ?found, "too old"),
                Err(error) => tracing::debug!(program = %program.display(), ?error, "not usable"),
            }
        }
        bail!(
            "no nats-server {major}.{minor} or later on PATH or in .tools of the checkout: run scripts/up, which fetches \
             one, or `brew install nats-server`, or take one from https://github.com/nats-io/nats-server/releases; \
             CALLFLEET_NATS_SERVER names one that is elsewhere"
        )
    }
}

fn postgres_bins() -> Vec<PathBuf> {
    let mut bins = below("/usr/lib/postgresql", "bin");
    bins.extend(on_path());
    for homebrew in ["/opt/homebrew/opt", "/usr/local/opt"] {
        bins.extend(below(homebrew, "bin").into_iter().filter(|bin| bin.to_string_lossy().contains("/postgresql")));
    }
    bins
}

/// `folder/*/name`, for every such folder that can be read.
fn below(folder: &str, name: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().join(name)).collect()
}

fn on_path() -> Vec<PathBuf> {
    std::env::var_os("PATH").iter().flat_map(std::env::split_paths).filter(|folder| folder.is_absolute()).collect()
}

fn nats_programs() -> Vec<PathBuf> {
    let mut programs: Vec<PathBuf> = on_path().into_iter().map(|folder| folder.join("nats-server")).collect();
    let checkouts = std::env::current_dir().ok().into_iter().chain(own_checkout());
    programs.extend(checkouts.map(|checkout| checkout.join(".tools/nats-server")));
    programs
}

/// The checkout that this program was built in, while it still runs from its `target` folder.
fn own_checkout() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let target = program.ancestors().find(|folder| folder.file_name().is_some_and(|name| name == "target"))?;
    target.parent().map(Path::to_owned)
}

/// The first two numbers of what `program --version` says.
async fn version(program: &Path) -> anyhow::Result<(u32, u32)> {
    let name = program.display();
    let asked = Command::new(program).arg("--version").kill_on_drop(true).output();
    let output = timeout(VERSION_TIMEOUT, asked)
        .await
        .with_context(|| format!("{name} --version does not answer"))?
        .with_context(|| format!("cannot run {name}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    parse_version(&said).with_context(|| format!("{name} --version says `{}`, which has no version", said.trim()))
}

fn parse_version(said: &str) -> Option<(u32, u32)> {
    let is_digit = |c: char| c.is_ascii_digit();
    let word = said.split_whitespace().find(|word| word.trim_start_matches('v').starts_with(is_digit))?;
    let mut numbers = word.split(|c: char| !is_digit(c)).filter(|number| !number.is_empty()).map(str::parse);
    let major = numbers.next()?.ok()?;
    // `18beta1` has no minor version yet.
    Some((major, numbers.next().and_then(Result::ok).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::{Programs, parse_version};

    #[test]
    fn versions_are_read_from_what_the_programs_say() {
        assert_eq!(parse_version("nats-server: v2.14.6\n"), Some((2, 14)));
        assert_eq!(parse_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some((15, 18)));
        assert_eq!(parse_version("postgres (PostgreSQL) 17.5 (Homebrew)"), Some((17, 5)));
        assert_eq!(parse_version("usage: something"), None);
    }

    #[tokio::test]
    async fn programs_that_are_not_there_are_named_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let programs = Programs {
            postgres_bin: Some(dir.path().to_owned()),
            nats_server: Some(dir.path().join("no-such-server")),
        };
        let postgres = format!("{:#}", programs.postgres(None).await.unwrap_err());
        assert!(postgres.contains(dir.path().to_str().unwrap()) && postgres.contains("scripts/up"), "{postgres}");
        let nats = format!("{:#}", programs.nats().await.unwrap_err());
        assert!(nats.contains("no-such-server"), "{nats}");
    }
}
