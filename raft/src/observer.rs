//! What happens inside the core, told as typed events.

/// Something that happened inside the core. Meant for logs, metrics and tests; never for control.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The group has halted on this member.
    Halted {
        /// What happened, and the operator's next step.
        cause: &'a str,
    },
}

/// Is told every [`Event`] at the moment it happens, inside the call that caused it.
pub trait Observer {
    /// Called with each event.
    fn event(&mut self, event: &Event<'_>);
}

/// Observes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    #[inline]
    fn event(&mut self, _event: &Event<'_>) {}
}
