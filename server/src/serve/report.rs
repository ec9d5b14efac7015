//! How the member is: for `status`, `/health` and `/metrics`.

use std::time::Duration;

use raftwerk::{GroupStatus, Health};
use raftwerk_raft::{Pressure, Role};
use raftwerk_wal::Stats;

use super::backends::{LOG_DIR, folder_bytes};
use super::member::Member;
use super::scrub::Scrubbed;
use crate::api::Replica;
use crate::client::json::Object;
use crate::http::{Metrics, Page};
use crate::proto::admin::StatusResponse;

/// What is wrong, in one sentence each; none when all is well.
fn complaints(member: &Member) -> Vec<String> {
    let mut complaints = member.replica.standing().errors;
    let status = member.group.status();
    if status.leader.is_none() && status.health == Health::Running {
        complaints.push("knows no leader".to_owned());
    }
    if member.storage.durable().is_err() {
        complaints.push("its log failed to write: check the disk, then restart it".to_owned());
    }
    for damage in member.scrubbed.damage() {
        complaints.push(format!("its log has rotted, restart it: {damage}"));
    }
    complaints
}

/// "ok", or what is wrong.
fn health(member: &Member) -> String {
    let complaints = complaints(member);
    if complaints.is_empty() {
        "ok".to_owned()
    } else {
        complaints.join("; ")
    }
}

/// The answer to `status`.
pub(crate) fn status(member: &Member) -> StatusResponse {
    let status = member.group.status();
    let stats = member.reader.stats().unwrap_or_default();
    let snapshot = status.snapshot.unwrap_or_default();
    StatusResponse {
        cluster_id: member.cluster.0,
        member_id: member.record.id.0,
        name: member.record.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        role: status.role.to_string(),
        learner: status.conf_state.learners.contains(&member.record.id),
        leader_id: status.leader.map_or(0, |leader| leader.0),
        term: status.term.0,
        committed: status.commit.0,
        applied: status.applied.index.0,
        log_first: status.first.0,
        log_last: status.last.index.0,
        log_bytes: folder_bytes(&member.folder.path().join(LOG_DIR)),
        store_bytes: stats.allocated_bytes,
        store_bytes_in_use: stats.live_bytes,
        snapshot_index: snapshot.index.0,
        snapshot_term: snapshot.term.0,
        health: health(member),
        log: member.log.word().to_owned(),
        store: member.store.word().to_owned(),
        data_dir: member.folder.path().display().to_string(),
        process_id: u64::from(std::process::id()),
        uptime_seconds: member.started.elapsed().as_secs(),
        listed: status.members.member(member.record.id) == Some(&member.record),
    }
}

/// What the HTTP port answers.
pub(crate) fn page(member: &Member, path: &str) -> Page {
    match path {
        "/health" => {
            let health = health(member);
            let well = health == "ok";
            let object = Object::new().string("health", if well { "true" } else { "false" });
            let object = if well {
                object
            } else {
                object.string("reason", &health)
            };
            Page {
                code: if well { 200 } else { 503 },
                kind: "application/json",
                body: object.end(),
            }
        }
        "/metrics" => {
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            Page {
                code: 200,
                kind,
                body: metrics(member),
            }
        }
        _ => Page {
            code: 404,
            kind: "text/plain; charset=utf-8",
            body: "here are /health and /metrics\n".to_owned(),
        },
    }
}

fn metrics(member: &Member) -> String {
    let group = member.group.status();
    let mut out = Metrics::new("raftwerk_");
    raft_metrics(&mut out, &group);
    store_metrics(&mut out, member);
    pressure_metrics(&mut out, &member.storage.pressure());
    scrub_metrics(&mut out, &member.scrubbed);
    if let Some(wal) = &member.wal {
        wal_metrics(&mut out, &wal.stats());
    }
    out.head("peers_total", "What the transport counted.", "counter");
    for (name, value) in member.transport.stats().iter() {
        out.labelled("peers_total", "what", name, value);
    }
    out.end()
}

fn raft_metrics(out: &mut Metrics, group: &GroupStatus) {
    let leads = u64::from(group.role == Role::Leader);
    let learner = u64::from(group.conf_state.learners.contains(&group.node));
    let pending = u64::try_from(group.pending).unwrap_or(u64::MAX);
    let snapshot = group.snapshot.map_or(0, |snapshot| snapshot.index.0);
    out.gauge("is_leader", "This member leads.", leads);
    out.gauge(
        "has_leader",
        "A leader is known.",
        u64::from(group.leader.is_some()),
    );
    out.gauge(
        "is_learner",
        "It receives the log and does not vote.",
        learner,
    );
    out.gauge("term", "The term.", group.term.0);
    out.gauge(
        "committed_index",
        "The last index known to be committed.",
        group.commit.0,
    );
    out.gauge(
        "applied_index",
        "The last index applied.",
        group.applied.index.0,
    );
    out.gauge(
        "log_first_index",
        "The first index of the log.",
        group.first.0,
    );
    out.gauge(
        "log_last_index",
        "The last index of the log.",
        group.last.index.0,
    );
    out.gauge(
        "snapshot_index",
        "What the newest snapshot covers.",
        snapshot,
    );
    out.gauge(
        "pending_requests",
        "Requests that wait for an answer.",
        pending,
    );
    out.head(
        "peer_matched_index",
        "At the leader: what each peer holds.",
        "gauge",
    );
    for peer in &group.peers {
        out.labelled(
            "peer_matched_index",
            "peer",
            &format!("{:x}", peer.id.0),
            peer.matched.0,
        );
    }
}

fn pressure_metrics(out: &mut Metrics, pressure: &Pressure) {
    let pinning = u64::try_from(pressure.pinning_groups.len()).unwrap_or(u64::MAX);
    let age = Duration::from_millis(pressure.sync_age_ms);
    out.gauge(
        "log_queued_bytes",
        "Bytes taken by the log, not yet durable.",
        pressure.queued_bytes,
    );
    out.gauge(
        "log_stalled",
        "The log's running sync takes longer than it may.",
        u64::from(pressure.stalled),
    );
    out.seconds("log_sync_age_seconds", "How long it takes already.", age);
    out.gauge(
        "log_pinning_groups",
        "Groups that keep the log's oldest segment.",
        pinning,
    );
    if let Some(free) = pressure.disk_free_bytes {
        out.gauge("log_disk_free_bytes", "What the log's disk has left.", free);
    }
}

fn scrub_metrics(out: &mut Metrics, scrubbed: &Scrubbed) {
    let found = u64::try_from(scrubbed.damage().len()).unwrap_or(u64::MAX);
    out.counter(
        "log_scrubbed_bytes_total",
        "Bytes of the log that were read again and checked.",
        scrubbed.bytes(),
    );
    out.counter(
        "log_scrubs_total",
        "How often all of the log was.",
        scrubbed.passes(),
    );
    out.gauge("log_scrub_findings", "What had rotted.", found);
}

fn wal_metrics(out: &mut Metrics, stats: &Stats) {
    let counters = [
        ("batches", "Batches that the log took.", stats.batches),
        ("writes", "Writes to the log.", stats.writes),
        ("written_bytes", "Bytes of those.", stats.written_bytes),
        ("syncs", "Syncs of the log.", stats.syncs),
        (
            "recycled",
            "Old segments that were used again.",
            stats.recycled,
        ),
        ("removed", "Old segments that were removed.", stats.removed),
        (
            "rewritten_bytes",
            "Bytes that were moved out of old segments.",
            stats.rewritten_bytes,
        ),
    ];
    for (name, help, value) in counters {
        out.counter(&format!("log_{name}_total"), help, value);
    }
    out.gauge("log_segments", "Segments of the log.", stats.segments);
    out.head(
        "log_reads_total",
        "Reads of entries, by where they were found.",
        "counter",
    );
    let reads = stats.reads;
    for (source, count) in [
        ("memory", reads.memory),
        ("mapped", reads.mapped),
        ("file", reads.file),
    ] {
        out.labelled("log_reads_total", "source", source, count);
    }
    out.histogram(
        "log_sync_seconds",
        "How long a write to the log takes with its sync.",
        stats.sync_time.buckets(),
        stats.sync_time.sum(),
    );
}

fn store_metrics(out: &mut Metrics, member: &Member) {
    let well = u64::from(complaints(member).is_empty());
    let log_bytes = folder_bytes(&member.folder.path().join(LOG_DIR));
    let stats = member.reader.stats().unwrap_or_default();
    let revision = u64::try_from(member.reader.revision()).unwrap_or(0);
    let late = member.host.longest_tick_delay();
    out.gauge("up", "The member is well.", well);
    out.gauge("log_bytes", "Bytes of the log's files.", log_bytes);
    out.gauge(
        "store_bytes",
        "Bytes that the state store takes.",
        stats.allocated_bytes,
    );
    out.gauge("store_live_bytes", "Bytes of it in use.", stats.live_bytes);
    out.gauge("revision", "The key space's revision.", revision);
    out.seconds(
        "tick_delay_max_seconds",
        "The longest that a tick came late.",
        late,
    );
    out.seconds(
        "uptime_seconds",
        "Since the member started.",
        member.started.elapsed(),
    );
}
