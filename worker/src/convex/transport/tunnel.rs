//! A way to the deployment through an HTTP proxy, by CONNECT.

use std::pin::pin;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::env::{Address, Proxy};

/// The longest head of an answer that is read (bytes).
const MAX_ANSWER: usize = 16 << 10;

/// Why there is no way through a proxy.
#[derive(Debug, thiserror::Error)]
pub(in crate::convex) enum TunnelError {
    #[error("it gave no answer that can be read: {0}")]
    Answer(#[from] hyper::Error),
    #[error("it answered {status}{}", advice(*status))]
    Refused { status: StatusCode },
    #[error("that is no name of a host")]
    Host,
}

fn advice(status: StatusCode) -> &'static str {
    if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        "; HTTPS_PROXY may name a user and a password, as in `http://user:password@proxy:3128`"
    } else {
        ""
    }
}

/// Asks the proxy at the other end of `stream` to connect to `to`. The caller bounds the time.
pub(super) async fn open<S>(
    stream: S,
    proxy: &Proxy,
    to: &Address,
) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static, TunnelError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) =
        Builder::new().max_buf_size(MAX_ANSWER).handshake(TokioIo::new(stream)).await?;
    let mut request = Request::connect(to.to_string()).header(header::HOST, to.to_string());
    if let Some(authorization) = &proxy.authorization {
        request = request.header(header::PROXY_AUTHORIZATION, authorization);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|_| TunnelError::Host)?;
    let answered = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        if !status.is_success() {
            return Err(TunnelError::Refused { status });
        }
        Ok(hyper::upgrade::on(answer).await?)
    };
    let (mut answered, connection) = (pin!(answered), pin!(connection.with_upgrades()));
    // The connection moves the request; its own end says no more than the answer does.
    let upgraded = tokio::select! {
        biased;
        upgraded = &mut answered => upgraded,
        _ = connection => answered.await,
    };
    upgraded.map(TokioIo::new)
}
