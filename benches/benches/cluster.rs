//! The whole path: puts through etcd's API into three members as `raftwerk up` starts them.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use raftwerk_benches::{Curve, Report, bench_main, scratch};
use raftwerk_testkit::ports::take_row;
use raftwerk_testkit::processes::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Log and store of a run, and its name on the page.
const BACKENDS: &[(&str, &str, &str)] = &[
    ("wal", "wal", "redb"),
    ("redb", "redb", "redb"),
    #[cfg(feature = "rocksdb")]
    ("rocksdb", "rocksdb", "rocksdb"),
    ("mem", "mem", "mem"),
];
const MEMBERS: u16 = 3;
/// Between two looks at another process.
const PAUSE: Duration = Duration::from_millis(50);

/// Set for this very program when it is to be `raftwerk`: so it is built with the benches, the same
/// way, and no run waits for a compiler.
const AS_RAFTWERK: &str = "RAFTWERK_BENCH_AS_RAFTWERK";

fn main() -> ExitCode {
    if std::env::var_os(AS_RAFTWERK).is_some() {
        return raftwerk_server::cli::main();
    }
    bench_main("cluster", run)
}

fn raftwerk() -> Result<Command, String> {
    let mut command = Command::new(std::env::current_exe().map_err(words)?);
    command.env(AS_RAFTWERK, "1");
    Ok(command)
}

fn run(report: &mut Report) -> Result<(), String> {
    report.note(
        "The members and the clients share this machine's cores. Backends run one after the other, \
         not in turns.",
    );
    for (name, log, store) in BACKENDS {
        Cluster::start(log, store)?.measure(report, name)?;
    }
    Ok(())
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A running `raftwerk up`.
struct Cluster {
    up: Child,
    /// What it says goes here.
    said: PathBuf,
    endpoints: String,
    // After the process: its files go when it has ended.
    _folder: tempfile::TempDir,
}

impl Cluster {
    fn start(log: &str, store: &str) -> Result<Self, String> {
        let folder = scratch()?;
        let port = take_row(MEMBERS);
        let said = folder.path().join("said");
        let words_file = File::create(&said).map_err(words)?;
        let up = raftwerk()?
            .args(["up", "--log", log, "--store", store, "--data"])
            .arg(folder.path().join("cluster"))
            .args(["--client-port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(words_file.try_clone().map_err(words)?)
            .stderr(words_file)
            .spawn()
            .map_err(words)?;
        let endpoints: Vec<String> = (port..port + MEMBERS)
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        let cluster = Self {
            up,
            said,
            endpoints: endpoints.join(","),
            _folder: folder,
        };
        cluster.ready()
    }

    fn ready(mut self) -> Result<Self, String> {
        self.patiently(&["put", "ready", "1"])?;
        Ok(self)
    }

    /// Asks as a client until it works; says what stood in the way when it never does.
    fn patiently(&mut self, args: &[&str]) -> Result<Output, String> {
        let start = Instant::now();
        loop {
            let said = || fs::read_to_string(&self.said).unwrap_or_default();
            if let Some(status) = self.up.try_wait().map_err(words)? {
                return Err(format!("raftwerk up ended: {status}\n{}", said()));
            }
            let output = self.client()?.args(args).output().map_err(words)?;
            if output.status.success() {
                return Ok(output);
            }
            if start.elapsed() > PATIENCE {
                let last = String::from_utf8_lossy(&output.stderr);
                return Err(format!("{args:?}: {last}\n{}", said()));
            }
            sleep(PAUSE);
        }
    }

    fn client(&self) -> Result<Command, String> {
        let mut command = raftwerk()?;
        command.env("RAFTWERK_ENDPOINTS", &self.endpoints);
        Ok(command)
    }

    fn measure(&mut self, report: &mut Report, name: &str) -> Result<(), String> {
        let seconds: u32 = report.plan().pick(1, 3, 10);
        let warm_up: u32 = report.plan().pick(0, 1, 2);
        let loads: &[u32] = report.plan().pick(&[8], &[1, 64], &[1, 64, 256]);
        for clients in loads {
            let [count, seconds, warm_up] =
                [*clients, seconds, warm_up].map(|number| number.to_string());
            let load = [
                "--clients",
                &count,
                "--seconds",
                &seconds,
                "--warmup",
                &warm_up,
            ];
            let put = ["bench", "put", "--json", "--value-size", "256"];
            // It fails when nothing at all was answered in its time, which says nothing.
            let output = self.patiently(&[&put[..], &load].concat())?;
            let found: Value = serde_json::from_slice(&output.stdout).map_err(words)?;
            let plural = if *clients == 1 { "" } else { "s" };
            keep(report, &format!("{clients} client{plural}"), name, &found);
        }
        Ok(())
    }
}

fn keep(report: &mut Report, load: &str, name: &str, found: &Value) {
    let value = |field: &str| found.get(field).and_then(Value::as_f64);
    if let Some(rate) = value("ops_per_second") {
        report.say(load, name, "ops/s", rate);
    }
    let mut points = Vec::new();
    for (field, unit, percent) in [
        ("p50_ms", "p50 ms", 50.0),
        ("p90_ms", "p90 ms", 90.0),
        ("p99_ms", "p99 ms", 99.0),
        ("p99.9_ms", "p99.9 ms", 99.9),
    ] {
        if let Some(ms) = value(field) {
            report.say(load, name, unit, ms);
            points.push((percent, ms));
        }
    }
    if let Some(errors) = value("errors").filter(|errors| *errors > 0.0) {
        report.say(load, name, "errors", errors);
    }
    report.curve(Curve {
        bench: load.to_owned(),
        subject: name.to_owned(),
        points,
    });
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.up.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if !matches!(self.up.try_wait(), Ok(None)) {
                return;
            }
            sleep(PAUSE);
        }
        // Its members end with it.
        let _ = self.up.kill();
        let _ = self.up.wait();
    }
}
