//! The loop that accepts connections.

use std::{future::Future, io};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

use super::{deployment::Convex, http, limits};

/// Where connections come from.
pub trait Listener {
    /// What a connection is.
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;

    /// Waits for the next connection and says who it is.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, String)>>;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, String)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        stream.set_nodelay(true)?;
        Ok((stream, peer.to_string()))
    }
}

/// Counts a connection while it lasts.
struct Counted(Convex);

impl Counted {
    fn new(convex: &Convex) -> Option<Self> {
        let count = convex.0.connections.get();
        (count < limits::CONNECTIONS).then(|| {
            convex.0.connections.set(count + 1);
            Self(convex.clone())
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.connections.set(self.0.0.connections.get() - 1);
    }
}

impl Convex {
    /// Serves one connection, HTTP and WebSocket, until it ends. `peer` is its name in observations.
    pub async fn serve_connection<S>(&self, stream: S, peer: &str)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        http::serve(self.clone(), stream, peer.into()).await;
    }

    /// Accepts connections until the listener fails, each in a task of the current `LocalSet`, at most
    /// [`limits::CONNECTIONS`] at a time: what is above is dropped.
    pub async fn serve<L: Listener>(&self, mut listener: L) -> io::Result<()> {
        loop {
            let (stream, peer) = listener.accept().await?;
            let Some(counted) = Counted::new(self) else { continue };
            let convex = self.clone();
            tokio::task::spawn_local(async move {
                let _counted = counted;
                convex.serve_connection(stream, &peer).await;
            });
        }
    }
}
