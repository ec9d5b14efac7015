//! Connections whose small writes go out together.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection whose task, before it writes something after a flush, lets the tasks run once that
/// are ready.
///
/// Messages come many at a time, and each answer to one wakes the task of the connection, which the
/// runtime then runs next, with that answer alone. Once it has stood at the end of the line all of
/// them go out with one call.
#[derive(Debug)]
pub struct Gather<C> {
    connection: C,
    /// Since the last flush.
    stood_back: bool,
}

impl<C> Gather<C> {
    /// Gathers what is written to `connection`.
    pub const fn new(connection: C) -> Self {
        Self {
            connection,
            stood_back: false,
        }
    }

    /// The connection.
    pub const fn get_ref(&self) -> &C {
        &self.connection
    }

    fn stand_back(&mut self, context: &Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.stood_back, true) {
            return Poll::Ready(());
        }
        // A task that wakes itself goes to the end of the line.
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Gather<C> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().connection).poll_read(context, out)
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Gather<C> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.stand_back(context));
        Pin::new(&mut this.connection).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.stand_back(context));
        Pin::new(&mut this.connection).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.stood_back = false;
        Pin::new(&mut this.connection).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().connection).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts the calls that reach it.
    #[derive(Default)]
    struct Counted {
        writes: Vec<usize>,
    }

    impl AsyncWrite for Counted {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.get_mut().writes.push(bytes.len());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn answers_of_tasks_that_are_ready_go_out_with_one_write() {
        use std::sync::Arc;

        use parking_lot::Mutex;
        use tokio::io::AsyncWriteExt;

        let answers = Arc::new(Mutex::new(Vec::new()));
        for _ in 0..5 {
            let answers = Arc::clone(&answers);
            tokio::spawn(async move { answers.lock().push(b'x') });
        }
        let mut connection = Gather::new(Counted::default());
        for _ in 0..2 {
            std::future::poll_fn(|context| {
                let gathered = answers.lock().clone();
                Pin::new(&mut connection).poll_write(context, &gathered)
            })
            .await
            .unwrap();
        }
        connection.flush().await.unwrap();
        // The first waited for the five, and the second not again.
        assert_eq!(connection.get_ref().writes, [5, 5]);
    }
}
