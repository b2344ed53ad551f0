//! Slow lines, in paused time: the peer is a script that writes and reads raw bytes.

mod reach;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    time::sleep,
};
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::task::AbortOnDropHandle;

use super::*;

/// What a line holds, and how much of it passes at once.
const SEGMENT: usize = 1_500;
/// One segment in this time is 15 kB/s.
const PACE: Duration = Duration::from_millis(100);
/// At 15 kB/s it takes 40 s.
const LONG: usize = 600_000;
const PING: [u8; 2] = [0x89, 0];

/// A connection whose other end does as `peer` does.
async fn connected<F, Fut>(peer: F) -> (Socket, AbortOnDropHandle<()>)
where
    F: FnOnce(DuplexStream) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let (ours, theirs) = duplex(SEGMENT);
    let (stream, activity) = Watched::new(ours);
    let stream: Box<dyn ByteStream> = Box::new(stream);
    let stream = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    #[expect(clippy::disallowed_methods, reason = "the handle has an owner")]
    let task = tokio::spawn(peer(theirs));
    (Socket { stream, activity, sending_since: None }, AbortOnDropHandle::new(task))
}

/// The bytes of a text frame of the server's.
fn frame(length: usize) -> Vec<u8> {
    let mut bytes = vec![0x81, 127];
    bytes.extend((length as u64).to_be_bytes());
    bytes.extend(vec![b'x'; length]);
    bytes
}

async fn write(line: &mut DuplexStream, bytes: &[u8], segment: usize, pace: Duration) {
    for segment in bytes.chunks(segment) {
        sleep(pace).await;
        // The worker may have gone.
        let _ = line.write_all(segment).await;
    }
}

/// What ends the connection, and after how long.
async fn ends(socket: &mut Socket) -> (String, u64) {
    let begun = Instant::now();
    loop {
        if let Err(error) = socket.next().await {
            return (error.to_string(), begun.elapsed().as_secs());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_message_on_a_slow_line_is_waited_for() {
    let (mut socket, _peer) = connected(|mut line| async move {
        write(&mut line, &frame(LONG), SEGMENT, PACE).await;
        std::future::pending().await
    })
    .await;
    let begun = Instant::now();
    let text = socket.next().await.unwrap().unwrap();
    assert_eq!(text.len(), LONG);
    assert!(begun.elapsed() > INACTIVITY, "this shows nothing");
    assert_eq!(socket.in_midst_of_message(), None);
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_byte_is_dead() {
    let (mut socket, _peer) = connected(|mut line| async move {
        write(&mut line, &frame(LONG)[..9_000], SEGMENT, PACE).await;
        std::future::pending().await
    })
    .await;
    assert_eq!(ends(&mut socket).await, ("InactiveServer".into(), 30));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_never_gets_whole_is_given_up() {
    let (mut socket, _peer) = connected(|mut line| async move {
        write(&mut line, &frame(LONG), 100, Duration::from_secs(1)).await;
        std::future::pending().await
    })
    .await;
    assert_eq!(ends(&mut socket).await, ("SlowMessage".into(), MESSAGE_TIMEOUT.as_secs() + 1));
}

/// Reads at the line's pace and pings.
async fn read_slowly(line: &mut DuplexStream, pace: Duration) {
    let mut segment = vec![0; SEGMENT];
    loop {
        for _ in 0..20 {
            sleep(pace).await;
            let _ = line.read(&mut segment).await;
        }
        let _ = line.write_all(&PING).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_message_is_sent_over_a_slow_line_and_meanwhile_others_are_received() {
    let (mut socket, _peer) = connected(|mut line| async move {
        sleep(Duration::from_secs(1)).await;
        let _ = line.write_all(&frame(5)).await;
        read_slowly(&mut line, PACE).await;
    })
    .await;
    let begun = Instant::now();
    socket.send("x".repeat(LONG)).unwrap();
    assert_eq!(socket.next().await.unwrap(), Some("xxxxx".into()));
    assert!(socket.is_sending() && socket.in_midst_of_message().is_some());
    assert_eq!(socket.next().await.unwrap(), None, "all is sent");
    assert!(begun.elapsed() > STALLED && !socket.is_sending());
}

#[tokio::test(start_paused = true)]
async fn a_line_that_takes_nothing_any_more_is_given_up_although_it_brings_something() {
    let (mut socket, _peer) = connected(|mut line| async move {
        loop {
            sleep(Duration::from_secs(5)).await;
            let _ = line.write_all(&PING).await;
        }
    })
    .await;
    socket.send("x".repeat(LONG)).unwrap();
    assert_eq!(ends(&mut socket).await, ("SlowSend".into(), 30));
}

#[tokio::test(start_paused = true)]
async fn a_line_that_takes_next_to_nothing_is_given_up_in_the_end() {
    let (mut socket, _peer) = connected(|mut line| async move {
        read_slowly(&mut line, Duration::from_secs(1)).await;
    })
    .await;
    socket.send("x".repeat(2 * LONG)).unwrap();
    assert_eq!(ends(&mut socket).await, ("SlowSend".into(), MESSAGE_TIMEOUT.as_secs()));
}
