//! The simulated network: the only place that names `turmoil::net`, so that another engine can stand beside it.
//!
//! What turmoil 0.7.2 does differently from a real network, and what is done about it here:
//! - connecting to a crashed host hangs until the host is back: here it is refused, as by a kernel without listener
//!   ([`set_down`]);
//! - every refused or cancelled connect keeps an ephemeral port for ever, and at the last one the host panics:
//!   [`EPHEMERAL_PORTS`] is wide, and connects to hosts known to be down take none;
//! - connecting across a partition is refused at once, and a stream that lost data in one is silent for ever after:
//!   a black hole; short cuts are made with hold and release;
//! - flow control counts writes, not bytes: 64 writes of any size;
//! - a crash closes streams in order, as the end of a process does; it is not a loss of power.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    io,
    ops::RangeInclusive,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};
use worker::env::Address;

use super::memory::{Attributed, OWNERS, Owner, unattributed};

/// The ports that outgoing connections use up. Servers listen below them.
pub const EPHEMERAL_PORTS: RangeInclusive<u16> = 20_000..=65_535;

thread_local! {
    static STREAMS: Cell<u64> = const { Cell::new(0) };
    static ENDING: Cell<bool> = const { Cell::new(false) };
    static GRAVES: RefCell<BTreeMap<u64, TcpStream>> = const { RefCell::new(BTreeMap::new()) };
    static DOWN: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
    static OPEN: [Cell<u64>; OWNERS] = const { [const { Cell::new(0) }; OWNERS] };
}

/// How many streams `owner` has opened and not dropped.
#[must_use]
pub fn open_streams(owner: Owner) -> u64 {
    OPEN.with(|open| open[owner.index()].get())
}

/// Says whether the host called `name` is down: then connections to it are refused.
pub fn set_down(name: &str, down: bool) {
    DOWN.with_borrow_mut(|hosts| if down { hosts.insert(name.to_owned()) } else { hosts.remove(name) });
}

/// Opens a stream from the current host to a host by name.
///
/// # Errors
/// `ConnectionRefused` if the host is down or nobody listens there.
pub async fn connect(address: &Address) -> io::Result<Stream> {
    if DOWN.with_borrow(|hosts| hosts.contains(&address.host)) {
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, format!("{address} is down")));
    }
    let connecting = TcpStream::connect((address.host.as_str(), address.port));
    Attributed::new(Owner::NOBODY, connecting).await.map(Stream::new)
}

/// Ends a host's software by `end`, and closes its streams in the order in which they were opened.
///
/// tokio drops the tasks of a runtime in an order that depends on their numbers, which count through the whole process.
/// Each closing stream draws a latency, so that order would differ from run to run. Streams that are dropped during
/// `end` are therefore kept until [`bury`].
pub fn end_software(end: impl FnOnce()) {
    ENDING.set(true);
    end();
    ENDING.set(false);
}

/// Closes the streams kept by [`end_software`], on the current host.
pub fn bury() {
    let graves = GRAVES.take();
    unattributed(|| graves.into_values().for_each(drop));
}

/// Calls [`bury`] when it is dropped: to be held by a host's software, which outlives its tasks.
#[derive(Debug)]
pub struct Burial;

impl Drop for Burial {
    fn drop(&mut self) {
        bury();
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
        let peer = turmoil::reverse_lookup(address.ip()).unwrap_or_else(|| address.to_string());
        Ok((Stream::new(stream), peer))
    }
}

/// A stream of bytes between two hosts. Its buffers play the kernel's and are charged to nobody.
pub struct Stream {
    /// Counts the streams of this thread.
    number: u64,
    /// Who opened it: on this end, whoever was active.
    owner: Owner,
    stream: Option<TcpStream>,
}

impl Stream {
    fn new(stream: TcpStream) -> Self {
        let number = STREAMS.get();
        STREAMS.set(number + 1);
        let owner = Owner::active();
        OPEN.with(|open| open[owner.index()].update(|count| count + 1));
        Self { number, owner, stream: Some(stream) }
    }

    fn inner(self: Pin<&mut Self>) -> Pin<&mut TcpStream> {
        Pin::new(self.get_mut().stream.as_mut().expect("taken only when dropped"))
    }
}

impl Drop for Stream {
    /// Closing sends a last message.
    fn drop(&mut self) {
        let Some(stream) = self.stream.take() else { return };
        OPEN.with(|open| open[self.owner.index()].update(|count| count - 1));
        unattributed(|| {
            if ENDING.get() {
                GRAVES.with_borrow_mut(|graves| graves.insert(self.number, stream));
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
        let stream = self.inner();
        unattributed(|| stream.poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let stream = self.inner();
        unattributed(|| stream.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.inner();
        unattributed(|| stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.inner();
        unattributed(|| stream.poll_shutdown(context))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::{seed::Seed, world::determinism};

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
            let mut stream = connect(&address()).await?;
            stream.write_all(b"x").await?;
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await?;
            assert_eq!(all, b"x");
            Ok(())
        });
    }

    #[test]
    fn a_host_that_is_down_refuses_and_one_that_is_back_accepts() {
        check(|| async {
            set_down("server", true);
            let refused = connect(&address()).await.map(drop).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            set_down("server", false);
            assert!(connect(&address()).await.is_ok());
            Ok(())
        });
    }

    #[test]
    fn streams_that_end_with_their_software_are_closed_when_they_are_buried() {
        check(|| async {
            let stream = connect(&address()).await?;
            end_software(|| drop(stream));
            assert_eq!(GRAVES.with_borrow(BTreeMap::len), 1);
            drop(Burial);
            assert_eq!(GRAVES.with_borrow(BTreeMap::len), 0);
            Ok(())
        });
    }
}
