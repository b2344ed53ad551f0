//! Whatever happens on both sides, and whatever of it is heard, they become alike.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Both sides and the worker's part between them, without any network.
#[derive(Debug)]
struct World {
    state: State,
    opencode: BTreeMap<OpencodeSessionId, (String, u64)>,
    convex: BTreeMap<OpencodeSessionId, String>,
    clock: u64,
    creating: Option<(u64, usize)>,
}

/// What happens in it. Sessions go by number.
#[derive(Debug, Clone)]
enum Happens {
    Create(usize, String),
    Rename(usize, String),
    Delete(usize),
    /// A session is used: its time moves.
    Use(usize),
    /// A chat's own session is created; its link is written later.
    CreateOwn(usize),
    LinkOwn,
    Passes(u64),
    Step,
}

fn happens() -> impl Strategy<Value = (Happens, bool)> {
    let number = || 0..20_usize;
    let title = || "[ab]{1,2}";
    let what = prop_oneof![
        (number(), title()).prop_map(|(n, t)| Happens::Create(n, t)),
        (number(), title()).prop_map(|(n, t)| Happens::Rename(n, t)),
        number().prop_map(Happens::Delete),
        number().prop_map(Happens::Use),
        (20..40_usize).prop_map(Happens::CreateOwn),
        Just(Happens::LinkOwn),
        (1..40_u64).prop_map(Happens::Passes),
        Just(Happens::Step),
        Just(Happens::Step),
    ];
    (what, prop::bool::weighted(0.8))
}

impl World {
    fn new() -> Self {
        let settings = SyncSettings { batch: 3, page: 4, ..SyncSettings::default() };
        let state = State::new(settings);
        Self { state, opencode: BTreeMap::new(), convex: BTreeMap::new(), clock: 1_000, creating: None }
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.clock)
    }

    fn tell(&mut self, kind: EventKind, is_heard: bool) {
        let now = self.now();
        let event = if is_heard { event(kind) } else { TapEvent::Gap };
        self.state.take(event, now);
    }

    fn happen(&mut self, what: Happens, is_heard: bool) {
        self.clock += 1;
        let clock = self.clock;
        let named = |n: usize, t: &str, updated| session(n, t, updated);
        match what {
            Happens::Create(n, t) if !self.opencode.contains_key(&id(n)) => {
                self.opencode.insert(id(n), (t.clone(), clock));
                self.tell(EventKind::SessionCreated(named(n, &t, clock)), is_heard);
            }
            Happens::Rename(n, t) => {
                let Some(known) = self.opencode.get_mut(&id(n)) else { return };
                known.0.clone_from(&t);
                let updated = known.1;
                self.tell(EventKind::SessionUpdated(named(n, &t, updated)), is_heard);
            }
            Happens::Delete(n) => {
                let Some((title, updated)) = self.opencode.remove(&id(n)) else { return };
                self.tell(EventKind::SessionDeleted(named(n, &title, updated)), is_heard);
            }
            Happens::Use(n) => {
                let Some(known) = self.opencode.get_mut(&id(n)) else { return };
                known.1 = clock;
                let title = known.0.clone();
                self.tell(EventKind::SessionUpdated(named(n, &title, clock)), is_heard);
            }
            Happens::CreateOwn(n) if self.creating.is_none() && !self.opencode.contains_key(&id(n)) => {
                self.creating = Some((self.state.creating(), n));
                self.opencode.insert(id(n), ("own".into(), clock));
                self.tell(EventKind::SessionCreated(named(n, "own", clock)), is_heard);
            }
            Happens::LinkOwn => {
                let Some((creation, n)) = self.creating.take() else { return };
                assert!(!self.convex.contains_key(&id(n)), "a chat's own session became another chat");
                self.convex.insert(id(n), "own".into());
                self.state.created(creation, Some((&id(n), "own")));
            }
            Happens::Passes(seconds) => self.clock += seconds * 1_000,
            Happens::Step => {
                self.step();
            }
            Happens::Create(..) | Happens::CreateOwn(_) => {}
        }
    }

    /// One step, as `apply` carries it out. Says what it was.
    fn step(&mut self) -> Step {
        let now = self.now();
        let step = self.state.next(true, now);
        match &step {
            Step::Load => self.state.loaded(0),
            Step::Save(moment) => self.state.saved(*moment, now),
            Step::Apply(batch) => self.apply(batch),
            Step::List(page) => self.list(*page),
            Step::Scrub(after) => self.scrub(after),
            Step::Wait(_) => {}
        }
        step
    }

    fn apply(&mut self, batch: &Batch) {
        let named = batch.plan.new_sessions.iter().chain(&batch.plan.name_updates);
        for crate::convex::api::TitledSession { id, title } in named {
            self.convex.insert(id.clone(), title.clone());
        }
        for id in &batch.plan.deletions {
            self.convex.remove(id);
        }
        let now = self.now();
        self.state.applied(batch, now);
    }

    fn convex_of(&self, id: &OpencodeSessionId) -> InConvex {
        self.convex.get(id).map_or(InConvex::Absent, |title| InOpencode::titled(title).agreed())
    }

    fn list(&mut self, page: Page) {
        let (stamp, now) = (self.state.stamp(), self.now());
        let mut found: Vec<_> =
            self.opencode.iter().map(|(id, (title, at))| (id.clone(), title.clone(), *at)).collect();
        found.retain(|(.., at)| *at >= page.since && page.cursor.is_none_or(|cursor| *at < cursor));
        found.sort_by_key(|(.., at)| std::cmp::Reverse(*at));
        found.truncate(page.limit);
        for (id, title, _) in &found {
            let convex = match self.state.in_convex(id) {
                InConvex::Unknown => self.convex_of(id),
                known => known,
            };
            self.state.remember(id, convex, stamp);
            self.state.compare(id, InOpencode::titled(title), convex, stamp, now);
        }
        let (newest, oldest) = (found.first().map(|f| f.2), found.last().map(|f| f.2));
        self.state.listed(page, found.len(), newest, oldest, now);
    }

    fn scrub(&mut self, after: &str) {
        let now = self.now();
        let page: Vec<_> = self.convex.keys().filter(|id| id.as_str() > after).take(4).cloned().collect();
        for id in &page {
            let stamp = self.state.stamp();
            let there =
                self.opencode.get(id).map_or(InOpencode::Gone, |(title, _)| InOpencode::titled(title));
            let convex = self.convex_of(id);
            self.state.compare(id, there, convex, stamp, now);
        }
        let last = page.last().filter(|_| page.len() == 4).map(ToString::to_string);
        self.state.scrubbed(last, now);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happens_convex_becomes_like_opencode_and_then_nothing_is_called(
        happenings in prop::collection::vec(happens(), 0..120),
    ) {
        let mut world = World::new();
        for (what, is_heard) in happenings {
            world.happen(what, is_heard);
            prop_assert!(world.state.queue.len() <= QUEUE);
        }
        world.happen(Happens::LinkOwn, true);
        // Quiet: within the passes that gaps call for, everything is found.
        for _ in 0..200 {
            world.clock += 15_000;
            while !matches!(world.step(), Step::Wait(_)) {}
        }
        let titles: BTreeMap<_, _> = world.opencode.iter().map(|(id, (t, _))| (id.clone(), t.clone())).collect();
        prop_assert_eq!(&world.convex, &titles);
        // And then only a scrub, once an hour, and looks at what OpenCode used last, which call nobody.
        for _ in 0..20 {
            world.clock += 30_000;
            let step = world.step();
            prop_assert!(matches!(step, Step::Wait(_) | Step::List(_) | Step::Scrub(_)), "{:?}", step);
        }
    }
}
