//! Answers that come later: plain futures which any executor can poll, and a thread can wait for.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use parking_lot::Mutex;

/// What an answer says when whoever owed it is gone.
pub(crate) trait Abandoned {
    /// The error that stands for "nobody will answer any more".
    fn abandoned() -> Self;
}

enum Slot<T, E> {
    Empty(Option<Waker>),
    Full(Result<T, E>),
    Taken,
}

/// An answer that comes later. A future; [`Pending::wait`] is for threads. It always resolves: when
/// the group goes away before it could answer, with the error that says what is then known.
#[must_use = "nothing is known of a request whose answer is dropped"]
pub struct Pending<T, E> {
    slot: Arc<Mutex<Slot<T, E>>>,
}

impl<T, E> Pending<T, E> {
    /// An answer that is there already.
    pub(crate) fn ready(result: Result<T, E>) -> Self {
        Self {
            slot: Arc::new(Mutex::new(Slot::Full(result))),
        }
    }

    /// Blocks the thread until the answer is there. Not for an async worker.
    ///
    /// # Errors
    /// What the request failed with.
    pub fn wait(self) -> Result<T, E> {
        block_on(self)
    }
}

/// Blocks the thread until `future` is ready.
pub(crate) fn block_on<F: Future + Unpin>(mut future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match Pin::new(&mut future).poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

impl<T, E> Future for Pending<T, E> {
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.slot.lock();
        match std::mem::replace(&mut *slot, Slot::Taken) {
            Slot::Full(result) => Poll::Ready(result),
            Slot::Empty(_) => {
                *slot = Slot::Empty(Some(context.waker().clone()));
                Poll::Pending
            }
            // Polled again after it was ready, which a future need not answer.
            Slot::Taken => Poll::Pending,
        }
    }
}

impl<T, E> fmt::Debug for Pending<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pending")
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The side that owes the answer. Dropped without one, it answers [`Abandoned::abandoned`].
pub(crate) struct Completer<T, E: Abandoned> {
    slot: Option<Arc<Mutex<Slot<T, E>>>>,
}

/// An answer and who owes it.
pub(crate) fn pending<T, E: Abandoned>() -> (Completer<T, E>, Pending<T, E>) {
    let slot = Arc::new(Mutex::new(Slot::Empty(None)));
    (
        Completer {
            slot: Some(Arc::clone(&slot)),
        },
        Pending { slot },
    )
}

impl<T, E: Abandoned> Completer<T, E> {
    pub(crate) fn complete(mut self, result: Result<T, E>) {
        self.set(result);
    }

    fn set(&mut self, result: Result<T, E>) {
        let Some(slot) = self.slot.take() else { return };
        let before = std::mem::replace(&mut *slot.lock(), Slot::Full(result));
        if let Slot::Empty(Some(waker)) = before {
            waker.wake();
        }
    }
}

impl<T, E: Abandoned> Drop for Completer<T, E> {
    fn drop(&mut self) {
        self.set(Err(E::abandoned()));
    }
}

impl<T, E: Abandoned> fmt::Debug for Completer<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Completer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Gone;

    impl Abandoned for Gone {
        fn abandoned() -> Self {
            Self
        }
    }

    #[test]
    fn answer_given_before_and_after_waiting_arrives() {
        let (completer, answer) = pending::<u32, Gone>();
        completer.complete(Ok(7));
        assert_eq!(answer.wait(), Ok(7));
        let (completer, answer) = pending::<u32, Gone>();
        let waiting = thread::spawn(move || answer.wait());
        completer.complete(Ok(8));
        assert_eq!(waiting.join().unwrap(), Ok(8));
    }

    #[test]
    fn dropped_completer_answers_that_it_is_gone() {
        let (completer, answer) = pending::<u32, Gone>();
        drop(completer);
        assert_eq!(answer.wait(), Err(Gone));
    }
}
