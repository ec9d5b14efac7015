//! Switches the mutants of the core on, one after the other, and wants a test to fail for each.
//!
//! `raftwerk-mutants [--only PROGRAM] [M001 M017 ...]`: with names only these, with `--only` only
//! by the tests of one program (`explore` runs only so). `raftwerk-mutants --planted`: whether the
//! exploration finds the bugs that are planted for it. `RAFTWERK_TRACES` names the folder of etcd's
//! traces.
#![forbid(unsafe_code)]

mod suites;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use std::{env, thread};

use suites::{PLANTED, SUITES, Suite};
use table::Mutant;

/// M001 to here have to be in the table.
const LAST: u32 = 103;
/// As many may be equivalent to the core at most.
const EQUIVALENT_MAX: usize = 5;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// What is wanted, from the command line.
#[derive(Default)]
struct Wanted {
    only: Option<String>,
    ids: Vec<u32>,
    planted: bool,
}

fn wanted() -> Result<Wanted, String> {
    let mut wanted = Wanted::default();
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        if arg == "--only" {
            wanted.only = Some(args.next().ok_or("--only which program?")?);
            continue;
        }
        if arg == "--planted" {
            wanted.planted = true;
            continue;
        }
        let id = arg.strip_prefix('M').and_then(|id| id.parse().ok());
        wanted
            .ids
            .push(id.ok_or_else(|| format!("{arg} is no mutant's name"))?);
    }
    Ok(wanted)
}

fn run() -> Result<bool, String> {
    let wanted = wanted()?;
    let mutants = table::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("table"))?;
    check_table(&mutants)?;
    if wanted.planted {
        return find_planted(&mutants);
    }
    let suites = runnable(&wanted)?;
    let start = Instant::now();
    // Without a mutant everything passes, or what fails with one says nothing.
    for (suite, program) in &suites {
        let (failed, passed) = suites::run(suite, program, None)?;
        if let Some(failed) = failed {
            return Err(format!("without any mutant fails {failed}"));
        }
        if passed == 0 {
            return Err(format!("{} has no tests", suite.program));
        }
        let took = start.elapsed().as_secs_f64();
        println!(
            "{} {}: {passed} tests pass ({took:.1} s)",
            suite.program, suite.filter
        );
    }
    let chosen: Vec<&Mutant> = mutants
        .iter()
        .filter(|mutant| wanted.ids.is_empty() || wanted.ids.contains(&mutant.id))
        .collect();
    let verdicts = judge(&chosen, &suites)?;
    let bad = report(&chosen, &verdicts);
    println!(
        "{} mutants, {bad} to be looked at, {:.0} s",
        chosen.len(),
        start.elapsed().as_secs_f64()
    );
    Ok(bad == 0)
}

/// Whether the exploration finds each bug that is planted for it.
fn find_planted(mutants: &[Mutant]) -> Result<bool, String> {
    let programs = suites::programs(&PLANTED.map(|(_, suite)| suite))?;
    let program = programs.get("explore").ok_or("no exploration")?;
    let mut all = true;
    for (id, suite) in &PLANTED {
        let start = Instant::now();
        let (failed, _) = suites::run(suite, program, Some(*id))?;
        let title = mutants.iter().find(|mutant| mutant.id == *id);
        let title = title.map_or("", |mutant| mutant.title.as_str());
        let seconds = start.elapsed().as_secs_f64();
        let verdict = failed.as_deref().unwrap_or("GOES UNNOTICED");
        println!("M{id:03} {title}: {verdict} ({seconds:.1} s)");
        // One that does not end has found nothing.
        all &= failed.is_some_and(|failed| !failed.ends_with(')'));
    }
    Ok(all)
}

fn check_table(mutants: &[Mutant]) -> Result<(), String> {
    if let Some(id) = (1..=LAST).find(|id| mutants.iter().all(|mutant| mutant.id != *id)) {
        return Err(format!("M{id:03} is missing in the table"));
    }
    let equivalent = mutants.iter().filter(|mutant| mutant.equivalent.is_some());
    let equivalent = equivalent.count();
    if equivalent > EQUIVALENT_MAX {
        return Err(format!("{equivalent} mutants are said to be equivalent"));
    }
    let empty = mutants.iter().find(|mutant| mutant.edits.is_empty());
    empty.map_or(Ok(()), |mutant| {
        Err(format!(
            "M{:03} changes nothing ({})",
            mutant.id,
            mutant.place.display()
        ))
    })
}

/// The suites that are wanted, each with its program.
fn runnable(wanted: &Wanted) -> Result<Vec<(Suite, PathBuf)>, String> {
    let traces = env::var_os("RAFTWERK_TRACES").is_some_and(|folder| !folder.is_empty());
    let chosen = |suite: &&Suite| {
        let named = match &wanted.only {
            Some(only) => only == suite.program,
            None => !suite.heavy,
        };
        named && (traces || suite.filter != "traces")
    };
    let suites: Vec<Suite> = SUITES.iter().filter(chosen).copied().collect();
    if suites.is_empty() {
        return Err("no such test program".to_owned());
    }
    let programs = suites::programs(&suites)?;
    let with_program = |suite: Suite| {
        let program = programs.get(suite.program).cloned();
        let program = program.ok_or_else(|| format!("no test program {}", suite.program))?;
        Ok((suite, program))
    };
    suites.into_iter().map(with_program).collect()
}

/// What each mutant fails, if anything.
fn judge(
    mutants: &[&Mutant],
    suites: &[(Suite, PathBuf)],
) -> Result<BTreeMap<u32, Option<String>>, String> {
    let next = AtomicUsize::new(0);
    let verdicts = Mutex::new(BTreeMap::new());
    let work = || {
        while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut verdict = Ok(None);
            for (suite, program) in suites {
                verdict = suites::run(suite, program, Some(mutant.id)).map(|(failed, _)| failed);
                if verdict != Ok(None) {
                    break;
                }
            }
            if let Ok(mut verdicts) = verdicts.lock() {
                verdicts.insert(mutant.id, verdict);
            }
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    let verdicts = verdicts.into_inner().map_err(|error| error.to_string())?;
    verdicts
        .into_iter()
        .map(|(id, verdict)| verdict.map(|verdict| (id, verdict)))
        .collect()
}

/// Prints what became of each mutant. Gives how many ought to have ended otherwise.
fn report(mutants: &[&Mutant], verdicts: &BTreeMap<u32, Option<String>>) -> usize {
    let mut bad = 0;
    for mutant in mutants {
        let failed = verdicts.get(&mutant.id).and_then(Option::as_ref);
        let (ok, verdict) = match (failed, &mutant.equivalent) {
            (Some(failed), None) => (true, format!("fails {failed}")),
            (None, Some(reason)) => (true, format!("equivalent: {reason}")),
            (Some(failed), Some(_)) => (false, format!("SAID TO BE EQUIVALENT, fails {failed}")),
            (None, None) => {
                let places = mutant.edits.iter();
                let places = places.map(|edit| format!("{} fn {}", edit.file, edit.function));
                (
                    false,
                    format!("SURVIVES: {}", places.collect::<Vec<_>>().join(", ")),
                )
            }
        };
        bad += usize::from(!ok);
        println!("M{:03} {}: {verdict}", mutant.id, mutant.title);
    }
    bad
}
