//! Numbers that look random, and are the same in every run.

/// The next number of a splitmix64 sequence.
pub(super) fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(STEP);
    finish(*state)
}

/// A number that looks random, and is the same for the same `number`.
#[inline]
pub fn scatter(number: u64) -> u64 {
    finish(number.wrapping_add(1).wrapping_mul(STEP))
}

#[inline]
fn finish(mut mixed: u64) -> u64 {
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// The constant of splitmix64.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
