//! Processes that write and die: a test program calls itself as the process that writes batches and
//! says so, line by line: `ready N` (it found the first N), `began N`, `acked N` (up to N is
//! durable), `poisoned`. It is killed at its k-th acknowledgement or, below strace, at its k-th
//! system call of a kind; [`Disk`] cuts the power of the file system it writes to.
//!
//! For test programs of their own (`harness = false`): what cannot run says so.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed assertion is how a test speaks"
)]

pub mod asked;
mod disk;
pub mod numbered;

use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use raftwerk_raft::{Storage, SubmitError, Ticket, WriteBatch};

pub use disk::Disk;
use numbered::{batch, check_log, log_after};

const JOB: &str = "RAFTWERK_CHILD";
/// Batches that a life has at most.
const BATCHES_MAX: u64 = 100;
/// Nothing that is waited for takes longer, on a machine that is slow and has ten times as much to
/// do as it can; when all is well nothing waits that long.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Does `work` in a thread of its own: a call into a file system whose power is cut may never
/// return.
///
/// # Panics
/// It does not come to its end, or panics itself.
pub fn bounded<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, end) = sync_channel(1);
    let worker = thread::spawn(move || {
        let _ = done.send(work());
    });
    match end.recv_timeout(PATIENCE) {
        Ok(outcome) => outcome,
        Err(RecvTimeoutError::Timeout) => panic!("{what} takes longer than {PATIENCE:?}"),
        Err(RecvTimeoutError::Disconnected) => match worker.join() {
            Err(panicked) => std::panic::resume_unwind(panicked),
            Ok(()) => panic!("{what} ended without an outcome"),
        },
    }
}

/// If this process is a child: its job, and where.
#[must_use]
pub fn job() -> Option<(OsString, PathBuf)> {
    let job = env::var_os(JOB)?;
    Some((job, PathBuf::from(env::args_os().nth(1)?)))
}

/// Ends a child's job with how it went.
pub fn end_job(done: Result<(), String>) {
    match done {
        Ok(()) => say("ended"),
        Err(reason) => say(&format!("failed {reason}")),
    }
}

/// Says a line to the parent.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody listens any more: the parent has seen enough.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// A child's job: numbered batches into `log`, from where it stands.
///
/// # Errors
/// The log does not do as it must.
pub fn write_log(log: &dyn Storage) -> Result<(), String> {
    let mut number = check_log(log)?;
    let mut model = log_after(number);
    say(&format!("ready {number}"));
    for round in 0..BATCHES_MAX {
        // Some together, so that a commit carries more than one.
        let mut last = None;
        for _ in 0..1 + round % 3 {
            number += 1;
            let batch = batch(&model, number);
            model = model.after(&batch).unwrap();
            say(&format!("began {number}"));
            last = Some(submit(log, batch, last)?);
        }
        let Some(ticket) = last else { continue };
        match log.wait(ticket) {
            Ok(()) => say(&format!("acked {number}")),
            Err(poison) => {
                let again = log.submit(batch(&model, number + 1));
                let refused = matches!(&again, Err(SubmitError::Poisoned(same)) if *same == poison);
                if !refused || log.durable() != Err(poison.clone()) || log.wait(ticket).is_ok() {
                    return Err(format!("poisoned, and yet: {again:?}"));
                }
                // Reads stay open.
                model.compare(log)?;
                say("poisoned");
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Waits for room where there is none.
fn submit(log: &dyn Storage, batch: WriteBatch, last: Option<Ticket>) -> Result<Ticket, String> {
    let mut batch = match log.submit(batch) {
        Err(SubmitError::Full(back)) => back,
        other => return other.map_err(|error| error.to_string()),
    };
    // Whoever was refused is told when it is worth another try.
    let (tell, told) = sync_channel(1);
    let _told = log.on_durable(Box::new(move |_| {
        let _ = tell.try_send(());
    }));
    if let Some(last) = last {
        log.wait(last).map_err(|error| error.to_string())?;
    }
    loop {
        batch = match log.submit(batch) {
            Err(SubmitError::Full(back)) => back,
            other => return other.map_err(|error| error.to_string()),
        };
        told.recv_timeout(PATIENCE)
            .map_err(|_| "the log stays full".to_owned())?;
    }
}

/// What a child did until it was gone.
#[derive(Clone, Debug, Default)]
pub struct Life {
    /// How many batches it found; nothing if it never came so far.
    pub found: Option<u64>,
    /// The last batch it began.
    pub began: u64,
    /// The last that it was told to be durable.
    pub acked: u64,
    /// How often it was told something.
    pub acks: u64,
    /// The store failed, and said so from then on.
    pub poisoned: bool,
    /// It came to its own end.
    pub ended: bool,
    /// Why it gave up.
    pub failed: Option<String>,
}

/// A child at work.
pub struct Writer {
    process: Child,
    lines: Receiver<String>,
    /// What it did so far.
    pub life: Life,
}

impl Writer {
    /// Starts one with `job` on the store in `path`, below `strace` with these arguments if there
    /// are any.
    #[must_use]
    pub fn start(job: &str, path: &Path, strace: &[String]) -> Self {
        let program = env::current_exe().unwrap();
        let mut command = match strace {
            [] => Command::new(program),
            arguments => {
                let mut command = Command::new("strace");
                command.args(["-f", "-qq", "-o", "/dev/null"]);
                command.args(arguments).arg(program);
                command
            }
        };
        let mut process = command
            .arg(path)
            .env(JOB, job)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        let (tell, lines) = sync_channel(64);
        thread::spawn(move || {
            loop {
                let mut line = String::new();
                let read = said.read_line(&mut line);
                // The last line may be cut.
                if read.is_err() || !line.ends_with('\n') || tell.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            process,
            lines,
            life: Life::default(),
        }
    }

    /// Listens until `enough`, or until the child ends: false.
    ///
    /// # Panics
    /// The child is silent for long, or says what no child says.
    pub fn listen(&mut self, enough: impl Fn(&Life) -> bool) -> bool {
        while !enough(&self.life) {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.hear(line.trim_end()),
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("the child is silent for {PATIENCE:?}: {:?}", self.life)
                }
            }
        }
        true
    }

    fn hear(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let number = || rest.parse::<u64>().unwrap();
        match word {
            "ready" => {
                self.life.found = Some(number());
                self.life.began = number();
                self.life.acked = number();
            }
            "began" => self.life.began = number(),
            "acked" => {
                self.life.acked = number();
                self.life.acks += 1;
            }
            "poisoned" => self.life.poisoned = true,
            "ended" => self.life.ended = true,
            "failed" => self.life.failed = Some(rest.to_owned()),
            _ => panic!("the child says: {line}"),
        }
    }

    /// SIGKILL, unless it is gone already.
    #[must_use]
    pub fn kill(mut self) -> Life {
        let _ = self.process.kill();
        self.end()
    }

    /// Waits for its end, and listens to everything that it still said.
    #[must_use]
    pub fn end(mut self) -> Life {
        self.listen(|_| false);
        let mut process = self.process;
        bounded("the child's end", move || process.wait().unwrap());
        self.life
    }
}

/// What strace is told, so that a thread's call number `at` of that name meets `fault`.
#[must_use]
pub fn inject(call: &str, fault: &str, at: u32) -> [String; 2] {
    // Not with --seccomp-bpf: strace 6.1 lets most live then.
    [
        format!("--trace={call}"),
        format!("--inject={call}:{fault}:when={at}"),
    ]
}

/// Whether calls can be injected into; says why not where they cannot.
#[must_use]
pub fn can_inject(what: &str) -> bool {
    let strace = Command::new("strace")
        .arg("-V")
        .stdout(Stdio::null())
        .status();
    if strace.is_err() {
        println!("SKIPPED: {what}: there is no strace");
    }
    strace.is_ok()
}

/// What a store holds in its next life must be what the one before was told to be durable, whole
/// batches only, and nothing that was never written. Says after which batch it stands.
///
/// # Panics
/// It is not.
#[must_use]
pub fn check_life(found: Result<u64, String>, life: &Life) -> u64 {
    let number = found.unwrap_or_else(|reason| panic!("after {life:?}: {reason}"));
    assert!(
        number >= life.acked && number <= life.began.max(life.acked),
        "it stands after batch {number}: {life:?}"
    );
    number
}
