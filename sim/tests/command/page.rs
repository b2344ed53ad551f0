//! The pages of reports in a real browser, where there is one: nothing sticks out on a phone, plots are seen, texts
//! can be read by day and by night, and the browser complains of nothing.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

use crate::{place::Place, worker::WORKER};

/// Looks at a page inside of it, and writes what it saw.
const PROBE: &str = include_str!("page/probe.html");
/// A skipped look is a failure if this is set.
const REQUIRE: &str = "BROWSER_REQUIRED";
/// A desktop and a phone.
const WIDTHS: [u32; 2] = [1280, 390];

const SCENARIO: &str = "
duration = '10s'
description = 'a page to look at'
[population]
sessions = 4
missing_in_opencode = 2
[workload]
turns = 6
[[faults]]
at = '4s'
kind = 'kill'
[[faults]]
at = '6s'
for = '1s'
kind = 'convex-large-transition'
bytes = '1KiB'
";

/// What the browser shows of a page.
#[derive(Debug, Deserialize)]
struct Seen {
    /// The width that the page was given, and the width that it takes.
    width: f64,
    content: f64,
    /// Texts that end beyond the page or their plot, that are too pale for what is behind them, that are too small.
    sticking_out: Vec<String>,
    cut_off: Vec<String>,
    /// Tables that have to be scrolled: on a desktop any, on a phone those of words.
    scrolled: Vec<String>,
    pale: Vec<String>,
    tiny: Vec<String>,
    /// Where the verdict ends, from above.
    verdict: f64,
    /// How light the page is, from 0 to 1.
    background: f64,
    /// The plots that are shown, and the figures that should have one.
    plots: Vec<Plot>,
    figures: usize,
}

#[derive(Debug, Deserialize)]
struct Plot {
    width: f64,
    height: f64,
    /// Lines and areas that are not empty, axes included.
    drawn: usize,
}

/// The first Chromium on the path.
fn browser() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = env::split_paths(&path)
        .flat_map(|place| names.map(|name| place.join(name)))
        .find(|file| file.is_file());
    assert!(found.is_some() || env::var_os(REQUIRE).is_none(), "{REQUIRE} is set, and there is no Chromium");
    found
}

/// What the browser shows of a page of `place`, and its complaints.
fn look(browser: &Path, place: &Place, page: &str, width: u32, dark: bool) -> (Seen, Vec<String>) {
    let quoted = place.read(page).replace('&', "&amp;").replace('"', "&quot;");
    let probe = place.path().join("probe.html");
    fs::write(&probe, PROBE.replace("WIDTH", &width.to_string()).replace("PAGE", &quoted)).unwrap();
    let mut command = Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]);
    command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    command.args(["--enable-logging=stderr", "--v=0", "--hide-scrollbars", "--window-size=1400,1000"]);
    command.arg(format!("--blink-settings=preferredColorScheme={}", u8::from(!dark)));
    command.arg(format!("--user-data-dir={}", place.path().join("profile").display()));
    command.arg("--dump-dom").arg(format!("file://{}", probe.display()));
    let output = command.env("HOME", place.path()).output().unwrap();
    let [dom, log] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let seen = dom.split_once(r#"<pre id="seen">"#).and_then(|(_, rest)| rest.split_once("</pre>"));
    let (seen, _) = seen.unwrap_or_else(|| panic!("{page} was not shown:\n{log}"));
    let seen = seen.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    let seen = serde_json::from_str(&seen).unwrap_or_else(|error| panic!("{page}: {error}: {seen}\n{log}"));
    (seen, log.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect())
}

/// Looks at a page with so many plots at each width, by day and by night.
#[track_caller]
fn check(place: &Place, page: &str, plots: usize) {
    // `.ci/test` says that this is skipped: what a test that passes says is not shown.
    let Some(browser) = browser() else { return };
    for (width, dark) in WIDTHS.into_iter().flat_map(|width| [(width, false), (width, true)]) {
        let (seen, complaints) = look(&browser, place, page, width, dark);
        let shown = format!("{page} at {width} px, dark: {dark}: {seen:#?}");
        assert_eq!(complaints, [""; 0], "{shown}");
        assert_eq!((seen.width, seen.content), (f64::from(width), f64::from(width)), "{shown}");
        let unreadable = [&seen.sticking_out, &seen.cut_off, &seen.scrolled, &seen.pale, &seen.tiny];
        assert!(unreadable.iter().all(|texts| texts.is_empty()), "{shown}");
        assert!(seen.verdict < 500.0, "the verdict comes first: {shown}");
        assert_eq!(seen.background < 0.5, dark, "{shown}");
        // One drawing of each plot is shown, the one for this width; it fills the page, and more than axes are in it.
        assert_eq!((seen.plots.len(), seen.figures), (plots, plots), "{shown}");
        let wide = f64::from(width.min(960) - 40);
        let fills = |plot: &Plot| plot.width > wide * 0.95 && plot.height > 50.0 && plot.drawn > 5;
        assert!(seen.plots.iter().all(fills), "{shown}");
    }
}

#[test]
fn the_page_of_a_run_that_passed_can_be_read() {
    let place = Place::with(SCENARIO);
    place.check(&["some.toml", "--seed", "1"], 0);
    check(&place, "reports/some-0x1.html", 8);
}

#[test]
fn the_page_of_a_run_that_failed_can_be_read() {
    let place = Place::with(SCENARIO);
    place.check(&["some.toml", "--seed", "1", "--plant", "claim-off"], 10);
    check(&place, "reports/some-0x1.html", 7);
}

#[test]
fn the_page_of_a_sweep_can_be_read() {
    let place = Place::with(&format!("required_marks = ['zombie-write-refused']\n{SCENARIO}"));
    place.check(&["some.toml", "--seeds", "4"], 14);
    check(&place, "reports/sweep-some.html", 4);
    let place = Place::with(SCENARIO);
    place.check(&["some.toml", "--seeds", "2", "--plant", "claim-off"], 10);
    check(&place, "reports/sweep-some.html", 2);
}

#[test]
fn the_page_of_a_run_in_real_time_can_be_read() {
    let place = Place::with(SCENARIO);
    let arguments = ["load", "some.toml", "--seed", "1", "--time-scale", "2", "--against"];
    let against = format!("{} run", &*WORKER);
    place.check(&[&arguments[..], &[&against, "--worker", &WORKER]].concat(), 0);
    check(&place, "reports/some-load-0x1.html", 8);
}

#[test]
fn the_page_of_the_limits_can_be_read() {
    let place = Place::with("");
    let arguments =
        ["limits", "--steps", "1,3", "--hold", "2s", "--bound", "5s", "--starts", "20", "--worker"];
    place.check(&[&arguments[..], &[&WORKER]].concat(), 0);
    check(&place, "reports/limits-load-0x1.html", 6);
}
