//! What happens: events of OpenCode's stream, and what turns tell of their sessions.

use std::time::Duration;

use super::{Change, Listing, QUEUE, State};
use crate::{
    opencode::{Event, EventKind, OpencodeSessionId, Session, TapEvent},
    sync::plan::{InConvex, InOpencode},
};

/// Sessions that events told of while a read was under way.
const MAX_RECENT: usize = 64;

impl State {
    /// The event stream said something.
    pub(crate) fn take(&mut self, event: TapEvent, now: Duration) {
        let Event { kind, .. } = match event {
            TapEvent::Gap => return self.gap(now),
            TapEvent::Session(event) => *event,
        };
        match kind {
            EventKind::SessionCreated(session) => self.seen(&session, InConvex::Absent, now),
            EventKind::SessionUpdated(session) => self.seen(&session, InConvex::Unknown, now),
            EventKind::SessionDeleted(session) if session.parent.is_none() => {
                self.changed(&session.id, InOpencode::Gone, InConvex::Unknown, now);
            }
            _ => {}
        }
    }

    fn seen(&mut self, session: &Session, if_unknown: InConvex, now: Duration) {
        if session.parent.is_none() {
            self.changed(&session.id, InOpencode::titled(&session.title), if_unknown, now);
        }
    }

    fn changed(&mut self, id: &OpencodeSessionId, opencode: InOpencode, if_unknown: InConvex, now: Duration) {
        self.outdate_reads(id);
        let convex = match self.convex.get(id) {
            InConvex::Unknown => if_unknown,
            known => known,
        };
        self.enqueue(id, opencode, convex, now);
    }

    /// What was read of this session until now is not believed any more.
    fn outdate_reads(&mut self, id: &OpencodeSessionId) {
        self.sequence += 1;
        self.recent.retain(|(recent, _)| recent != id);
        if self.recent.len() == MAX_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((id.clone(), self.sequence));
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
    pub(super) fn enqueue(
        &mut self,
        id: &OpencodeSessionId,
        opencode: InOpencode,
        convex: InConvex,
        now: Duration,
    ) {
        let sequence = self.sequence;
        if let Some(place) = self.queue.iter().position(|change| change.id == *id) {
            let change = &mut self.queue[place];
            (change.opencode, change.sequence) = (opencode, sequence);
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
        self.queue.push_back(Change {
            id: id.clone(),
            opencode,
            convex,
            sequence,
            since: now,
            before_creation,
        });
    }

    /// A session is about to be created for a chat. Until [`State::created`] is told of it, a session that appears may
    /// be this one.
    pub(crate) fn creating(&mut self) -> u64 {
        let number = self.next_creation;
        self.next_creation += 1;
        self.creations.insert(number);
        number
    }

    /// That creation is over. If it came to something, Convex has the link by now.
    pub(crate) fn created(&mut self, number: u64, session: Option<(&OpencodeSessionId, &str)>) {
        self.creations.remove(&number);
        if let Some((id, title)) = session {
            self.convex_has(id, InOpencode::titled(title).agreed());
        }
    }

    /// OpenCode did not know this session, and its chat is linked with another one by now.
    pub(crate) fn replaced(&mut self, id: &OpencodeSessionId) {
        self.outdate_reads(id);
        self.convex_has(id, InConvex::Absent);
    }

    /// Convex says that it has this session, with this title.
    pub(crate) fn linked(&mut self, id: &OpencodeSessionId, title: &str) {
        // What is known or under way here is no older.
        match self.convex.get(id) {
            InConvex::Unknown if self.queue.iter().any(|change| change.id == *id) => {}
            InConvex::Unknown => self.convex_has(id, InOpencode::titled(title).agreed()),
            known => self.convex.put(id, known),
        }
    }

    fn convex_has(&mut self, id: &OpencodeSessionId, convex: InConvex) {
        self.convex.put(id, convex);
        if let Some(place) = self.queue.iter().position(|change| change.id == *id) {
            self.queue[place].convex = convex;
            if self.queue[place].opencode.agreed() == convex {
                self.queue.remove(place);
            }
        }
    }

    /// Returns what Convex is known to have of a session.
    pub(crate) fn in_convex(&self, id: &OpencodeSessionId) -> InConvex {
        self.convex.get(id)
    }
}
