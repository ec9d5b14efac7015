//! What waits for one peer: a bounded queue that an HTTP/2 stream drains frame by frame.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use raftwerk::Envelope;
use tokio_stream::Stream;

use crate::proto::Frame;
use crate::stats::Counters;

/// The bounds of a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) messages_max: usize,
    pub(crate) bytes_max: usize,
    pub(crate) batch_bytes: usize,
    pub(crate) frame_bytes_max: usize,
}

#[derive(Debug)]
pub(crate) struct SendQueue {
    bounds: Bounds,
    counters: Arc<Counters>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Envelope>,
    waiting_bytes: usize,
    /// Counts streams: an older one ends when it sees that it is no longer the current.
    stream: u64,
    /// The receiver has said who it is: frames may leave.
    open: bool,
    /// Something was dropped since the last look.
    overflowed: bool,
    waker: Option<Waker>,
}

impl SendQueue {
    pub(crate) fn new(bounds: Bounds, counters: Arc<Counters>) -> Self {
        Self {
            bounds,
            counters,
            state: Mutex::default(),
        }
    }

    /// Takes the envelopes or, at the bound, drops them: what waits is older, and order matters
    /// more to Raft than novelty. True when one was dropped for the first time since the queue
    /// last had room.
    pub(crate) fn push(&self, envelopes: impl IntoIterator<Item = Envelope>) -> bool {
        let mut state = self.state.lock();
        let (mut dropped, mut first) = (0, false);
        for envelope in envelopes {
            let weight = envelope.weight();
            let full = state.waiting.len() >= self.bounds.messages_max
                || state.waiting_bytes.saturating_add(weight) > self.bounds.bytes_max;
            if full && !state.waiting.is_empty() {
                first |= !std::mem::replace(&mut state.overflowed, true);
                dropped += 1;
                continue;
            }
            state.overflowed = false;
            state.waiting_bytes = state.waiting_bytes.saturating_add(weight);
            state.waiting.push_back(envelope);
        }
        let waker = if state.open { state.waker.take() } else { None };
        drop(state);
        self.counters.send_dropped.add(dropped);
        if let Some(waker) = waker {
            waker.wake();
        }
        first
    }

    /// A new stream, closed until [`SendQueue::open`]; the one before it ends.
    pub(crate) fn stream(self: &Arc<Self>) -> FrameStream {
        let mut state = self.state.lock();
        state.stream += 1;
        state.open = false;
        let stream = FrameStream {
            queue: Arc::clone(self),
            number: state.stream,
            slept: false,
        };
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        stream
    }

    /// Lets the current stream send.
    pub(crate) fn open(&self) {
        let mut state = self.state.lock();
        state.open = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Drops what waits: it would be stale when the peer is back.
    pub(crate) fn clear(&self) {
        let mut state = self.state.lock();
        state.waiting_bytes = 0;
        let dropped = std::mem::take(&mut state.waiting);
        drop(state);
        self.counters.send_dropped.add(dropped.len());
    }

    /// Ends the current stream; what waits stays for the next one.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.stream += 1;
        state.open = false;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The frames of one stream to a peer.
#[derive(Debug)]
pub(crate) struct FrameStream {
    queue: Arc<SendQueue>,
    number: u64,
    /// Nothing waited at the last look.
    slept: bool,
}

impl FrameStream {
    /// Gathers a frame, oldest first; `None` when nothing (that fits a frame) waits.
    fn gather(&self, state: &mut State) -> Vec<Envelope> {
        let mut gathered = Vec::new();
        let mut bytes = 0_usize;
        while let Some(next) = state.waiting.front() {
            let weight = next.weight();
            if !gathered.is_empty() && bytes.saturating_add(weight) > self.queue.bounds.batch_bytes
            {
                break;
            }
            bytes = bytes.saturating_add(weight);
            state.waiting_bytes = state.waiting_bytes.saturating_sub(weight);
            gathered.extend(state.waiting.pop_front());
        }
        gathered
    }

    fn encode(&self, gathered: &[Envelope]) -> Frame {
        let limit = self.queue.bounds.frame_bytes_max;
        let mut frame = Frame {
            envelopes: Vec::with_capacity(gathered.len()),
        };
        let mut oversize = 0;
        for envelope in gathered {
            let bytes = envelope.encode();
            // A few bytes of framing are taken off both limits.
            if bytes.len() > limit - limit / 16 {
                oversize += 1;
            } else {
                frame.envelopes.push(bytes);
            }
        }
        self.queue.counters.send_oversize.add(oversize);
        self.queue.counters.sent.add(frame.envelopes.len());
        self.queue.counters.sent_frames.add(1);
        frame
    }
}

impl Stream for FrameStream {
    type Item = Frame;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        let this = &mut *self;
        if std::mem::take(&mut this.slept) {
            // What the other tasks are about to send goes with the same frame.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            let mut state = this.queue.state.lock();
            if state.stream != this.number {
                return Poll::Ready(None);
            }
            if !state.open || state.waiting.is_empty() {
                state.waker = Some(cx.waker().clone());
                this.slept = true;
                return Poll::Pending;
            }
            let gathered = this.gather(&mut state);
            drop(state);
            let frame = this.encode(&gathered);
            if !frame.envelopes.is_empty() {
                return Poll::Ready(Some(frame));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use raftwerk::EnvelopeBody;
    use raftwerk_raft::{EntryKind, GroupId};
    use tokio_stream::StreamExt;

    use super::*;

    fn envelope(request: u64, size: usize) -> Envelope {
        let data = Bytes::from(vec![7; size]);
        let body = EnvelopeBody::Forward {
            request,
            kind: EntryKind::Normal,
            data,
        };
        Envelope {
            group: GroupId(1),
            body,
        }
    }

    fn queue(messages_max: usize, bytes_max: usize) -> Arc<SendQueue> {
        let bounds = Bounds {
            messages_max,
            bytes_max,
            batch_bytes: 4096,
            frame_bytes_max: 64 * 1024,
        };
        Arc::new(SendQueue::new(bounds, Arc::new(Counters::default())))
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    }

    async fn requests(stream: &mut FrameStream) -> Vec<u64> {
        let frame = stream.next().await.unwrap();
        let request = |bytes: &Bytes| match Envelope::decode(bytes.clone()).unwrap().body {
            EnvelopeBody::Forward { request, .. } => request,
            other => panic!("{other:?}"),
        };
        frame.envelopes.iter().map(request).collect()
    }

    #[test]
    fn what_comes_beyond_the_bound_is_dropped_and_told_once() {
        let queue = queue(4, 1 << 20);
        let told: Vec<bool> = (0..7).map(|n| queue.push([envelope(n, 10)])).collect();
        assert_eq!(told, [false, false, false, false, true, false, false]);
        assert_eq!(queue.counters.read().send_dropped, 3);
        runtime().block_on(async {
            let mut stream = queue.stream();
            queue.open();
            assert_eq!(requests(&mut stream).await, [0, 1, 2, 3]);
            assert!(!queue.push([envelope(8, 10)]));
            assert_eq!(requests(&mut stream).await, [8]);
        });
    }

    #[test]
    fn bytes_are_bounded_too_but_one_envelope_always_waits() {
        let queue = queue(100, 1000);
        assert!(!queue.push([envelope(0, 5000)]));
        assert!(queue.push([envelope(1, 1)]));
    }

    #[test]
    fn frames_gather_in_order_up_to_the_batch_size() {
        let queue = queue(100, 1 << 20);
        for n in 0..5 {
            queue.push([envelope(n, 1500)]);
        }
        queue.push([envelope(5, 30_000)]);
        queue.push([envelope(6, 1)]);
        runtime().block_on(async {
            let mut stream = queue.stream();
            queue.open();
            for expected in [vec![0, 1], vec![2, 3], vec![4], vec![5], vec![6]] {
                assert_eq!(requests(&mut stream).await, expected);
            }
        });
    }

    #[test]
    fn nothing_leaves_before_the_receiver_is_known() {
        let queue = queue(100, 1 << 20);
        queue.push([envelope(1, 1)]);
        let mut stream = Box::pin(queue.stream());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(stream.as_mut().poll_next(&mut cx).is_pending());
        queue.open();
        // Woken, it lets the others add to the frame first.
        assert!(stream.as_mut().poll_next(&mut cx).is_pending());
        assert!(stream.as_mut().poll_next(&mut cx).is_ready());
        let newer = queue.stream();
        assert!(matches!(
            stream.as_mut().poll_next(&mut cx),
            Poll::Ready(None)
        ));
        drop(newer);
    }

    #[test]
    fn an_envelope_that_no_frame_can_hold_is_dropped_and_counted() {
        let queue = queue(100, 1 << 20);
        queue.push([envelope(1, 64 * 1024)]);
        queue.push([envelope(2, 1)]);
        runtime().block_on(async {
            let mut stream = queue.stream();
            queue.open();
            assert_eq!(requests(&mut stream).await, [2]);
        });
        assert_eq!(queue.counters.read().send_oversize, 1);
    }
}
