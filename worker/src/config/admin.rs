//! Where metrics and health are served.

use std::{fmt, net::SocketAddr, str::FromStr};

use serde::{Deserialize, Serialize};

/// A loopback address with a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AdminAddress(SocketAddr);

/// Why a text is not such an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdminAddressError {
    /// Not an IP address and a port.
    #[error("`{text}` is not an address with a port; it looks like `127.0.0.1:9464`")]
    Malformed {
        /// The text.
        text: String,
    },
    /// Others could reach it.
    #[error(
        "`{address}` can be reached by others; metrics and health are served on loopback only, as on `127.0.0.1:9464`"
    )]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
}

impl AdminAddress {
    /// The address itself.
    pub fn socket_address(self) -> SocketAddr {
        self.0
    }
}

impl FromStr for AdminAddress {
    type Err = AdminAddressError;

    fn from_str(text: &str) -> Result<Self, AdminAddressError> {
        let malformed = || AdminAddressError::Malformed { text: text.to_owned() };
        let address: SocketAddr = text.trim().parse().map_err(|_| malformed())?;
        if !address.ip().is_loopback() {
            return Err(AdminAddressError::NotLoopback { address });
        }
        Ok(Self(address))
    }
}

impl TryFrom<String> for AdminAddress {
    type Error = AdminAddressError;

    fn try_from(text: String) -> Result<Self, AdminAddressError> {
        text.parse()
    }
}

impl From<AdminAddress> for String {
    fn from(address: AdminAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let found = text.parse::<AdminAddress>().map(|a| a.to_string()).map_err(|e| e.to_string());
        assert_eq!(found.as_deref().map_err(String::as_str), expected, "for {text:?}");
    }

    #[test]
    fn only_a_loopback_address_with_a_port_is_accepted() {
        check("127.0.0.1:9464", Ok("127.0.0.1:9464"));
        check("[::1]:9464", Ok("[::1]:9464"));
        check(
            "0.0.0.0:9464",
            Err(
                "`0.0.0.0:9464` can be reached by others; metrics and health are served on loopback only, as on `127.0.0.1:9464`",
            ),
        );
        check("9464", Err("`9464` is not an address with a port; it looks like `127.0.0.1:9464`"));
    }
}
