//! The clients: each sends, waits for the answer, and sends again.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tonic::Status;
use tonic::transport::Channel;

use crate::bench::Op;
use crate::cli::words::complain;
use crate::cli::{CliError, Consistency};
use crate::proto::etcdserverpb::kv_client::KvClient;
use crate::proto::etcdserverpb::{PutRequest, RangeRequest};

/// The longest latency told apart, in microseconds; longer ones count as this.
const LATENCY_US_MAX: u64 = 60_000_000;
/// After an error a client rests, so that a cluster without a leader is not flooded.
const ERROR_PAUSE: Duration = Duration::from_millis(20);
/// How long one request may take.
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// Puts under way at once while the keys are filled.
const FILLERS: u64 = 64;

/// What each client does.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) op: Op,
    pub(crate) keys: u64,
    pub(crate) prefix: String,
    pub(crate) value_bytes: usize,
}

impl Plan {
    fn key(&self, number: u64) -> Bytes {
        Bytes::from(format!("{}{number:010}", self.prefix))
    }
}

/// What all clients see.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) stop: AtomicBool,
    pub(crate) done: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) first_error: Mutex<Option<String>>,
    began: OnceLock<Instant>,
}

impl Shared {
    /// The measurement begins.
    pub(crate) fn begin(&self) -> Instant {
        *self.began.get_or_init(Instant::now)
    }

    /// How long has been measured.
    pub(crate) fn measured(&self) -> Duration {
        self.began.get().map(Instant::elapsed).unwrap_or_default()
    }
}

/// Latencies in microseconds, three digits.
pub(crate) fn histogram() -> Result<Histogram<u32>, CliError> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)
        .map_err(|error| CliError::failed(error.to_string()))
}

/// Pseudo-random numbers (xorshift64*): which key comes next.
struct Keys(u64);

impl Keys {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// One client until it is told to stop.
pub(crate) async fn client(
    plan: Plan,
    shared: Arc<Shared>,
    channel: Channel,
    number: u64,
) -> Result<Histogram<u32>, CliError> {
    let mut latencies = histogram()?;
    let mut keys = Keys((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut client = KvClient::new(channel);
    let value = value(plan.value_bytes);
    while !shared.stop.load(Ordering::Acquire) {
        let key = plan.key(keys.next() % plan.keys);
        let began = Instant::now();
        let call = request(&plan, &mut client, key, value.clone());
        let answer = tokio::time::timeout(REQUEST_MAX, call)
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer within 30 s")));
        let took = began.elapsed();
        // Only what began within the measurement counts.
        let counts = shared.began.get().is_some_and(|start| began >= *start)
            && !shared.stop.load(Ordering::Acquire);
        match answer {
            Ok(()) if counts => {
                let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                latencies.saturating_record(us.clamp(1, LATENCY_US_MAX));
                shared.done.fetch_add(1, Ordering::Relaxed);
            }
            Ok(()) => {}
            Err(status) => {
                shared.errors.fetch_add(1, Ordering::Relaxed);
                shared
                    .first_error
                    .lock()
                    .get_or_insert_with(|| status.message().to_owned());
                tokio::time::sleep(ERROR_PAUSE).await;
            }
        }
    }
    Ok(latencies)
}

fn value(size: usize) -> Bytes {
    Bytes::from_iter((b'a'..=b'z').cycle().take(size))
}

async fn request(
    plan: &Plan,
    client: &mut KvClient<Channel>,
    key: Bytes,
    value: Bytes,
) -> Result<(), Status> {
    match plan.op {
        Op::Put => {
            let request = PutRequest {
                key,
                value,
                ..PutRequest::default()
            };
            client.put(request).await.map(|_| ())
        }
        Op::Get(consistency) => {
            let serializable = consistency == Consistency::Serializable;
            let request = RangeRequest {
                key,
                serializable,
                ..RangeRequest::default()
            };
            let found = client.range(request).await?.into_inner().kvs.len();
            if found == 1 {
                Ok(())
            } else {
                Err(Status::not_found("a filled key is not there"))
            }
        }
    }
}

/// Sets every key once, unless they are all there.
pub(crate) async fn fill(plan: &Plan, channels: &[Channel], show: bool) -> Result<(), CliError> {
    let Some(first) = channels.first() else {
        return Err(CliError::usage("no endpoint given"));
    };
    let failed = |status: Status| CliError::failed(format!("cannot fill: {}", status.message()));
    let count = RangeRequest {
        key: plan.key(0),
        range_end: plan.key(plan.keys),
        count_only: true,
        ..RangeRequest::default()
    };
    let there = KvClient::new(first.clone())
        .range(count)
        .await
        .map_err(failed)?;
    if u64::try_from(there.into_inner().count).is_ok_and(|count| count >= plan.keys) {
        return Ok(());
    }
    if show {
        complain!(
            "filling {} keys of {} bytes first",
            plan.keys,
            plan.value_bytes
        );
    }
    let next = Arc::new(AtomicU64::new(0));
    let fillers: Vec<_> = (0..FILLERS)
        .zip(channels.iter().cloned().cycle())
        .map(|(_, channel)| {
            let (plan, next) = (plan.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                let mut client = KvClient::new(channel);
                let value = value(plan.value_bytes);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= plan.keys {
                        return Ok::<_, Status>(());
                    }
                    let (key, value) = (plan.key(number), value.clone());
                    client
                        .put(PutRequest {
                            key,
                            value,
                            ..PutRequest::default()
                        })
                        .await?;
                }
            })
        })
        .collect();
    for filler in fillers {
        filler
            .await
            .map_err(|error| CliError::failed(error.to_string()))?
            .map_err(failed)?;
    }
    Ok(())
}
