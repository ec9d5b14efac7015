//! A client of the etcd API for tests: asks one member after the other until one answers.

use std::collections::BTreeMap;
use std::time::Duration;

use raftwerk_server::proto::etcdserverpb as pb;
use serde_json::Value;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::processes::{Cluster, Member, PATIENCE, Patience, await_some, command};

/// Speaks to some members.
#[derive(Clone, Debug)]
pub struct Client {
    channels: Vec<Channel>,
    turn: usize,
}

impl Client {
    /// A client of one member.
    #[must_use]
    pub fn of(member: &Member) -> Self {
        Self {
            channels: vec![channel(member, Duration::from_secs(3))],
            turn: 0,
        }
    }

    /// A client of all members, which begins with the `turn`-th.
    #[must_use]
    pub fn of_all(cluster: &Cluster, turn: usize) -> Self {
        let channels = cluster
            .members
            .iter()
            .map(|m| channel(m, Duration::from_secs(3)))
            .collect();
        Self { channels, turn }
    }

    fn kv(&self) -> pb::kv_client::KvClient<Channel> {
        let at = self.turn % self.channels.len();
        pb::kv_client::KvClient::new(self.channels.get(at).expect("channel").clone())
    }

    /// The maintenance service of the member whose turn it is.
    #[must_use]
    pub fn maintenance(&self) -> pb::maintenance_client::MaintenanceClient<Channel> {
        let at = self.turn % self.channels.len();
        let channel = self.channels.get(at).expect("channel").clone();
        pb::maintenance_client::MaintenanceClient::new(channel)
    }

    /// Writes once. An error says nothing of whether it took effect.
    ///
    /// # Errors
    /// What the member says; the next call goes to the next one.
    pub async fn put_once(&mut self, key: &str, value: &[u8]) -> Result<i64, Status> {
        let request = pb::PutRequest {
            key: key.as_bytes().to_vec().into(),
            value: value.to_vec().into(),
            ..Default::default()
        };
        match self.kv().put(request).await {
            Ok(answer) => Ok(answer.into_inner().header.map_or(0, |h| h.revision)),
            Err(status) => {
                self.turn += 1;
                Err(status)
            }
        }
    }

    /// Writes until a member refuses it for what it is, and gives the refusal.
    ///
    /// # Panics
    /// When it is acknowledged, or nothing has been answered after [`PATIENCE`].
    pub async fn put_refused(&mut self, key: &str, value: &[u8]) -> Status {
        let patience = Patience::new(PATIENCE);
        loop {
            let status = self.put_once(key, value).await.expect_err("refused");
            if !is_transient(&status) {
                return status;
            }
            patience.again(|| format!("put {key}: {status}")).await;
        }
    }

    /// Writes until it is acknowledged. Repeats are harmless for values that do not depend on it.
    ///
    /// # Panics
    /// When it is not after [`PATIENCE`].
    pub async fn put(&mut self, key: &str, value: &[u8]) -> i64 {
        let patience = Patience::new(PATIENCE);
        loop {
            match self.put_once(key, value).await {
                Ok(revision) => return revision,
                Err(status) => {
                    assert!(is_transient(&status), "put {key}: {status}");
                    patience.again(|| format!("put {key}: {status}")).await;
                }
            }
        }
    }

    /// Reads a range once.
    ///
    /// # Errors
    /// What the member says.
    pub async fn range_once(
        &mut self,
        request: pb::RangeRequest,
    ) -> Result<pb::RangeResponse, Status> {
        match self.kv().range(request).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => {
                self.turn += 1;
                Err(status)
            }
        }
    }

    /// Reads a range linearizably, until a member answers.
    ///
    /// # Panics
    /// When none has after [`PATIENCE`].
    pub async fn range(&mut self, request: pb::RangeRequest) -> pb::RangeResponse {
        let patience = Patience::new(PATIENCE);
        loop {
            match self.range_once(request.clone()).await {
                Ok(answer) => return answer,
                Err(status) => {
                    assert!(is_transient(&status), "range: {status}");
                    patience.again(|| format!("range: {status}")).await;
                }
            }
        }
    }

    /// The value of a key, read linearizably.
    pub async fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        let request = pb::RangeRequest {
            key: key.as_bytes().to_vec().into(),
            ..Default::default()
        };
        self.range(request)
            .await
            .kvs
            .first()
            .map(|kv| kv.value.to_vec())
    }

    /// The number of keys that begin with `prefix`, read linearizably.
    pub async fn count(&mut self, prefix: &str) -> i64 {
        let request = pb::RangeRequest {
            count_only: true,
            ..of_prefix(prefix)
        };
        self.range(request).await.count
    }
}

/// The request for all keys that begin with `prefix`.
#[must_use]
pub fn of_prefix(prefix: &str) -> pb::RangeRequest {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    pb::RangeRequest {
        key: prefix.as_bytes().to_vec().into(),
        range_end: end.into(),
        ..Default::default()
    }
}

/// A connection that is made when it is used.
#[must_use]
pub fn channel(member: &Member, timeout: Duration) -> Channel {
    Endpoint::from_shared(member.endpoint())
        .expect("endpoint")
        .connect_timeout(Duration::from_secs(1))
        .timeout(timeout)
        .connect_lazy()
}

/// Asks the members of `cluster` that run until one of them leads and the others follow it; gives
/// the leader's place.
///
/// # Panics
/// When there is none after [`PATIENCE`].
pub async fn leader(cluster: &Cluster) -> usize {
    let patience = Patience::new(PATIENCE);
    loop {
        for (index, member) in cluster.members.iter().enumerate() {
            if !member.runs() {
                continue;
            }
            let status = Client::of(member)
                .maintenance()
                .status(pb::StatusRequest {})
                .await;
            if let Ok(status) = status {
                let status = status.into_inner();
                let own = status.header.map_or(0, |h| h.member_id);
                if status.leader != 0 && status.leader == own {
                    return index;
                }
            }
        }
        patience
            .again(|| format!("no leader\n{}", cluster.outputs()))
            .await;
    }
}

/// The hash of a member's keys and the revision it stands for, of everything that had been
/// acknowledged when it was asked: a member that has just started may still be behind that, and all
/// of them may be behind by the same.
///
/// # Errors
/// What the member says.
pub async fn hash_kv(member: &Member) -> Result<(i64, u32), Status> {
    // Linearizable.
    Client::of(member).range_once(of_prefix("nothing")).await?;
    let request = pb::HashKvRequest { revision: 0 };
    // A large state takes its time.
    let answer = pb::maintenance_client::MaintenanceClient::new(channel(member, PATIENCE))
        .hash_kv(request)
        .await?
        .into_inner();
    Ok((answer.header.map_or(0, |h| h.revision), answer.hash))
}

/// Waits until all members that run agree on revision and hash, and gives them.
///
/// # Panics
/// When they do not after [`PATIENCE`].
pub async fn agreed_hash(cluster: &Cluster) -> (i64, u32) {
    let patience = Patience::new(PATIENCE);
    loop {
        let mut found = Vec::new();
        for member in cluster.members.iter().filter(|m| m.runs()) {
            found.push(hash_kv(member).await);
        }
        let good: Vec<(i64, u32)> = found
            .iter()
            .filter_map(|f| f.as_ref().ok().copied())
            .collect();
        if good.len() == found.len() && good.windows(2).all(|pair| pair.first() == pair.last()) {
            return *good.first().expect("a member runs");
        }
        patience
            .again(|| format!("members disagree: {found:?}\n{}", cluster.outputs()))
            .await;
    }
}

/// Whether an error may come from a member that has no leader or is not there, and the caller may
/// ask again.
#[must_use]
pub fn is_transient(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
            | Code::ResourceExhausted
    )
}

/// Writes `count` keys `<prefix><number>` with values of `value_bytes`, by `writers` tasks.
///
/// # Panics
/// When a write is not acknowledged after [`PATIENCE`].
pub async fn fill(
    cluster: &Cluster,
    prefix: &'static str,
    count: usize,
    value_bytes: usize,
    writers: usize,
) {
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let mut client = Client::of_all(cluster, writer);
            tokio::spawn(async move {
                for number in (writer..count).step_by(writers) {
                    let key = key(prefix, number);
                    client.put(&key, &value(&key, value_bytes)).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("writer");
    }
}

/// The `number`-th key of [`fill`].
#[must_use]
pub fn key(prefix: &str, number: usize) -> String {
    format!("{prefix}{number:08}")
}

/// The value that [`fill`] gives to `key`: differs from all others and does not compress.
#[must_use]
pub fn value(key: &str, bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut out = Vec::with_capacity(bytes + 8);
    for byte in key.bytes() {
        state = next(state ^ u64::from(byte));
    }
    while out.len() < bytes {
        state = next(state);
        out.extend((state ^ (state >> 29)).to_le_bytes());
    }
    out.truncate(bytes);
    out
}

/// The number behind `state` in a sequence without pattern.
const fn next(state: u64) -> u64 {
    state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407)
}

/// Reads the first `count` keys of a [`fill`] linearizably, page by page: none may be missing, none
/// have another value. What follows them is not looked at.
///
/// # Panics
/// When something is amiss.
pub async fn verify(client: &mut Client, prefix: &str, count: usize, value_bytes: usize) {
    let page_keys = ((1 << 20) / value_bytes).clamp(1, 1_000);
    let mut expected = 0;
    while expected < count {
        let mut request = of_prefix(prefix);
        request.key = key(prefix, expected).into_bytes().into();
        request.limit = i64::try_from(page_keys).expect("small");
        let page = client.range(request).await.kvs;
        let first = key(prefix, expected);
        assert!(!page.is_empty(), "{first} of {count} is missing");
        for kv in page.iter().take(count - expected) {
            let key = key(prefix, expected);
            let found = String::from_utf8_lossy(&kv.key);
            assert_eq!(found, key, "acknowledged and gone");
            assert!(
                kv.value == value(&key, value_bytes),
                "{key} has another value"
            );
            expected += 1;
        }
    }
}

/// How the member sees itself, as `raftwerk status --json` tells it. Waits until it is in the
/// member list with its address.
///
/// # Panics
/// When it does not answer with JSON.
#[must_use]
pub fn report(member: &Member) -> Value {
    let endpoint = member.endpoint();
    await_some("the member to know itself", || {
        let said = command(&["status", "--json", "--endpoints", &endpoint]);
        // A member that is busy may not answer in time.
        let all: Vec<Value> = serde_json::from_str(&said.out).ok()?;
        all.into_iter()
            .find(|one| one["endpoint"].as_str() == Some(&endpoint))
    })
}

/// Waits until every member that runs knows where clients reach every member.
///
/// # Panics
/// When it does not.
pub fn await_known(cluster: &Cluster) {
    for member in cluster.members.iter().filter(|m| m.runs()) {
        let endpoint = member.endpoint();
        await_some("all members to be known", || {
            let said = command(&["status", "--json", "--endpoints", &endpoint]);
            let all: Vec<Value> = serde_json::from_str(&said.out).ok()?;
            let known = |one: &Value| one["endpoint"].as_str().is_some_and(|e| !e.is_empty());
            all.iter().all(known).then_some(())
        });
    }
}

/// A number of a [`report`].
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn number(report: &Value, name: &str) -> u64 {
    report[name]
        .as_u64()
        .unwrap_or_else(|| panic!("no {name} in {report}"))
}

/// The index of each entry that `raftwerk log dump --json` has shown, with its term.
///
/// # Panics
/// When a line is no JSON.
#[must_use]
pub fn entries(dumped: &str) -> BTreeMap<u64, u64> {
    let items = dumped.lines().map(|line| -> Value {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    });
    let entries = items.filter(|item| item["kind"] == "entries");
    entries
        .flat_map(|item| {
            let term = number(&item, "term");
            (number(&item, "first")..number(&item, "end")).map(move |index| (index, term))
        })
        .collect()
}
