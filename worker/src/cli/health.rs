//! `worker health`: whether a worker that runs on this machine is alive, by the exit code, for a container's health check.

use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};
use worker::config::AdminAddress;

use super::{Options, code};
use crate::{fail, finish, invalid};

/// How long the worker may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer that is shown (bytes).
const MAX_ANSWER: usize = 64 * 1024;

/// Asks `/healthz` of the worker that these options start. Shows what it says.
pub(crate) async fn ask(options: Options) -> ExitCode {
    let address = match options.workers.clone() {
        Some(file) => options.fleet(&file).map(|fleet| fleet.admin),
        None => options.merge().map(|merged| merged.settings.admin),
    };
    let address = match address {
        Ok(Some(address)) => address,
        Ok(None) => {
            return fail(
                code::CONFIG,
                "a worker without `admin` says nothing of itself; set `--admin`, `WORKER_ADMIN` or `admin`",
            );
        }
        Err(error) => return invalid(error),
    };
    match timeout(PATIENCE, get(address)).await {
        Ok(Ok((StatusCode::OK, said))) => finish(said.trim_end()),
        Ok(Ok((status, said))) => {
            fail(code::FAILURE, &format!("the worker is not well ({status}): {}", said.trim_end()))
        }
        Ok(Err(error)) => fail(code::UNAVAILABLE, &format!("no worker answers at {address}: {error:#}")),
        Err(_) => fail(
            code::UNAVAILABLE,
            &format!("the worker at {address} did not answer within {} s", PATIENCE.as_secs()),
        ),
    }
}

async fn get(address: AdminAddress) -> anyhow::Result<(StatusCode, String)> {
    let stream = TcpStream::connect(address.socket_address()).await.context("it does not listen")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request =
        Request::get("/healthz").header(header::HOST, address.to_string()).body(Empty::<Bytes>::new())?;
    let exchange = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(anyhow::Error::from_boxed)?;
        anyhow::Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    };
    // The connection ends when nobody asks any more; what it says about that says nothing about the worker.
    let (answer, _) = tokio::join!(exchange, connection);
    answer
}
