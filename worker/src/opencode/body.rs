//! A response body under watch: what no parser of events can see.
//!
//! A stream is alive as long as *bytes* come (heartbeats of newer versions are comments, which parsers drop), and an
//! event has a largest size, which the parser does not bound.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::{Instant, Sleep};

/// The largest event that is read (bytes). A tool's whole output may stand in one.
pub(crate) const MAX_EVENT: usize = 16 * 1024 * 1024;

/// Why a watched body ended before its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StreamFault {
    /// Not a single byte for this long.
    #[error("no byte for {}s", .0.as_secs_f32())]
    Silent(Duration),
    /// An event beyond [`MAX_EVENT`].
    #[error("an event is longer than {MAX_EVENT} bytes")]
    TooLarge,
    /// The connection failed.
    #[error("{0}")]
    Broken(String),
}

/// Fails when the inner body is silent for too long, or sends an event that is too large.
pub(crate) struct Watched<B> {
    inner: B,
    silence: Duration,
    quiet: Pin<Box<Sleep>>,
    size: EventSize,
}

impl<B> Watched<B> {
    /// The watch began at `since`: before the connection was opened, so that a silent opening counts.
    pub(crate) fn new(inner: B, silence: Duration, since: Instant) -> Self {
        let quiet = Box::pin(tokio::time::sleep_until(since + silence));
        Self { inner, silence, quiet, size: EventSize::default() }
    }
}

impl<B> Body for Watched<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    type Data = Bytes;
    type Error = StreamFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamFault>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
            ready!(self.quiet.as_mut().poll(cx));
            return Poll::Ready(Some(Err(StreamFault::Silent(self.silence))));
        };
        let deadline = Instant::now() + self.silence;
        self.quiet.as_mut().reset(deadline);
        Poll::Ready(match frame {
            None => None,
            Some(Err(error)) => Some(Err(StreamFault::Broken(error.to_string()))),
            Some(Ok(frame)) => {
                let open = self.size.after(frame.data_ref().map_or(&[], |data| &data[..]));
                Some(if open > MAX_EVENT { Err(StreamFault::TooLarge) } else { Ok(frame) })
            }
        })
    }
}

/// Bytes since the last blank line: the size of the event that is still open.
#[derive(Debug, Default)]
struct EventSize {
    open: usize,
    /// The last two bytes, because a blank line may be cut by a chunk's edge.
    tail: [u8; 2],
}

impl EventSize {
    fn after(&mut self, chunk: &[u8]) -> usize {
        let before = |at: usize, back: usize| match at.checked_sub(back) {
            Some(at) => chunk[at],
            None => self.tail[2 + at - back],
        };
        let ends_event = |&at: &usize| {
            chunk[at] == b'\n'
                && (before(at, 1) == b'\n' || (before(at, 1) == b'\r' && before(at, 2) == b'\n'))
        };
        self.open = match (0..chunk.len()).rev().find(ends_event) {
            Some(at) => chunk.len() - at - 1,
            None => self.open + chunk.len(),
        };
        for &byte in &chunk[chunk.len().saturating_sub(2)..] {
            self.tail = [self.tail[1], byte];
        }
        self.open
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    fn check(chunks: &[&str], expected: usize) {
        let mut size = EventSize::default();
        let open = chunks.iter().map(|chunk| size.after(chunk.as_bytes())).last();
        assert_eq!(open, Some(expected), "after {chunks:?}");
    }

    #[test]
    fn the_open_event_is_what_follows_the_last_blank_line() {
        check(&["data: a"], 7);
        check(&["data: a\n\nda"], 2);
        check(&["data: a\n", "\nda", "ta"], 4);
        check(&["data: a\n\n"], 0);
        check(&["data: a\r\n\r\nxyz"], 3);
        check(&["a\r\n", "\r", "\nxy"], 2);
        check(&["a", "", "\n", "\n"], 0);
        check(&["\n"], 1);
    }

    type Frames = tokio::sync::mpsc::Receiver<Bytes>;

    fn watched(
        mut frames: Frames,
        silence: Duration,
    ) -> Watched<impl Body<Data = Bytes, Error = StreamFault> + Unpin> {
        let stream = futures_util::stream::poll_fn(move |cx| {
            frames.poll_recv(cx).map(|data| data.map(|data| Ok::<_, StreamFault>(Frame::data(data))))
        });
        Watched::new(StreamBody::new(stream), silence, Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_the_body_and_any_byte_keeps_it_alive() {
        let (sender, frames) = tokio::sync::mpsc::channel(8);
        let mut body = watched(frames, Duration::from_secs(25));
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_secs(20)).await;
            sender.send(Bytes::from_static(b": heartbeat\n")).await.unwrap();
            assert!(body.frame().await.unwrap().is_ok());
        }
        let begun = Instant::now();
        let fault = body.frame().await.unwrap().unwrap_err();
        assert_eq!(
            (fault, begun.elapsed()),
            (StreamFault::Silent(Duration::from_secs(25)), Duration::from_secs(25))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_without_end_is_cut_off_at_its_bound() {
        let (sender, frames) = tokio::sync::mpsc::channel(8);
        let mut body = watched(frames, Duration::from_secs(25));
        let chunk = Bytes::from(vec![b'x'; MAX_EVENT / 2]);
        for _ in 0..3 {
            sender.send(chunk.clone()).await.unwrap();
        }
        assert!(body.frame().await.unwrap().is_ok());
        assert!(body.frame().await.unwrap().is_ok());
        assert_eq!(body.frame().await.unwrap().unwrap_err(), StreamFault::TooLarge);
    }
}
