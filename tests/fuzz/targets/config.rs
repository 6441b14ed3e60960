//! The configuration file: any text is taken or refused by line.

use ringmq::config::check_text;

pub(super) fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Err(faults) = check_text(text) else { return };
    assert!(!faults.is_empty(), "{text:?}");
    assert!(faults.is_sorted_by_key(|fault| fault.line), "{text:?}: {faults:?}");
    let lines = 1 + text.matches('\n').count();
    for fault in faults {
        assert!((1..=lines).contains(&fault.line), "{text:?}: {fault:?}");
        assert!(!fault.problem.is_empty(), "{text:?}");
    }
}
