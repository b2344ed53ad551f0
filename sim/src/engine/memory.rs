//! Knows to the byte how much heap each worker holds.
//!
//! The global allocator puts a small header in front of each block, with the owner that was active when the block was
//! made. A free is charged to that owner, whoever frees. The owner is active while its futures are polled
//! ([`Attributed`]), never across an await, so that hosts that share a thread do not mix.
//!
//! What belongs to nobody: everything made outside an [`Attributed`] future, and what is made inside
//! [`unattributed`], which stands around whatever plays the part of kernel and observer (sockets, trace).

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    pin::Pin,
    ptr,
    task::{Context, Poll},
};

/// Owners that can be told apart; one worker takes one.
pub const OWNERS: usize = 64;

/// Who a block of memory is charged to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner(u32);

impl Owner {
    /// Memory that is not counted.
    pub const NOBODY: Self = Self(0);

    /// The owner of worker number `index`, from 0 to `OWNERS - 2`.
    ///
    /// # Panics
    /// If there are not that many owners.
    #[must_use]
    pub fn worker(index: usize) -> Self {
        assert!(
            index + 1 < OWNERS,
            "memory is attributed to at most {} workers, this is number {index}",
            OWNERS - 1
        );
        Self(u32::try_from(index + 1).expect("bounded by OWNERS"))
    }

    /// Who is charged now.
    #[must_use]
    pub fn active() -> Self {
        Self(ACTIVE.get())
    }

    /// Its place in a table of [`OWNERS`].
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }

    /// What this owner holds and held, as counted on this thread.
    #[must_use]
    pub fn usage(self) -> Usage {
        COUNTERS.with(|counters| counters[self.0 as usize].get())
    }

    /// What this owner held at most since the last call.
    #[must_use]
    pub fn take_peak(self) -> i64 {
        COUNTERS.with(|counters| {
            let counter = &counters[self.0 as usize];
            let usage = counter.get();
            counter.set(Usage { peak: usage.live, ..usage });
            usage.peak
        })
    }
}

/// The heap of one owner. Signed: a block may be freed on a thread that never counted it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes held now.
    pub live: i64,
    /// The most bytes held since [`Owner::take_peak`].
    pub peak: i64,
    /// Blocks ever made, reallocations included.
    pub blocks: u64,
}

impl Usage {
    const ZERO: Self = Self { live: 0, peak: 0, blocks: 0 };
}

// Const and without destructors: access allocates nothing and registers nothing, so the allocator may use them.
thread_local! {
    static ACTIVE: Cell<u32> = const { Cell::new(0) };
    static COUNTERS: [Cell<Usage>; OWNERS] = const { [const { Cell::new(Usage::ZERO) }; OWNERS] };
}

/// A future whose allocations are charged to an owner.
#[derive(Debug)]
pub struct Attributed<F> {
    owner: Owner,
    future: F,
}

impl<F> Attributed<F> {
    /// Charges what `future` allocates to `owner`.
    pub fn new(owner: Owner, future: F) -> Self {
        Self { owner, future }
    }
}

impl<F: Future> Future for Attributed<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _active = Active::set(self.owner);
        project(self).poll(context)
    }
}

#[expect(unsafe_code, reason = "pin projection to the only field that needs it")]
fn project<F>(future: Pin<&mut Attributed<F>>) -> Pin<&mut F> {
    // SAFETY: `future` is never moved out of its place, and `Attributed` has neither Drop nor an Unpin of its own.
    unsafe { future.map_unchecked_mut(|future| &mut future.future) }
}

/// Runs `work` without charging anyone.
pub fn unattributed<T>(work: impl FnOnce() -> T) -> T {
    let _active = Active::set(Owner::NOBODY);
    work()
}

/// Sets the active owner until it is dropped, also by a panic. Never held across an await.
struct Active {
    before: u32,
}

impl Active {
    fn set(owner: Owner) -> Self {
        Self { before: ACTIVE.replace(owner.0) }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        ACTIVE.set(self.before);
    }
}

fn charge(owner: u32, bytes: i64) {
    // Thread-locals without a destructor stay readable to the end of their thread; `try_with` costs nothing more.
    let _ = COUNTERS.try_with(|counters| {
        let Some(counter) = counters.get(owner as usize) else { return };
        let usage = counter.get();
        let live = usage.live + bytes;
        counter.set(Usage { live, peak: usage.peak.max(live), blocks: usage.blocks + u64::from(bytes > 0) });
    });
}

/// The allocator: the system's, with the owner written in front of each block.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Room in front of a block: a multiple of its alignment, and enough for the owner.
const fn room(layout: Layout) -> usize {
    if layout.align() > HEADER { layout.align() } else { HEADER }
}

/// Eight bytes keep every alignment up to eight; the owner takes the last four of them.
const HEADER: usize = 8;

/// The layout with the header in front, or `None` if it does not fit into the address space.
fn padded(layout: Layout) -> Option<Layout> {
    let room = room(layout);
    Layout::from_size_align(layout.size().checked_add(room)?, room).ok()
}

fn signed(bytes: usize) -> i64 {
    bytes as i64
}

#[expect(unsafe_code, reason = "an allocator cannot be written without")]
mod implementation {
    use super::{ACTIVE, Counting, GlobalAlloc, Layout, System, charge, padded, ptr, room, signed};

    /// Writes the owner in front of a fresh block and returns the part that the caller may use.
    ///
    /// # Safety
    /// `base` is null, or the start of a block made for `padded(layout)`.
    unsafe fn hand_out(base: *mut u8, layout: Layout) -> *mut u8 {
        if base.is_null() {
            return ptr::null_mut();
        }
        let owner = ACTIVE.try_with(std::cell::Cell::get).unwrap_or(0);
        if owner != 0 {
            charge(owner, signed(layout.size()));
        }
        // SAFETY: `room` bytes lie in front of the caller's part, a multiple of eight from an address aligned to at
        // least eight, so the owner's place is inside the block and aligned to four.
        unsafe {
            let block = base.add(room(layout));
            block.cast::<u32>().sub(1).write(owner);
            block
        }
    }

    /// The owner in front of a block.
    ///
    /// # Safety
    /// `block` came from `hand_out` and is alive.
    unsafe fn owner_of(block: *mut u8) -> u32 {
        // SAFETY: written by `hand_out` at the same place.
        unsafe { block.cast::<u32>().sub(1).read() }
    }

    // SAFETY: every block comes from the system's allocator with the padded layout and goes back to it with the same;
    // the part handed out is aligned as asked (base aligned to `room`, offset `room`, a multiple of the alignment).
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            let Some(padded) = padded(layout) else { return ptr::null_mut() };
            // SAFETY: the padded size is not zero.
            unsafe { hand_out(System.alloc(padded), layout) }
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            let Some(padded) = padded(layout) else { return ptr::null_mut() };
            // SAFETY: the padded size is not zero; only the header is written, the caller's part stays zero.
            unsafe { hand_out(System.alloc_zeroed(padded), layout) }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            // SAFETY: the block was made with this layout, so its padded layout exists and its base lies `room` before.
            unsafe {
                let owner = owner_of(block);
                if owner != 0 {
                    charge(owner, -signed(layout.size()));
                }
                let padded = Layout::from_size_align_unchecked(layout.size() + room(layout), room(layout));
                System.dealloc(block.sub(room(layout)), padded);
            }
        }

        unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            let room = room(layout);
            let Some(total) = size.checked_add(room).filter(|total| *total <= isize::MAX as usize) else {
                return ptr::null_mut();
            };
            // SAFETY: as in `dealloc`. The alignment, hence the room, stays; the system copies the header along, so
            // the block keeps the owner that made it.
            unsafe {
                let owner = owner_of(block);
                let padded = Layout::from_size_align_unchecked(layout.size() + room, room);
                let base = System.realloc(block.sub(room), padded, total);
                if base.is_null() {
                    return ptr::null_mut();
                }
                if owner != 0 {
                    charge(owner, signed(size) - signed(layout.size()));
                }
                base.add(room)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::ready, hint::black_box, task::Waker, thread};

    use super::*;

    fn as_owner<T>(owner: Owner, work: impl FnOnce() -> T) -> T {
        let _active = Active::set(owner);
        work()
    }

    /// On a thread of its own: counters are per thread, and tests share none then.
    fn alone(test: impl FnOnce() + Send + 'static) {
        thread::spawn(test).join().unwrap();
    }

    #[test]
    fn a_block_is_charged_to_its_maker_and_credited_whoever_frees_it() {
        alone(|| {
            let (one, other) = (Owner::worker(0), Owner::worker(1));
            let block = as_owner(one, || vec![1_u8; 1000]);
            assert_eq!((one.usage().live, other.usage().live), (1000, 0));
            as_owner(other, || drop(block));
            assert_eq!((one.usage().live, other.usage().live), (0, 0));
            assert_eq!(one.usage().peak, 1000);
        });
    }

    #[test]
    fn growing_and_shrinking_keeps_the_owner_and_the_content() {
        alone(|| {
            let owner = Owner::worker(2);
            let mut bytes = as_owner(owner, || Vec::<u8>::with_capacity(10));
            for size in [10_u32, 100, 5000, 100_000] {
                bytes.extend((u32::try_from(bytes.len()).unwrap()..size).map(|n| n as u8));
                bytes.shrink_to_fit();
                assert_eq!(owner.usage().live, i64::from(size));
            }
            assert!(bytes.iter().enumerate().all(|(n, byte)| *byte == n as u8));
            bytes.truncate(3);
            bytes.shrink_to_fit();
            assert_eq!((owner.usage().live, &bytes[..]), (3, &[0, 1, 2][..]));
        });
    }

    #[test]
    fn every_alignment_is_kept_also_when_zeroed_and_when_grown() {
        #[expect(unsafe_code, reason = "asks the allocator itself")]
        fn check(size: usize, align: usize, zeroed: bool) {
            let layout = Layout::from_size_align(size, align).unwrap();
            // SAFETY: the sizes are not zero, and each block is used within its size and freed once.
            unsafe {
                let block = if zeroed { ALLOCATOR.alloc_zeroed(layout) } else { ALLOCATOR.alloc(layout) };
                assert!(!block.is_null());
                assert_eq!(block.addr() % align, 0, "{layout:?}");
                if zeroed {
                    assert!((0..size).all(|n| block.add(n).read() == 0), "{layout:?}");
                }
                (0..size).for_each(|n| block.add(n).write(n as u8));
                let grown = ALLOCATOR.realloc(block, layout, size * 3);
                assert_eq!(grown.addr() % align, 0, "{layout:?}");
                assert!((0..size).all(|n| grown.add(n).read() == n as u8), "{layout:?}");
                ALLOCATOR.dealloc(grown, Layout::from_size_align(size * 3, align).unwrap());
            }
        }
        alone(|| {
            let owner = Owner::worker(3);
            for power in 0..=14 {
                for size in [1, 3, 8, 17, 1000] {
                    as_owner(owner, || check(size, 1 << power, false));
                    as_owner(owner, || check(size, 1 << power, true));
                }
            }
            assert_eq!(owner.usage().live, 0);
        });
    }

    #[test]
    fn a_future_is_charged_while_polled_and_nobody_in_between() {
        alone(|| {
            let owner = Owner::worker(4);
            let mut task = Box::pin(Attributed::new(owner, async {
                let held = black_box(vec![0_u8; 64]);
                tokio::task::yield_now().await;
                unattributed(|| drop(black_box(vec![0_u8; 512])));
                black_box(&held);
            }));
            let mut context = Context::from_waker(Waker::noop());
            let mut polls = 0;
            while task.as_mut().poll(&mut context).is_pending() {
                polls += 1;
                assert_eq!(owner.usage().live, 64);
                black_box(vec![0_u8; 128]);
            }
            assert_eq!((polls, owner.usage().live, owner.usage().peak), (1, 0, 64));
        });
    }

    #[test]
    fn the_peak_starts_again_from_what_is_held() {
        alone(|| {
            let owner = Owner::worker(5);
            let held = as_owner(owner, || vec![0_u8; 100]);
            as_owner(owner, || drop(black_box(vec![0_u8; 900])));
            assert_eq!(owner.take_peak(), 1000);
            assert_eq!(owner.take_peak(), 100);
            drop(held);
            assert_eq!(owner.take_peak(), 100);
            assert_eq!(owner.take_peak(), 0);
        });
    }

    #[test]
    fn a_panic_inside_a_poll_gives_the_owner_back() {
        alone(|| {
            let mut task = Box::pin(Attributed::new(Owner::worker(6), async { panic!("planned") }));
            let mut context = Context::from_waker(Waker::noop());
            let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let _: Poll<()> = task.as_mut().poll(&mut context);
            }));
            assert!(polled.is_err());
            assert_eq!(ACTIVE.get(), 0);
            assert!(
                Box::pin(Attributed::new(Owner::worker(6), ready(()))).as_mut().poll(&mut context).is_ready()
            );
        });
    }
}
