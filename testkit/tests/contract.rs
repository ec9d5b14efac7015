//! docs/storage-contract.md and the suites say the same.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;

use raftwerk_testkit::{log_suite, state_suite};

const CONTRACT: &str = include_str!("../../docs/storage-contract.md");

/// The names in backquotes that look like a test's.
fn named_tests() -> BTreeSet<&'static str> {
    let like_a_test = |name: &&str| {
        name.matches('_').count() >= 2 && name.chars().all(|c| c == '_' || c.is_ascii_lowercase())
    };
    CONTRACT
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(like_a_test)
        .collect()
}

#[test]
fn every_case_stands_in_the_contract_and_every_name_in_it_is_a_case() {
    let log = log_suite::CASES.iter().map(|(name, _)| *name);
    let state = state_suite::CASES.iter().map(|(name, _)| *name);
    let cases: BTreeSet<&str> = log.chain(state).collect();
    let named = named_tests();
    let unnamed: Vec<_> = cases.difference(&named).collect();
    assert!(unnamed.is_empty(), "no obligation names {unnamed:?}");
    let unknown: Vec<_> = named.difference(&cases).collect();
    assert!(unknown.is_empty(), "no suite has {unknown:?}");
}

#[test]
fn example_of_a_backend_is_short() {
    let lines = include_str!("../examples/my_backend.rs").lines().count();
    assert!(lines < 200, "{lines} lines, where under 200 are promised");
}

#[test]
fn obligations_are_numbered_in_order_and_each_names_a_test() {
    for prefix in ['C', 'S'] {
        let mark = format!("- **{prefix}");
        let obligations: Vec<&str> = CONTRACT.split(&mark).skip(1).collect();
        for (number, text) in (1..).zip(&obligations) {
            let (own, rest) = text.split_once("**").unwrap();
            assert_eq!(own, number.to_string(), "of {prefix}");
            let body = rest
                .split("\n- **")
                .next()
                .unwrap()
                .split("\n\n")
                .next()
                .unwrap();
            assert!(
                named_tests().iter().any(|name| body.contains(name)),
                "{prefix}{own}"
            );
        }
    }
}
