//! Whom the worker trusts to vouch for the deployment, besides those whom everybody trusts.

use std::{fmt, sync::Arc};

use tokio_rustls::rustls::{
    self, RootCertStore,
    pki_types::{CertificateDer, pem, pem::PemObject as _},
};

/// Certificates of authorities. Clones share them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Authorities(Arc<[CertificateDer<'static>]>);

/// Why a text holds no certificates.
#[derive(Debug, thiserror::Error)]
pub enum AuthoritiesError {
    /// It is no PEM.
    #[error("is no PEM file: {0}")]
    Pem(pem::Error),
    /// There is none.
    #[error("holds no certificate")]
    Empty,
    /// One of them is none.
    #[error("holds no certificate in place {place}: {source}")]
    Certificate {
        /// Which, from 1.
        place: usize,
        /// What is wrong with it.
        source: rustls::Error,
    },
}

impl Authorities {
    /// Reads PEM, of which at least one certificate is asked.
    pub(crate) fn parse(text: &str) -> Result<Self, AuthoritiesError> {
        let found = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
        let certificates = found.map_err(AuthoritiesError::Pem)?;
        if certificates.is_empty() {
            return Err(AuthoritiesError::Empty);
        }
        for (number, certificate) in certificates.iter().enumerate() {
            let added = RootCertStore::empty().add(certificate.clone());
            added.map_err(|source| AuthoritiesError::Certificate { place: number + 1, source })?;
        }
        Ok(Self(certificates.into()))
    }

    /// The certificates.
    pub(crate) fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} certificates", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem() -> String {
        rcgen::generate_simple_self_signed(["a.b".to_owned()]).unwrap().cert.pem()
    }

    #[track_caller]
    fn check(text: &str, expected: Result<usize, &str>) {
        let found = Authorities::parse(text).map(|found| found.certificates().len());
        let found = found.map_err(|error| error.to_string());
        match expected {
            Ok(count) => assert_eq!(found, Ok(count)),
            Err(begins) => assert!(found.as_ref().is_err_and(|error| error.starts_with(begins)), "{found:?}"),
        }
    }

    #[test]
    fn all_certificates_of_a_file_count_and_what_stands_between_them_does_not() {
        check(&pem(), Ok(1));
        check(&format!("# ours\n{}# and theirs\n{}", pem(), pem()), Ok(2));
    }

    #[test]
    fn a_file_without_a_certificate_is_refused_and_says_what_it_is() {
        check("", Err("holds no certificate"));
        check("not a certificate", Err("holds no certificate"));
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        check(key, Err("holds no certificate"));
        check("-----BEGIN CERTIFICATE-----\nAAAA\n", Err("is no PEM file: "));
        let other = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        check(&format!("{}{other}", pem()), Err("holds no certificate in place 2: "));
    }
}
