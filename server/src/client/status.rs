//! `status`: the whole cluster in one table.

use std::process::ExitCode;
use std::time::Duration;

use tonic::Code;

use crate::cli::words::say;
use crate::cli::{CliError, RemoteArgs};
use crate::client::connect::connect;
use crate::client::json::{Object, list};
use crate::client::members::{fetch, or_dash};
use crate::client::table::{bytes, table};
use crate::proto::admin::admin_client::AdminClient;
use crate::proto::admin::{StatusRequest, StatusResponse};
use crate::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use crate::proto::etcdserverpb::{self, Member};

/// What is known of one member.
struct Seen {
    member: Member,
    /// What it says, or why it does not.
    report: Result<StatusResponse, String>,
}

/// Asks every member and draws the table. Exit code 1 unless all are well.
pub(crate) async fn status(remote: &RemoteArgs, json: bool) -> Result<ExitCode, CliError> {
    let members = fetch(remote).await?;
    let timeout = Duration::from_secs(remote.timeout);
    let asked: Vec<_> = members
        .into_iter()
        .map(|member| {
            tokio::spawn(async move {
                let report = tokio::time::timeout(timeout, ask(&member)).await;
                let report = report.unwrap_or_else(|_| Err("does not answer".to_owned()));
                Seen { member, report }
            })
        })
        .collect();
    let mut seen = Vec::with_capacity(asked.len());
    for task in asked {
        seen.push(
            task.await
                .map_err(|error| CliError::failed(error.to_string()))?,
        );
    }
    seen.sort_by(|a, b| (&a.member.name, a.member.id).cmp(&(&b.member.name, b.member.id)));
    let newest = seen
        .iter()
        .filter_map(|seen| Some(seen.report.as_ref().ok()?.committed))
        .max();
    let newest = newest.unwrap_or(0);
    if json {
        say!("{}", list(seen.iter().map(|seen| object(seen, newest))));
    } else {
        say!("{}", draw(&seen, newest));
    }
    let well = seen
        .iter()
        .all(|seen| seen.report.as_ref().is_ok_and(|r| r.health == "ok"));
    Ok(if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn ask(member: &Member) -> Result<StatusResponse, String> {
    let mut last = "has not said where clients reach it".to_owned();
    for url in &member.client_ur_ls {
        let channel = match connect(url).await {
            Ok(channel) => channel,
            Err(_) => {
                last = "down".to_owned();
                continue;
            }
        };
        match AdminClient::new(channel.clone())
            .status(StatusRequest {})
            .await
        {
            Ok(report) => return Ok(report.into_inner()),
            Err(status) if status.code() == Code::Unimplemented => {
                let status = MaintenanceClient::new(channel)
                    .status(etcdserverpb::StatusRequest {})
                    .await
                    .map_err(|status| status.message().to_owned())?;
                return Ok(from_etcd(member, status.into_inner()));
            }
            Err(status) => last = status.message().to_owned(),
        }
    }
    Err(last)
}

/// What etcd itself tells of a member; the rest stays empty.
fn from_etcd(member: &Member, status: etcdserverpb::StatusResponse) -> StatusResponse {
    let role = if status.leader == member.id {
        "leader"
    } else {
        "follower"
    };
    let health = if status.errors.is_empty() {
        "ok".to_owned()
    } else {
        status.errors.join("; ")
    };
    StatusResponse {
        cluster_id: status.header.map_or(0, |header| header.cluster_id),
        member_id: member.id,
        name: member.name.clone(),
        version: status.version,
        role: role.to_owned(),
        learner: status.is_learner,
        leader_id: status.leader,
        term: status.raft_term,
        committed: status.raft_index,
        applied: status.raft_applied_index,
        store_bytes: u64::try_from(status.db_size).unwrap_or(0),
        store_bytes_in_use: u64::try_from(status.db_size_in_use).unwrap_or(0),
        health,
        ..StatusResponse::default()
    }
}

fn role(report: &StatusResponse) -> &str {
    if report.learner {
        "learner"
    } else {
        &report.role
    }
}

fn draw(seen: &[Seen], newest: u64) -> String {
    let heads = [
        "member", "id", "role", "term", "applied", "lag", "log", "log size", "store", "snapshot",
        "endpoint", "health",
    ];
    let right = [
        false, false, false, true, true, true, true, true, true, true, false, false,
    ];
    let rows: Vec<[String; 12]> = seen
        .iter()
        .map(|seen| {
            let endpoint = or_dash(&seen.member.client_ur_ls.join(","));
            let name = or_dash(&seen.member.name);
            let id = format!("{:x}", seen.member.id);
            let dash = || "-".to_owned();
            match &seen.report {
                Ok(r) => [
                    name,
                    id,
                    role(r).to_owned(),
                    r.term.to_string(),
                    r.applied.to_string(),
                    newest.saturating_sub(r.applied).to_string(),
                    log_range(r),
                    if r.log_last == 0 {
                        dash()
                    } else {
                        bytes(r.log_bytes)
                    },
                    bytes(r.store_bytes),
                    if r.snapshot_index == 0 {
                        dash()
                    } else {
                        r.snapshot_index.to_string()
                    },
                    endpoint,
                    r.health.clone(),
                ],
                Err(reason) => [
                    name,
                    id,
                    "?".to_owned(),
                    dash(),
                    dash(),
                    dash(),
                    dash(),
                    dash(),
                    dash(),
                    dash(),
                    endpoint,
                    reason.clone(),
                ],
            }
        })
        .collect();
    table(heads, right, &rows)
}

fn log_range(report: &StatusResponse) -> String {
    if report.log_last == 0 || report.log_last < report.log_first {
        return "-".to_owned();
    }
    format!("{}..{}", report.log_first, report.log_last)
}

fn object(seen: &Seen, newest: u64) -> String {
    let object = Object::new()
        .string("id", &format!("{:x}", seen.member.id))
        .string("name", &seen.member.name)
        .string("endpoint", &seen.member.client_ur_ls.join(","));
    match &seen.report {
        Ok(r) => object
            .string("cluster", &format!("{:x}", r.cluster_id))
            .string("role", role(r))
            .string("leader", &format!("{:x}", r.leader_id))
            .number("term", r.term)
            .number("committed", r.committed)
            .number("applied", r.applied)
            .number("lag", newest.saturating_sub(r.applied))
            .number("log_first", r.log_first)
            .number("log_last", r.log_last)
            .number("log_bytes", r.log_bytes)
            .number("store_bytes", r.store_bytes)
            .number("store_bytes_in_use", r.store_bytes_in_use)
            .number("snapshot_index", r.snapshot_index)
            .number("snapshot_term", r.snapshot_term)
            .string("log", &r.log)
            .string("store", &r.store)
            .string("version", &r.version)
            .string("data_dir", &r.data_dir)
            .number("pid", r.process_id)
            .number("uptime_seconds", r.uptime_seconds)
            .string("health", &r.health)
            .end(),
        Err(reason) => object.string("health", reason).end(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(name: &str, report: Result<StatusResponse, String>) -> Seen {
        let client_ur_ls = vec!["http://127.0.0.1:1".to_owned()];
        let member = Member {
            id: 10,
            name: name.to_owned(),
            client_ur_ls,
            ..Member::default()
        };
        Seen { member, report }
    }

    #[test]
    fn the_table_shows_who_lags_and_who_is_down() {
        let report = StatusResponse {
            role: "follower".to_owned(),
            term: 4,
            applied: 90,
            committed: 95,
            log_first: 5,
            log_last: 99,
            log_bytes: 2048,
            health: "ok".to_owned(),
            ..StatusResponse::default()
        };
        let all = [seen("a", Ok(report)), seen("b", Err("down".to_owned()))];
        let drawn = draw(&all, 100);
        let lines: Vec<&str> = drawn.lines().collect();
        assert_eq!(lines.len(), 3);
        for part in ["follower", " 10 ", "5..99", "2.0 KiB", "ok"] {
            assert!(lines[1].contains(part), "{part} in {}", lines[1]);
        }
        assert!(lines[2].ends_with("down"));
    }
}
