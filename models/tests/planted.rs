//! The models are only worth what they find.

use std::{
    panic::catch_unwind,
    sync::atomic::{AtomicBool, Ordering},
};

use models::{
    sleeper::{explore, one_sender},
    sync::atomic::{FORGET_FENCES, FORGET_RELEASE},
};

/// One after the other: a planted fault is in all models.
#[test]
fn planted_faults_are_found() {
    check_found("fences that do nothing", &FORGET_FENCES);
    check_found("a mark that shows nothing of what was done before it", &FORGET_RELEASE);
    explore(one_sender);
}

fn check_found(words: &str, fault: &AtomicBool) {
    fault.store(true, Ordering::Relaxed);
    let verdict = catch_unwind(|| explore(one_sender));
    fault.store(false, Ordering::Relaxed);
    assert!(verdict.is_err(), "not noticed: {words}");
}
