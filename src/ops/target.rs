//! Which Callfleet a command speaks to: flag, environment, `<data-dir>/env`, default, in that order.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

/// Where a server listens that nobody configured.
pub(super) const DEFAULT_URL: &str = "http://127.0.0.1:8000";
/// Where `mock-ai` listens that nobody configured.
const DEFAULT_AI_URL: &str = "http://127.0.0.1:8001/v1/transcribe";

/// The flags of every command that speaks to a running Callfleet.
///
/// What neither flag nor environment says is read from `<data-dir>/env`, which `callfleet up` writes.
#[derive(Args, Clone, Debug, Default)]
#[group(skip)]
pub struct TargetOptions {
    /// The API
    #[arg(
        long,
        env = "CALLFLEET_URL",
        value_name = "URL",
        help = "The API [default: what <DATA_DIR>/env says, else http://127.0.0.1:8000]"
    )]
    pub url: Option<String>,
    /// The AI service
    #[arg(
        long,
        env = "AI_URL",
        value_name = "URL",
        help = "The AI service [default: what <DATA_DIR>/env says, else http://127.0.0.1:8001/v1/transcribe]"
    )]
    pub ai_url: Option<String>,
    /// PostgreSQL
    #[arg(
        long,
        env = "DATABASE_URL",
        value_name = "URL",
        hide_env_values = true,
        help = "PostgreSQL [default: what <DATA_DIR>/env says]"
    )]
    pub database_url: Option<String>,
    /// NATS
    #[arg(
        long,
        env = "NATS_URL",
        value_name = "URL",
        hide_env_values = true,
        help = "NATS [default: what <DATA_DIR>/env says]"
    )]
    pub nats_url: Option<String>,
    /// The folder of `callfleet up`, whose `env` file says where it listens
    #[arg(long, env = "CALLFLEET_DATA_DIR", default_value = ".callfleet", value_name = "DATA_DIR")]
    pub data_dir: PathBuf,
}

/// The addresses of one Callfleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The API, without a slash at its end
    pub url: String,
    /// The AI service's job path
    pub ai_url: String,
    database_url: Option<String>,
    nats_url: Option<String>,
    env_file: PathBuf,
}

impl TargetOptions {
    /// The addresses that these flags, the environment and the data folder come to.
    ///
    /// # Errors
    /// When `<data-dir>/env` is there and cannot be read.
    pub fn resolve(&self) -> anyhow::Result<Target> {
        let env_file = self.data_dir.join("env");
        let mut from_file = read_env(&env_file)?;
        let mut choose = |given: &Option<String>, key: &str| {
            given.clone().filter(|value| !value.is_empty()).or_else(|| from_file.remove(key))
        };
        Ok(Target {
            url: choose(&self.url, "CALLFLEET_URL")
                .map_or_else(|| DEFAULT_URL.to_owned(), |url| url.trim_end_matches('/').to_owned()),
            ai_url: choose(&self.ai_url, "AI_URL").unwrap_or_else(|| DEFAULT_AI_URL.to_owned()),
            database_url: choose(&self.database_url, "DATABASE_URL"),
            nats_url: choose(&self.nats_url, "NATS_URL"),
            env_file,
        })
    }
}

impl Target {
    /// PostgreSQL.
    ///
    /// # Errors
    /// Says how to name it when nothing does.
    pub fn database_url(&self) -> anyhow::Result<&str> {
        self.named(self.database_url.as_deref(), "DATABASE_URL", "--database-url")
    }

    /// NATS.
    ///
    /// # Errors
    /// Says how to name it when nothing does.
    pub fn nats_url(&self) -> anyhow::Result<&str> {
        self.named(self.nats_url.as_deref(), "NATS_URL", "--nats-url")
    }

    fn named<'a>(&self, url: Option<&'a str>, variable: &str, flag: &str) -> anyhow::Result<&'a str> {
        url.with_context(|| {
            let file = self.env_file.display();
            format!("{variable} is not known: start `callfleet up` (which writes {file}), or give {flag}")
        })
    }
}

/// The `KEY=value` lines of `file`; none when there is no such file.
fn read_env(file: &Path) -> anyhow::Result<HashMap<String, String>> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(HashMap::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let mut values = HashMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            bail!("{}:{}: `{line}` is not KEY=value", file.display(), index + 1);
        };
        values.insert(key.trim().to_owned(), value.trim().to_owned());
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::{Target, TargetOptions};
    use std::path::Path;

    fn options(data_dir: &Path) -> TargetOptions {
        TargetOptions { data_dir: data_dir.to_owned(), ..TargetOptions::default() }
    }

    #[test]
    fn the_file_fills_in_what_was_not_given() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("env"),
            "# up\nCALLFLEET_URL=http://file:1/\nDATABASE_URL=postgres://a/b?c=d\n",
        )
        .unwrap();
        let given = TargetOptions { url: Some("http://flag:2".into()), ..options(folder.path()) };
        let target = given.resolve().unwrap();
        assert_eq!(target.url, "http://flag:2");
        assert_eq!(target.database_url().unwrap(), "postgres://a/b?c=d");
        let Target { url, ai_url, .. } = options(folder.path()).resolve().unwrap();
        assert_eq!((url.as_str(), ai_url.as_str()), ("http://file:1", super::DEFAULT_AI_URL));
    }

    #[test]
    fn an_unknown_server_is_answered_with_how_to_name_it() {
        let folder = tempfile::tempdir().unwrap();
        let target = options(folder.path()).resolve().unwrap();
        assert_eq!(target.url, super::DEFAULT_URL);
        assert!(target.nats_url().unwrap_err().to_string().contains("--nats-url"));
    }

    #[test]
    fn a_broken_file_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("env"), "A=1\nwhat\n").unwrap();
        assert!(options(folder.path()).resolve().unwrap_err().to_string().contains("env:2"));
    }
}
