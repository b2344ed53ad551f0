use std::{fs, os::unix::fs::PermissionsExt};

use proptest::prelude::*;

use super::*;
use crate::{arbitrary, config::file::load};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn token(worker: &str) -> String {
    format!("machine_m:worker_{worker}:secret_{SECRET}")
}

fn write_secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Reads `text` from a file called `name`, in a directory that has the directories `a` and `b`.
fn read_file(name: &str, text: &str) -> Result<(Fleet, BTreeMap<String, Config>), String> {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    fs::create_dir(dir.path().join("b")).unwrap();
    let path = dir.path().join(name);
    write_secret(&dir.path().join("w.token"), &token("w"));
    write_secret(&path, &text.replace("$DIR", &dir.path().display().to_string()));
    let shown = |error: ConfigError| error.to_string().replace(&dir.path().display().to_string(), "DIR");
    let overrides = Overrides { state_directory: Some("/state".into()), ..Overrides::default() };
    let fleet = Fleet::read(&path, &overrides).map_err(shown)?;
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

/// A file whose first worker is of machine `m` and whose second is of machine `n`; each entry may say more.
fn two_machines(first: &str, second: &str) -> String {
    let entry = |name: &str, directory: &str, token: String, more: &str| {
        format!("[[workers]]\nname = '{name}'\ndirectory = '{directory}'\ntoken = '{token}'\n{more}\n")
    };
    let theirs = token("two").replace("machine_m", "machine_n");
    let (one, two) = (entry("one", "a", token("one"), first), entry("two", "b", theirs, second));
    format!("convex_url = 'https://a.b'\n{one}{two}")
}

#[test]
fn workers_of_one_machine_keep_the_user_s_data_directory_and_those_of_several_share_none() {
    let data = |text: &str| {
        let (_, configs) = read_file("workers.toml", text).unwrap();
        let data = |name: &str| configs[name].settings.opencode.data_directory.clone();
        (data("one"), data("two"))
    };
    let text = two_machines("", "");
    assert_eq!(data(&text.replace("machine_n", "machine_m")), (None, None));
    let of = |machine: &str| Some(PathBuf::from("/state/opencode").join(machine));
    assert_eq!(data(&text), (of("machine_m"), of("machine_n")));
    let text = two_machines("opencode.data_directory = '/srv/one'", "");
    assert_eq!(data(&text), (Some("/srv/one".into()), of("machine_n")));
}

#[test]
fn workers_of_two_machines_with_one_data_directory_are_refused() {
    let own = "opencode.data_directory = 'data'";
    let error = read_file("workers.toml", &two_machines(own, own)).unwrap_err();
    let expected = "worker `two` in line 7 is of another machine than an earlier one with the OpenCode data directory `DIR/data`";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn secrets_that_everybody_can_read_are_refused_with_the_command_that_helps() {
    let dir = tempfile::tempdir().unwrap();
    let (file, own) = (dir.path().join("workers.toml"), dir.path().join("w.token"));
    let read = |entry: &str, file_mode: u32, token_mode: u32| {
        fs::write(&own, token("w")).unwrap();
        fs::write(&file, format!("convex_url = 'https://a.b'\n[[workers]]\ndirectory = '.'\n{entry}\n"))
            .unwrap();
        for (path, mode) in [(&file, file_mode), (&own, token_mode)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let read = Fleet::read(&file, &Overrides::default());
        read.map(drop).map_err(|error| error.to_string().replace(&dir.path().display().to_string(), "DIR"))
    };
    let inline = format!("token = '{}'", token("w"));
    assert_eq!(read(&inline, 0o640, 0o600), Ok(()));
    let expected = "the workers file `DIR/workers.toml` can be read by everybody (mode 644) and holds a secret; run `chmod o-rwx 'DIR/workers.toml'`";
    assert_eq!(read(&inline, 0o644, 0o600), Err(expected.into()));
    assert_eq!(read("token_file = 'w.token'", 0o644, 0o640), Ok(()));
    let error = read("token_file = 'w.token'", 0o644, 0o604).unwrap_err();
    assert!(error.contains("the token file `DIR/w.token` can be read by everybody (mode 604)"), "{error}");
}

const FILES: [&str; 3] = [
    "convex_url = 'https://a.b'\n[turns]\nwindow = 3\n[[workers]]\nname = 'a'\ndirectory = 'a'\ntoken = 'machine_m:worker_w:0123456789abcdef0123456789abcdef'\nturns.window = 4\n",
    "{ // a\n \"workers\": [ { \"token\": \"machine_m:worker_w:0123456789abcdef0123456789abcdef\", /* b */ \"working_directory\": \"a\", \"convex_url\": \"https://a.b\" } ] }",
    "convex_url = 'https://a.b'\ndirectory = 'a'\nadmin = '127.0.0.1:1'\n[opencode]\nbinary = '/x'\nidle_stop = '10m'\n[heartbeat]\nidle = '30s'\n",
];

proptest! {
    #[test]
    fn whatever_stands_in_a_file_is_read_or_refused(text in arbitrary::text(&FILES)) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["workers.toml", "workers.json", "worker.toml"] {
            let path = dir.path().join(name);
            write_secret(&path, &text);
            if name == "worker.toml" {
                let _ = load(Some(&path), Overrides::default());
            } else {
                let _ = Fleet::read(&path, &Overrides::default()).and_then(|fleet| fleet.validate());
            }
        }
    }
}
