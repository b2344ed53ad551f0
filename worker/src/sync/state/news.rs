//! What happens: events of OpenCode's stream, and what turns tell of their sessions.

use std::time::Duration;

use super::{Change, Listing, QUEUE, State};
use crate::{
    opencode::{Event, EventKind, OpencodeSessionId, Session, TapEvent},
    sync::plan::{InConvex, InOpencode},
};

/// Sessions that events told of while a read was under way.
const HEARD: usize = 64;

impl State {
    /// The event stream said something.
    pub fn take(&mut self, event: TapEvent, now: Duration) {
        let Event { kind, .. } = match event {
            TapEvent::Gap => return self.gap(now),
            TapEvent::Session(event) => *event,
        };
        match kind {
            EventKind::SessionCreated(session) => self.heard_of(&session, InConvex::Absent, now),
            EventKind::SessionUpdated(session) => self.heard_of(&session, InConvex::Unknown, now),
            EventKind::SessionDeleted(session) if session.parent.is_none() => {
                self.hear(&session.id, InOpencode::Gone, InConvex::Unknown, now);
            }
            _ => {}
        }
    }

    fn heard_of(&mut self, session: &Session, unless_known: InConvex, now: Duration) {
        if session.parent.is_none() {
            self.hear(&session.id, InOpencode::titled(&session.title), unless_known, now);
        }
    }

    fn hear(&mut self, id: &OpencodeSessionId, opencode: InOpencode, unless_known: InConvex, now: Duration) {
        self.outdate_reads(id);
        let convex = match self.known.get(id) {
            InConvex::Unknown => unless_known,
            known => known,
        };
        self.note(id, opencode, convex, now);
    }

    /// What was read of this session until now is not believed any more.
    fn outdate_reads(&mut self, id: &OpencodeSessionId) {
        self.moment += 1;
        self.heard.retain(|(heard, _)| heard != id);
        if self.heard.len() == HEARD {
            self.heard.pop_front();
        }
        self.heard.push_back((id.clone(), self.moment));
    }

    /// Something may have been missed.
    fn gap(&mut self, now: Duration) {
        self.listing = Listing::Due;
        // What was to become a chat may be gone by now, and the scrub looks at chats alone; the listing finds the rest.
        self.queue.retain(|change| {
            matches!(change.convex, InConvex::Titled(_)) || change.opencode == InOpencode::Gone
        });
        if self.scrub.passes == 0 {
            self.scrub.next = now + self.settings.scrub_interval;
        }
        // A pass that is under way may have missed something before the gap: it is followed by a whole one.
        self.scrub.passes = if self.scrub.after.is_empty() { 1 } else { 2 };
    }

    /// Puts a session into the queue, or changes it there, or takes it out, whichever both sides call for.
    pub(super) fn note(
        &mut self,
        id: &OpencodeSessionId,
        opencode: InOpencode,
        convex: InConvex,
        now: Duration,
    ) {
        let said = self.moment;
        if let Some(place) = self.queue.iter().position(|change| change.id == *id) {
            let change = &mut self.queue[place];
            (change.opencode, change.said) = (opencode, said);
            if change.opencode.agreed() == change.convex {
                self.queue.remove(place);
            }
            return;
        }
        if opencode.agreed() == convex {
            return;
        }
        if self.queue.len() == QUEUE {
            return self.gap(now);
        }
        let before_creation = self.next_creation;
        self.queue.push_back(Change { id: id.clone(), opencode, convex, said, since: now, before_creation });
    }

    /// A session is about to be created for a chat. Until [`State::created`] is told of it, a session that appears may
    /// be this one.
    pub fn creating(&mut self) -> u64 {
        let number = self.next_creation;
        self.next_creation += 1;
        self.creations.insert(number);
        number
    }

    /// That creation is over. If it came to something, Convex has the link by now.
    pub fn created(&mut self, number: u64, session: Option<(&OpencodeSessionId, &str)>) {
        self.creations.remove(&number);
        if let Some((id, title)) = session {
            self.learn(id, InOpencode::titled(title).agreed());
        }
    }

    /// OpenCode did not know this session, and its chat is linked with another one by now.
    pub fn replaced(&mut self, id: &OpencodeSessionId) {
        self.outdate_reads(id);
        self.learn(id, InConvex::Absent);
    }

    /// Convex says that it has this session, with this title.
    pub fn linked(&mut self, id: &OpencodeSessionId, title: &str) {
        // What is known or under way here is no older.
        match self.known.get(id) {
            InConvex::Unknown if self.queue.iter().any(|change| change.id == *id) => {}
            InConvex::Unknown => self.learn(id, InOpencode::titled(title).agreed()),
            known => self.known.put(id, known),
        }
    }

    fn learn(&mut self, id: &OpencodeSessionId, convex: InConvex) {
        self.known.put(id, convex);
        if let Some(place) = self.queue.iter().position(|change| change.id == *id) {
            self.queue[place].convex = convex;
            if self.queue[place].opencode.agreed() == convex {
                self.queue.remove(place);
            }
        }
    }

    /// What Convex is known to have of a session.
    pub fn known(&self, id: &OpencodeSessionId) -> InConvex {
        self.known.get(id)
    }
}
