//! Connections of clients, some of which name us in a way that HTTP/2 does not allow.
//!
//! etcdctl 3.4 sends its endpoint, scheme and all (`http://127.0.0.1:2379`), as `:authority` for
//! requests that go to one member (status, hashkv, defrag, move-leader). etcd's server takes it;
//! ours would reset the stream before a service sees it. [`Lenient`] puts a plain name in the place
//! of a URL: nothing here looks at it.

mod frames;
mod hpack;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::codegen::tokio_stream::{Stream, StreamExt};
use tonic::transport::server::Connected;

use frames::Frames;

/// How much is read from a connection at once, in bytes.
const READ_BYTES: usize = 16 * 1024;

/// Makes every connection of `incoming` a [`Lenient`] one.
pub fn lenient<S, C>(incoming: S) -> impl Stream<Item = io::Result<Lenient<C>>>
where
    S: Stream<Item = io::Result<C>>,
{
    incoming.map(|connection| connection.map(Lenient::new))
}

/// A connection whose requests name a valid authority where the client sent a URL.
#[derive(Debug)]
pub struct Lenient<C> {
    connection: C,
    frames: Frames,
    /// What is ready for the reader.
    ready: BytesMut,
    ended: bool,
}

impl<C> Lenient<C> {
    /// Filters what `connection` reads; what it writes is left alone.
    #[must_use]
    pub fn new(connection: C) -> Self {
        Self {
            connection,
            frames: Frames::default(),
            ready: BytesMut::new(),
            ended: false,
        }
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Lenient<C> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ready.is_empty() && this.frames.is_transparent() {
            return Pin::new(&mut this.connection).poll_read(context, out);
        }
        while this.ready.is_empty() && !this.ended {
            let input = this.frames.input();
            let before = input.len();
            input.resize(before.saturating_add(READ_BYTES), 0);
            let mut space = ReadBuf::new(input.get_mut(before..).unwrap_or_default());
            let polled = Pin::new(&mut this.connection).poll_read(context, &mut space);
            let count = space.filled().len();
            input.truncate(before.saturating_add(count));
            ready!(polled)?;
            this.ended = count == 0;
            this.frames.pass(&mut this.ready, this.ended);
        }
        let count = this.ready.len().min(out.remaining());
        if let Some(front) = this.ready.get(..count) {
            out.put_slice(front);
        }
        this.ready.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Lenient<C> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().connection).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().connection).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().connection).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().connection).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }
}

impl<C: Connected> Connected for Lenient<C> {
    type ConnectInfo = C::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.connection.connect_info()
    }
}
