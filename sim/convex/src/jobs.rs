//! Which scheduled functions are due, and when crons run next. Pure: it follows the commits, the scheduler asks it.

use std::collections::{BTreeMap, BTreeSet};

use convex::Value;

use super::{
    id::Id,
    isolate::CronDeclaration,
    schema::SCHEDULED_FUNCTIONS,
    store::{Document, Write},
};

/// A moment, in milliseconds since the Unix epoch.
pub type Millis = u64;

/// The pending scheduled functions.
#[derive(Debug, Default)]
pub struct Jobs {
    pending: BTreeSet<(Millis, Id)>,
    changed: bool,
}

impl Jobs {
    /// Follows a commit.
    pub fn note(&mut self, writes: &[Write]) {
        for write in writes.iter().filter(|write| &*write.table == SCHEDULED_FUNCTIONS) {
            if let Some(due) = write.old.as_deref().and_then(due) {
                self.pending.remove(&(due, write.id));
            }
            if let Some(due) = write.new.as_deref().and_then(due) {
                self.pending.insert((due, write.id));
                self.changed = true;
            }
        }
    }

    /// Adds the pending ones among these functions.
    pub fn requeue<'a>(&mut self, jobs: impl Iterator<Item = &'a Document>) {
        self.pending.extend(jobs.filter_map(|job| Some((due(job)?, job.id))));
    }

    /// Whether something was scheduled since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// When the next function is due.
    pub fn next_due(&self) -> Option<Millis> {
        self.pending.first().map(|(due, _)| *due)
    }

    /// Takes the oldest function that is due. It stays pending in the store until it has run.
    pub fn take_due(&mut self, now: Millis) -> Option<Id> {
        let (due, id) = *self.pending.first().filter(|(due, _)| *due <= now)?;
        self.pending.remove(&(due, id));
        Some(id)
    }
}

/// When a job is due, if it is pending.
pub fn due(job: &Document) -> Option<Millis> {
    let fields = job.fields();
    let (Some(Value::Object(state)), Some(Value::Float64(due))) =
        (fields.get("state"), fields.get("scheduledTime"))
    else {
        return None;
    };
    (state.get("kind") == Some(&Value::from("pending"))).then_some(due.max(0.0).ceil() as Millis)
}

/// A cron job with its next run.
#[derive(Debug, Clone)]
pub struct Cron {
    /// Its name.
    pub name: String,
    /// The function that it runs.
    pub path: String,
    /// With which arguments.
    pub args: Value,
    /// When it runs next.
    pub next: Millis,
    period: Millis,
}

const SECOND: Millis = 1_000;
const MINUTE: Millis = 60 * SECOND;
const HOUR: Millis = 60 * MINUTE;
const DAY: Millis = 24 * HOUR;
const WEEK: Millis = 7 * DAY;
/// The Unix epoch was a Thursday.
const WEEKDAYS: [&str; 7] = ["thursday", "friday", "saturday", "sunday", "monday", "tuesday", "wednesday"];

impl Cron {
    /// Reads a declaration. An interval begins at once, the others at their next moment (UTC).
    pub fn new(declaration: &CronDeclaration, now: Millis) -> Result<Self, String> {
        let CronDeclaration { name, schedule, path, args } = declaration;
        let refuse = |why: &str| format!("cron `{name}`: {why}");
        let Value::Object(schedule) = schedule else { return Err(refuse("its schedule is not an object")) };
        let number = |part: &str| number(schedule, part).map_err(|why| refuse(&why));
        let minute = || number("minuteUTC").map(|minute| minute * MINUTE);
        let time = || Ok::<_, String>(number("hourUTC")? * HOUR + minute()?);
        let kind = if let Some(Value::String(kind)) = schedule.get("type") { kind.as_str() } else { "" };
        let (period, offset) = match kind {
            "interval" => (interval(schedule).map_err(|why| refuse(&why))?, None),
            "hourly" => (HOUR, Some(minute()?)),
            "daily" => (DAY, Some(time()?)),
            "weekly" => (WEEK, Some(weekday(schedule).ok_or_else(|| refuse("unknown dayOfWeek"))? + time()?)),
            other => return Err(refuse(&format!("schedules of type `{other}` are not modelled"))),
        };
        let next = offset.map_or(now, |offset| now + (period + offset - now % period) % period);
        Ok(Self { name: name.clone(), path: path.clone(), args: args.clone(), next, period })
    }

    /// Moves to the first run after `now`; runs that were missed are skipped.
    pub fn advance(&mut self, now: Millis) {
        let missed = now.saturating_sub(self.next) / self.period;
        self.next += (missed + 1) * self.period;
    }
}

fn number(schedule: &BTreeMap<String, Value>, part: &str) -> Result<Millis, String> {
    match schedule.get(part) {
        Some(Value::Float64(n)) if *n >= 0.0 && n.fract() == 0.0 => Ok(*n as Millis),
        other => Err(format!("`{part}` is a whole number, not {other:?}")),
    }
}

fn interval(schedule: &BTreeMap<String, Value>) -> Result<Millis, String> {
    let units = [("seconds", SECOND), ("minutes", MINUTE), ("hours", HOUR)];
    let given: Vec<_> = units.iter().filter(|(unit, _)| schedule.contains_key(*unit)).collect();
    let [(unit, length)] = given[..] else { return Err("give one of `seconds`, `minutes`, `hours`".into()) };
    match number(schedule, unit)? {
        0 => Err("an interval is longer than nothing".into()),
        count => Ok(count * length),
    }
}

fn weekday(schedule: &BTreeMap<String, Value>) -> Option<Millis> {
    let Some(Value::String(day)) = schedule.get("dayOfWeek") else { return None };
    let days = WEEKDAYS.iter().position(|weekday| weekday == day)?;
    Some(days as Millis * DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cron(parts: &[(&str, Value)], now: Millis) -> Result<Cron, String> {
        let schedule = parts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let declaration = CronDeclaration {
            name: "c".into(),
            schedule: Value::Object(schedule),
            path: "a:b".into(),
            args: Value::Null,
        };
        Cron::new(&declaration, now)
    }

    #[test]
    fn an_interval_begins_at_once_and_skips_what_it_missed() {
        let mut cron = cron(&[("type", "interval".into()), ("seconds", 30.0.into())], 1_000).unwrap();
        assert_eq!(cron.next, 1_000);
        cron.advance(1_000);
        assert_eq!(cron.next, 31_000);
        cron.advance(95_000);
        assert_eq!(cron.next, 121_000);
    }

    #[test]
    fn daily_and_weekly_crons_begin_at_their_next_moment() {
        let daily = [("type", "daily".into()), ("hourUTC", 1.0.into()), ("minuteUTC", 30.0.into())];
        assert_eq!(cron(&daily, 0).unwrap().next, HOUR + 30 * MINUTE);
        assert_eq!(cron(&daily, 2 * HOUR).unwrap().next, DAY + HOUR + 30 * MINUTE);
        let weekly = [("dayOfWeek", "friday".into()), ("hourUTC", 0.0.into()), ("minuteUTC", 0.0.into())];
        let weekly: Vec<_> = [("type", "weekly".into())].into_iter().chain(weekly).collect();
        assert_eq!(cron(&weekly, 1).unwrap().next, DAY);
    }

    #[test]
    fn what_is_not_modelled_is_refused() {
        let refused = cron(&[("type", "monthly".into())], 0).unwrap_err();
        insta::assert_snapshot!(refused, @"cron `c`: schedules of type `monthly` are not modelled");
        let zero = cron(&[("type", "interval".into()), ("seconds", 0.0.into())], 0).unwrap_err();
        insta::assert_snapshot!(zero, @"cron `c`: an interval is longer than nothing");
    }
}
