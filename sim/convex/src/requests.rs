//! The records of answered mutations, by which one that is sent again runs once.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use uuid::Uuid;

use super::call::Committed;

/// Records of answered requests are kept this long (convex-backend, `crates/common/src/knobs.rs`:
/// `MAX_SESSION_CLEANUP_DURATION_HOURS`).
const REQUESTS_KEPT: Duration = Duration::from_secs(14 * 24 * 3600);
/// Answered requests by session and request, oldest first in `order`.
#[derive(Debug, Default)]
pub(super) struct Requests {
    answered: BTreeMap<(Uuid, u32), Committed>,
    order: VecDeque<(u64, (Uuid, u32))>,
}

impl Requests {
    /// The answer that this request got.
    pub(super) fn answer(&self, key: &(Uuid, u32)) -> Option<&Committed> {
        self.answered.get(key)
    }

    pub(super) fn record(&mut self, key: (Uuid, u32), answer: Committed) {
        while let Some((ts, old)) = self.order.front().copied() {
            if Duration::from_nanos(answer.ts.saturating_sub(ts)) < REQUESTS_KEPT {
                break;
            }
            self.order.pop_front();
            self.answered.remove(&old);
        }
        self.order.push_back((answer.ts, key));
        self.answered.insert(key, answer);
    }
}
