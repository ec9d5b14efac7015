//! The reader of scripts itself: what it reads, and that it fails when it must.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod datadriven;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{env, fs, process};

use datadriven::{Arg, Command};

/// Runs a script of this text and gives the commands that it ran.
fn run(name: &str, text: &str, mut handle: impl FnMut(&Command) -> String) -> Vec<Command> {
    let path = env::temp_dir().join(format!("raftwerk-script-{name}-{}.txt", process::id()));
    fs::write(&path, text).unwrap();
    let mut commands = Vec::new();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        datadriven::run_file(&path, |command| {
            commands.push(command.clone());
            handle(command)
        });
    }));
    fs::remove_file(&path).unwrap();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
    commands
}

/// What the runner says when the script does not hold.
fn failure(name: &str, text: &str, handle: impl FnMut(&Command) -> String) -> String {
    let panic = catch_unwind(AssertUnwindSafe(|| run(name, text, handle))).unwrap_err();
    *panic.downcast::<String>().unwrap()
}

fn args(line: &str) -> Vec<(String, Vec<String>)> {
    let commands = run("args", &format!("cmd {line}\n----\nok\n"), |_| {
        "ok".to_owned()
    });
    assert_eq!((commands.len(), commands[0].cmd.as_str()), (1, "cmd"));
    commands[0]
        .args
        .iter()
        .map(|Arg { key, vals }| (key.clone(), vals.clone()))
        .collect()
}

fn arg(key: &str, vals: &[&str]) -> (String, Vec<String>) {
    (
        key.to_owned(),
        vals.iter().map(|val| (*val).to_owned()).collect(),
    )
}

#[test]
fn arguments_have_no_value_or_one_or_many() {
    assert_eq!(args(""), []);
    assert_eq!(args("1 two"), [arg("1", &[]), arg("two", &[])]);
    assert_eq!(
        args("a= b=c=d  e"),
        [arg("a", &[""]), arg("b", &["c=d"]), arg("e", &[])]
    );
    assert_eq!(
        args("a=(1,2, 3) b=(x)"),
        [arg("a", &["1", "2", "3"]), arg("b", &["x"])]
    );
    assert_eq!(args("a=() b=(_,_)"), [arg("a", &[]), arg("b", &["_", "_"])]);
    assert_eq!(args("a=(f(1,2), g)"), [arg("a", &["f(1,2)", "g"])]);
    assert_eq!(args("1 \"text\""), [arg("1", &[]), arg("\"text\"", &[])]);
}

#[test]
fn commands_have_input_and_output_and_comments_between() {
    let text = "\n# comment\none a\n----\nout\nmore\n\n\n  # comment\ntwo \\\n  b\nin 1\n\nin 2\n\
                ----\n\nthree\n----\n----\nfirst\n\nlast\n----\n----\n\nfour\n----\nlast";
    let commands = run("commands", text, |command| {
        match command.cmd.as_str() {
            "one" => "out\nmore",
            "two" => "",
            "three" => "first\n\nlast\n",
            _ => "last",
        }
        .to_owned()
    });
    let seen: Vec<_> = commands
        .iter()
        .map(|command| (command.cmd.as_str(), command.input.as_str(), command.line))
        .collect();
    let expected = [
        ("one", "", 3),
        ("two", "in 1\n\nin 2", 10),
        ("three", "", 17),
        ("four", "", 26),
    ];
    assert_eq!(seen, expected);
    assert_eq!(
        commands[1].args,
        [Arg {
            key: "b".to_owned(),
            vals: Vec::new()
        }]
    );
    assert_eq!(commands[2].expected, "first\n\nlast\n");
}

#[test]
fn every_difference_is_reported_with_its_line() {
    let text = "a\n----\nsame\nold\n\nb\n----\nok\n\nc\n----\ngone\n";
    let report = failure("difference", text, |command| match command.cmd.as_str() {
        "a" => "same\nnew\nmore".to_owned(),
        "b" => "ok".to_owned(),
        _ => String::new(),
    });
    assert!(
        report.contains(".txt:1: a\n    same\n  - old\n  + new\n  + more\n"),
        "{report}"
    );
    assert!(report.contains(".txt:10: c\n  - gone\n"), "{report}");
    assert!(!report.contains(": b\n"), "{report}");
}

#[test]
fn output_must_agree_in_every_byte() {
    for output in ["", "OK", "ok ", " ok", "ok\n\n", "ok\nok"] {
        failure("bytes", "a\n----\nok\n", |_| output.to_owned());
    }
    failure("nothing", "a\n----\n", |_| "something".to_owned());
    run("same", "a\n----\nok\n", |_| "ok\n".to_owned());
}

#[test]
fn script_that_would_check_nothing_fails() {
    failure("empty", "", |_| String::new());
    failure("comments", "# only a comment\n", |_| String::new());
    failure("separator", "a\nb\n", |_| String::new());
    failure("end", "a\n----\n----\nx\n\n", |_| "x".to_owned());
    failure("list", "a b=(1\n----\n", |_| String::new());
}

#[test]
fn file_that_nothing_runs_fails() {
    let root = env::temp_dir().join(format!("raftwerk-scripts-{}", process::id()));
    let put = |path: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "a\n----\n").unwrap();
    };
    for path in [
        "README.md",
        "etcd/LICENSE",
        "etcd/a.txt",
        "random/deep/er/b.txt",
    ] {
        put(path);
    }
    let listed = || catch_unwind(|| datadriven::scripts(&root));
    let found = listed().unwrap();
    assert_eq!(
        found,
        ["etcd/a.txt", "random/deep/er/b.txt"].map(|path| root.join(path))
    );
    for path in ["unknown/c.txt", "d.txt", "etcd/e.trace", "random/deep/f"] {
        put(path);
        let panic = *listed().unwrap_err().downcast::<String>().unwrap();
        assert!(panic.contains(path), "{panic}");
        fs::remove_file(root.join(path)).unwrap();
    }
    fs::remove_dir_all(&root).unwrap();
}
