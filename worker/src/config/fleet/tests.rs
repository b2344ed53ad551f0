use std::fs;

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn token(worker: &str) -> String {
    format!("machine_m:worker_{worker}:secret_{SECRET}")
}

/// Reads `text` from a file called `name`, in a directory that has the directories `a` and `b`.
fn read_file(name: &str, text: &str) -> Result<(Fleet, BTreeMap<String, Config>), String> {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    fs::create_dir(dir.path().join("b")).unwrap();
    fs::write(dir.path().join("w.token"), token("w")).unwrap();
    let path = dir.path().join(name);
    fs::write(&path, text.replace("$DIR", &dir.path().display().to_string())).unwrap();
    let shown = |error: ConfigError| error.to_string().replace(&dir.path().display().to_string(), "DIR");
    let fleet = Fleet::read(&path, &Overrides::default()).map_err(shown)?;
    let configs = fleet.validate().map_err(shown)?;
    Ok((fleet, configs))
}

#[test]
fn what_holds_for_all_workers_is_said_once_and_each_may_say_otherwise() {
    let text = format!(
        "convex_url = 'https://a.b'\nadmin = '127.0.0.1:9'\n[turns]\nwindow = 3\nmax_concurrent = 2\n\
        [[workers]]\nname = 'one'\ndirectory = 'a'\ntoken_file = 'w.token'\n\
        [[workers]]\ndirectory = 'b'\ntoken = '{}'\nconvex_url = 'https://c.d'\nturns.window = 4\n",
        token("two")
    );
    let (fleet, configs) = read_file("workers.toml", &text).unwrap();
    assert!(fleet.admin.is_some());
    assert_eq!(configs.keys().collect::<Vec<_>>(), ["one", "worker_two"]);
    let (one, two) = (&configs["one"], &configs["worker_two"]);
    assert_eq!((one.settings.turns.window, one.settings.turns.max_concurrent), (3, 2));
    assert_eq!((two.settings.turns.window, two.settings.turns.max_concurrent), (4, 2));
    assert_eq!((one.convex_url.address.host.as_str(), two.convex_url.address.host.as_str()), ("a.b", "c.d"));
    assert!(one.directory.ends_with("a") && one.directory.is_absolute());
    assert_eq!(one.token.worker_id, "worker_w");
}

#[test]
fn the_predecessors_file_is_read_with_its_comments() {
    let text = format!(
        "{{ // ours\n  \"workers\": [\n    {{ \"token\": \"{}\", /* here */ \"working_directory\": \"$DIR/a\",\n\
         \"convex_url\": \"https://a.b\" }}\n  ]\n}}",
        token("w")
    );
    let (_, configs) = read_file("workers.json", &text).unwrap();
    let config = &configs["worker_w"];
    assert_eq!(config.token.expose_secret(), format!("secret_{SECRET}"));
    assert_eq!((config.convex_url.address.host.as_str(), &config.settings), ("a.b", &Settings::default()));
}

/// The error of a TOML file whose first worker is fine.
fn toml_error(second: &str) -> String {
    let first =
        "convex_url = 'https://a.b'\n[[workers]]\nname = 'one'\ndirectory = 'a'\ntoken_file = 'w.token'\n";
    read_file("workers.toml", &format!("{first}{second}")).unwrap_err()
}

#[test]
fn the_file_of_an_authority_holds_for_all_workers_and_starts_at_the_files_directory() {
    let error = toml_error("convex.ca_file = 'theirs.pem'\n");
    assert!(error.contains("cannot read the CA file `DIR/theirs.pem`: "), "{error}");
    let all = "convex_url = 'https://a.b'\nconvex.ca_file = 'ours.pem'\n\
        [[workers]]\nname = 'one'\ndirectory = 'a'\ntoken_file = 'w.token'\n";
    let error = read_file("workers.toml", all).unwrap_err();
    assert!(error.contains("cannot read the CA file `DIR/ours.pem`: "), "{error}");
}

#[test]
fn errors_point_into_the_file() {
    let error = toml_error("[[workers]]\nname = 'two'\ndirectory = 'b'\ntoken_file = 'none'\n");
    assert!(error.contains("worker `two` in line 6: cannot read the token file"), "{error}");
    let error = toml_error("[[workers]]\nname = 'two'\ndirectory = 'none'\ntoken_file = 'w.token'\n");
    assert!(error.contains("worker `two` in line 6 has the token of an earlier one"), "{error}");
    let error = toml_error(&format!("[[workers]]\ndirectory = 'none'\ntoken = '{}'\n", token("v")));
    assert!(error.contains("worker `worker_v` in line 6: `DIR/none` is not a directory"), "{error}");
    let error = toml_error("[[workers]]\nname = 'one'\ndirectory = 'b'\ntoken_file = 'none'\n");
    assert!(error.contains("has the name of an earlier one"), "{error}");
    let error = toml_error("[[workers]]\nname = 'a b'\ndirectory = 'b'\ntoken_file = 'none'\n");
    assert!(error.contains("`a b` is no name for a worker"), "{error}");
    let error = toml_error("[[workers]]\nname = 'two'\ndirectory = 'b'\nturns.windows = 3\n");
    assert!(error.contains("line 9") && error.contains("windows"), "{error}");
    let error = toml_error("[[workers]]\nname = 'two'\ndirectory = 'b'\nturns.window = 300\n");
    assert!(error.contains("worker `two` in line 6: `turns.window` is 300"), "{error}");
    let error = toml_error("[[workers]]\nname = 'two'\ndirectory = 'b'\n");
    assert!(
        error.contains("worker `two` in line 6: no token is given; set `token_file` (or `token`) there"),
        "{error}"
    );
    let error = read_file("workers.toml", "workers = []").unwrap_err();
    assert_eq!(error, "the workers file `DIR/workers.toml` has 0 workers; 1 to 64 can run");
}

#[test]
fn errors_in_the_predecessors_file_have_a_place_too() {
    let error = read_file("workers.json", "{ // c\n\"workers\": [ {\"tokn\": 1} ] }").unwrap_err();
    assert!(error.contains("unknown field `tokn`") && error.contains("line 2 column 20"), "{error}");
    let short = "{\n\"workers\": [\n{\"token\": \"machine_m:worker_w:secret_1\",\n\"working_directory\": \"/\",\n\
        \"convex_url\": \"https://a.b\"}]}";
    let error = read_file("workers.json", short).unwrap_err();
    assert!(error.contains("worker `1` in line 3: the token is not valid"), "{error}");
}

#[test]
fn no_error_of_a_workers_file_repeats_a_secret() {
    let text = format!("[[workers]]\ndirectory = 'a'\ntoken = '{}:{SECRET}'\n", token("w"));
    let error = read_file("workers.toml", &text).unwrap_err();
    assert!(!error.contains(SECRET), "{error}");
}
