//! What holds after every history of sends, answers and disconnects.

use std::{collections::BTreeSet, time::Duration};

use ::convex::base_client::{FunctionResult, SubscriberId};
use proptest::prelude::*;

use super::{
    super::*,
    USUAL,
    link::{Link, Todo},
};
use crate::tests::{
    deploy,
    fixture::{FIXTURE, add},
    simulate,
};

/// One step of a random history.
#[derive(Debug, Clone)]
enum Step {
    Add,
    Subscribe,
    Send,
    Work,
    Receive,
    Notice,
    /// Cuts the connection. If a mutation waits to be run, it may still be: its answer is lost.
    Disconnect {
        commit_first: bool,
    },
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Add),
        1 => Just(Step::Subscribe),
        6 => Just(Step::Send),
        6 => Just(Step::Work),
        6 => Just(Step::Receive),
        3 => Just(Step::Notice),
        1 => any::<bool>().prop_map(|commit_first| Step::Disconnect { commit_first }),
    ]
}

async fn replay(steps: Vec<Step>) {
    let sync = SyncOptions { stale_transition: 0.3, early_transition: 0.3 };
    let (convex, _) = deploy(FIXTURE, Duration::ZERO, sync);
    let mut link = Link::new(convex, sync).await;
    let (count, names) = (link.subscribe("items:count"), link.subscribe("items:names"));
    let (mut added, mut answers) = (Vec::new(), Vec::new());
    for step in steps {
        match step {
            Step::Add => {
                let name = format!("item {}", added.len());
                answers.push(link.add(&name));
                added.push(Value::String(name));
            }
            Step::Subscribe => drop(link.subscribe("items:byTag")),
            Step::Send => drop(link.send_one()),
            Step::Work => drop(link.work_one().await),
            Step::Receive => drop(link.receive_one()),
            Step::Notice => drop(link.notice_invalidations()),
            Step::Disconnect { commit_first } => {
                if commit_first && matches!(link.todo.front(), Some(Todo::Mutate(_))) {
                    link.work_one().await;
                }
                link.connect(sync).await;
            }
        }
        check_snapshot(&link, &count, &names);
    }
    link.settle().await;
    check_snapshot(&link, &count, &names);
    assert_eq!(link.closed, None);
    assert_eq!(
        link.latest(&names),
        Some(Value::Array(added)),
        "each mutation ran once, in order; {:?}",
        link.log
    );
    for answer in answers {
        assert!(matches!(answer.await, Ok(FunctionResult::Value(_))), "every mutation is answered");
    }
}

/// Somebody else writes; who reads other ranges is not disturbed.
async fn rerun(ranges: BTreeSet<(u8, u8)>, writes: Vec<u8>) {
    let (convex, _) = deploy(FIXTURE, Duration::ZERO, USUAL);
    let mut link = Link::new(convex, USUAL).await;
    for (from, to) in &ranges {
        let bounds = [("from", f64::from(*from)), ("to", f64::from(*to)), ("take", 100.0)];
        let bounds = bounds.map(|(name, bound)| (name.to_owned(), Value::Float64(bound)));
        let mut args = BTreeMap::from(bounds);
        args.insert("descending".into(), false.into());
        link.client.subscribe("items:range".parse().unwrap(), args);
    }
    link.settle().await;
    link.ran.clear();
    for n in writes {
        add(&link.convex, "x", f64::from(n), None).await;
        link.settle().await;
        let hit = (0..).zip(&ranges).filter(|(_, (from, to))| (from..to).contains(&&n)).map(|(id, _)| id);
        assert_eq!(std::mem::take(&mut link.ran), hit.collect::<Vec<u32>>(), "{n} in {ranges:?}");
    }
}

/// Two queries over the same documents never disagree: they come from one snapshot. And what they show is what there
/// was at the timestamp that the last Transition named, not earlier and not later.
fn check_snapshot(link: &Link, count: &SubscriberId, names: &SubscriberId) {
    let was = link.history.range(..=link.shown).next_back().map(|(_, names)| Value::Array(names.clone()));
    if let Some(shown) = link.latest(names) {
        assert_eq!(Some(shown), was, "at {}; {:?}", link.shown, link.log);
    }
    if let (Some(Value::Float64(count)), Some(Value::Array(names))) = (link.latest(count), link.latest(names))
    {
        assert_eq!(count as usize, names.len(), "{:?}", link.log);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_any_disconnects_each_mutation_ran_once_and_every_transition_is_a_snapshot(
        steps in prop::collection::vec(any_step(), 0..60),
    ) {
        simulate(|| replay(steps));
    }

    #[test]
    fn a_live_query_runs_again_exactly_when_what_it_read_was_written(
        ranges in prop::collection::btree_set((0..8u8, 0..9u8), 1..5),
        writes in prop::collection::vec(0..8u8, 1..12),
    ) {
        simulate(|| rerun(ranges, writes));
    }
}
