//! Identifiers of the real shape: a prefix, a 48-bit stamp of time and counter in hex, then 14 random letters.
//!
//! Messages, parts, events and permissions ascend; sessions carry the inverted stamp, so the newest sorts first.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

/// 48 bits: 36 of milliseconds (they wrap every 2.2 years, as the real ones do) and 12 of counter.
const STAMP_MASK: u64 = (1 << 48) - 1;
const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The source of all identifiers of one machine. Stamps never repeat and never go back, also when the clock does.
pub(super) struct Ids {
    random: ChaCha8Rng,
    last: u64,
}

impl Ids {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed), last: 0 }
    }

    /// A `msg_`, `prt_`, `evt_` or `per_` identifier, greater than all before.
    pub(super) fn ascending(&mut self, prefix: &str, now_ms: u64) -> String {
        let stamp = self.stamp(now_ms);
        self.render(prefix, stamp)
    }

    /// A `ses_` identifier, less than all before.
    pub(super) fn descending(&mut self, prefix: &str, now_ms: u64) -> String {
        let stamp = self.stamp(now_ms);
        self.render(prefix, !stamp)
    }

    /// A `ses_` identifier of the past, for a population that existed before the run.
    pub(super) fn descending_at(&mut self, prefix: &str, created_ms: u64) -> String {
        self.render(prefix, !((created_ms << 12) | 1))
    }

    /// `err_` and eight hex digits: the reference in an unexpected server error.
    pub(super) fn error_reference(&mut self) -> String {
        format!("err_{:08x}", self.random.next_u32())
    }

    /// Two words, as sessions have one besides their title.
    pub(super) fn slug(&mut self) -> String {
        const FIRST: [&str; 8] = ["amber", "brisk", "clear", "dusty", "early", "faint", "green", "happy"];
        const SECOND: [&str; 8] = ["anchor", "bridge", "candle", "dune", "ember", "ferry", "garden", "hill"];
        let draw = self.random.next_u32() as usize;
        format!("{}-{}", FIRST[draw % 8], SECOND[draw / 8 % 8])
    }

    fn stamp(&mut self, now_ms: u64) -> u64 {
        self.last = ((now_ms << 12) | 1).max(self.last + 1);
        self.last
    }

    fn render(&mut self, prefix: &str, stamp: u64) -> String {
        let mut id = format!("{prefix}_{:012x}", stamp & STAMP_MASK);
        for _ in 0..2 {
            let mut draw = self.random.next_u64();
            for _ in 0..7 {
                id.push(char::from(LETTERS[(draw % 62) as usize]));
                draw /= 62;
            }
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The stamp of a recorded `evt_207dd7807001…`, made at this time.
    const RECORDED_MS: u64 = 1_795_428_284_423;

    #[test]
    fn the_shape_is_the_recorded_one() {
        let mut ids = Ids::new(1);
        let event = ids.ascending("evt", RECORDED_MS);
        assert!(event.starts_with("evt_207dd7807001"), "{event}");
        assert_eq!(event.len(), "evt_207dd7807001CpYtDVk3mbuZ2m".len());
        let session = ids.descending("ses", RECORDED_MS);
        assert!(session.starts_with("ses_df82287f8ffd"), "{session}");
    }

    #[test]
    fn order_holds_within_a_millisecond_and_when_the_clock_goes_back() {
        let mut ids = Ids::new(1);
        let times = [5, 5, 5, 6, 4, 4, 7];
        let up: Vec<_> = times.iter().map(|t| ids.ascending("msg", *t)).collect();
        let down: Vec<_> = times.iter().map(|t| ids.descending("ses", *t)).collect();
        assert!(up.is_sorted(), "{up:?}");
        assert!(down.iter().rev().is_sorted(), "{down:?}");
    }

    #[test]
    fn the_seed_decides_everything() {
        assert_eq!(Ids::new(3).ascending("msg", 9), Ids::new(3).ascending("msg", 9));
        assert_ne!(Ids::new(3).ascending("msg", 9), Ids::new(4).ascending("msg", 9));
    }
}
