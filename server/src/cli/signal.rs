//! SIGINT and SIGTERM: end, in good order.

use tokio::signal::unix::{self, SignalKind};

use crate::cli::CliError;

/// What asks the process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// Whoever supervises.
    Terminate,
}

/// Both signals, caught from the moment this exists.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Signals {
    /// # Errors
    /// When the system refuses the handlers.
    pub(crate) fn new() -> Result<Self, CliError> {
        let listen = |kind| {
            unix::signal(kind)
                .map_err(|error| CliError::failed(format!("cannot catch signals: {error}")))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
        }
    }
}
