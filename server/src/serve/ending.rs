//! How a member ends: it hands over, leaves if that was asked for, and brings what it holds to
//! disk. Each takes a bounded time, whatever the others and the disk do.

use std::time::{Duration, Instant};

use raftwerk::{Group, Host, MembershipChange, PeerStatus, ProposeError};
use raftwerk_raft::{NodeId, Role};
use tokio::sync::futures::Notified;
use tonic::Status;

use crate::cli::CliError;

/// How long handing over leadership may take when the member ends.
const HAND_OVER_MAX: Duration = Duration::from_millis(500);
/// How long bringing what is in memory to disk may take when the member ends: as long as `up` waits
/// for it.
pub(super) const STOP_MAX: Duration = Duration::from_secs(120);
/// How long leaving may take before the caller is told to try again.
pub(super) const LEAVE_MAX: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(200);

/// If this member leads, lets the one that is furthest take over, so that nobody waits for an
/// election.
pub(super) async fn hand_over(group: &Group) {
    let status = group.status();
    if status.role == Role::Leader
        && let Some(to) = heir(&status.peers)
    {
        // Without success the others elect a leader once this one is silent.
        let _ = tokio::time::timeout(HAND_OVER_MAX, group.transfer_leader(to)).await;
    }
}

/// Who has the most of the log, of those that were heard of lately if there are any: a leader
/// begins to count them anew all the time, and then has heard of nobody for a moment.
fn heir(peers: &[PeerStatus]) -> Option<NodeId> {
    let voters = peers.iter().filter(|peer| !peer.learner);
    let first = voters.max_by_key(|peer| (peer.active, peer.matched));
    first.map(|peer| peer.id)
}

/// Makes this member, `own`, leave its group, in `max` at most. `removed` tells of the others'
/// word that it is not one of them any more, which may come before the answer does.
///
/// # Errors
/// It could not in time, or the group cannot do without it.
pub(super) async fn leave(
    group: &Group,
    own: NodeId,
    removed: Notified<'_>,
    max: Duration,
) -> Result<(), Status> {
    let left = tokio::time::timeout(max, async {
        tokio::select! {
            left = be_removed(group, own, max / 2) => left,
            () = removed => Ok(()),
        }
    });
    let late = Status::unavailable("could not leave in time; look at status, retry");
    left.await.unwrap_or(Err(late))
}

/// Hands over first, so that nobody waits for an election, then asks whoever leads to remove this
/// member.
async fn be_removed(group: &Group, own: NodeId, hand_over_max: Duration) -> Result<(), Status> {
    let began = Instant::now();
    loop {
        hand_over(group).await;
        // On a busy machine it may take longer than one try until another one leads. Given up by
        // time: after a try that failed, the next ones are refused at once for a while.
        let status = group.status();
        let leads_others =
            status.role == Role::Leader && status.conf_state.voters.iter().any(|id| *id != own);
        if leads_others && began.elapsed() < hand_over_max {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        let change = MembershipChange::new().remove(own);
        match group.change_membership(change).await {
            Ok(_) => return Ok(()),
            // Whether it is done shows in who is a member; a second removal changes nothing.
            Err(ProposeError::Unknown | ProposeError::Busy | ProposeError::NoLeader) => {}
            Err(ProposeError::Dropped | ProposeError::Refused { .. }) => {}
            Err(error) => return Err(Status::failed_precondition(error.to_string())),
        }
        let status = group.status();
        if !status.conf_state.voters.contains(&own) && !status.conf_state.learners.contains(&own) {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Ends the group, the log and the network, in this order, and waits for it, for `max` at most.
///
/// # Errors
/// Something is still under way then.
pub(super) async fn stop(host: Host, max: Duration) -> Result<(), CliError> {
    // A panic in there has ended it as well.
    match tokio::task::spawn_blocking(move || host.stop_within(max)).await {
        Ok(false) => Err(CliError::failed(format!(
            "has not brought its state to disk in {} s; nothing durable is lost",
            max.as_secs()
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use raftwerk::{GroupConfig, HostConfig, InProcessNetwork, Member, Start};
    use raftwerk_raft::{
        Entry, GroupId, Halt, LogId, LogIndex, Response, SnapshotMeta, SnapshotReader,
        SnapshotSource, StateError, StateMachine,
    };
    use raftwerk_storage_mem::{MemLog, MemLogOptions};
    use raftwerk_testkit::fault_vfs::FaultVfs;
    use raftwerk_testkit::processes::PATIENCE;
    use tokio::sync::Notify;
    use tonic::Code;

    use super::*;

    /// What no test waits for.
    const SHORT: Duration = Duration::from_millis(50);

    #[test]
    fn heir_is_a_voter_and_one_that_was_not_heard_of_lately_only_if_none_was() {
        let peer = |id, matched, learner, active| PeerStatus {
            id: NodeId(id),
            matched: LogIndex(matched),
            learner,
            active,
            ..PeerStatus::default()
        };
        let (behind, ahead) = (peer(2, 5, false, true), peer(3, 9, false, false));
        let learner = peer(4, 9, true, true);
        let all = [learner.clone(), ahead.clone(), behind];
        assert_eq!(heir(&all), Some(NodeId(2)));
        assert_eq!(heir(&[learner.clone(), ahead]), Some(NodeId(3)));
        assert_eq!(heir(&[learner]), None);
    }

    /// State that comes to disk once its sender is gone.
    struct Slow {
        applied: LogId,
        disk: Receiver<()>,
    }

    impl StateMachine for Slow {
        fn applied(&self) -> LogId {
            self.applied
        }

        fn apply(&mut self, entries: &[Entry], out: &mut Vec<Response>) -> Result<(), Halt> {
            for entry in entries {
                self.applied = entry.id;
                out.push(Response::default());
            }
            Ok(())
        }

        fn snapshot(&self) -> Result<Box<dyn SnapshotSource>, StateError> {
            unreachable!("none is taken")
        }

        fn restore(
            &mut self,
            _: &SnapshotMeta,
            _: &mut dyn SnapshotReader,
        ) -> Result<(), StateError> {
            unreachable!("none is received")
        }

        fn persist(&mut self) -> Result<LogId, StateError> {
            let _ = self.disk.recv();
            Ok(self.applied)
        }
    }

    /// One member of `size`, the only one that runs.
    fn member(size: u64) -> (Host, Group, Sender<()>) {
        let mut config = HostConfig::new(NodeId(1), "/snapshots");
        config.vfs = Arc::new(FaultVfs::new());
        let log = Arc::new(MemLog::new(MemLogOptions::default()).unwrap());
        let network = InProcessNetwork::new();
        let host = Host::start(config, log, network.join(NodeId(1))).unwrap();
        let (sender, disk) = channel();
        let applied = LogId::default();
        let members = (1..=size).map(|id| Member::new(NodeId(id))).collect();
        let options = GroupConfig::new(Start::Bootstrap { members });
        let slow = Box::new(Slow { applied, disk });
        let group = host.open_group(GroupId(1), options, slow).unwrap();
        (host, group, sender)
    }

    #[tokio::test]
    async fn a_member_whose_state_does_not_come_to_disk_in_time_ends_with_an_error() {
        let (host, group, disk) = member(1);
        let applied = group.until(|status| status.applied.index.0 > 0);
        applied.await.unwrap();
        let late = stop(host.clone(), SHORT).await.unwrap_err();
        assert_eq!(late.code(), 1);
        let said = late.to_string();
        assert!(said.contains("has not brought its state to disk"), "{said}");
        drop(disk);
        stop(host, PATIENCE).await.unwrap();
    }

    #[tokio::test]
    async fn a_member_that_nobody_lets_go_is_told_so_in_time() {
        let (host, group, disk) = member(2);
        let removed = Notify::new();
        let left = leave(&group, NodeId(1), removed.notified(), SHORT);
        let late = tokio::time::timeout(PATIENCE, left).await.unwrap();
        let late = late.unwrap_err();
        assert_eq!(late.code(), Code::Unavailable);
        assert!(late.message().contains("could not leave in time"), "{late}");
        // The others' word comes before an answer does.
        let told = removed.notified();
        removed.notify_waiters();
        leave(&group, NodeId(1), told, PATIENCE).await.unwrap();
        drop(disk);
        stop(host, PATIENCE).await.unwrap();
    }
}
