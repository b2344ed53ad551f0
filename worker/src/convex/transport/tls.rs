//! Whom TLS trusts.

use std::{io, sync::Arc};

use tokio_rustls::rustls::{self, CertificateError, ClientConfig, RootCertStore};

use crate::config::Authorities;

/// Trusts what the system trusts, what `authorities` are named besides, and the bundled roots, which work in an image without
/// certificates too. Read anew for each connection: a certificate that is installed later counts.
pub(super) fn config(authorities: &Authorities) -> Arc<ClientConfig> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!(%error, "a certificate that the system trusts cannot be read");
    }
    roots.add_parsable_certificates(native.certs);
    roots.add_parsable_certificates(authorities.certificates().iter().cloned());
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// What can be done about a handshake that failed like this, if that is known.
pub(super) fn advice(error: &io::Error) -> &'static str {
    let tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "; if the deployment, or a proxy that looks into TLS, has an authority of its own, name the file of its certificate by `convex.ca_file`"
        }
        _ => "",
    }
}
