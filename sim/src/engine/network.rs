//! The simulated network: the only place that names `turmoil::net`, so that another engine can stand beside it.
//!
//! What turmoil 0.7.2 does differently from a real network, and what is done about it here:
//! - connecting to a crashed host hangs until the host is back: here it is refused, as by a kernel without listener
//!   ([`set_down`]);
//! - every refused or cancelled connect keeps an ephemeral port for ever, and at the last one the host panics:
//!   [`EPHEMERAL_PORTS`] is wide, and connects to hosts known to be down take none;
//! - connecting across a partition is refused at once: here it waits, as for an answer that never comes ([`cut`]);
//! - a stream that lost data in a partition is silent for ever after: a black hole; short cuts are made with
//!   [`hold`] and [`release`];
//! - nothing resets a connection: here [`reset`] does;
//! - no line is narrow or loses segments, and every host answers at its only address: [`mod@line`] has what is odd;
//! - flow control counts writes, not bytes: 64 writes of any size;
//! - a crash closes streams in order, as the end of a process does; it is not a loss of power.

pub mod line;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    ops::RangeInclusive,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::{
    Sim,
    net::{TcpListener, TcpStream},
};
use worker::env::{Address, race::race};

use self::line::Arrivals;
use crate::engine::memory::{Attributed, OWNERS, Owner, unattributed};

/// The ports that outgoing connections use up. Servers listen below them.
pub const EPHEMERAL_PORTS: RangeInclusive<u16> = 20_000..=65_535;

/// How a kernel looks again whether a cut is mended, and how long it tries to connect at the most (Linux: 127 s).
const TRY_AGAIN: Duration = Duration::from_millis(200);
const GIVE_UP: Duration = Duration::from_secs(127);

thread_local! {
    static STREAMS: Cell<u64> = const { Cell::new(0) };
    static ENDING: Cell<bool> = const { Cell::new(false) };
    static DEFERRED: RefCell<BTreeMap<u64, TcpStream>> = const { RefCell::new(BTreeMap::new()) };
    /// Streams by number, each with the hosts at its ends: what [`reset`] finds.
    static OPEN: RefCell<BTreeMap<u64, Open>> = const { RefCell::new(BTreeMap::new()) };
    /// Ways that are cut, each with how often.
    static CUT: RefCell<BTreeMap<(String, String), u64>> = const { RefCell::new(BTreeMap::new()) };
    static DOWN: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
    /// What went through the streams that a host opened to another one, by both names.
    static TRAFFIC: RefCell<BTreeMap<(String, String), Arc<Traffic>>> = const { RefCell::new(BTreeMap::new()) };
    static SOCKETS: [Cell<u64>; OWNERS] = const { [const { Cell::new(0) }; OWNERS] };
}

/// How many streams `owner` has opened and not dropped.
#[must_use]
pub fn open_streams(owner: Owner) -> u64 {
    SOCKETS.with(|open| open[owner.index()].get())
}

/// Says whether the host called `name` is down: then connections to it are refused.
pub fn set_down(name: &str, down: bool) {
    DOWN.with_borrow_mut(|hosts| if down { hosts.insert(name.to_owned()) } else { hosts.remove(name) });
}

/// Opens a stream from the current host, called `from`, to a host by name.
///
/// # Errors
/// `ConnectionRefused` if the host is down or nobody listens there.
pub async fn connect(from: &str, address: &Address) -> io::Result<Stream> {
    if DOWN.with_borrow(|hosts| hosts.contains(&address.host)) {
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, format!("{address} is down")));
    }
    let stream = race(line::addresses(from, &address.host), |way| async move {
        line::answered(from, &address.host, way).await?;
        across_cuts(from, &address.host).await?;
        let connecting = TcpStream::connect((address.host.as_str(), address.port));
        Attributed::new(Owner::NOBODY, connecting).await
    })
    .await?;
    let (here, there) = unattributed(|| (from.to_owned(), address.host.clone()));
    let traffic = unattributed(|| {
        TRAFFIC.with_borrow_mut(|all| all.entry((here.clone(), there.clone())).or_default().clone())
    });
    let mut stream = Stream::new(stream, here, there);
    stream.traffic = Some(traffic);
    Ok(stream)
}

/// Bytes that were handed to a network and taken from it: what the parts of a real one that carry bytes would carry,
/// without their own headers.
#[derive(Debug, Default)]
struct Traffic {
    sent: AtomicU64,
    received: AtomicU64,
}

/// Who opened streams to whom, and the bytes that it sent and received there.
#[must_use]
pub fn traffic() -> Vec<(String, String, [u64; 2])> {
    let bytes = |traffic: &Traffic| [&traffic.sent, &traffic.received].map(|count| count.load(Relaxed));
    TRAFFIC.with_borrow(|all| {
        all.iter().map(|((from, to), traffic)| (from.clone(), to.clone(), bytes(traffic))).collect()
    })
}

/// Waits until messages pass both ways between two hosts.
async fn across_cuts(a: &str, b: &str) -> io::Result<()> {
    let begun = tokio::time::Instant::now();
    while is_cut(a, b) || is_cut(b, a) {
        if begun.elapsed() >= GIVE_UP {
            return Err(io::ErrorKind::TimedOut.into());
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
    Ok(())
}

/// Whether what `from` sends to `to` is lost.
#[must_use]
pub fn is_cut(from: &str, to: &str) -> bool {
    CUT.with_borrow(|cut| !cut.is_empty() && cut.contains_key(&(from.to_owned(), to.to_owned())))
}

/// From now on what `from` sends to `to` is lost, and so is what is on its way. A way may be cut several times.
pub fn cut(sim: &Sim<'_>, from: &str, to: &str) {
    let count = CUT.with_borrow_mut(|cut| {
        let count = cut.entry((from.to_owned(), to.to_owned())).or_default();
        *count += 1;
        *count
    });
    if count == 1 {
        sim.partition_oneway(from, to);
    }
}

/// Takes one [`cut`] back.
pub fn mend(sim: &Sim<'_>, from: &str, to: &str) {
    let mended = CUT.with_borrow_mut(|cut| {
        let way = (from.to_owned(), to.to_owned());
        let count = cut.get_mut(&way).expect("mended only after a cut");
        *count -= 1;
        *count == 0 && cut.remove(&way).is_some()
    });
    if mended {
        sim.repair_oneway(from, to);
    }
}

/// From now on messages between two hosts wait.
pub fn hold(sim: &Sim<'_>, a: &str, b: &str) {
    sim.hold(a, b);
}

/// What waits between two hosts is delivered.
pub fn release(sim: &Sim<'_>, a: &str, b: &str) {
    sim.release(a, b);
}

/// Messages between two hosts travel for so long, from the least to the most.
pub fn set_latency(sim: &Sim<'_>, a: &str, b: &str, least: Duration, most: Duration) {
    sim.set_link_latency(a, b, least);
    sim.set_link_max_message_latency(a, b, most);
}

/// Resets all streams between two hosts, on both sides: the next read or write fails.
pub fn reset(a: &str, b: &str) -> usize {
    let ends = |open: &&Open| (open.here == a && open.there == b) || (open.here == b && open.there == a);
    let severed: Vec<_> =
        OPEN.with_borrow(|open| open.values().filter(ends).map(|open| open.sever.clone()).collect());
    severed.iter().for_each(|sever| sever.pull());
    severed.len()
}

/// A stream that is open.
struct Open {
    here: String,
    there: String,
    sever: Sever,
}

/// Who waits at a stream.
const READING: usize = 0;
const WRITING: usize = 1;

/// Tells a stream that it was reset.
#[derive(Clone, Default)]
struct Sever(Arc<Mutex<Severed>>);

#[derive(Default)]
struct Severed {
    is: bool,
    /// Who waits to read and to write.
    waiting: [Option<Waker>; 2],
}

impl Sever {
    fn lock(&self) -> MutexGuard<'_, Severed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pull(&self) {
        let waiting = {
            let mut severed = self.lock();
            severed.is = true;
            std::mem::take(&mut severed.waiting)
        };
        waiting.into_iter().flatten().for_each(Waker::wake);
    }

    /// `polled`, unless the stream was reset; who waits is remembered.
    fn unless<T>(
        &self,
        side: usize,
        context: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let mut severed = self.lock();
        if severed.is {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let polled = poll(context);
        if polled.is_pending()
            && !severed.waiting[side].as_ref().is_some_and(|waker| waker.will_wake(context.waker()))
        {
            severed.waiting[side] = Some(context.waker().clone());
        }
        polled
    }
}

/// Ends a host's software by `end`, and closes its streams in the order in which they were opened.
///
/// tokio drops the tasks of a runtime in an order that depends on their numbers, which count through the whole process.
/// Each closing stream draws a latency, so that order would differ from run to run. Streams that are dropped during
/// `end` are therefore kept until [`close_deferred`].
pub fn end_software(end: impl FnOnce()) {
    ENDING.set(true);
    end();
    ENDING.set(false);
}

/// Closes the streams kept by [`end_software`], on the current host.
pub fn close_deferred() {
    let deferred = DEFERRED.take();
    unattributed(|| deferred.into_values().for_each(drop));
}

/// Calls [`close_deferred`] when it is dropped: to be held by a host's software, which outlives its tasks.
#[derive(Debug)]
pub struct CloseDeferred;

impl Drop for CloseDeferred {
    fn drop(&mut self) {
        close_deferred();
    }
}

/// Waits for connections to the current host.
pub struct Listener(TcpListener);

impl Listener {
    /// Listens on `port` of the current host.
    ///
    /// # Errors
    /// If the port is taken.
    pub async fn bind(port: u16) -> io::Result<Self> {
        TcpListener::bind(("0.0.0.0", port)).await.map(Self)
    }

    /// The next connection and the name of the host that it comes from. Callers must keep accepting: turmoil panics when 64 are waiting.
    ///
    /// # Errors
    /// None from turmoil; the signature is that of a real listener.
    pub async fn accept(&self) -> io::Result<(Stream, String)> {
        let (stream, address) = self.0.accept().await?;
        let name = |address: SocketAddr| {
            turmoil::reverse_lookup(address.ip()).unwrap_or_else(|| address.to_string())
        };
        let (here, peer) = (name(stream.local_addr()?), name(address));
        Ok((Stream::new(stream, here, peer.clone()), peer))
    }
}

/// A stream of bytes between two hosts. Its buffers play the kernel's and are charged to nobody.
pub struct Stream {
    /// Counts the streams of this thread.
    number: u64,
    /// Who opened it: on this end, whoever was active.
    owner: Owner,
    stream: Option<TcpStream>,
    /// The hosts: this one and the other.
    ends: [String; 2],
    arrivals: Arrivals,
    sever: Sever,
    /// On the end that opened it.
    traffic: Option<Arc<Traffic>>,
}

impl Stream {
    fn new(stream: TcpStream, here: String, there: String) -> Self {
        let number = STREAMS.get();
        STREAMS.set(number + 1);
        let owner = Owner::active();
        SOCKETS.with(|open| open[owner.index()].update(|count| count + 1));
        unattributed(|| {
            let sever = Sever::default();
            let open = Open { here: here.clone(), there: there.clone(), sever: sever.clone() };
            OPEN.with_borrow_mut(|streams| streams.insert(number, open));
            let arrivals = Arrivals::default();
            Self { number, owner, stream: Some(stream), ends: [here, there], arrivals, sever, traffic: None }
        })
    }

    /// Polls the stream below, unless it was reset.
    fn poll<T>(
        self: Pin<&mut Self>,
        side: usize,
        context: &mut Context<'_>,
        poll: impl FnOnce(Below<'_>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let this = self.get_mut();
        let stream = Pin::new(this.stream.as_mut().expect("taken only when dropped"));
        let [here, there] = &this.ends;
        let below = Below { stream, ends: [here, there], arrivals: &mut this.arrivals };
        unattributed(|| this.sever.unless(side, context, |context| poll(below, context)))
    }
}

/// What a stream polls.
struct Below<'a> {
    stream: Pin<&'a mut TcpStream>,
    ends: [&'a str; 2],
    arrivals: &'a mut Arrivals,
}

impl Drop for Stream {
    /// Closing sends a last message.
    fn drop(&mut self) {
        let Some(stream) = self.stream.take() else { return };
        SOCKETS.with(|open| open[self.owner.index()].update(|count| count - 1));
        unattributed(|| {
            // At the end of the thread there may be no map any more.
            let _ = OPEN.try_with(|open| open.borrow_mut().remove(&self.number));
            if ENDING.get() {
                DEFERRED.with_borrow_mut(|deferred| deferred.insert(self.number, stream));
            } else {
                drop(stream);
            }
        });
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, traffic) = (buffer.filled().len(), self.traffic.clone());
        let polled = self.poll(READING, context, |below, context| {
            below.arrivals.poll_read(below.ends, context, buffer, below.stream)
        });
        if let Some(traffic) = traffic {
            traffic.received.fetch_add((buffer.filled().len() - before) as u64, Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let traffic = self.traffic.clone();
        let polled = self.poll(WRITING, context, |below, context| {
            let [here, there] = below.ends;
            below.stream.poll_write(context, line::at_once(here, there, bytes))
        });
        if let (Some(traffic), Poll::Ready(Ok(written))) = (traffic, &polled) {
            traffic.sent.fetch_add(*written as u64, Relaxed);
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(WRITING, context, |below, context| below.stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(WRITING, context, |below, context| below.stream.poll_shutdown(context))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::engine::determinism;
    use sim_model::seed::Seed;

    const PORT: u16 = 80;

    fn address() -> Address {
        Address { host: "server".into(), port: PORT }
    }

    /// A world with an echoing server, and `client` in it.
    fn check<F, Fut>(client: F)
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = turmoil::Result> + 'static,
    {
        let run = move || {
            let mut sim = turmoil::Builder::new().build();
            sim.host("server", || async {
                let (mut stream, peer) = Listener::bind(PORT).await?.accept().await?;
                assert_eq!(peer, "client");
                let mut byte = [0];
                stream.read_exact(&mut byte).await?;
                stream.write_all(&byte).await?;
                Ok(())
            });
            sim.client("client", client());
            sim.run().unwrap();
        };
        determinism::spawn(Seed(1), run).join().unwrap();
    }

    #[test]
    fn bytes_travel_both_ways_and_the_end_is_seen() {
        check(|| async {
            let mut stream = connect("client", &address()).await?;
            stream.write_all(b"x").await?;
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await?;
            assert_eq!(all, b"x");
            assert_eq!(traffic(), [("client".to_owned(), "server".to_owned(), [1, 1])]);
            Ok(())
        });
    }

    /// What a line like this does to 30 KiB each way: how long they take there and back.
    fn there_and_back(line: line::Line) -> Duration {
        const BYTES: usize = 30 << 10;
        let run = move || {
            let mut sim = turmoil::Builder::new().simulation_duration(Duration::from_secs(600)).build();
            line::set("client", "server", line, Seed(7).stream("line"));
            sim.host("server", || async {
                let (mut stream, _) = Listener::bind(PORT).await?.accept().await?;
                let mut bytes = vec![0; BYTES];
                stream.read_exact(&mut bytes).await?;
                stream.write_all(&bytes).await?;
                Ok(())
            });
            let (says, took) = std::sync::mpsc::channel();
            sim.client("client", async move {
                let mut stream = connect("client", &address()).await?;
                let (begun, bytes) =
                    (tokio::time::Instant::now(), Vec::from_iter((0..=255).cycle().take(BYTES)));
                stream.write_all(&bytes).await?;
                let mut back = vec![0; BYTES];
                stream.read_exact(&mut back).await?;
                assert!(back == bytes, "bytes were lost or changed places");
                says.send(begun.elapsed())?;
                Ok(())
            });
            sim.run().unwrap();
            took.recv().unwrap()
        };
        determinism::spawn(Seed(1), run).join().unwrap()
    }

    #[test]
    fn a_slow_line_carries_so_many_bytes_a_second_each_way_and_loses_none() {
        let usual = there_and_back(line::Line::default());
        let slow = there_and_back(line::Line { rate: Some(10 << 10), ..line::Line::default() });
        assert!(usual < Duration::from_secs(1), "{usual:?}");
        assert!((Duration::from_secs(6)..Duration::from_secs(8)).contains(&slow), "{slow:?}");
    }

    #[test]
    fn what_a_line_loses_comes_later_and_in_its_order() {
        let lossy = there_and_back(line::Line { loss: 0.3, ..line::Line::default() });
        assert!((Duration::from_secs(2)..Duration::from_secs(60)).contains(&lossy), "{lossy:?}");
    }

    #[test]
    fn a_dead_address_is_passed_over_and_swallowed_syns_are_repeated() {
        check(|| async {
            let line = line::Line { has_dead_address: true, ..line::Line::default() };
            line::set("client", "server", line, Seed(7).stream("line"));
            let begun = tokio::time::Instant::now();
            drop(connect("client", &address()).await?);
            assert!((200..1_000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
            Ok(())
        });
        check(|| async {
            let line = |swallows_syns| line::Line { swallows_syns, ..line::Line::default() };
            line::set("client", "server", line(true), Seed(7).stream("line"));
            let begun = tokio::time::Instant::now();
            let address = address();
            let connecting = connect("client", &address);
            let mended = async {
                tokio::time::sleep(Duration::from_secs(2)).await;
                line::set("client", "server", line(false), Seed(7).stream("line"));
            };
            let (connected, ()) = tokio::join!(connecting, mended);
            drop(connected?);
            assert_eq!(begun.elapsed().as_secs(), 3, "after one second, and after two more");
            Ok(())
        });
    }

    #[test]
    fn a_host_that_is_down_refuses_and_one_that_is_back_accepts() {
        check(|| async {
            set_down("server", true);
            let refused = connect("client", &address()).await.map(drop).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            set_down("server", false);
            assert!(connect("client", &address()).await.is_ok());
            Ok(())
        });
    }

    #[test]
    fn streams_that_end_with_their_software_are_closed_when_they_are_buried() {
        check(|| async {
            let stream = connect("client", &address()).await?;
            end_software(|| drop(stream));
            assert_eq!(DEFERRED.with_borrow(BTreeMap::len), 1);
            drop(CloseDeferred);
            assert_eq!(DEFERRED.with_borrow(BTreeMap::len), 0);
            Ok(())
        });
    }
}
