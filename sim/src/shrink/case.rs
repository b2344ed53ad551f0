//! A scenario that can be changed piece by piece: its text as a table, and what it means.

use std::time::Duration;

use toml::{Table, Value};

use sim_model::{
    diagnostics::ScenarioError, scenario::Scenario, seed::Seed, units::Time, workload_plan::WorkloadPlan,
};

/// The lists whose items can be left out one by one, by their path.
pub const LISTS: [&[&str]; 2] = [&["faults"], &["workload", "messages"]];
/// The tables that can be left out, each as a whole.
pub const TABLES: [&str; 2] = ["swarm", "hostile"];
/// The keys of an item that say when something happens.
pub(super) const TIMES: [&str; 3] = ["at", "from", "until"];

/// A failing scenario and the seed it fails with.
#[derive(Debug, Clone)]
pub struct Case {
    table: Table,
    scenario: Scenario,
    seed: Seed,
}

/// Why a scenario cannot be shrunk.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// It makes no sense.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// It cannot be taken apart.
    #[error("cannot take the scenario apart: {0}")]
    Table(Box<toml::de::Error>),
}

impl Case {
    /// The scenario with this text. `name` is its name if the text gives none.
    ///
    /// # Errors
    /// If it makes no sense.
    pub fn new(text: &str, name: &str, seed: Seed) -> Result<Self, CaseError> {
        let mut table: Table = text.parse().map_err(|error| CaseError::Table(Box::new(error)))?;
        table.entry("name").or_insert_with(|| name.into());
        table.insert("seed".into(), seed.to_string().into());
        table.remove("gate");
        table.remove("required_marks");
        let text = write(&table);
        Ok(Self { scenario: Scenario::parse(name, name, &text)?, table, seed })
    }

    /// The scenario.
    #[must_use]
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// The scenario as the text of a file.
    #[must_use]
    pub fn text(&self) -> String {
        write(&self.table)
    }

    /// How much there is in it: sessions, turns, what goes wrong, and seconds.
    #[must_use]
    pub fn size(&self) -> u64 {
        let Scenario { population, workload, workers, duration, .. } = &self.scenario;
        let stale = population.stale_pending.get_ref() + population.stale_claimed.get_ref();
        let each = population.sessions
            + population.only_in_opencode
            + population.in_other_directories
            + stale
            + workload.turns
            + workload.end_sessions.get_ref();
        let swarm = self.table.get("swarm").and_then(|swarm| swarm.get("faults")).and_then(Value::as_integer);
        let swarm = swarm.and_then(|faults| u64::try_from(faults).ok()).unwrap_or(0);
        let lists: usize = LISTS.iter().map(|path| self.list(path).len()).sum();
        // Old messages do little, but are not nothing.
        let old = population.old_messages_per_session;
        let seconds = duration.as_millis().div_ceil(1000) as u64;
        (each + old) * (*workers as u64) + lists as u64 + swarm + seconds
    }

    /// The items of a list; none if it is not there.
    pub(super) fn list(&self, path: &[&str]) -> &[Value] {
        let mut value = self.table.get(path[0]);
        for key in &path[1..] {
            value = value.and_then(|value| value.get(key));
        }
        value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// The case with a change, if it still makes sense. What the change leaves without sense is left out.
    pub(super) fn with(&self, change: impl FnOnce(&mut Table)) -> Option<Self> {
        let mut table = self.table.clone();
        change(&mut table);
        tidy(&mut table, &self.scenario);
        let text = write(&table);
        let scenario = Scenario::parse("shrunk", &self.scenario.name, &text).ok()?;
        Some(Self { table, scenario, seed: self.seed })
    }

    /// The case without the table called `part`; none if there is no such table.
    pub(super) fn without(&self, part: &str) -> Option<Self> {
        self.table.get(part)?;
        self.with(|table| {
            table.remove(part);
        })
    }

    /// The messages that people send, one by one instead of by their number. None if they stand there already.
    pub(super) fn with_messages_in_full(&self) -> Option<Self> {
        if self.scenario.workload.turns == 0 {
            return None;
        }
        let messages: Vec<_> = (0..self.scenario.workers)
            .flat_map(|worker| {
                let plan = WorkloadPlan::draw(&self.scenario, self.seed, worker);
                plan.messages.into_iter().map(move |message| written(worker, &message))
            })
            .collect();
        self.with(|table| {
            set(table, &["workload", "turns"], 0.into());
            set(table, &["workload", "messages"], Value::Array(messages));
        })
    }
}

fn written(worker: usize, message: &sim_model::workload_plan::Message) -> Value {
    // "message 0.12: …", see `scenario/draw.rs`.
    let number = message.text.split(['.', ':']).nth(1).and_then(|number| number.parse::<i64>().ok());
    let mut table = Table::new();
    if worker > 0 {
        table.insert("worker".into(), int(worker as u64 + 1));
    }
    table.insert("session".into(), int(message.session as u64));
    table.insert("at".into(), time(Duration::from_millis(millis(message.at))));
    table.insert("number".into(), number.expect("texts begin with their number").into());
    table.insert("bytes".into(), int(message.text.len() as u64));
    Value::Table(table)
}

fn write(table: &Table) -> String {
    toml::to_string(table).expect("a table can be written")
}

/// Sets what is at `path`; tables on the way are made.
pub(super) fn set(table: &mut Table, path: &[&str], value: Value) {
    let (last, way) = path.split_last().expect("a path has an end");
    let mut at = table;
    for key in way {
        let next = at.entry(*key).or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(next) = next else { return };
        at = next;
    }
    at.insert((*last).to_owned(), value);
}

/// The list at `path`, if there is one.
pub(super) fn list_mut<'a>(table: &'a mut Table, path: &[&str]) -> Option<&'a mut Vec<Value>> {
    let (first, rest) = path.split_first()?;
    let mut value = table.get_mut(*first)?;
    for key in rest {
        value = value.get_mut(key)?;
    }
    value.as_array_mut()
}

/// Leaves out and lowers what a change has left without sense.
fn tidy(table: &mut Table, before: &Scenario) {
    let read = |value: Option<&Value>| {
        value.and_then(Value::as_integer).and_then(|number| u64::try_from(number).ok())
    };
    let workers = read(table.get("workers")).unwrap_or(before.workers as u64);
    let duration = table.get("duration").and_then(duration_of).unwrap_or(before.duration);
    for path in LISTS {
        let Some(items) = list_mut(table, path) else { continue };
        items.retain(|item| {
            let begins = item.get("at").or_else(|| item.get("from")).and_then(duration_of);
            let worker = read(item.get("worker")).is_none_or(|worker| worker <= workers);
            worker && begins.is_none_or(|begins| begins < duration)
        });
        for item in items.iter_mut().filter_map(Value::as_table_mut) {
            if item.get("until").and_then(duration_of).is_some_and(|until| until > duration) {
                item.insert("until".into(), time(duration));
            }
        }
    }
    let population = table.get("population").and_then(|population| population.get("sessions"));
    let sessions = read(population).unwrap_or(before.population.sessions);
    for item in list_mut(table, &["workload", "messages"]).into_iter().flatten() {
        let session = read(item.get("session")).unwrap_or(0) % sessions.max(1);
        item.as_table_mut().map(|item| item.insert("session".into(), int(session)));
    }
    let bounded = [
        ("population", "missing_in_opencode"),
        ("population", "stale_claimed"),
        ("workload", "end_sessions"),
    ];
    for (part, key) in bounded {
        if let Some(value) = table.get_mut(part).and_then(|part| part.get_mut(key)) {
            let number = read(Some(value)).unwrap_or(0).min(sessions);
            *value = int(number);
        }
    }
    tidy_window(table, before, duration);
}

/// People are done before the end, and begin before that.
fn tidy_window(table: &mut Table, before: &Scenario, duration: Duration) {
    let workload = table.get("workload");
    let of = |key: &str| workload.and_then(|workload| workload.get(key)).and_then(duration_of);
    let until = of("until").unwrap_or(before.workload_until).min(duration);
    let from = of("from").unwrap_or(before.workload.from.get_ref().0);
    let from = if from < until { from } else { until / 2 };
    set(table, &["workload", "until"], time(until));
    set(table, &["workload", "from"], time(from));
}

pub(super) fn duration_of(value: &Value) -> Option<Duration> {
    humantime::parse_duration(value.as_str()?).ok()
}

pub(super) fn time(duration: Duration) -> Value {
    Time(duration).to_string().into()
}

pub(super) fn int(number: u64) -> Value {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_in_full_are_the_messages_that_were_drawn() {
        let text = "duration = '1min'\nworkers = 2\n[workload]\nturns = 9\nfrom = '3s'";
        let case = Case::new(text, "some", Seed(3)).unwrap();
        let full = case.with_messages_in_full().unwrap();
        for worker in 0..2 {
            let rounded = |case: &Case| {
                let plan = WorkloadPlan::draw(case.scenario(), Seed(3), worker);
                plan.messages
                    .into_iter()
                    .map(|one| (millis(one.at), one.session, one.text))
                    .collect::<Vec<_>>()
            };
            assert_eq!(rounded(&full), rounded(&case));
        }
        assert_eq!(full.size(), case.size());
        assert!(full.with_messages_in_full().is_none());
    }

    #[test]
    fn what_a_change_leaves_without_sense_is_left_out() {
        let text = "duration = '1min'\nworkers = 2\n[population]\nsessions = 9\nmissing_in_opencode = 8\n[workload]\nturns = 0\n\
                    [[workload.messages]]\nsession = 7\nat = '5s'\nnumber = 1\nbytes = 40\n\
                    [[workload.messages]]\nsession = 7\nat = '50s'\nnumber = 2\nbytes = 40\n\
                    [[faults]]\nworker = 2\nat = '5s'\nkind = 'kill'";
        let case = Case::new(text, "some", Seed(3)).unwrap();
        let small = case.with(|table| {
            set(table, &["workers"], 1.into());
            set(table, &["duration"], "20s".into());
            set(table, &["population", "sessions"], 4.into());
        });
        let small = small.unwrap();
        insta::assert_snapshot!(small.text());
    }
}
