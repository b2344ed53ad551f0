//! The pages of reports in a real browser, where there is one.

use std::{env, path::PathBuf, process::Command};

use crate::place::Place;

const SCENARIO: &str = "
duration = '10s'
[population]
sessions = 4
[workload]
turns = 6
";

/// The first Chromium on the path.
fn browser() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    env::split_paths(&path).flat_map(|place| names.map(|name| place.join(name))).find(|file| file.is_file())
}

/// Loads a page of `place` in a window so wide, and returns what the browser made of it and what it complained about.
fn load(browser: &PathBuf, place: &Place, page: &str, width: u32) -> [String; 2] {
    let mut command = Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]);
    command.arg(format!("--user-data-dir={}", place.path().join("profile").display()));
    command.arg(format!("--window-size={width},900"));
    command.arg(format!("file://{}", place.path().join(page).display()));
    let output = command.env("HOME", place.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

#[test]
fn pages_are_shown_whole_and_without_a_complaint() {
    let Some(browser) = browser() else {
        eprintln!("skipped: no Chromium is installed");
        return;
    };
    let place = Place::with(SCENARIO);
    place.check(&["some.toml", "--seed", "1"], 0);
    place.check(&["some.toml", "--seeds", "2"], 0);
    for (page, plots) in [("reports/some-0x1.html", 5), ("reports/sweep-some.html", 1)] {
        for width in [1280, 390] {
            let [dom, log] = load(&browser, &place, page, width);
            assert!(dom.contains("Passed"), "{page}: {dom:.500}");
            // Each heading and plot of the file is in the document: nothing was cut off by broken markup.
            let file = place.read(page);
            for tag in ["<h2", "<svg", "<table", "<section"] {
                assert_eq!(dom.matches(tag).count(), file.matches(tag).count(), "{tag} in {page}");
            }
            assert!(dom.matches("<svg").count() >= plots, "{page} has no plots");
            let complaints: Vec<_> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
            assert_eq!(complaints, [""; 0], "{page} at {width}");
        }
    }
}
