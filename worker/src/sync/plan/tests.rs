use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn id(number: usize) -> OpencodeSessionId {
    OpencodeSessionId::new(&format!("ses_{number}")).unwrap()
}

/// Convex as its functions behave: chats, each with at most one link.
#[derive(Debug, Clone, Default)]
struct Chats(Vec<(Option<OpencodeSessionId>, String)>);

impl Chats {
    fn find(&mut self, id: &OpencodeSessionId) -> Option<&mut (Option<OpencodeSessionId>, String)> {
        self.0.iter_mut().find(|(link, _)| link.as_ref() == Some(id))
    }

    fn state(&mut self, id: &OpencodeSessionId) -> InConvex {
        self.find(id).map_or(InConvex::Absent, |(_, title)| InConvex::Titled(fingerprint(title)))
    }

    /// As `sync.applyPlan`.
    fn apply(&mut self, plan: &SyncPlan) {
        for TitledSession { id, title } in &plan.new_sessions {
            match self.find(id) {
                Some(chat) => chat.1.clone_from(title),
                None => self.0.push((Some(id.clone()), title.clone())),
            }
        }
        for TitledSession { id, title } in &plan.name_updates {
            if let Some(chat) = self.find(id) {
                chat.1.clone_from(title);
            }
        }
        for id in &plan.deletions {
            if let Some(chat) = self.find(id) {
                chat.0 = None;
            }
        }
    }

    fn links(&self) -> BTreeMap<&OpencodeSessionId, Vec<&str>> {
        let mut links: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (link, title) in &self.0 {
            if let Some(id) = link {
                links.entry(id).or_default().push(title.as_str());
            }
        }
        links
    }
}

type Sessions = BTreeMap<OpencodeSessionId, InOpencode>;

/// Each session by number: in OpenCode with a title or gone, in Convex with a title or not.
fn sides() -> impl Strategy<Value = (Sessions, Chats, Vec<bool>)> {
    let title = || prop::option::of("[abc]{0,2}");
    prop::collection::vec((title(), title(), any::<bool>()), 0..40).prop_map(|sessions| {
        let (mut opencode, mut chats, mut known) = (Sessions::new(), Chats::default(), Vec::new());
        for (number, (there, here, is_known)) in sessions.into_iter().enumerate() {
            opencode.insert(id(number), there.map_or(InOpencode::Gone, |title| InOpencode::titled(&title)));
            chats.0.extend(here.map(|title| (Some(id(number)), title)));
            known.push(is_known);
        }
        (opencode, chats, known)
    })
}

fn planned(opencode: &Sessions, chats: &mut Chats, known: &[bool]) -> SyncPlan {
    let states: Vec<_> = opencode
        .keys()
        .zip(known)
        .map(|(id, is_known)| if *is_known { chats.state(id) } else { InConvex::Unknown })
        .collect();
    plan(opencode.iter().zip(states).map(|((id, there), here)| (id, there, here)))
}

proptest! {
    #[test]
    fn a_plan_makes_convex_like_opencode_and_a_second_one_is_empty((opencode, mut chats, known) in sides()) {
        let first = planned(&opencode, &mut chats, &known);
        chats.apply(&first);
        for (id, titles) in chats.links() {
            prop_assert_eq!(titles.len(), 1, "{} has {} chats", id, titles.len());
            prop_assert_eq!(&opencode[id], &InOpencode::titled(titles[0]));
        }
        let titled = opencode.values().filter(|there| **there != InOpencode::Gone).count();
        prop_assert_eq!(chats.links().len(), titled);
        let all_known = vec![true; opencode.len()];
        prop_assert_eq!(planned(&opencode, &mut chats, &all_known), SyncPlan::default());
    }

    #[test]
    fn a_plan_that_is_applied_twice_does_what_it_does_once((opencode, mut chats, known) in sides()) {
        let first = planned(&opencode, &mut chats, &known);
        chats.apply(&first);
        let once = chats.0.clone();
        chats.apply(&first);
        prop_assert_eq!(chats.0, once);
    }
}

#[test]
fn what_both_sides_agree_on_is_not_planned() {
    let here = InConvex::Titled(fingerprint("a"));
    assert_eq!(plan([(&id(1), &InOpencode::titled("a"), here)]), SyncPlan::default());
    assert_eq!(plan([(&id(1), &InOpencode::Gone, InConvex::Absent)]), SyncPlan::default());
}

#[test]
fn a_title_is_cut_by_characters() {
    let InOpencode::Titled(title) = InOpencode::titled(&"ü".repeat(MAX_TITLE + 1)) else { panic!() };
    assert_eq!(title.chars().count(), MAX_TITLE);
}
