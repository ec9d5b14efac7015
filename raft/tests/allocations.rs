//! What a peer sends, and what bytes come, takes no more memory than it is worth. A program of its
//! own with a single test, since the allocator counts what the whole process does.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

#[allow(dead_code, reason = "of the bodies only one is read here")]
#[path = "hostile/bodies.rs"]
mod bodies;
#[path = "hostile/member.rs"]
mod member;
#[path = "hostile/mutator.rs"]
mod mutator;
#[allow(dead_code, reason = "messages are not kept as bytes here")]
#[path = "hostile/words.rs"]
mod words;

use std::alloc::System;

use member::Honest;
use mutator::{Choices, Mutator};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes of one input: everything that is said in a life of a member.
const INPUT_MAX: usize = 600;
/// What one message may make a member and its log allocate, in bytes, for the moment or for ever.
const STEP_MAX: usize = 32 * 1024;
/// What a member and its log may hold after a life of at most so many messages.
const HELD_MAX: usize = 64 * 1024;
/// What reading bytes may allocate: a constant, and so much for each of them.
const READ_MAX: usize = 4 * 1024;
const READ_MAX_PER_BYTE: usize = 40;

#[test]
fn nothing_that_is_sent_makes_a_member_allocate_without_bound() {
    let (mut steps, mut step_max, mut held_max) = (0, 0, 0);
    let mut mutator = Mutator::new(1, Vec::new());
    while steps < 100_000 {
        let input = mutator.input(INPUT_MAX);
        let mut choices = Choices::new(&input);
        let life = Region::new(GLOBAL);
        let Some(mut honest) = Honest::new(&mut choices) else {
            continue;
        };
        while !choices.is_empty() {
            let step = Region::new(GLOBAL);
            honest.live(&mut choices);
            step_max = step_max.max(step.change().bytes_allocated);
            steps += 1;
        }
        let life = life.change();
        held_max = held_max.max(life.bytes_allocated - life.bytes_deallocated);
    }
    println!("{steps} steps: {step_max} bytes in one of them, {held_max} held");
    assert!(step_max < STEP_MAX, "{step_max} bytes for one message");
    assert!(held_max < HELD_MAX, "{held_max} bytes are held");

    let mut read_max = 0;
    for _ in 0..20_000 {
        let input = mutator.input(INPUT_MAX);
        let region = Region::new(GLOBAL);
        bodies::codec(&input);
        let allocated = region.change().bytes_allocated;
        read_max = read_max.max(allocated);
        let most = READ_MAX + READ_MAX_PER_BYTE * input.len();
        assert!(allocated < most, "{allocated} bytes to read {input:?}");
    }
    println!("{read_max} bytes to read one input");
}
