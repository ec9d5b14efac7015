//! Cuts the power at every call of a workload, in every way worth trying, and looks at what a
//! recovery makes of it; then cuts it again at every call of that recovery.
//!
//! The workload runs once. Before each counted call the file system is remembered together with
//! what had been acknowledged by then; each such moment times each crash plan is an image.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::fault_vfs::{Call, CrashPlan, FaultVfs, Image, PlanLimits};

/// What a workload knows to be acknowledged (and anything else its check wants to know), kept up
/// to date while it runs: an acknowledgement recorded is one that must survive.
#[derive(Debug, Default)]
pub struct Progress<A>(Arc<Mutex<A>>);

impl<A> Clone for Progress<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A: Clone> Progress<A> {
    /// Begins with `start`.
    pub fn new(start: A) -> Self {
        Self(Arc::new(Mutex::new(start)))
    }

    /// Changes what is known.
    pub fn update(&self, change: impl FnOnce(&mut A)) {
        change(&mut self.0.lock());
    }

    /// What is known now.
    #[must_use]
    pub fn now(&self) -> A {
        self.0.lock().clone()
    }
}

/// How thoroughly to enumerate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashOptions {
    /// The plans tried at each moment of the workload.
    pub plans: PlanLimits,
    /// The plans tried at each moment of each recovery; `None` for no crash during recovery.
    pub recovery_plans: Option<PlanLimits>,
    /// Only every so-manieth moment of the workload is crashed at; 1 for all of them.
    pub stride: usize,
    /// Only every so-manieth image's recovery is itself crashed; 1 for all of them.
    pub recovery_stride: usize,
}

impl Default for CrashOptions {
    fn default() -> Self {
        Self {
            plans: PlanLimits::default(),
            recovery_plans: None,
            stride: 1,
            recovery_stride: 1,
        }
    }
}

/// How much was tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrashReport {
    /// Moments of the workload.
    pub moments: usize,
    /// Disks looked at after a crash of the workload.
    pub images: usize,
    /// Disks looked at after a second crash, during recovery.
    pub recovery_images: usize,
}

/// The first disk that broke a promise, with all that is needed to see it again.
#[derive(Clone, Debug)]
pub struct CrashFailure {
    /// The call of the workload before which it crashed; `None` for its end.
    pub call: Option<Call>,
    /// How.
    pub plan: CrashPlan,
    /// The call of the recovery before which it crashed again, and how.
    pub recovery: Option<(Option<Call>, CrashPlan)>,
    /// What was wrong.
    pub reason: String,
}

impl fmt::Display for CrashFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |call: &Option<Call>| match call {
            Some(call) => format!(
                "before call {} ({:?} {:?})",
                call.number, call.kind, call.path
            ),
            None => String::from("at the end"),
        };
        write!(f, "crashed {} with {:?}", place(&self.call), self.plan)?;
        if let Some((call, plan)) = &self.recovery {
            write!(f, ", then in recovery {} with {plan:?}", place(call))?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl std::error::Error for CrashFailure {}

struct Moment<A> {
    call: Option<Call>,
    image: Image,
    known: A,
}

/// Runs `run` and remembers the file system before each of its counted calls and at its end.
fn moments<A: Clone + Send + 'static, R>(
    vfs: &FaultVfs,
    progress: &Progress<A>,
    run: impl FnOnce() -> R,
) -> (Vec<Moment<A>>, R) {
    let moments: Arc<Mutex<Vec<Moment<A>>>> = Arc::default();
    let (record, known) = (Arc::clone(&moments), progress.clone());
    vfs.on_call(Box::new(move |vfs, call| {
        // In this order: what is known to be acknowledged is never ahead of the image.
        let known = known.now();
        let moment = Moment {
            call: Some(call.clone()),
            image: vfs.image(),
            known,
        };
        record.lock().push(moment);
    }));
    let result = run();
    let mut moments = std::mem::take(&mut *moments.lock());
    moments.push(Moment {
        call: None,
        image: vfs.image(),
        known: progress.now(),
    });
    (moments, result)
}

/// Runs `workload` on `vfs` and crashes it at every moment in every way; `recover` opens what is
/// left, and `check` compares that with what was acknowledged by then. With
/// [`CrashOptions::recovery_plans`], each recovery is crashed at each of its moments too.
///
/// # Errors
/// The first image that could not be recovered or failed the check.
pub fn crash_points<A: Clone + Send + 'static, R>(
    vfs: &FaultVfs,
    start: A,
    options: &CrashOptions,
    workload: impl FnOnce(&FaultVfs, &Progress<A>),
    mut recover: impl FnMut(&FaultVfs) -> Result<R, String>,
    mut check: impl FnMut(&A, R) -> Result<(), String>,
) -> Result<CrashReport, Box<CrashFailure>> {
    let progress = Progress::new(start);
    let (moments_all, ()) = moments(vfs, &progress, || workload(vfs, &progress));
    let mut report = CrashReport {
        moments: moments_all.len(),
        ..CrashReport::default()
    };
    let last = moments_all.len() - 1;
    for (number, moment) in moments_all.into_iter().enumerate() {
        if !number.is_multiple_of(options.stride.max(1)) && number != last {
            continue;
        }
        for plan in moment.image.plans(&options.plans) {
            let fail = |recovery, reason| {
                Box::new(CrashFailure {
                    call: moment.call.clone(),
                    plan,
                    recovery,
                    reason,
                })
            };
            let left = moment.image.after(&plan);
            report.images += 1;
            let twice = options
                .recovery_plans
                .filter(|_| report.images.is_multiple_of(options.recovery_stride.max(1)));
            let Some(limits) = twice else {
                let state = recover(&left).map_err(|reason| fail(None, reason))?;
                check(&moment.known, state).map_err(|reason| fail(None, reason))?;
                continue;
            };
            let (inner, state) = moments(&left, &Progress::new(()), || recover(&left));
            state
                .and_then(|state| check(&moment.known, state))
                .map_err(|reason| fail(None, reason))?;
            for second in inner {
                for plan in second.image.plans(&limits) {
                    report.recovery_images += 1;
                    recover(&second.image.after(&plan))
                        .and_then(|state| check(&moment.known, state))
                        .map_err(|reason| fail(Some((second.call.clone(), plan)), reason))?;
                }
            }
        }
    }
    Ok(report)
}
