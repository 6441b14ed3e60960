//! The command `ringmq`.

fn main() {}
