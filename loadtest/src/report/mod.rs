//! Reports of a run: its summary as text, as JSON and as a page, and several runs side by side.
//!
//! Reads accounts and writes files; knows neither sockets nor threads.

pub mod compare;
pub mod curve;
pub mod page;
pub mod summary;
mod text;
