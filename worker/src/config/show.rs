//! The merged config as people read it: a valid config file in which every value says where it comes from.

use std::collections::BTreeMap;

use super::{Config, ConfigError, FOR_TESTS, file::Merged};

/// Where a value comes from, by key, as `--directory` or `WORKER_DIRECTORY`: for what is neither of the file nor a
/// default.
pub type Origins = BTreeMap<&'static str, String>;

/// Where a value comes from that nobody has set.
const DEFAULT: &str = "default";

/// Shows `merged` if it is valid; of the settings [for tests](FOR_TESTS), those that are set. Secrets are redacted.
pub fn show(merged: &Merged, origins: &Origins) -> Result<String, ConfigError> {
    let config = merged.clone().validate()?;
    let mut text = String::new();
    for (key, value) in values(merged, &config) {
        let assignment = format!("{key} = {value}");
        match origin(&key, &merged.file, origins) {
            DEFAULT if FOR_TESTS.contains(&key.as_str()) => {}
            origin => text.push_str(&format!("{assignment:<48} # {origin}\n")),
        }
    }
    let source = match origins.get("token") {
        Some(variable) => variable.clone(),
        None if merged.token.is_some() => "file".to_owned(),
        None => "token_file".to_owned(),
    };
    text.push_str(&format!("# the token is {:?}, from {source}\n", config.token));
    Ok(text)
}

/// All values by their dotted keys, in the order of the file.
fn values(merged: &Merged, config: &Config) -> Vec<(String, toml::Value)> {
    let path = |path: &std::path::Path| toml::Value::from(path.display().to_string());
    let mut values = Vec::new();
    if let Some(url) = &merged.convex_url {
        values.push(("convex_url".to_owned(), toml::Value::from(url.trim())));
    }
    if let Some(file) = &merged.token_file {
        values.push(("token_file".to_owned(), path(file)));
    }
    values.push(("directory".to_owned(), path(&config.directory)));
    let settings = toml::Table::try_from(&config.settings).expect("settings have no values that TOML lacks");
    flatten("", &settings, &mut values);
    values
}

fn flatten(prefix: &str, table: &toml::Table, into: &mut Vec<(String, toml::Value)>) {
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => flatten(&format!("{prefix}{key}."), inner, into),
            value => into.push((format!("{prefix}{key}"), value.clone())),
        }
    }
}

fn origin<'a>(key: &str, file: &toml::Table, origins: &'a Origins) -> &'a str {
    if let Some(origin) = origins.get(key) {
        return origin;
    }
    let mut parts = key.split('.');
    let first = parts.next().and_then(|part| file.get(part));
    let found = parts.fold(first, |value, part| value?.get(part));
    if found.is_some() { "file" } else { DEFAULT }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{
        super::{
            Settings,
            file::{Overrides, load},
        },
        *,
    };

    const TOKEN: &str = "machine_m1:worker_w1:0123456789abcdef0123456789abcdef";

    /// A config file with this text, in a directory that lives as long as the first of both.
    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("worker.toml");
        std::fs::write(&file, text).unwrap();
        (dir, file)
    }

    fn overrides(admin: Option<&str>) -> Overrides {
        let token = Some(TOKEN.to_owned().into());
        Overrides { token, admin: admin.map(Into::into), ..Overrides::default() }
    }

    fn merged(text: &str) -> Merged {
        let (_dir, file) = file(text);
        Merged::read(Some(&file), overrides(Some("127.0.0.1:1"))).unwrap()
    }

    #[test]
    fn every_value_says_where_it_comes_from() {
        let merged = merged(
            "convex_url = 'https://a.b'\ndirectory = '/'\n[turns]\nwindow = 3\nidle_timeout = '90s'\n",
        );
        let origins = Origins::from([("admin", "--admin".to_owned()), ("token", "WORKER_TOKEN".to_owned())]);
        let text = show(&merged, &origins).unwrap();
        insta::assert_snapshot!(text, @r#"
        convex_url = "https://a.b"                       # file
        directory = "/"                                  # file
        admin = "127.0.0.1:1"                            # --admin
        convex.allow_plain_http = false                  # default
        heartbeat.busy = "5s"                            # default
        heartbeat.idle = "30s"                           # default
        lifecycle.recovery_cap = "30s"                   # default
        lifecycle.stop_grace = "10s"                     # default
        opencode.binary = "opencode"                     # default
        opencode.idle_stop = "10m"                       # default
        opencode.permission_timeout = "2m"               # default
        opencode.permissions = "deny"                    # default
        opencode.request_timeout = "30s"                 # default
        opencode.startup_timeout = "30s"                 # default
        sessions.cache_capacity = 64                     # default
        sessions.creates_per_second = 5                  # default
        sync.accept_mass_deletions = false               # default
        sync.enabled = true                              # default
        turns.accept_unclaimed_within = "0s"             # default
        turns.coalesce_interval = "250ms"                # default
        turns.idle_timeout = "1m 30s"                    # file
        turns.max_concurrent = 8                         # default
        turns.max_reply_bytes = 8388608                  # default
        turns.max_retries = 8                            # default
        turns.retry_timeout = "2m"                       # default
        turns.window = 3                                 # file
        # the token is machine_m1:worker_w1:[redacted], from WORKER_TOKEN
        "#);
    }

    #[test]
    fn what_is_shown_is_a_config_file_that_says_the_same() {
        let merged = merged("convex_url = 'https://a.b'\ndirectory = '/'\n[turns]\nwindow = 3\n");
        let (_dir, file) = file(&show(&merged, &Origins::new()).unwrap());
        assert_eq!(load(Some(&file), overrides(None)).unwrap().settings, merged.settings);
    }

    #[test]
    fn a_setting_for_tests_is_shown_only_where_it_is_set() {
        let shown = |text: &str| show(&merged(text), &Origins::new()).unwrap();
        let base = "convex_url = 'https://a.b'\ndirectory = '/'\n";
        assert!(!FOR_TESTS.iter().any(|key| shown(base).contains(key)));
        let text = shown(&format!("{base}[sync]\npage = 50\n"));
        assert!(text.contains("sync.page = 50") && !text.contains("sync.batch"), "{text}");
    }

    #[test]
    fn every_setting_for_tests_exists() {
        let settings = toml::Table::try_from(Settings::default()).unwrap();
        for key in FOR_TESTS {
            let (table, name) = key.split_once('.').unwrap();
            assert!(settings[table].get(name).is_some(), "there is no `{key}`");
        }
    }
}
