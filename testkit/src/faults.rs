//! Fails every call of a workload, and then every call of a recovery, in every way: what was
//! acknowledged all the same must be there afterwards.

use std::fmt;

use crate::crash::Progress;
use crate::fault_vfs::{CrashPlan, Fault, FaultVfs};

/// Every fault there is.
pub const FAULTS: [Fault; 5] = [
    Fault::Eio,
    Fault::Eintr,
    Fault::Enospc,
    Fault::ShortWrite,
    Fault::FsyncFailsOnceThenOk,
];

/// How much was tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultReport {
    /// Runs of the workload, each with one fault.
    pub runs: usize,
    /// Disks recovered from after those.
    pub images: usize,
    /// Recoveries that had a fault of their own.
    pub recovery_runs: usize,
}

/// The first run that broke a promise, with all that is needed to see it again.
#[derive(Clone, Debug)]
pub struct FaultFailure {
    /// The call from which on the fault waited, and the fault.
    pub fault: (u64, Fault),
    /// How that life ended.
    pub plan: CrashPlan,
    /// The same for the recovery, and how that ended.
    pub recovery: Option<(u64, Fault, CrashPlan)>,
    /// What was wrong.
    pub reason: String,
}

impl fmt::Display for FaultFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (call, fault) = self.fault;
        write!(f, "{fault:?} from call {call} on, then {:?}", self.plan)?;
        if let Some((call, fault, plan)) = self.recovery {
            write!(
                f,
                ", in recovery {fault:?} from call {call} on, then {plan:?}"
            )?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl std::error::Error for FaultFailure {}

/// How the life with the fault ends.
fn endings(seed: u64) -> [CrashPlan; 4] {
    let random = CrashPlan::random(seed);
    [
        CrashPlan::Kill,
        CrashPlan::LOSE_UNSYNCED,
        CrashPlan::KEEP_UNSYNCED,
        random,
    ]
}

/// What every run has in common.
struct Sweep<'a, A, R> {
    faults: &'a [Fault],
    recover: &'a mut dyn FnMut(&FaultVfs) -> Result<R, String>,
    check: &'a mut dyn FnMut(&A, R) -> Result<(), String>,
    report: FaultReport,
}

impl<A, R> Sweep<'_, A, R> {
    fn look(&mut self, left: &FaultVfs, known: &A) -> Result<(), String> {
        let state = (self.recover)(left)?;
        (self.check)(known, state)
    }

    /// Fails each of the `calls` that a recovery from `plan` makes.
    fn recoveries(
        &mut self,
        ended: &FaultVfs,
        plan: &CrashPlan,
        calls: u64,
        known: &A,
    ) -> Result<(), ((u64, Fault, CrashPlan), String)> {
        let faults = self.faults;
        for (call, fault) in (0..calls).flat_map(|call| faults.iter().map(move |f| (call, *f))) {
            self.report.recovery_runs += 1;
            let left = ended.crash(plan);
            left.fail_at(call, fault);
            if let Ok(state) = (self.recover)(&left) {
                (self.check)(known, state)
                    .map_err(|reason| ((call, fault, CrashPlan::Kill), reason))?;
            }
            for ending in [CrashPlan::Kill, CrashPlan::LOSE_UNSYNCED] {
                self.look(&left.crash(&ending), known)
                    .map_err(|reason| ((call, fault, ending), reason))?;
            }
        }
        Ok(())
    }
}

/// Runs `workload` once for each of its calls and each of `faults`, on an empty file system; it
/// goes on or gives up as it likes. Then that life ends, with and without its unsynced data, and
/// `recover` and `check` do as in [`crate::crash::crash_points`]. With `in_recovery`, after a loss
/// of the unsynced, each call of that recovery fails in each way too: it may succeed all the same
/// or report an error, and the next one, after a kill or a power cut, must succeed.
///
/// # Errors
/// The first run that could not be recovered or failed the check.
pub fn fault_points<A: Clone, R>(
    start: &A,
    faults: &[Fault],
    in_recovery: bool,
    workload: impl Fn(&FaultVfs, &Progress<A>),
    mut recover: impl FnMut(&FaultVfs) -> Result<R, String>,
    mut check: impl FnMut(&A, R) -> Result<(), String>,
) -> Result<FaultReport, Box<FaultFailure>> {
    let clean = FaultVfs::new();
    workload(&clean, &Progress::new(start.clone()));
    let (recover, check) = (&mut recover, &mut check);
    let mut sweep = Sweep {
        faults,
        recover,
        check,
        report: FaultReport::default(),
    };
    for (call, fault) in (0..clean.calls()).flat_map(|at| faults.iter().map(move |f| (at, *f))) {
        let vfs = FaultVfs::new();
        vfs.fail_at(call, fault);
        let progress = Progress::new(start.clone());
        workload(&vfs, &progress);
        let known = progress.now();
        sweep.report.runs += 1;
        for plan in endings(call) {
            let fail = |recovery, reason| {
                Box::new(FaultFailure {
                    fault: (call, fault),
                    plan,
                    recovery,
                    reason,
                })
            };
            sweep.report.images += 1;
            let left = vfs.crash(&plan);
            sweep
                .look(&left, &known)
                .map_err(|reason| fail(None, reason))?;
            if in_recovery && plan == CrashPlan::LOSE_UNSYNCED {
                sweep
                    .recoveries(&vfs, &plan, left.calls(), &known)
                    .map_err(|(place, reason)| fail(Some(place), reason))?;
            }
        }
    }
    Ok(sweep.report)
}
