//! Which Callfleet a command speaks to: flag, environment, `<data-dir>/env`, default, in that order.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

/// Where an API listens that nobody configured.
pub(super) const DEFAULT_URL: &str = "http://127.0.0.1:8000";
/// Where `mock-ai` listens that nobody configured.
const DEFAULT_AI_URL: &str = "http://127.0.0.1:8001/v1/transcribe";

/// The flags of a command that speaks to the API.
///
/// What neither flag nor environment says is read from `<data-dir>/env`, which `callfleet up` writes.
#[derive(Args, Clone, Debug, Default)]
#[group(skip)]
pub struct ApiOptions {
    /// The API
    #[arg(
        long,
        env = "CALLFLEET_URL",
        value_name = "URL",
        help = "The API [default: what <DATA_DIR>/env says, else http://127.0.0.1:8000]"
    )]
    pub url: Option<String>,
}

/// The API's address, without a slash at its end.
///
/// # Errors
/// When `<data-dir>/env` is there and cannot be read.
pub(super) fn api_url(options: &ApiOptions, data_dir: &Path) -> anyhow::Result<String> {
    let url = known(options.url.as_deref(), "CALLFLEET_URL", data_dir)?;
    Ok(url.map_or_else(|| DEFAULT_URL.to_owned(), |url| url.trim_end_matches('/').to_owned()))
}

/// The AI service's job path.
///
/// # Errors
/// As [`api_url`].
pub(super) fn ai_url(given: Option<&str>, data_dir: &Path) -> anyhow::Result<String> {
    Ok(known(given, "AI_URL", data_dir)?.unwrap_or_else(|| DEFAULT_AI_URL.to_owned()))
}

/// What was given, else what the data folder says of `variable`.
///
/// # Errors
/// As [`api_url`].
pub(super) fn known(given: Option<&str>, variable: &str, data_dir: &Path) -> anyhow::Result<Option<String>> {
    match given.filter(|value| !value.is_empty()) {
        Some(value) => Ok(Some(value.to_owned())),
        None => Ok(read_env(&env_file(data_dir))?.remove(variable)),
    }
}

/// The file that `callfleet up` writes.
pub(super) fn env_file(data_dir: &Path) -> PathBuf {
    data_dir.join("env")
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
    use super::{ApiOptions, ai_url, api_url, known};

    #[test]
    fn the_file_fills_in_what_was_not_given() {
        let folder = tempfile::tempdir().unwrap();
        let file = "# up\nCALLFLEET_URL=http://file:1/\nDATABASE_URL=postgres://a/b?c=d\n";
        std::fs::write(folder.path().join("env"), file).unwrap();
        let given = ApiOptions { url: Some("http://flag:2".into()) };
        assert_eq!(api_url(&given, folder.path()).unwrap(), "http://flag:2");
        assert_eq!(api_url(&ApiOptions::default(), folder.path()).unwrap(), "http://file:1");
        assert_eq!(ai_url(None, folder.path()).unwrap(), super::DEFAULT_AI_URL);
        assert_eq!(known(None, "DATABASE_URL", folder.path()).unwrap().unwrap(), "postgres://a/b?c=d");
        // An empty variable says nothing.
        assert_eq!(known(Some(""), "NATS_URL", folder.path()).unwrap(), None);
    }

    #[test]
    fn a_broken_file_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("env"), "A=1\nwhat\n").unwrap();
        let broken = api_url(&ApiOptions::default(), folder.path()).unwrap_err();
        assert!(broken.to_string().contains("env:2"));
    }
}
