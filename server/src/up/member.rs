//! One member's process.

use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::cluster::{Cluster, Planned};
use super::log_file::LogFile;
use crate::cli::CliError;
use crate::cli::words::{complain, say};

/// How much of a member's words is shown when it fails, in bytes.
const SHOWN_BYTES: u64 = 2048;
/// How long the members may take to end when asked. A member first brings what it holds in memory
/// to disk, which on a slow one may take most of a minute; killed, it loses nothing either.
pub(super) const END_MAX: Duration = Duration::from_secs(120);
const RESTART_FIRST: Duration = Duration::from_millis(500);
const RESTART_MOST: Duration = Duration::from_secs(30);
/// A member that ran this long has not failed to start.
const STABLE: Duration = Duration::from_secs(30);
/// The exit code of a member that the cluster has refused or that has left.
pub(super) const CODE_REFUSED: i32 = 3;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) signal: Option<i32>,
}

#[derive(Debug)]
enum State {
    Running {
        child: Box<Child>,
        since: Instant,
    },
    /// To be started again at this time.
    Waiting(Instant),
    /// Not to be started again.
    Over,
}

/// A member and its process.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) planned: Planned,
    /// What it said about itself; zero before.
    pub(super) id: u64,
    arguments: Vec<String>,
    words: LogFile,
    state: State,
    /// How its process ended, until that is told.
    ended: Option<Ended>,
    /// The next wait before a restart.
    wait: Duration,
}

impl Member {
    /// Starts the process.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn start(planned: &Planned, cluster: &Cluster) -> Result<Self, CliError> {
        let arguments = [
            "serve",
            "--end-with-stdin",
            "--name",
            &planned.name,
            "--data",
            &planned.folder.to_string_lossy(),
            "--listen-client",
            &planned.client,
            "--listen-peer",
            &planned.peer,
            "--initial-cluster",
            &cluster.initial(),
            "--initial-cluster-token",
            cluster.token(),
            "--log",
            planned.log.word(),
            "--store",
            planned.store.word(),
        ];
        let mut member = Self {
            planned: planned.clone(),
            id: 0,
            arguments: arguments.map(str::to_owned).to_vec(),
            words: LogFile::of(&planned.folder),
            state: State::Over,
            ended: None,
            wait: RESTART_FIRST,
        };
        member.spawn()?;
        Ok(member)
    }

    fn spawn(&mut self) -> Result<(), CliError> {
        let name = &self.planned.name;
        let failed = |error: std::io::Error| CliError::failed(format!("{name}: {error}"));
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.planned.folder)
            .map_err(failed)?;
        let words = self.words.open().map_err(failed)?;
        let child = Command::new(std::env::current_exe().map_err(failed)?)
            .args(&self.arguments)
            // Held open for as long as this process lives: it ends even if this one is killed.
            .stdin(Stdio::piped())
            .stdout(words.try_clone().map_err(failed)?)
            .stderr(words)
            // Ctrl-C is for this process, which then ends the members in good order.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        self.state = State::Running {
            child: Box::new(child),
            since: Instant::now(),
        };
        Ok(())
    }

    /// Zero when it does not run.
    pub(super) fn process_id(&self) -> u32 {
        match &self.state {
            State::Running { child, .. } => child.id().unwrap_or(0),
            _ => 0,
        }
    }

    /// How the process ended, if it did since the last look. Keeps its words' bound, too, but only
    /// while it runs: its last ones are to be shown.
    pub(super) fn try_ended(&mut self) -> Option<Ended> {
        if let State::Running { child, since } = &mut self.state {
            let Some(status) = child.try_wait().ok().flatten() else {
                self.words.look();
                return None;
            };
            if since.elapsed() >= STABLE {
                self.wait = RESTART_FIRST;
            }
            self.state = State::Over;
            self.ended = Some(Ended {
                code: status.code(),
                signal: status.signal(),
            });
        }
        self.ended
    }

    /// It does not run and will not run again.
    pub(super) const fn is_over(&self) -> bool {
        matches!(self.state, State::Over) && self.ended.is_none()
    }

    /// There is something for [`Member::handle_event`].
    pub(super) fn has_event(&mut self) -> bool {
        match self.state {
            State::Waiting(until) => Instant::now() >= until,
            _ => self.try_ended().is_some(),
        }
    }

    /// Says that the process ended and plans its restart, or starts it again.
    pub(super) fn handle_event(&mut self) {
        let name = &self.planned.name;
        if let Some(ended) = self.ended.take() {
            if ended.is_final() {
                say!(
                    "{name} {}; it is not started again{}",
                    ended.words(),
                    self.last_words()
                );
                return;
            }
            let seconds = self.wait.as_secs_f64();
            say!(
                "{name} {}; starting it again in {seconds:.1} s",
                ended.words()
            );
            self.state = State::Waiting(Instant::now() + self.wait);
            self.wait = (self.wait * 2).min(RESTART_MOST);
            return;
        }
        match self.spawn() {
            Ok(()) => say!(
                "{} runs again, pid {}",
                self.planned.name,
                self.process_id()
            ),
            Err(error) => {
                say!("{error}");
                self.state = State::Waiting(Instant::now() + self.wait);
            }
        }
    }

    /// Why the member could not be started.
    pub(super) fn failure(&self, ended: &Ended) -> CliError {
        let name = &self.planned.name;
        CliError::failed(format!("{name} {}{}", ended.words(), self.last_words()))
    }

    /// What it said last, on lines of their own.
    fn last_words(&self) -> String {
        let tail = self.words.end(SHOWN_BYTES).unwrap_or_default();
        let tail = String::from_utf8_lossy(&tail);
        let lines: Vec<&str> = tail.lines().filter(|line| !line.is_empty()).collect();
        let shown = lines.len().saturating_sub(3);
        let last: String = lines
            .iter()
            .skip(shown)
            .map(|line| format!("\n  {line}"))
            .collect();
        format!("{last}\n  (all of it: {})", self.words.path().display())
    }

    /// SIGTERM, by process id.
    pub(super) fn ask_to_end(&mut self) {
        if let State::Running { child, .. } = &self.state {
            let id = child
                .id()
                .and_then(|id| i32::try_from(id).ok())
                .and_then(Pid::from_raw);
            if let Some(id) = id {
                // Fails only when the process is gone already.
                let _ = kill_process(id, Signal::TERM);
            }
        }
    }

    /// Waits for the end; kills what has not come to one by `until`. True when it ended well.
    pub(super) async fn wait(&mut self, until: Instant) -> bool {
        let State::Running { child, .. } = &mut self.state else {
            return true;
        };
        match tokio::time::timeout_at(until.into(), child.wait()).await {
            Ok(status) => {
                self.state = State::Over;
                status.is_ok_and(ended_as_asked)
            }
            Err(_) => {
                let seconds = END_MAX.as_secs();
                complain!(
                    "{} has not ended in {seconds} s and is killed",
                    self.planned.name
                );
                self.kill().await;
                false
            }
        }
    }

    /// SIGKILL.
    pub(super) async fn kill(&mut self) {
        if let State::Running { child, .. } = &mut self.state {
            // Fails only when the process is gone already.
            let _ = child.kill().await;
            self.state = State::Over;
        }
    }
}

/// By itself, or by the signal when it came before the process had begun to listen for it.
fn ended_as_asked(status: ExitStatus) -> bool {
    status.success() || status.signal() == Some(Signal::TERM.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_asked_to_end_before_it_listens_has_ended_well() {
        let status = ExitStatus::from_raw;
        assert!(ended_as_asked(status(0)));
        assert!(ended_as_asked(status(Signal::TERM.as_raw())));
        assert!(!ended_as_asked(status(Signal::KILL.as_raw())));
        assert!(!ended_as_asked(status(1 << 8)));
    }
}
