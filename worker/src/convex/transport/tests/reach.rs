//! Authorities and proxies, on loopback: a deployment with a certificate of an authority of its own, and a proxy.

use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivateKeyDer},
};

use super::*;
use crate::{
    config::Authorities,
    env::{
        Launch, LaunchError, Proxy, UnixMillis,
        system::{SystemEnv, SystemServer},
    },
};

/// The name that the deployment's certificate is for. Only the proxy knows where it is.
const HOST: &str = "deployment.test";
const GRANTED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

/// Production's surroundings, but for the proxy.
#[derive(Clone, Default)]
struct Lan {
    proxy: Option<Proxy>,
}

impl Env for Lan {
    type Stream = TcpStream;
    type Server = SystemServer;

    async fn connect(&self, address: &Address) -> io::Result<TcpStream> {
        SystemEnv.connect(address).await
    }

    fn proxy(&self, _: &Address) -> Result<Option<Proxy>, ProxyError> {
        Ok(self.proxy.clone())
    }

    async fn launch(&self, launch: Launch) -> Result<SystemServer, LaunchError> {
        SystemEnv.launch(launch).await
    }

    fn now(&self) -> UnixMillis {
        SystemEnv.now()
    }

    fn random(&self, buffer: &mut [u8]) {
        SystemEnv.random(buffer);
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, task: F) -> JoinHandle<()> {
        SystemEnv.spawn(task)
    }
}

/// A deployment that takes one connection, and who vouches for it.
async fn deployment(host: &str) -> (u16, Authorities, AbortOnDropHandle<()>) {
    let (key, ca_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut ca = CertificateParams::new([]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authorities = Authorities::parse(&ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let leaf = CertificateParams::new([host.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![leaf.der().clone()], key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = SystemEnv.spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        // Whoever does not trust it hangs up.
        if let Ok(stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await {
            let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            let _ = socket.send(Message::text("hello")).await;
            let _ = socket.next().await;
        }
    });
    (port, authorities, AbortOnDropHandle::new(task))
}

fn url(host: &str, port: u16, authorities: &Authorities) -> ConvexUrl {
    ConvexUrl { address: Address { host: host.into(), port }, tls: true, authorities: authorities.clone() }
}

/// A proxy that answers the first request like this, and connects to `port` of this machine if it granted it. Returns
/// the proxy and what it was asked.
async fn proxy(answer: &'static str, port: u16) -> (Lan, Arc<Mutex<String>>, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() };
    let asked = Arc::new(Mutex::new(String::new()));
    let says = Arc::clone(&asked);
    let task = SystemEnv.spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        while !says.lock().unwrap().ends_with("\r\n\r\n") {
            let byte = client.read_u8().await.unwrap();
            says.lock().unwrap().push(char::from(byte));
        }
        let _ = client.write_all(answer.as_bytes()).await;
        if answer == GRANTED {
            let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        }
    });
    let mut authorization = http::HeaderValue::from_static("Basic dXNlcjpwYTU1");
    authorization.set_sensitive(true);
    let proxy = Proxy { address, authorization: Some(authorization) };
    (Lan { proxy: Some(proxy) }, asked, AbortOnDropHandle::new(task))
}

async fn error(env: &Lan, url: &ConvexUrl) -> String {
    Socket::open(env, url).await.map(drop).unwrap_err().to_string()
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_where_it_is_named() {
    let (port, authorities, _deployment) = deployment("localhost").await;
    let mut socket = Socket::open(&Lan::default(), &url("localhost", port, &authorities)).await.unwrap();
    assert_eq!(socket.next().await.unwrap(), Some("hello".into()));
}

#[tokio::test]
async fn an_authority_that_nobody_named_is_refused_and_the_error_says_how_to_name_it() {
    let (port, _, _deployment) = deployment("localhost").await;
    let error = error(&Lan::default(), &url("localhost", port, &Authorities::default())).await;
    assert!(error.contains("UnknownIssuer") && error.ends_with("by `convex.ca_file`"), "{error}");
}

#[tokio::test]
async fn a_deployment_is_reached_through_a_proxy_that_is_shown_who_asks() {
    let (port, authorities, _deployment) = deployment(HOST).await;
    let (env, asked, _proxy) = proxy(GRANTED, port).await;
    let mut socket = Socket::open(&env, &url(HOST, 443, &authorities)).await.unwrap();
    assert_eq!(socket.next().await.unwrap(), Some("hello".into()));
    let asked = asked.lock().unwrap().clone();
    assert!(asked.starts_with("CONNECT deployment.test:443 HTTP/1.1\r\n"), "{asked}");
    assert!(asked.to_lowercase().contains("\r\nhost: deployment.test:443\r\n"), "{asked}");
    assert!(asked.contains("Basic dXNlcjpwYTU1\r\n"), "{asked}");
}

#[tokio::test]
async fn what_a_proxy_refuses_is_told_with_its_status_and_without_the_password() {
    let nobody = Authorities::default();
    let check = async |answer: &'static str, expected: &str| {
        let (env, _, _proxy) = proxy(answer, 0).await;
        let port = env.proxy.as_ref().unwrap().address.port;
        let error = error(&env, &url(HOST, 443, &nobody)).await;
        assert_eq!(error.replace(&port.to_string(), "PORT"), expected);
    };
    check(
        "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 2\r\n\r\nno",
        "the proxy 127.0.0.1:PORT does not connect to deployment.test:443: it answered 407 Proxy Authentication Required; HTTPS_PROXY may name a user and a password, as in `http://user:password@proxy:3128`",
    )
    .await;
    check(
        "HTTP/1.1 403 Forbidden\r\n\r\n",
        "the proxy 127.0.0.1:PORT does not connect to deployment.test:443: it answered 403 Forbidden",
    )
    .await;
}

#[tokio::test]
async fn a_proxy_that_is_none_or_talks_without_end_is_told_as_such() {
    let nobody = Authorities::default();
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(64 << 10)).leak();
    for answer in ["SSH-2.0-OpenSSH_9.9\r\n", "", endless] {
        let (env, _, _proxy) = proxy(answer, 0).await;
        let error = error(&env, &url(HOST, 443, &nobody)).await;
        assert!(error.contains("gave no answer that can be read: "), "{answer:.20}: {error}");
    }
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let address = Address { host: "127.0.0.1".into(), port: closed };
    let env = Lan { proxy: Some(Proxy { address, authorization: None }) };
    let error = error(&env, &url(HOST, 443, &nobody)).await;
    assert!(error.starts_with(&format!("cannot connect to the proxy 127.0.0.1:{closed}: ")), "{error}");
}
