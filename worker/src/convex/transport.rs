//! One WebSocket to the deployment, text frames in and out.

use std::{io, sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, pki_types::ServerName},
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, Message, client::IntoClientRequest, protocol::WebSocketConfig},
};

use crate::{config::ConvexUrl, env::Env};

/// Connecting, TLS and the WebSocket handshake together may take this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// The server pings every 5 s; a connection without any frame for this long is dead.
const INACTIVITY: Duration = Duration::from_secs(30);
/// One frame may take this long to be handed to the network.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
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
    #[error("UnansweredRequests")]
    Unanswered,
}

/// Any stream below the WebSocket, plain or encrypted.
trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

/// An open connection.
pub(super) struct Socket {
    stream: WebSocketStream<Box<dyn ByteStream>>,
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
        let connect = |source| TransportError::Connect { address: url.address.to_string(), source };
        let plain = env.connect(&url.address).await.map_err(connect)?;
        let stream: Box<dyn ByteStream> = if url.tls {
            let host = url.address.host.clone();
            let name = ServerName::try_from(host.clone()).map_err(|_| TransportError::ServerName { host })?;
            Box::new(TlsConnector::from(tls_config()).connect(name, plain).await.map_err(connect)?)
        } else {
            Box::new(plain)
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
        Ok(Self { stream })
    }

    /// Sends one text frame.
    pub(super) async fn send(&mut self, text: String) -> Result<(), TransportError> {
        match tokio::time::timeout(SEND_TIMEOUT, self.stream.send(Message::text(text))).await {
            Ok(sent) => sent.map_err(|error| TransportError::WebSocket(Box::new(error))),
            Err(_) => Err(TransportError::SlowSend),
        }
    }

    /// The next text frame. Every frame counts as a sign of life, pings too. Safe to drop and call again, but
    /// then the silence is measured anew; the server's pings make that harmless.
    pub(super) async fn receive(&mut self) -> Result<String, TransportError> {
        loop {
            let frame = tokio::time::timeout(INACTIVITY, self.stream.next())
                .await
                .map_err(|_| TransportError::Inactive)?
                .ok_or_else(|| TransportError::Closed("WebsocketConnectionError".into()))?
                .map_err(|error| TransportError::WebSocket(Box::new(error)))?;
            match frame {
                Message::Text(text) => return Ok(text.as_str().to_owned()),
                Message::Close(frame) => {
                    let reason =
                        frame.map(|f| format!("closed with code {}: {}", u16::from(f.code), f.reason));
                    return Err(TransportError::Closed(
                        reason.unwrap_or_else(|| "CloseMessageWithoutFrame".into()),
                    ));
                }
                Message::Ping(_) | Message::Pong(_) => {}
                Message::Binary(_) | Message::Frame(_) => {
                    return Err(TransportError::Closed("UnexpectedBinaryFrame".into()));
                }
            }
        }
    }
}

/// The bundled roots: they work in an image without certificates too.
fn tls_config() -> Arc<ClientConfig> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}
