//! The whole path: puts through etcd's API into three members as `raftwerk up` starts them.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use raftwerk_benches::{Curve, Report, bench_main, scratch};
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
const READY_MAX: Duration = Duration::from_secs(60);
const ENDED_MAX: Duration = Duration::from_secs(20);

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
    endpoints: String,
    // After the process: its files go when it has ended.
    _folder: tempfile::TempDir,
}

impl Cluster {
    fn start(log: &str, store: &str) -> Result<Self, String> {
        let folder = scratch()?;
        let port = free_ports()?;
        let up = raftwerk()?
            .args(["up", "--log", log, "--store", store, "--data"])
            .arg(folder.path().join("cluster"))
            .args(["--client-port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(words)?;
        let endpoints: Vec<String> = (port..port + MEMBERS)
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        let cluster = Self {
            up,
            endpoints: endpoints.join(","),
            _folder: folder,
        };
        cluster.ready()
    }

    fn ready(mut self) -> Result<Self, String> {
        let start = Instant::now();
        while start.elapsed() < READY_MAX {
            if let Some(status) = self.up.try_wait().map_err(words)? {
                return Err(format!("raftwerk up ended: {status}"));
            }
            let put = self.client()?.args(["put", "ready", "1"]).output();
            if put.map_err(words)?.status.success() {
                return Ok(self);
            }
            sleep(Duration::from_millis(100));
        }
        Err("raftwerk up is not ready after a minute".to_owned())
    }

    fn client(&self) -> Result<Command, String> {
        let mut command = raftwerk()?;
        command.env("RAFTWERK_ENDPOINTS", &self.endpoints);
        Ok(command)
    }

    fn measure(&self, report: &mut Report, name: &str) -> Result<(), String> {
        let seconds: u32 = report.plan().pick(1, 3, 10);
        let warm_up: u32 = report.plan().pick(0, 1, 2);
        let loads: &[u32] = report.plan().pick(&[8], &[1, 64], &[1, 64, 256]);
        for clients in loads {
            let output = self
                .client()?
                .args(["bench", "put", "--json", "--value-size", "256"])
                .args(["--clients", &clients.to_string()])
                .args(["--seconds", &seconds.to_string()])
                .args(["--warmup", &warm_up.to_string()])
                .output()
                .map_err(words)?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).into_owned());
            }
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
        while start.elapsed() < ENDED_MAX {
            if !matches!(self.up.try_wait(), Ok(None)) {
                return;
            }
            sleep(Duration::from_millis(20));
        }
        // Its members end with it.
        let _ = self.up.kill();
        let _ = self.up.wait();
    }
}

/// The first of some ports in a row that are free now.
fn free_ports() -> Result<u16, String> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    for _ in 0..100 {
        let first = bind(0).and_then(|listener| listener.local_addr());
        let first = first.map_err(words)?.port();
        if first < 60_000 && (first..first + MEMBERS).all(|port| bind(port).is_ok()) {
            return Ok(first);
        }
    }
    Err("no three ports in a row are free".to_owned())
}
