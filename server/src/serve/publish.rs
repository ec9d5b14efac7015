//! A member tells the cluster its name, its client address and its store, once it is in.

use std::sync::Arc;
use std::time::Duration;

use raftwerk::MembershipChange;

use super::End;
use super::member::Member;

const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MOST: Duration = Duration::from_millis(400);

/// Proposes this member's record until the table shows it. Others may be changing the members at
/// the same time, and only one change is under way at once, hence the patience.
pub(crate) async fn publish(member: Arc<Member>) {
    let mut pause = PAUSE_FIRST;
    let record = &member.record;
    loop {
        let table = member.group.members();
        match table.member(record.id) {
            Some(known) if known == record => return,
            Some(known)
                if !known.incarnation.is_unbound() && known.incarnation != record.incarnation =>
            {
                let reason = raftwerk_transport::Refusal::Replaced { id: record.id }.to_string();
                // A full channel means that the member is ending already.
                let _ = member.ending.try_send(End::Refused(reason));
                return;
            }
            // In the table, and a leader to tell it to.
            Some(_) if member.group.leader().is_some() => {
                let change = MembershipChange::new().update(record.clone());
                // A failure is met by the next round, which looks at the table first.
                let _ = member.group.change_membership(change).await;
            }
            // A member that joins learns of itself once the log reaches it.
            _ => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MOST);
    }
}
