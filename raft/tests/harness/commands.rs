//! The commands of a script.

use std::time::Duration;

use bytes::Bytes;
use raftwerk_raft::codec::encode_conf_change;
use raftwerk_raft::{
    Body, ConfChange, ConfChangeKind, ConfChangeStep, ConfChangeTransition, ConfState, Config,
    Entry, EntryKind, ForwardMark, LeaseTerms, LogId, LogIndex, Message, NodeId, RawNode, ReadOnly,
    Restart, Role, SnapshotMeta, Standing, Term,
};

use super::describe::{self, Wire};
use super::output::role_name;
use super::{Cluster, Done, Level, Logger, Member, step_error};
use crate::datadriven::{Command, parse_bool};
use crate::progress::shown;
use crate::support::MemLog;

impl Cluster {
    /// Runs one command and gives what it prints.
    pub(crate) fn handle(&mut self, command: &Command) -> String {
        self.out.take();
        if let Err(error) = self.run(command) {
            if self.out.level() == Level::None {
                return error;
            }
            self.out.print(&error);
        }
        let text = self.out.take();
        if text.is_empty() {
            "ok".to_owned()
        } else {
            text
        }
    }

    fn run(&mut self, command: &Command) -> Done {
        match command.cmd.as_str() {
            "_breakpoint" => Ok(()),
            "add-nodes" => self.add_nodes(command),
            "campaign" => self.on_node(command, RawNode::campaign),
            "compact" => self.compact(command),
            "deliver-msgs" => self.deliver_messages(command),
            "process-ready" => self.each(command, "handling Ready", Self::process_ready),
            "process-append-thread" => {
                self.each(command, "processing append thread", Self::process_append)
            }
            "process-apply-thread" => {
                self.each(command, "processing apply thread", Self::process_apply)
            }
            "log-level" => {
                self.out.set_level(Level::parse(&command.args[0].key)?);
                Ok(())
            }
            "raft-log" => self.raft_log(id(command, 0)),
            "raft-state" => self.raft_state(),
            "stabilize" => self.stabilize_command(command),
            "status" => self.status(id(command, 0)),
            "tick-election" => self.on_node(command, |node| (0..3).for_each(|_| node.tick())),
            "tick-heartbeat" => self.on_node(command, RawNode::tick),
            "transfer-leadership" => {
                let to = number(command.val("to").unwrap());
                let from = NodeId(number(command.val("from").unwrap()));
                self.member(from)?.node.transfer_leader(NodeId(to));
                Ok(())
            }
            "forget-leader" => self.on_node(command, RawNode::forget_leader),
            "send-snapshot" => self.send_snapshot(id(command, 0), id(command, 1)),
            "propose" => {
                let data = Bytes::from(command.args[1].key.clone());
                let from = id(command, 0);
                self.propose(from, from, Entry::normal(LogId::ZERO, data))
            }
            "propose-conf-change" => self.propose_conf_change(command),
            "read-index" => {
                let context = Bytes::from(command.args[1].key.clone());
                let read = self.member(id(command, 0))?.node.read_index(context);
                read.map_err(|error| error.to_string())
            }
            "report-unreachable" => {
                let peer = id(command, 1);
                self.on_node(command, |node| node.report_unreachable(peer))
            }
            "set-randomized-election-timeout" => {
                let ticks = u32::try_from(number(command.val("timeout").unwrap())).unwrap();
                self.on_node(command, |node| node.set_election_timeout(ticks))
            }
            _ => self.run_fault(command),
        }
    }

    pub(super) fn on_node(
        &mut self,
        command: &Command,
        f: impl FnOnce(&mut RawNode<MemLog, Logger>),
    ) -> Done {
        f(&mut self.member(id(command, 0))?.node);
        Ok(())
    }

    /// Runs `f` for each id, with a heading when there are several.
    fn each(
        &mut self,
        command: &Command,
        heading: &str,
        f: impl Fn(&mut Self, NodeId) -> Done,
    ) -> Done {
        let ids = ids(command);
        if let [id] = ids[..] {
            return f(self, id);
        }
        for id in ids {
            self.out.line(&format!("> {id} {heading}"));
            self.indented(|cluster| f(cluster, id))?;
        }
        Ok(())
    }

    fn add_nodes(&mut self, command: &Command) -> Done {
        let count = number(&command.args[0].key);
        let list = |key| {
            command
                .vals(key)
                .iter()
                .map(|id| NodeId(number(id)))
                .collect()
        };
        let index = command.val("index").map_or(0, number);
        let conf_state = ConfState {
            voters: list("voters"),
            learners: list("learners"),
            ..Default::default()
        };
        let bootstraps = index > 0
            || conf_state != ConfState::default()
            || command
                .val("content")
                .is_some_and(|content| !content.is_empty());
        if bootstraps && index <= 1 {
            return Err("index must be specified as > 1 due to bootstrap".to_owned());
        }
        let last = LogId::new(Term(u64::from(bootstraps)), LogIndex(index));
        let start = SnapshotMeta {
            last,
            conf_state,
            ..Default::default()
        };
        for _ in 0..count {
            let id = NodeId(self.members.len() as u64 + 1);
            let config = config(command, id);
            let log = MemLog::default();
            log.reset_to(last);
            let mut conf_state = start.conf_state.clone();
            conf_state.voters.sort();
            conf_state.learners.sort();
            let restart = Restart {
                conf_state,
                applied: last.index,
                snapshot: bootstraps.then(|| start.clone()),
                ..Default::default()
            };
            let is_async = !config.synchronous;
            let own_config = config.clone();
            let logger = Logger {
                id,
                out: self.out.clone(),
            };
            let node = RawNode::with_observer(config, restart, log.clone(), logger)
                .map_err(|error| error.to_string())?;
            let written = node.status().hard_state;
            self.members.push(Member {
                id,
                node,
                log,
                is_async,
                written,
                config: own_config,
                stored: written,
                meta: Default::default(),
                fates: Default::default(),
                append_work: Default::default(),
                apply_work: Default::default(),
                history: vec![start.clone()],
            });
        }
        Ok(())
    }

    fn compact(&mut self, command: &Command) -> Done {
        let at = LogIndex(number(&command.args[1].key));
        let id = id(command, 0);
        if !self.member(id)?.log.compact(at) {
            return Err("requested index is unavailable due to compaction".to_owned());
        }
        self.raft_log(id)
    }

    fn deliver_messages(&mut self, command: &Command) -> Done {
        let kind = command.val("type");
        let mut count = 0;
        for arg in &command.args {
            match arg.key.as_str() {
                "type" => {}
                "drop" => {
                    for id in &arg.vals {
                        count += self.deliver(NodeId(number(id)), kind, true);
                    }
                }
                id => count += self.deliver(NodeId(number(id)), kind, false),
            }
        }
        if count == 0 {
            self.out.line("no messages");
        }
        Ok(())
    }

    fn raft_log(&mut self, id: NodeId) -> Done {
        let out = self.out.clone();
        let member = self.member(id)?;
        let entries = member.log.all();
        if entries.is_empty() {
            let (first, last) = member.first_and_last();
            out.line(&format!(
                "log is empty: first index={first}, last index={last}"
            ));
        }
        entries
            .iter()
            .for_each(|entry| out.line(&describe::entry(entry)));
        Ok(())
    }

    fn raft_state(&mut self) -> Done {
        for member in &self.members {
            let status = member.node.status();
            let voter = member.is_voter(&status.conf_state);
            self.out.line(&format!(
                "{}: {} ({}) Term:{} Lead:{}",
                member.id,
                role_name(status.role),
                if voter { "Voter" } else { "Non-Voter" },
                status.hard_state.term,
                status.leader.unwrap_or_default()
            ));
        }
        Ok(())
    }

    fn stabilize_command(&mut self, command: &Command) -> Done {
        let before = self.out.level();
        if let Some(level) = command.val("log-level") {
            self.out.set_level(Level::parse(level)?);
        }
        let mut ids = ids(command);
        if ids.is_empty() {
            ids = self.members.iter().map(|member| member.id).collect();
        }
        let done = self.stabilize(&ids);
        self.out.set_level(before);
        done
    }

    fn status(&mut self, id: NodeId) -> Done {
        let status = self.member(id)?.node.status();
        if status.role == Role::Leader {
            for (id, progress) in &status.progress {
                self.out.line(&format!("{id}: {}", shown(progress)));
            }
        }
        Ok(())
    }

    fn send_snapshot(&mut self, from: NodeId, to: NodeId) -> Done {
        let member = self.member(from)?;
        let body = Body::Snapshot {
            meta: member.history.last().unwrap().clone().into(),
        };
        let message = Wire::Peer(Message {
            from,
            to,
            term: member.node.term(),
            session: 0,
            standing: Standing::Sound,
            body,
        });
        self.out.print(&message.describe());
        self.messages.push(message);
        Ok(())
    }

    fn propose(&mut self, to: NodeId, from: NodeId, entry: Entry) -> Done {
        let body = Body::Propose {
            mark: ForwardMark::ZERO,
            entries: vec![entry].into(),
        };
        let message = Message {
            from,
            to,
            term: Term::ZERO,
            session: 0,
            standing: Standing::Sound,
            body,
        };
        self.member(to)?
            .node
            .step(message)
            .map_err(|error| step_error(&error))
    }

    fn propose_conf_change(&mut self, command: &Command) -> Done {
        let transition = match command.val("transition") {
            None | Some("auto") => ConfChangeTransition::Auto,
            Some("implicit") => ConfChangeTransition::JointImplicit,
            Some("explicit") => ConfChangeTransition::JointExplicit,
            Some(other) => return Err(format!("unknown transition {other}")),
        };
        let steps: Vec<ConfChangeStep> = command.input.split_whitespace().map(step).collect();
        let single = command.flag("v1");
        if single && (steps.len() != 1 || transition != ConfChangeTransition::Auto) {
            let reason = "v1 conf change can only have one operation and no transition";
            return Err(reason.to_owned());
        }
        let mut data = Vec::new();
        let change = ConfChange {
            transition,
            steps,
            context: Bytes::new(),
        };
        encode_conf_change(&change, &mut data);
        let kind = if single {
            EntryKind::ConfChangeSingle
        } else {
            EntryKind::ConfChange
        };
        let entry = Entry {
            id: LogId::ZERO,
            kind,
            data: data.into(),
        };
        self.propose(id(command, 0), NodeId::ZERO, entry)
    }
}

pub(super) fn number(text: &str) -> u64 {
    text.parse()
        .unwrap_or_else(|_| panic!("{text} is no number"))
}

pub(super) fn id(command: &Command, at: usize) -> NodeId {
    NodeId(number(&command.args[at].key))
}

/// The arguments that are ids.
fn ids(command: &Command) -> Vec<NodeId> {
    let plain = command.args.iter().filter(|arg| arg.vals.is_empty());
    plain.map(|arg| NodeId(number(&arg.key))).collect()
}

fn step(text: &str) -> ConfChangeStep {
    let (kind, node) = text.split_at(1);
    let kind = match kind {
        "v" => ConfChangeKind::AddVoter,
        "l" => ConfChangeKind::AddLearner,
        "r" => ConfChangeKind::Remove,
        "u" => ConfChangeKind::Update,
        _ => panic!("unknown change {text}"),
    };
    ConfChangeStep {
        kind,
        node: NodeId(number(node)),
    }
}

/// The options of etcd's own harness, with what the command changes.
fn config(command: &Command, id: NodeId) -> Config {
    let mut config = Config {
        election_ticks: 3,
        heartbeat_ticks: 1,
        pre_vote: false,
        check_quorum: false,
        step_down_on_removal: false,
        synchronous: true,
        max_size_per_msg: u64::MAX,
        max_inflight_msgs: usize::try_from(i32::MAX).unwrap(),
        max_inflight_bytes: 0,
        max_uncommitted_size: 0,
        max_committed_size_per_ready: u64::MAX,
        etcd_quirks: true,
        step_down_on_stalled_disk: false,
        ..Config::new(id, 0)
    };
    for arg in &command.args[1..] {
        let value = arg.vals.first().map(String::as_str).unwrap_or_default();
        match arg.key.as_str() {
            "voters" | "learners" | "index" | "content" => {}
            "inflight" => config.max_inflight_msgs = usize::try_from(number(value)).unwrap(),
            "async-storage-writes" => config.synchronous = !parse_bool(value),
            "prevote" => config.pre_vote = parse_bool(value),
            "checkquorum" => config.check_quorum = parse_bool(value),
            "max-committed-size-per-ready" => config.max_committed_size_per_ready = number(value),
            "disable-conf-change-validation" => {
                config.disable_conf_change_validation = parse_bool(value);
            }
            "step-down-on-removal" => config.step_down_on_removal = parse_bool(value),
            "max-size-per-msg" => config.max_size_per_msg = number(value),
            "max-inflight-bytes" => config.max_inflight_bytes = number(value),
            "max-uncommitted-size" => config.max_uncommitted_size = number(value),
            "election-delay" => {
                config.election_delay_ticks = u32::try_from(number(value)).unwrap();
            }
            "unsafe-vote" => config.unsafe_vote_after_lost_tail = parse_bool(value),
            "watch-disk" => config.step_down_on_stalled_disk = parse_bool(value),
            // Election timeout and drift, in milliseconds.
            "lease" => {
                let millis = |at: usize| Duration::from_millis(number(&arg.vals[at]));
                config.lease = Some(LeaseTerms {
                    election_timeout: millis(0),
                    drift_bound: millis(1),
                });
            }
            "promote-learners" => config.promote_learners = parse_bool(value),
            "quirks" => config.etcd_quirks = parse_bool(value),
            "read-only" => {
                let lease = value == "lease-based";
                config.read_only = if lease {
                    ReadOnly::Lease
                } else {
                    ReadOnly::Safe
                };
            }
            other => panic!("unknown option {other}"),
        }
    }
    config
}
