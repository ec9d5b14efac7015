//! Which ports can be had.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::cli::CliError;

/// Checks that a port is free, without keeping it.
///
/// # Errors
/// Who wanted which port, and what to do.
pub(super) fn check_free(port: u16, what: &str, advice: &str) -> Result<(), CliError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) => Err(CliError::failed(format!(
            "cannot use {address} for {what}: {error}; {advice}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named() {
        let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = holder.local_addr().unwrap().port();
        let error = check_free(port, "clients of m1", "try another")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&port.to_string()) && error.contains("clients of m1"),
            "{error}"
        );
    }
}
