//! A listening socket that a stranger cannot exhaust: a bound on connections, a deadline for the
//! first bytes, and `TCP_NODELAY` on everything accepted.
//!
//! `tonic`'s own `Server::tcp_nodelay` has no effect on an incoming stream that the caller brings,
//! and without it small answers wait for the peer's delayed acknowledgement (tens of
//! milliseconds), so it is set here, at the only place that sees the socket.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_stream::Stream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::gather::Gather;

/// The length of HTTP/2's connection preface: whoever sends this much speaks the protocol.
const PREFACE_BYTES: usize = 24;
/// How long accepting rests after the system refused (out of file descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The bounds of a listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once; further ones are closed as they come.
    pub connections_max: usize,
    /// How long a new connection may take to send its first bytes.
    pub preface_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            preface_timeout: Duration::from_secs(10),
        }
    }
}

/// Accepted connections, for `serve_with_incoming`.
#[derive(Debug)]
pub struct Incoming {
    listener: TcpListener,
    limits: Limits,
    permits: Arc<Semaphore>,
    refused: Arc<AtomicU64>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    /// Takes over a bound socket. Must be called inside of a tokio runtime.
    ///
    /// # Errors
    /// What the system says when the socket cannot be made non-blocking.
    pub fn new(listener: std::net::TcpListener, limits: Limits) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener: TcpListener::from_std(listener)?,
            limits,
            permits: Arc::new(Semaphore::new(limits.connections_max)),
            refused: Arc::new(AtomicU64::new(0)),
            pause: None,
        })
    }

    /// Counts the connections closed because too many were open.
    #[must_use]
    pub fn refused(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.refused)
    }

    fn admit(&self, stream: TcpStream) -> io::Result<Option<Connection>> {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Ok(None);
        };
        stream.set_nodelay(true)?;
        let deadline = tokio::time::sleep(self.limits.preface_timeout);
        Ok(Some(Connection {
            stream: Gather::new(stream),
            opening: Some(Opening {
                deadline: Box::pin(deadline),
                seen_bytes: 0,
            }),
            _permit: permit,
        }))
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = self.pause.as_mut() {
                std::task::ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match std::task::ready!(self.listener.poll_accept(cx)) {
                Ok((stream, _)) => {
                    // Otherwise the other side is gone already, or too many are here.
                    if let Ok(Some(connection)) = self.admit(stream) {
                        return Poll::Ready(Some(Ok(connection)));
                    }
                }
                Err(_) => self.pause = Some(Box::pin(tokio::time::sleep(ACCEPT_PAUSE))),
            }
        }
    }
}

/// One accepted connection; counts against the bound until it is dropped.
#[derive(Debug)]
pub struct Connection {
    stream: Gather<TcpStream>,
    opening: Option<Opening>,
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct Opening {
    deadline: Pin<Box<Sleep>>,
    seen_bytes: usize,
}

impl Connection {
    /// The socket.
    #[must_use]
    pub const fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.socket().connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let Some(opening) = self.opening.as_mut() else {
            return polled;
        };
        match polled {
            Poll::Ready(Ok(())) => {
                opening.seen_bytes += buf.filled().len() - before;
                if opening.seen_bytes >= PREFACE_BYTES {
                    self.opening = None;
                }
                polled
            }
            Poll::Ready(Err(_)) => polled,
            Poll::Pending => {
                std::task::ready!(opening.deadline.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
