//! Coming into a running cluster: who it is and who this member is, asked of any of its members.

use std::time::Duration;

use raftwerk::{Incarnation, Member};
use raftwerk_raft::NodeId;
use raftwerk_transport::ClusterId;

use crate::cli::{CliError, RemoteArgs};
use crate::client::connect::{Effect, with_cluster};
use crate::config::Settings;
use crate::proto::etcdserverpb::cluster_client::ClusterClient;
use crate::proto::etcdserverpb::{self, MemberListRequest};

/// Seconds that one endpoint may take.
const ANSWER_SECONDS: u64 = 5;
/// How often an answer is asked for; the cluster may be electing a leader.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_secs(1);

/// What the cluster says.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) cluster: ClusterId,
    pub(crate) id: NodeId,
    pub(crate) others: Vec<Member>,
}

/// Finds this member in the cluster's table, by its id or by its peer address.
///
/// # Errors
/// Nobody answers, or the cluster does not know this member.
pub(crate) async fn find(
    settings: &Settings,
    endpoints: &[String],
    id: Option<NodeId>,
) -> Result<Found, CliError> {
    let remote = RemoteArgs {
        endpoints: endpoints.to_vec(),
        timeout: ANSWER_SECONDS,
    };
    let mut tries = 0;
    let answer = loop {
        let asked = with_cluster(&remote, Effect::Read, |channel| async move {
            let request = MemberListRequest { linearizable: true };
            ClusterClient::new(channel).member_list(request).await
        });
        match asked.await {
            Ok(answer) => break answer.into_inner(),
            Err(error) if tries >= TRIES || error.code() == 2 => return Err(error),
            Err(_) => {
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    let url = format!("http://{}", settings.listen_peer);
    let own = answer.members.iter().find(|member| match id {
        Some(id) => member.id == id.0,
        None => member.peer_ur_ls.contains(&url),
    });
    let own = own.map(|member| NodeId(member.id)).ok_or_else(|| {
        let what = id.map_or_else(
            || format!("peer address {url}"),
            |id| format!("id {:x}", id.0),
        );
        CliError::failed(format!(
            "the cluster has no member with {what}; add it first: raftwerk member add {url} \
             --endpoints {}",
            endpoints.join(",")
        ))
    })?;
    let cluster = ClusterId(answer.header.map_or(0, |header| header.cluster_id));
    let others = answer
        .members
        .into_iter()
        .filter(|member| member.id != own.0)
        .map(record)
        .collect();
    Ok(Found {
        cluster,
        id: own,
        others,
    })
}

fn record(member: etcdserverpb::Member) -> Member {
    Member {
        id: NodeId(member.id),
        // The transport binds it at first contact, the table later.
        incarnation: Incarnation::UNBOUND,
        peer_urls: member.peer_ur_ls,
        client_urls: member.client_ur_ls,
        name: member.name,
    }
}
