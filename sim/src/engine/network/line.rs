//! What a line between two hosts does to connections and to the bytes on it: too few of them a second, segments that
//! get lost, names that resolve to addresses at which nobody answers. All of it is done to streams of any engine.
//!
//! Bytes are taken from the stream below in segments, each of which arrives when the line is through with it. What the
//! receiver does not take stays below, so that whoever sends is held up there. No byte is lost or changes places: a
//! segment that gets lost comes later, and so does all behind it, as over TCP.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use tokio::{
    io::{AsyncRead, ReadBuf},
    time::{Instant, Sleep, sleep, sleep_until},
};

/// The most bytes that travel together: an Ethernet frame's, without the headers.
const SEGMENT: usize = 1_460;
/// How long TCP waits for a segment's receipt before it sends it again: at first, and then twice as long each time.
const RETRANSMISSION: Duration = Duration::from_millis(200);
/// A segment is lost so often in a row at most: 12.6 s.
const MAX_LOSSES: u32 = 6;
/// When a kernel repeats a SYN for the first time, and then twice as long after each, and when it gives up (Linux).
const FIRST_SYN_AGAIN: Duration = Duration::from_secs(1);
const GIVE_UP: Duration = Duration::from_secs(127);
/// Bytes that could have passed so long ago and did not are made up for: clocks go in ticks.
const SLACK: Duration = Duration::from_millis(50);

thread_local! {
    /// The lines about which there was ever anything odd: the hosts at their ends in order, and what chooses losses.
    static LINES: RefCell<Vec<([String; 2], Line, ChaCha8Rng)>> = const { RefCell::new(Vec::new()) };
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Line {
    /// Connections that are being opened get no answer; those that are open go on.
    pub swallows_syns: bool,
    /// The other end's name resolves to an address before its own at which nobody answers.
    pub has_dead_address: bool,
    /// Bytes a second that each connection carries each way.
    pub rate: Option<u64>,
    /// How likely a segment gets lost.
    pub loss: f64,
}

impl Line {
    fn is_slow(&self) -> bool {
        self.rate.is_some() || self.loss > 0.0
    }
}

fn ends<'a>(a: &'a str, b: &'a str) -> [&'a str; 2] {
    if a <= b { [a, b] } else { [b, a] }
}

/// Says what is wrong with the line between two hosts from now on. `random` chooses which segments get lost, from the
/// first time on.
pub fn set(a: &str, b: &str, line: Line, random: ChaCha8Rng) {
    let ends = ends(a, b);
    LINES.with_borrow_mut(|lines| match lines.iter_mut().find(|(of, ..)| of == &ends) {
        Some((_, present, _)) => *present = line,
        None => lines.push((ends.map(str::to_owned), line, random)),
    });
}

fn between<T>(a: &str, b: &str, with: impl FnOnce(&Line, &mut ChaCha8Rng) -> T) -> Option<T> {
    let ends = ends(a, b);
    LINES.with_borrow_mut(|lines| {
        let line = lines.iter_mut().find(|(of, ..)| of == &ends);
        line.map(|(_, line, random)| with(line, random))
    })
}

/// One of the addresses to which a name resolves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Nobody answers there.
    Dead,
    /// The host's.
    Alive,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Dead { "the dead address" } else { "the host's address" })
    }
}

/// The addresses of `to`, as `from` sees them.
pub(super) fn addresses(from: &str, to: &str) -> impl Iterator<Item = Way> {
    let dead = between(from, to, |line, _| line.has_dead_address) == Some(true);
    dead.then_some(Way::Dead).into_iter().chain([Way::Alive])
}

/// Returns when a SYN to this address would be answered.
pub(super) async fn answered(from: &str, to: &str, way: Way) -> io::Result<()> {
    let (begun, mut pause) = (Instant::now(), FIRST_SYN_AGAIN);
    while way == Way::Dead || between(from, to, |line, _| line.swallows_syns) == Some(true) {
        if begun.elapsed() + pause > GIVE_UP {
            sleep_until(begun + GIVE_UP).await;
            return Err(io::ErrorKind::TimedOut.into());
        }
        sleep(pause).await;
        pause *= 2;
    }
    Ok(())
}

/// How many of `bytes` go out at once.
pub(super) fn at_once<'a>(here: &str, there: &str, bytes: &'a [u8]) -> &'a [u8] {
    let is_slow = between(here, there, |line, _| line.is_slow()) == Some(true);
    if is_slow { &bytes[..bytes.len().min(SEGMENT)] } else { bytes }
}

/// The receiving end of a stream: what has come over a slow line and has not arrived.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// A segment at most.
    segment: VecDeque<u8>,
    /// When it arrives.
    due: Option<Pin<Box<Sleep>>>,
    /// Until when the line is busy with it and what came before.
    busy_until: Option<Instant>,
}

impl Arrivals {
    /// Reads from a stream below, as the line between the hosts lets it.
    pub(super) fn poll_read(
        &mut self,
        [here, there]: [&str; 2],
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        mut below: Pin<&mut impl AsyncRead>,
    ) -> Poll<io::Result<()>> {
        if self.segment.is_empty() {
            if between(here, there, |line, _| line.is_slow()) != Some(true) {
                return below.poll_read(context, buffer);
            }
            let mut segment = [0; SEGMENT];
            let mut read = ReadBuf::new(&mut segment);
            ready!(below.as_mut().poll_read(context, &mut read))?;
            let length = read.filled().len();
            if length == 0 {
                return Poll::Ready(Ok(()));
            }
            self.segment.extend(read.filled());
            let takes = between(here, there, |line, random| takes(line, length, random)).unwrap_or_default();
            let now = Instant::now();
            let free = self.busy_until.map_or(now, |moment| moment.max(now - SLACK));
            self.busy_until = Some(free + takes);
            self.due = Some(Box::pin(sleep_until(free + takes)));
        }
        if let Some(due) = &mut self.due {
            ready!(due.as_mut().poll(context));
            self.due = None;
        }
        let (bytes, _) = self.segment.as_slices();
        let length = bytes.len().min(buffer.remaining());
        buffer.put_slice(&bytes[..length]);
        self.segment.drain(..length);
        Poll::Ready(Ok(()))
    }
}

/// How long a segment is under way.
fn takes(line: &Line, length: usize, random: &mut ChaCha8Rng) -> Duration {
    let passes = line
        .rate
        .map_or(Duration::ZERO, |rate| Duration::from_micros(1_000_000 * length as u64 / rate.max(1)));
    let losses = (0..MAX_LOSSES).take_while(|_| random.random_bool(line.loss)).count();
    passes + RETRANSMISSION * (2_u32.pow(u32::try_from(losses).unwrap_or(MAX_LOSSES)) - 1)
}
