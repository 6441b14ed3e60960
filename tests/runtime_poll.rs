//! The tests of the runtime once more, with epoll instead of `io_uring`.

#[path = "runtime.rs"]
mod runtime;
