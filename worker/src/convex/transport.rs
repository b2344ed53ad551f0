//! One WebSocket to the deployment, text frames in and out.

mod activity;
mod tls;
mod tunnel;

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep_until},
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, Message, client::IntoClientRequest, protocol::WebSocketConfig},
};

use self::{
    activity::{Activity, Seen, Watched},
    tunnel::TunnelError,
};
use crate::{
    config::ConvexUrl,
    env::{Address, Env, ProxyError},
};

/// Connecting, TLS and the WebSocket handshake together may take this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// The server pings every 5 s; a connection without a single byte for this long is dead.
const INACTIVITY: Duration = Duration::from_secs(30);
/// While something is to be sent, the network takes a byte at least so often.
const STALLED: Duration = Duration::from_secs(30);
/// A message may take this long, in either direction. The longest that is usual, a claimed message of 1 MiB, takes 70 s
/// on a line of 15 kB/s; one that carries less than 2 kB/s is of no use.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// A Transition comes as one frame however large it is (chunks are for npm clients alone), so frames get the
/// limit of messages instead of tungstenite's 16 MiB.
const MAX_MESSAGE: usize = 64 << 20;
/// tungstenite's default of 128 KiB is allocated at once, for messages that are mostly below 1 KiB.
const READ_BUFFER: usize = 4 << 10;
/// The state machine below speaks the protocol of this client version; the server tells features by it.
const CLIENT: &str = "rust-0.10.4";

/// Why a connection could not be opened or ended. The text becomes the next `lastCloseReason`.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransportError {
    #[error("cannot connect to {address}: {source}")]
    Connect { address: String, source: io::Error },
    #[error(transparent)]
    ProxySetting(#[from] ProxyError),
    #[error("cannot connect to the proxy {proxy}: {source}")]
    ProxyConnect { proxy: Address, source: io::Error },
    #[error("the proxy {proxy} does not connect to {to}: {source}")]
    Tunnel { proxy: Address, to: Address, source: TunnelError },
    #[error("TLS with {address} failed: {source}{}", tls::advice(source))]
    Tls { address: String, source: io::Error },
    #[error("the connection to {address} took more than {}s", CONNECT_TIMEOUT.as_secs())]
    ConnectTimeout { address: String },
    #[error("{host} is not a name that TLS can verify")]
    ServerName { host: String },
    #[error("the WebSocket handshake failed: {0}")]
    Handshake(Box<tungstenite::Error>),
    #[error("WebsocketProtocolError: {0}")]
    WebSocket(Box<tungstenite::Error>),
    #[error("{0}")]
    Closed(String),
    #[error("InactiveServer")]
    Inactive,
    #[error("SlowSend")]
    SlowSend,
    #[error("SlowMessage")]
    SlowMessage,
    #[error("MachineSlept")]
    Slept,
    #[error("UnansweredRequests")]
    Unanswered,
}

/// Any stream below the WebSocket, plain or encrypted.
trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

/// An open connection.
pub(super) struct Socket {
    stream: WebSocketStream<Box<dyn ByteStream>>,
    activity: Activity,
    /// Since when something waits to be taken by the network.
    sending_since: Option<Instant>,
}

impl Socket {
    /// Connects, bounded by [`CONNECT_TIMEOUT`].
    pub(super) async fn open<E: Env>(env: &E, url: &ConvexUrl) -> Result<Self, TransportError> {
        let address = url.address.to_string();
        match tokio::time::timeout(CONNECT_TIMEOUT, Self::handshake(env, url)).await {
            Ok(result) => result,
            Err(_) => Err(TransportError::ConnectTimeout { address }),
        }
    }

    async fn handshake<E: Env>(env: &E, url: &ConvexUrl) -> Result<Self, TransportError> {
        let address = || url.address.to_string();
        let (stream, activity) = Self::reach(env, url).await?;
        let stream: Box<dyn ByteStream> = if url.tls {
            let host = url.address.host.clone();
            let name = ServerName::try_from(host.clone()).map_err(|_| TransportError::ServerName { host })?;
            let connecting = TlsConnector::from(tls::config(&url.authorities)).connect(name, stream);
            Box::new(connecting.await.map_err(|source| TransportError::Tls { address: address(), source })?)
        } else {
            stream
        };
        let scheme = if url.tls { "wss" } else { "ws" };
        let handshake = |error| TransportError::Handshake(Box::new(error));
        let mut request =
            format!("{scheme}://{}/api/sync", url.address).into_client_request().map_err(handshake)?;
        request.headers_mut().insert("Convex-Client", http::HeaderValue::from_static(CLIENT));
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let (stream, _) = client_async_with_config(request, stream, Some(config)).await.map_err(handshake)?;
        Ok(Self { stream, activity, sending_since: None })
    }

    /// A stream of bytes to the deployment, through a proxy if one is set for it, and what tells when bytes pass.
    async fn reach<E: Env>(
        env: &E,
        url: &ConvexUrl,
    ) -> Result<(Box<dyn ByteStream>, Activity), TransportError> {
        let Some(proxy) = url.tls.then(|| env.proxy(&url.address)).transpose()?.flatten() else {
            let address = || url.address.to_string();
            let connected = env.connect(&url.address).await;
            let stream =
                connected.map_err(|source| TransportError::Connect { address: address(), source })?;
            let (stream, activity) = Watched::new(stream);
            return Ok((Box::new(stream), activity));
        };
        tracing::debug!(proxy = %proxy.address, "Convex is reached through a proxy");
        let connected = env.connect(&proxy.address).await;
        let stream = connected
            .map_err(|source| TransportError::ProxyConnect { proxy: proxy.address.clone(), source })?;
        let (stream, activity) = Watched::new(stream);
        let opened = tunnel::open(stream, &proxy, &url.address).await;
        let (proxy, to) = (proxy.address, url.address.clone());
        Ok((Box::new(opened.map_err(|source| TransportError::Tunnel { proxy, to, source })?), activity))
    }

    /// Takes one text frame; [`Self::next`] sends it. The caller asks [`Self::is_sending`] before it makes more of them.
    pub(super) fn send(&mut self, text: String) -> Result<(), TransportError> {
        self.sending_since.get_or_insert_with(Instant::now);
        self.stream.start_send_unpin(Message::text(text)).map_err(broken)
    }

    /// Whether something waits to be taken by the network.
    pub(super) fn is_sending(&self) -> bool {
        self.sending_since.is_some()
    }

    /// When the last byte passed of a message that is under way, in either direction.
    pub(super) fn in_midst_of_message(&self) -> Option<Instant> {
        let seen = self.activity.seen();
        let read = seen.receiving_since.map(|_| seen.read);
        let written = self.sending_since.map(|since| seen.written.max(since));
        read.max(written)
    }

    /// Sends what is to be sent, and meanwhile waits for the next text frame; `None` when all is sent. Safe to drop and
    /// call again.
    pub(super) async fn next(&mut self) -> Result<Option<String>, TransportError> {
        loop {
            let (deadline, _) = gives_up(self.activity.seen(), self.sending_since);
            tokio::select! {
                biased;
                happened = poll_fn(|context| self.poll(context)) => match happened? {
                    Happened::Sent => return Ok(None),
                    Happened::Received(frame) => {
                        self.activity.received();
                        if let Some(text) = text_of(frame)? {
                            return Ok(Some(text));
                        }
                    }
                },
                () = sleep_until(deadline) => {
                    let (deadline, reason) = gives_up(self.activity.seen(), self.sending_since);
                    if deadline <= Instant::now() {
                        return Err(reason);
                    }
                }
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Happened, TransportError>> {
        if self.is_sending()
            && let Poll::Ready(sent) = self.stream.poll_flush_unpin(context)
        {
            self.sending_since = None;
            return Poll::Ready(sent.map(|()| Happened::Sent).map_err(broken));
        }
        self.stream.poll_next_unpin(context).map(|frame| match frame {
            Some(frame) => frame.map(Happened::Received).map_err(broken),
            None => Err(TransportError::Closed("WebsocketConnectionError".into())),
        })
    }
}

enum Happened {
    Sent,
    Received(Message),
}

fn broken(error: tungstenite::Error) -> TransportError {
    TransportError::WebSocket(Box::new(error))
}

/// When a connection is given up, and why, unless more bytes pass before.
fn gives_up(seen: Seen, sending_since: Option<Instant>) -> (Instant, TransportError) {
    let inactive = (seen.read + INACTIVITY, TransportError::Inactive);
    let slow = seen.receiving_since.map(|since| (since + MESSAGE_TIMEOUT, TransportError::SlowMessage));
    let stalled = sending_since.map(|since| {
        let last = seen.written.max(since);
        ((last + STALLED).min(since + MESSAGE_TIMEOUT), TransportError::SlowSend)
    });
    let all = [Some(inactive), slow, stalled].into_iter().flatten();
    all.min_by_key(|(moment, _)| *moment).expect("one is always there")
}

/// The text that a frame carries, if it is one of the protocol's.
fn text_of(frame: Message) -> Result<Option<String>, TransportError> {
    match frame {
        Message::Text(text) => Ok(Some(text.as_str().to_owned())),
        Message::Ping(_) | Message::Pong(_) => Ok(None),
        Message::Close(frame) => {
            let reason = frame.map(|f| format!("closed with code {}: {}", u16::from(f.code), f.reason));
            Err(TransportError::Closed(reason.unwrap_or_else(|| "CloseMessageWithoutFrame".into())))
        }
        Message::Binary(_) | Message::Frame(_) => Err(TransportError::Closed("UnexpectedBinaryFrame".into())),
    }
}

#[cfg(test)]
mod tests;
