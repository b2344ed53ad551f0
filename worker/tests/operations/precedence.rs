//! A flag wins over the environment, that over the file, and the file over defaults: for each option, and for two that
//! mean the same.

use std::{fs, path::Path};

use super::{SECRET, printed, worker, write_secret};

fn token(worker: &str) -> String {
    format!("machine_m:worker_{worker}:{SECRET}")
}

/// A directory with tokens, and a config file that names one of them.
fn place() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["file", "env", "flag"] {
        write_secret(&dir.path().join(format!("{name}.token")), token(name));
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let path = |name: &str| dir.path().join(name).display().to_string();
    let text = format!(
        "convex_url = 'https://file'\ndirectory = '{}'\ntoken_file = '{}'\nadmin = '127.0.0.1:1'\n\
         [opencode]\nbinary = '/file'\n",
        path("file"),
        path("file.token")
    );
    fs::write(dir.path().join("worker.toml"), text).unwrap();
    let workers =
        format!("convex_url = 'https://a.b'\n[[workers]]\ndirectory = '.'\ntoken = '{}'\n", token("w"));
    write_secret(&dir.path().join("workers.toml"), workers);
    dir
}

/// Runs `check --print` there; the code, and all that it printed.
fn check(dir: &Path, flags: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = worker(&["check", "--print"]);
    let output = command.args(flags).envs(environment.iter().copied()).current_dir(dir).output().unwrap();
    (output.status.code(), printed(&output))
}

/// Each of these texts is in what is printed, and the config is valid.
#[track_caller]
fn shows(dir: &Path, flags: &[&str], environment: &[(&str, &str)], expected: &[&str]) {
    let (code, text) = check(dir, flags, environment);
    assert_eq!(code, Some(0), "{flags:?}: {text}");
    for expected in expected {
        assert!(text.contains(expected), "{flags:?} {environment:?}: no `{expected}` in {text}");
    }
}

#[test]
fn each_option_follows_the_order() {
    let place = place();
    let dir = place.path();
    let file = ["--config", "worker.toml"];
    let expected =
        ["\"https://file\"", "/file\"", "\"127.0.0.1:1\"", "worker_file:[redacted], from token_file"];
    shows(dir, &file, &[], &expected);
    let environment = [
        ("CONVEX_URL", "https://env"),
        ("WORKER_DIRECTORY", "env"),
        ("WORKER_OPENCODE", "/env"),
        ("WORKER_ADMIN", "127.0.0.1:2"),
        ("WORKER_TOKEN_FILE", "env.token"),
    ];
    let expected = ["\"https://env\"", "/env\"", "\"127.0.0.1:2\"", "worker_env:[redacted], from token_file"];
    shows(dir, &file, &environment, &expected);
    let flags = [
        ["--config", "worker.toml"],
        ["--convex-url", "https://flag"],
        ["--directory", "flag"],
        ["--opencode", "/flag"],
        ["--admin", "127.0.0.1:3"],
        ["--token-file", "flag.token"],
    ];
    let expected =
        ["\"https://flag\"", "/flag\"", "\"127.0.0.1:3\"", "worker_flag:[redacted], from token_file"];
    shows(dir, flags.as_flattened(), &environment, &expected);
}

#[test]
fn a_token_file_that_is_a_flag_wins_over_a_token_of_the_environment() {
    let place = place();
    let (dir, token) = (place.path(), token("variable"));
    let environment = [("WORKER_TOKEN", token.as_str())];
    shows(
        dir,
        &["--config", "worker.toml"],
        &environment,
        &["worker_variable:[redacted], from WORKER_TOKEN"],
    );
    let flags = ["--config", "worker.toml", "--token-file", "flag.token"];
    shows(dir, &flags, &environment, &["worker_flag:[redacted], from token_file"]);
    let both = [environment[0], ("WORKER_TOKEN_FILE", "env.token")];
    shows(dir, &["--config", "worker.toml"], &both, &["worker_variable:[redacted], from WORKER_TOKEN"]);
}

#[test]
fn one_worker_or_many_is_decided_by_the_flag() {
    let place = place();
    let dir = place.path();
    let single =
        [("WORKER_CONFIG", "worker.toml"), ("WORKER_TOKEN_FILE", "env.token"), ("WORKER_DIRECTORY", "env")];
    shows(dir, &["--workers", "workers.toml"], &single, &["# worker worker_w", "https://a.b"]);
    let many = [("WORKER_WORKERS", "workers.toml")];
    shows(dir, &[], &many, &["# worker worker_w"]);
    shows(dir, &["--config", "worker.toml"], &many, &["https://file", "worker_file:[redacted]"]);
    for (flags, environment) in [
        (&["--workers", "workers.toml", "--config", "worker.toml"][..], &[][..]),
        (&["--workers", "workers.toml", "--token-file", "flag.token"], &[]),
        (&["--workers", "workers.toml", "--directory", "flag"], &[]),
        (&[], &[many[0], ("WORKER_CONFIG", "worker.toml")]),
    ] {
        let (code, text) = check(dir, flags, environment);
        assert_eq!(code, Some(2), "{flags:?}: {text}");
        assert!(text.contains("`--workers` cannot be used with `--"), "{text}");
    }
}
