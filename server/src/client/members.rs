//! member list / add / promote / update / remove / leave, snapshot take.

use std::future::Future;
use std::process::ExitCode;

use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::cli::words::{complain, program, say};
use crate::cli::{CliError, RemoteArgs};
use crate::client::connect::{Effect, connect, failed, with_cluster};
use crate::client::table::{bytes, table};
use crate::proto::admin::admin_client::AdminClient;
use crate::proto::admin::{LeaveRequest, TakeSnapshotRequest};
use crate::proto::etcdserverpb::cluster_client::ClusterClient;
use crate::proto::etcdserverpb::{
    Member, MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest,
    MemberUpdateRequest,
};

/// The cluster's members, as the cluster itself says.
pub(crate) async fn fetch(remote: &RemoteArgs) -> Result<Vec<Member>, CliError> {
    let answer = with_cluster(remote, Effect::Read, |channel| async move {
        let request = MemberListRequest {
            linearizable: false,
        };
        ClusterClient::new(channel).member_list(request).await
    })
    .await?;
    Ok(answer.into_inner().members)
}

/// Lists the members.
pub(crate) async fn list(remote: &RemoteArgs) -> Result<ExitCode, CliError> {
    let members = fetch(remote).await?;
    let rows: Vec<[String; 5]> = members
        .iter()
        .map(|member| {
            let kind = if member.is_learner {
                "learner"
            } else {
                "voter"
            };
            [
                format!("{:x}", member.id),
                or_dash(&member.name),
                kind.to_owned(),
                or_dash(&member.client_ur_ls.join(",")),
                or_dash(&member.peer_ur_ls.join(",")),
            ]
        })
        .collect();
    say!(
        "{}",
        table(["id", "name", "kind", "client", "peer"], [false; 5], &rows)
    );
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn or_dash(text: &str) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text.to_owned()
    }
}

/// Adds a member and says how to start it.
pub(crate) async fn add(
    remote: &RemoteArgs,
    peer_url: String,
    learner: bool,
) -> Result<ExitCode, CliError> {
    check(&peer_url)?;
    let request = MemberAddRequest {
        peer_ur_ls: vec![peer_url.clone()],
        is_learner: learner,
    };
    let answer = with_cluster(remote, Effect::Write, |channel| {
        let request = request.clone();
        async move { ClusterClient::new(channel).member_add(request).await }
    })
    .await?
    .into_inner();
    let id = answer.member.map_or(0, |member| member.id);
    say!("added member {id:x}; start it with an empty folder:");
    say!(
        "  {} serve --id {id:x} --join {} --listen-peer {} --listen-client 127.0.0.1:PORT \
         --data FOLDER",
        program(),
        remote.endpoints.join(","),
        peer_url.trim_start_matches("http://")
    );
    Ok(ExitCode::SUCCESS)
}

/// Finds a member by its name or, in hexadecimal, its id.
pub(crate) fn find<'a>(members: &'a [Member], wanted: &str) -> Result<&'a Member, CliError> {
    let by_name = members
        .iter()
        .find(|member| !wanted.is_empty() && member.name == wanted);
    let id = u64::from_str_radix(wanted.trim_start_matches("0x"), 16).ok();
    by_name
        .or_else(|| members.iter().find(|member| Some(member.id) == id))
        .ok_or_else(|| CliError::failed(format!("no member {wanted}; see: raftwerk member list")))
}

/// Finds a member, asks the cluster to change it, and gives it as it was.
async fn change<T, F, Fut>(remote: &RemoteArgs, wanted: &str, call: F) -> Result<Member, CliError>
where
    F: Fn(ClusterClient<Channel>, u64) -> Fut,
    Fut: Future<Output = Result<Response<T>, Status>>,
{
    let members = fetch(remote).await?;
    let member = find(&members, wanted)?;
    with_cluster(remote, Effect::Write, |channel| {
        call(ClusterClient::new(channel), member.id)
    })
    .await?;
    Ok(member.clone())
}

/// Its id and name, for people.
fn named(member: &Member) -> String {
    format!("member {:x} ({})", member.id, or_dash(&member.name))
}

/// Gives a learner its vote.
pub(crate) async fn promote(remote: &RemoteArgs, wanted: &str) -> Result<ExitCode, CliError> {
    let member = change(remote, wanted, |mut cluster, id| async move {
        cluster.member_promote(MemberPromoteRequest { id }).await
    })
    .await?;
    say!("{} is a voter now", named(&member));
    Ok(ExitCode::SUCCESS)
}

/// Tells the cluster where the others reach a member from now on.
pub(crate) async fn update(
    remote: &RemoteArgs,
    wanted: &str,
    peer_url: &str,
) -> Result<ExitCode, CliError> {
    check(peer_url)?;
    let member = change(remote, wanted, |mut cluster, id| async move {
        let peer_ur_ls = vec![peer_url.to_owned()];
        let request = MemberUpdateRequest { id, peer_ur_ls };
        cluster.member_update(request).await
    })
    .await?;
    say!("{} is reached at {peer_url} now", named(&member));
    Ok(ExitCode::SUCCESS)
}

fn check(peer_url: &str) -> Result<(), CliError> {
    let checked = raftwerk_transport::check_url(peer_url);
    checked.map_or_else(|error| Err(CliError::usage(error.to_string())), |_| Ok(()))
}

/// Removes a member.
pub(crate) async fn remove(remote: &RemoteArgs, wanted: &str) -> Result<ExitCode, CliError> {
    let member = change(remote, wanted, |mut cluster, id| async move {
        cluster.member_remove(MemberRemoveRequest { id }).await
    })
    .await?;
    say!("removed {}", named(&member));
    Ok(ExitCode::SUCCESS)
}

/// A connection to one member at whichever of its addresses answers.
async fn connect_member(member: &Member) -> Result<(String, Channel), CliError> {
    let mut last = CliError::failed(format!("member {:x} has no client address", member.id));
    for url in &member.client_ur_ls {
        match connect(url).await {
            Ok(channel) => return Ok((url.clone(), channel)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Makes a member leave.
pub(crate) async fn leave(remote: &RemoteArgs, wanted: Option<&str>) -> Result<ExitCode, CliError> {
    let (endpoint, channel) = match wanted {
        Some(wanted) => connect_member(find(&fetch(remote).await?, wanted)?).await?,
        None => {
            let first = remote.endpoints.first().cloned().unwrap_or_default();
            let channel = connect(&first).await?;
            (first, channel)
        }
    };
    let answer = AdminClient::new(channel)
        .leave(LeaveRequest {})
        .await
        .map_err(|status| failed(&endpoint, &status))?;
    say!(
        "member {:x} has left the cluster",
        answer.into_inner().member_id
    );
    Ok(ExitCode::SUCCESS)
}

/// Makes one member, or each, take a snapshot.
pub(crate) async fn take_snapshot(
    remote: &RemoteArgs,
    wanted: Option<&str>,
) -> Result<ExitCode, CliError> {
    let members = fetch(remote).await?;
    let chosen: Vec<&Member> = match wanted {
        Some(wanted) => vec![find(&members, wanted)?],
        None => members.iter().collect(),
    };
    let mut code = ExitCode::SUCCESS;
    for member in chosen {
        match take_one(member).await {
            Ok(line) => say!("{line}"),
            Err(error) => {
                complain!("raftwerk: {error}");
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

async fn take_one(member: &Member) -> Result<String, CliError> {
    let (endpoint, channel) = connect_member(member).await?;
    let taken = AdminClient::new(channel)
        .take_snapshot(TakeSnapshotRequest {})
        .await
        .map_err(|status| failed(&endpoint, &status))?
        .into_inner();
    let size = match taken.bytes {
        0 => String::new(),
        count => format!(", {}", bytes(count)),
    };
    Ok(format!(
        "{}: snapshot at index {}{size}",
        named(member),
        taken.index
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_by_name_and_by_id() {
        let member = |id, name: &str| Member {
            id,
            name: name.to_owned(),
            ..Member::default()
        };
        let members = [member(0xa1, "one"), member(0xb2, ""), member(3, "a1")];
        assert_eq!(find(&members, "one").unwrap().id, 0xa1);
        assert_eq!(find(&members, "0xb2").unwrap().id, 0xb2);
        assert_eq!(
            find(&members, "a1").unwrap().id,
            3,
            "a name goes before an id"
        );
        assert!(find(&members, "").is_err());
        assert!(find(&members, "nobody").is_err());
    }
}
