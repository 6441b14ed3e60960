//! One of the targets, as the environment says, under libFuzzer.
#![no_main]

use std::{env, sync::LazyLock};

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/fuzz/targets/mod.rs"]
mod targets;

static CHECK: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = env::var("TARGET").expect("TARGET names what is fuzzed");
    let known = targets::ALL.iter().find(|(target, _)| *target == name);
    known.expect("there is such a target").1
});

fuzz_target!(|input: &[u8]| CHECK(input));
