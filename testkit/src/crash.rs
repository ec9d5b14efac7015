//! Cuts the power at every call of a workload, in every way worth trying, and looks at what a
//! recovery makes of it; then cuts it again at every call of that recovery, and of the one that
//! follows on that.
//!
//! The workload runs once. Before each counted call the file system is remembered together with
//! what had been acknowledged by then; each such moment times each crash plan is an image. Equal
//! images of which the same is known are looked at once. Two threads share the work.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::fault_vfs::{Call, CallKind, CrashPlan, FaultVfs, Image, PlanLimits};

/// How many threads look at images.
const THREADS: usize = 2;
/// How many moments a thread takes at once.
const MOMENTS_AT_ONCE: usize = 8;

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
    /// Of the images that a crash of a recovery leaves, every so-manieth's recovery is crashed
    /// too; 1 for all of them, 0 for none.
    pub second_stride: usize,
}

impl Default for CrashOptions {
    fn default() -> Self {
        Self {
            plans: PlanLimits::default(),
            recovery_plans: None,
            stride: 1,
            recovery_stride: 1,
            second_stride: 0,
        }
    }
}

/// How much was tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CrashReport {
    /// Moments of the workload.
    pub moments: usize,
    /// Disks that a crash of the workload leaves.
    pub images: usize,
    /// Disks that a second crash leaves, during recovery.
    pub recovery_images: usize,
    /// Disks that a third crash leaves, during the recovery from the second.
    pub second_images: usize,
    /// How many of all these were looked at: those that differ, or of which something else was
    /// acknowledged.
    pub distinct: usize,
    /// By the call before which the workload crashed, how many of its images were looked at.
    pub before: BTreeMap<CallKind, usize>,
}

impl CrashReport {
    fn add(&mut self, other: &Self) {
        self.images += other.images;
        self.recovery_images += other.recovery_images;
        self.second_images += other.second_images;
        self.distinct += other.distinct;
        for (kind, count) in &other.before {
            *self.before.entry(*kind).or_default() += count;
        }
    }
}

/// A crash: before which call, and how. No call: at the end.
pub type Crash = (Option<Call>, CrashPlan);

/// The first disk that broke a promise, with all that is needed to see it again.
#[derive(Clone, Debug)]
pub struct CrashFailure {
    /// The crash of the workload, and then those of the recoveries.
    pub crashes: Vec<Crash>,
    /// What was wrong.
    pub reason: String,
}

impl fmt::Display for CrashFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "crashed";
        for (call, plan) in &self.crashes {
            match call {
                Some(call) => write!(
                    f,
                    "{between} before call {} ({:?} {:?}) with {plan:?}",
                    call.number, call.kind, call.path
                )?,
                None => write!(f, "{between} at the end with {plan:?}")?,
            }
            between = ", then in recovery";
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

/// Runs `run` and remembers the file system before each of its counted calls and at its end, which
/// is where it says so.
fn moments<A: Clone + Send + 'static, R>(
    vfs: &FaultVfs,
    progress: &Progress<A>,
    run: impl FnOnce(&dyn Fn()) -> R,
) -> (Vec<Moment<A>>, R) {
    // None when it has come to its end.
    let moments: Arc<Mutex<Option<Vec<Moment<A>>>>> = Arc::new(Mutex::new(Some(Vec::new())));
    let (record, known) = (Arc::clone(&moments), progress.clone());
    vfs.on_call(Box::new(move |vfs, call| {
        // In this order: what is known to be acknowledged is never ahead of the image.
        let known = known.now();
        if let Some(moments) = record.lock().as_mut() {
            moments.push(Moment {
                call: Some(call.clone()),
                image: vfs.image(),
                known,
            });
        }
    }));
    let ended = Mutex::new(Vec::new());
    let result = run(&|| {
        let mut all = moments.lock().take().unwrap_or_default();
        all.push(Moment {
            call: None,
            image: vfs.image(),
            known: progress.now(),
        });
        *ended.lock() = all;
    });
    (ended.into_inner(), result)
}

/// Runs `workload` on `vfs` and crashes it at every moment in every way; `recover` opens what is
/// left, and `check` compares that with what was acknowledged by then. With
/// [`CrashOptions::recovery_plans`], each recovery is crashed at each of its moments too.
///
/// # Errors
/// The first image that could not be recovered or failed the check.
pub fn crash_points<A: Clone + Hash + Send + Sync + 'static, R>(
    vfs: &FaultVfs,
    start: A,
    options: &CrashOptions,
    workload: impl FnOnce(&FaultVfs, &Progress<A>),
    recover: impl Fn(&FaultVfs) -> Result<R, String> + Sync,
    check: impl Fn(&A, R) -> Result<(), String> + Sync,
) -> Result<CrashReport, Box<CrashFailure>> {
    let progress = Progress::new(start);
    let (all, ()) = moments(vfs, &progress, |end| {
        workload(vfs, &progress);
        end();
    });
    let judge = |vfs: &FaultVfs, known: &A, recovered: &dyn Fn()| {
        let state = recover(vfs);
        recovered();
        state.and_then(|state| check(known, state))
    };
    let enumeration = Enumeration {
        options,
        judge: &judge,
        seen: Mutex::default(),
        failed: Mutex::default(),
        next: AtomicUsize::new(0),
    };
    let mut report = CrashReport {
        moments: all.len(),
        ..CrashReport::default()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| scope.spawn(|| enumeration.work(&all)))
            .collect();
        for thread in threads {
            match thread.join() {
                Ok(part) => report.add(&part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    match enumeration.failed.into_inner() {
        Some((_, failure)) => Err(failure),
        None => Ok(report),
    }
}

/// Opens a disk, says so, and compares it with what is known.
type Judge<'a, A> = dyn Fn(&FaultVfs, &A, &dyn Fn()) -> Result<(), String> + Sync + 'a;

/// What the threads share.
struct Enumeration<'a, A> {
    options: &'a CrashOptions,
    judge: &'a Judge<'a, A>,
    /// Disks that were looked at, with what was known of them.
    seen: Mutex<HashSet<u64>>,
    /// The failure of the earliest moment.
    failed: Mutex<Option<(usize, Box<CrashFailure>)>>,
    next: AtomicUsize,
}

impl<A: Clone + Hash + Send + 'static> Enumeration<'_, A> {
    fn work(&self, all: &[Moment<A>]) -> CrashReport {
        let mut report = CrashReport::default();
        let (stride, last) = (self.options.stride.max(1), all.len().saturating_sub(1));
        loop {
            let begin = self.next.fetch_add(MOMENTS_AT_ONCE, Ordering::Relaxed);
            let failed = |failed: &Option<(usize, _)>| {
                failed.as_ref().is_some_and(|(number, _)| *number < begin)
            };
            if begin > last || failed(&self.failed.lock()) {
                return report;
            }
            for (number, moment) in all.iter().enumerate().skip(begin).take(MOMENTS_AT_ONCE) {
                if !number.is_multiple_of(stride) && number != last {
                    continue;
                }
                if let Err(failure) = self.moment(number, moment, &mut report) {
                    let mut first = self.failed.lock();
                    if first.as_ref().is_none_or(|(other, _)| number < *other) {
                        *first = Some((number, failure));
                    }
                    return report;
                }
            }
        }
    }

    fn moment(
        &self,
        number: usize,
        moment: &Moment<A>,
        report: &mut CrashReport,
    ) -> Result<(), Box<CrashFailure>> {
        let before = report.distinct;
        for (place, plan) in (0..).zip(moment.image.plans(&self.options.plans)) {
            report.images += 1;
            let crashes = vec![(moment.call.clone(), plan)];
            let left = moment.image.after(&plan);
            // Which recoveries are crashed depends on no thread's pace.
            let twice = (number * 7 + place).is_multiple_of(self.options.recovery_stride.max(1));
            match self.options.recovery_plans.filter(|_| twice) {
                Some(limits) => self.recovery(&left, moment, &crashes, &limits, report)?,
                None => self.look(&left, moment, crashes, report)?,
            }
        }
        if let Some(call) = &moment.call {
            *report.before.entry(call.kind).or_default() += report.distinct - before;
        }
        Ok(())
    }

    /// Looks at a disk, unless one like it was looked at.
    fn look(
        &self,
        left: &FaultVfs,
        moment: &Moment<A>,
        crashes: Vec<Crash>,
        report: &mut CrashReport,
    ) -> Result<(), Box<CrashFailure>> {
        if let Some(disk) = left.digest() {
            let mut hasher = DefaultHasher::new();
            (disk, &moment.known).hash(&mut hasher);
            if !self.seen.lock().insert(hasher.finish()) {
                return Ok(());
            }
        }
        report.distinct += 1;
        (self.judge)(left, &moment.known, &|| ())
            .map_err(|reason| Box::new(CrashFailure { crashes, reason }))
    }

    /// Recovers, and crashes that at each of its calls.
    fn recovery(
        &self,
        left: &FaultVfs,
        moment: &Moment<A>,
        crashes: &[Crash],
        limits: &PlanLimits,
        report: &mut CrashReport,
    ) -> Result<(), Box<CrashFailure>> {
        report.distinct += 1;
        let (inner, judged) = moments(left, &Progress::new(()), |recovered| {
            (self.judge)(left, &moment.known, recovered)
        });
        judged.map_err(|reason| {
            let crashes = crashes.to_vec();
            Box::new(CrashFailure { crashes, reason })
        })?;
        let first = crashes.len() == 1;
        for second in inner {
            for plan in second.image.plans(limits) {
                let count = match first {
                    true => &mut report.recovery_images,
                    false => &mut report.second_images,
                };
                *count += 1;
                let stride = self.options.second_stride;
                let again = first && stride > 0 && count.is_multiple_of(stride);
                let left = second.image.after(&plan);
                let mut crashes = crashes.to_vec();
                crashes.push((second.call.clone(), plan));
                match again {
                    true => self.recovery(&left, moment, &crashes, limits, report)?,
                    false => self.look(&left, moment, crashes, report)?,
                }
            }
        }
        Ok(())
    }
}
