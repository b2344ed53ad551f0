//! Makes one OS thread deterministic: its randomness comes from a seed and its clock from the simulation.
//!
//! Three functions of the C library are defined here and so take the place of the system's in every binary that links
//! this crate: `getrandom` and `getentropy` (std's hash keys, `rand`, `uuid`, WebSocket keys and masks), and
//! `clock_gettime` (`SystemTime`, `Instant`). `gettimeofday` goes with them because C code reads it. On a thread that
//! runs no simulation they pass straight on to the kernel, so progress bars, wall time and benchmarks stay true.
//!
//! What else a run needs, and where it is done:
//! - a fresh thread per run, because std's hash keys and `rand`'s generator are cached per thread: [`spawn`];
//! - `fastrand`, which mixes a process-wide counter into its own seed: [`spawn`];
//! - tokio's scheduler seeded by turmoil's `rng_seed`, which needs `--cfg tokio_unstable`: checked below;
//! - nothing on tokio's blocking pool: banned in `clippy.toml`.
//!
//! Out of reach: code that asks the kernel without the C library, and order by address (no such map is iterated).

use std::{
    cell::{Cell, RefCell},
    thread::{Builder, JoinHandle},
    time::Duration,
};

use rand::RngCore;
use rand_chacha::ChaCha8Rng;

use sim_model::seed::Seed;

#[cfg(not(tokio_unstable))]
compile_error!(
    "the simulator needs `--cfg tokio_unstable` (see .cargo/config.toml; an own RUSTFLAGS replaces it): without it \
     tokio's scheduler is unseeded and a panic in a spawned task is swallowed"
);
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("the simulator replaces functions of the C library and is written for 64-bit Linux");

/// When every simulation begins: 2026-01-01T00:00:00Z, as a Unix time.
pub const EPOCH: Duration = Duration::from_secs(1_767_225_600);

/// `Instant`s of a run begin one day after zero, so that subtracting from an early one does not underflow.
const MONOTONIC_START: Duration = Duration::from_secs(24 * 60 * 60);

/// Simulations run deep: parser, JavaScript engine, nested futures. Only what is touched is paid for.
const STACK_BYTES: usize = 64 * 1024 * 1024;

thread_local! {
    /// Where this thread's entropy comes from; `None` is the kernel.
    static ENTROPY: RefCell<Option<ChaCha8Rng>> = const { RefCell::new(None) };
    /// The last simulated time seen on this thread; `None` means that the real clock counts.
    static ELAPSED: Cell<Option<Duration>> = const { Cell::new(None) };
}

/// Runs `run` on a fresh, deterministic thread.
///
/// # Panics
/// If the system refuses another thread.
pub fn spawn<T, F>(seed: Seed, run: F) -> JoinHandle<T>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let run = move || {
        let _inside = enter(seed);
        run()
    };
    Builder::new()
        .name("simulation".into())
        .stack_size(STACK_BYTES)
        .spawn(run)
        .expect("the system refuses another thread")
}

/// Simulated time since the run began: inside a host exact, between steps as of the last [`set_elapsed`].
#[must_use]
pub fn elapsed() -> Duration {
    let last = ELAPSED.get().unwrap_or_default();
    // Outside a runtime turmoil would read `Instant::now`, which asks this function again.
    let inside_host = tokio::runtime::Handle::try_current().is_ok();
    // `None` while turmoil itself holds its world.
    let exact = if inside_host { turmoil::sim_elapsed() } else { None };
    exact.unwrap_or(last)
}

/// Tells the clock of this thread how far the simulation is. Called between steps.
pub fn set_elapsed(elapsed: Duration) {
    assert!(ELAPSED.get().is_some(), "the clock is set outside a simulation");
    ELAPSED.set(Some(elapsed));
}

/// Real time since an arbitrary moment, also inside a run. For reports only: nothing in a run may depend on it.
#[must_use]
pub fn wall_clock() -> Duration {
    let time = kernel_clock(libc::CLOCK_MONOTONIC);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The processor time of this thread. For runs in real time only.
#[must_use]
pub fn thread_time() -> Duration {
    let time = kernel_clock(libc::CLOCK_THREAD_CPUTIME_ID);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Ends determinism on this thread when dropped, also by a panic.
struct Inside;

fn enter(seed: Seed) -> Inside {
    fastrand::seed(seed.derive("fastrand"));
    ENTROPY.set(Some(seed.stream("entropy")));
    ELAPSED.set(Some(Duration::ZERO));
    // The thread's own generator is made at its first use and lives as long as the thread: made here, it is charged
    // to no worker.
    #[expect(
        clippy::disallowed_methods,
        reason = "seeded by the line above, like all entropy of this thread"
    )]
    drop(rand::rng());
    Inside
}

impl Drop for Inside {
    fn drop(&mut self) {
        ENTROPY.set(None);
        ELAPSED.set(None);
    }
}

fn simulated_clock(clock: libc::clockid_t) -> Option<libc::timespec> {
    // Thread-locals are gone while a thread ends: then there is no simulation either.
    ELAPSED.try_with(Cell::get).ok().flatten()?;
    let start = match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => EPOCH,
        _ => MONOTONIC_START,
    };
    Some(timespec(start + elapsed()))
}

fn timespec(time: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: i64::try_from(time.as_secs()).expect("simulations end before the year 292 billion"),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}

#[expect(unsafe_code, reason = "a system call, to get past our own definition of the function")]
fn kernel_clock(clock: libc::clockid_t) -> libc::timespec {
    let mut time = timespec(Duration::ZERO);
    // SAFETY: the kernel writes one timespec, which we own.
    unsafe { libc::syscall(libc::SYS_clock_gettime, clock, &raw mut time) };
    time
}

/// Fills `buffer` from the run's seed; false when this thread runs no simulation.
fn fill(buffer: &mut [u8]) -> bool {
    ENTROPY
        .try_with(|entropy| entropy.borrow_mut().as_mut().map(|entropy| entropy.fill_bytes(buffer)))
        .is_ok_and(|filled| filled.is_some())
}

/// The definitions that take the place of the C library's.
mod replaced {
    #![expect(
        unsafe_code,
        reason = "replaces functions of the C library; each keeps that function's contract"
    )]

    use std::slice;

    use super::{fill, simulated_clock};

    #[unsafe(no_mangle)]
    unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, flags: u32) -> isize {
        // SAFETY: the caller owns `length` bytes at `buffer`, which is not null (std probes with one byte, on its stack).
        if !buffer.is_null() && fill(unsafe { slice::from_raw_parts_mut(buffer, length) }) {
            return length.cast_signed();
        }
        // SAFETY: the same arguments, passed on.
        unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) as isize }
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn getentropy(buffer: *mut u8, length: usize) -> i32 {
        const LONGEST: usize = 256;
        if length > LONGEST {
            return -1;
        }
        // SAFETY: the caller owns `length` bytes at `buffer`.
        if unsafe { getrandom(buffer, length, 0) } == length.cast_signed() { 0 } else { -1 }
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> i32 {
        match simulated_clock(clock) {
            Some(simulated) => {
                // SAFETY: the caller passes a place for one timespec.
                unsafe { time.write(simulated) };
                0
            }
            // SAFETY: the same arguments, passed on.
            None => unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as i32 },
        }
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn gettimeofday(time: *mut libc::timeval, zone: *mut libc::c_void) -> i32 {
        match simulated_clock(libc::CLOCK_REALTIME) {
            Some(simulated) if !time.is_null() => {
                let value = libc::timeval { tv_sec: simulated.tv_sec, tv_usec: simulated.tv_nsec / 1000 };
                // SAFETY: not null, and the caller passes a place for one timeval.
                unsafe { time.write(value) };
                0
            }
            // SAFETY: the same arguments, passed on.
            _ => unsafe { libc::syscall(libc::SYS_gettimeofday, time, zone) as i32 },
        }
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "shows that what is banned elsewhere repeats here"
)]
mod tests {
    use std::{
        collections::HashSet,
        thread,
        time::{Instant, SystemTime, UNIX_EPOCH},
    };

    use super::*;

    #[derive(Debug, PartialEq, Clone)]
    struct Sample {
        order: Vec<u32>,
        random: u64,
        fast: u64,
        uuid: u128,
        time: SystemTime,
    }

    fn sample() -> Sample {
        Sample {
            order: (0..64).collect::<HashSet<u32>>().into_iter().collect(),
            random: rand::random(),
            fast: fastrand::u64(..),
            uuid: u128::from_le_bytes({
                let mut bytes = [0; 16];
                rand::rng().fill_bytes(&mut bytes);
                bytes
            }),
            time: SystemTime::now(),
        }
    }

    fn sampled(seed: u64) -> Sample {
        spawn(Seed(seed), sample).join().unwrap()
    }

    #[test]
    fn the_same_seed_repeats_on_every_fresh_thread_even_beside_others() {
        let threads: Vec<_> = (0..4).map(|_| spawn(Seed(7), sample)).collect();
        let samples: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(samples.iter().all(|sample| *sample == sampled(7)), "{samples:?}");
    }

    #[test]
    fn another_seed_gives_another_world_at_the_same_time() {
        let (one, other) = (sampled(7), sampled(8));
        assert_ne!(one.order, other.order);
        assert_ne!(one.random, other.random);
        assert_ne!(one.fast, other.fast);
        assert_ne!(one.uuid, other.uuid);
        assert_eq!(one.time, other.time);
    }

    #[test]
    fn a_run_begins_at_the_epoch_and_its_clock_moves_only_when_told() {
        let times = spawn(Seed(1), || {
            let start = Instant::now();
            thread::sleep(Duration::from_millis(5));
            let unmoved = start.elapsed();
            set_elapsed(Duration::from_secs(3));
            (unmoved, start.elapsed(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap())
        });
        let expected = (Duration::ZERO, Duration::from_secs(3), EPOCH + Duration::from_secs(3));
        assert_eq!(times.join().unwrap(), expected);
    }

    #[test]
    fn outside_a_run_the_clock_and_the_entropy_are_real() {
        let start = (Instant::now(), SystemTime::now());
        thread::sleep(Duration::from_millis(5));
        assert!(start.0.elapsed() >= Duration::from_millis(5));
        assert!(start.1.elapsed().unwrap() >= Duration::from_millis(5));
        let fresh = || thread::spawn(rand::random::<u64>).join().unwrap();
        assert_ne!(fresh(), fresh());
    }

    #[test]
    fn the_wall_clock_stays_readable_inside_a_run() {
        let passed = spawn(Seed(1), || {
            let start = wall_clock();
            thread::sleep(Duration::from_millis(5));
            wall_clock().saturating_sub(start)
        });
        assert!(passed.join().unwrap() >= Duration::from_millis(5));
    }
}
